"""Checkpoints by TF1's Saver: what is read, what is refused."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from tests import replicas as replicas_lib
from tests.efficientnet import helpers

HEAD = ("head/dense/kernel", "head/dense/bias")


@pytest.fixture(scope="module")
def model():
    return helpers.build_tiny()


@pytest.fixture(scope="module")
def tensors(model):
    return helpers.golden_tensors(model, "tiny", slots=True)


@pytest.fixture(scope="module")
def prefix(tensors, tmp_path_factory):
    """A checkpoint of the original's trainer."""
    directory = tmp_path_factory.mktemp("tiny")
    return helpers.write_tf1_checkpoint(directory / "model.ckpt", tensors)


@pytest.fixture
def folder(prefix, tmp_path):
    """A copy of the checkpoint's directory."""
    source = prefix.rsplit("/", 1)[0]
    return shutil.copytree(source, tmp_path / "copy")


def write(tmp_path, tensors, *, without=(), **changes):
    """Writes a checkpoint of some tensors; returns its prefix."""
    kept = {
        name: value
        for name, value in tensors.items()
        if not name.endswith(tuple(without))
    }
    return helpers.write_tf1_checkpoint(
        tmp_path / "changed.ckpt", {**kept, **changes}
    )


def assert_holds(model, tensors, suffix, *, without=()):
    """Asserts that a model's weights are the tensors of their names."""
    for name, weight in zip(helpers.weight_names(model), model.weights):
        if name not in without:
            np.testing.assert_array_equal(
                weight, tensors[f"efficientnet-b0/{name}{suffix}"], err_msg=name
            )


def assert_refused(model, path, message, **arguments):
    """Asserts a ValueError, and that it leaves the model as it was."""
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        efficientnet.load_tf1_checkpoint(model, path, **arguments)
    for weight, value in zip(model.get_weights(), before):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("use_ema", [True, False])
def test_every_weight_is_the_average_or_the_raw_value(
    use_ema, model, prefix, tensors
):
    found = efficientnet.load_tf1_checkpoint(model, prefix, use_ema)
    assert_holds(model, tensors, helpers.SHADOW if use_ema else "")
    assert found == efficientnet.Tf1Checkpoint(
        prefix=prefix,
        scope="efficientnet-b0",
        num_classes=10,
        has_ema=True,
        global_step=12345,
        num_variables=140,
    )


def test_a_description_is_what_loading_returns(model, prefix, tensors):
    described = efficientnet.describe_tf1_checkpoint(prefix)
    assert described == efficientnet.load_tf1_checkpoint(model, prefix)
    assert len(tensors) == 473
    with pytest.raises(dataclasses.FrozenInstanceError):
        described.scope = "other"


def test_a_description_of_a_bare_network(tmp_path):
    kernel = np.zeros([3, 3, 3, 8], np.float32)
    prefix = helpers.write_tf1_checkpoint(
        tmp_path / "bare", {"efficientnet-b7/stem/conv2d/kernel": kernel}
    )
    assert efficientnet.describe_tf1_checkpoint(
        prefix
    ) == efficientnet.Tf1Checkpoint(
        prefix, "efficientnet-b7", None, False, None, 1
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_replicas_hold_the_same_weights(policy, prefix, tensors):
    strategy = replicas_lib.two_replicas()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        with strategy.scope():
            model = helpers.build_tiny()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    efficientnet.load_tf1_checkpoint(model, prefix)
    assert_holds(model, tensors, helpers.SHADOW)
    norm = model.get_layer("stem").batch_norm
    key = "efficientnet-b0/stem/tpu_batch_normalization/"
    for name in ("gamma", "moving_variance"):
        replicas = strategy.experimental_local_results(getattr(norm, name))
        assert len(replicas) == 2
        for value in replicas:
            np.testing.assert_array_equal(
                value, tensors[f"{key}{name}{helpers.SHADOW}"]
            )


def test_a_teacher_and_momentum_slots_are_known(model, tensors, tmp_path):
    ours = "efficientnet-b0/stem/conv2d/kernel"
    teacher = "teacher_model/efficientnet-b7/stem/conv2d/kernel"
    extra = {f"{ours}/Momentum": tensors[ours], teacher: tensors[ours]}
    prefix = write(tmp_path, tensors, **extra)
    found = efficientnet.load_tf1_checkpoint(model, prefix)
    assert (found.scope, found.num_variables) == ("efficientnet-b0", 140)
    assert_holds(model, tensors, helpers.SHADOW)


def test_the_scope_may_be_another_than_the_models_name(tensors, tmp_path):
    model = efficientnet.build_model(
        "efficientnet-l2_475", 10, width_coefficient=0.25, depth_coefficient=0.1
    )
    renamed = {
        name.replace("-b0/", "-l2/"): value for name, value in tensors.items()
    }
    prefix = helpers.write_tf1_checkpoint(tmp_path / "l2", renamed)
    found = efficientnet.load_tf1_checkpoint(model, prefix)
    assert found.scope == "efficientnet-l2"
    assert_holds(model, tensors, helpers.SHADOW)


def test_without_averages_the_error_names_use_ema(model, tensors, tmp_path):
    prefix = write(tmp_path, tensors, without=[helpers.SHADOW])
    assert_refused(
        model,
        prefix,
        "`use_ema` is True, but .*changed.ckpt' holds no moving averages. "
        r"use_ema=False \(--nouse_ema\) loads the raw weights",
    )
    assert not efficientnet.describe_tf1_checkpoint(prefix).has_ema
    efficientnet.load_tf1_checkpoint(model, prefix, use_ema=False)
    assert_holds(model, tensors, "")


def test_one_error_counts_and_names_all_misfits(model, tensors, tmp_path):
    shadow = helpers.SHADOW
    block = "efficientnet-b0/blocks_0"
    norm = [
        f"{block}/tpu_batch_normalization{suffix}/{name}"
        for suffix in ("", "_1")
        for name in ("beta", "gamma", "moving_mean", "moving_variance")
    ]
    changes = {
        f"{block}/extra/kernel{shadow}": np.zeros(2, np.float32),
        f"{block}/extra/kernel/RMSProp": np.zeros(2, np.float32),
        "save_counter": np.int64(1),
        f"efficientnet-b0/stem/conv2d/kernel{shadow}": np.zeros(
            [5, 3, 3, 8], np.float32
        ),
        f"efficientnet-b0/head/dense/bias{shadow}": np.zeros(10, np.int32),
    }
    left_out = [name + shadow for name in norm[:7]]
    prefix = write(tmp_path, tensors, without=left_out, **changes)
    assert_refused(
        model,
        prefix,
        r"changed.ckpt' does not fit the model 'efficientnet-b0': "
        r"7 missing in the checkpoint: blocks_0/tpu_batch_normalization/gamma, "
        r"(\S+, ){3}\S+ and 2 more; "
        r"2 without a weight in the model: save_counter, blocks_0/extra/kernel;"
        r" 2 of another shape: stem/conv2d/kernel \(float32 \(5, 3, 3, 8\) in "
        r"the checkpoint, float \(3, 3, 3, 8\) expected\), head/dense/bias "
        r"\(int32 \(10,\) in the checkpoint, float \(10,\) expected\)\.$",
    )


def test_another_model_is_named(prefix):
    model = efficientnet.build_model(
        "efficientnet-b1", 10, width_coefficient=0.5, depth_coefficient=0.1
    )
    assert_refused(
        model,
        prefix,
        "does not fit the model 'efficientnet-b1': it is of another model, "
        r"'efficientnet-b0': \d+ of another shape",
    )


def test_a_model_of_two_networks_is_refused(model, prefix):
    images = tf.keras.Input([None, None, 3])
    other = efficientnet.build_model(
        "efficientnet-b1", 10, width_coefficient=0.25, depth_coefficient=0.1
    )
    both = tf.keras.Model(images, [model(images), other(images)])
    assert_refused(
        both, prefix, "a single network.* Received: 280 weights with 140 names"
    )


@pytest.mark.parametrize("use_ema", [True, False])
def test_the_background_class_is_dropped(use_ema, tensors, tmp_path):
    nine = helpers.build_tiny(num_classes=9)
    prefix = helpers.write_tf1_checkpoint(tmp_path / "ten", tensors)
    efficientnet.load_tf1_checkpoint(
        nine, prefix, use_ema, head="drop_background"
    )
    suffix = helpers.SHADOW if use_ema else ""
    assert_holds(nine, tensors, suffix, without=HEAD)
    kernel, bias = nine.layers[-1].weights
    stored = [tensors[f"efficientnet-b0/{name}{suffix}"] for name in HEAD]
    np.testing.assert_array_equal(kernel, stored[0][:, 1:])
    np.testing.assert_array_equal(bias, stored[1][1:])


@pytest.mark.parametrize(
    "num_classes,head", [(9, "load"), (7, "drop_background")]
)
def test_a_wrong_number_of_classes_names_the_choices(num_classes, head, prefix):
    assert_refused(
        helpers.build_tiny(num_classes=num_classes),
        prefix,
        f"it has 10 classes, the model has {num_classes}. Received: "
        f"head='{head}'. 'load' needs as many; 'drop_background' needs one more"
        " and leaves out class 0; 'fresh' keeps the model's own last layer",
        head=head,
    )


@pytest.mark.parametrize("num_classes", [10, 4])
def test_a_fresh_head_stays(num_classes, prefix, tensors):
    model = helpers.build_tiny(num_classes=num_classes)
    before = [weight.numpy() for weight in model.layers[-1].weights]
    efficientnet.load_tf1_checkpoint(model, prefix, head="fresh")
    assert_holds(model, tensors, helpers.SHADOW, without=HEAD)
    for weight, value in zip(model.layers[-1].weights, before):
        np.testing.assert_array_equal(weight, value)


def test_a_fresh_head_needs_none_in_the_checkpoint(model, tensors, tmp_path):
    heads = [f"{name}{s}" for name in HEAD for s in ("", helpers.SHADOW)]
    prefix = write(tmp_path, tensors, without=heads)
    assert efficientnet.describe_tf1_checkpoint(prefix).num_classes is None
    efficientnet.load_tf1_checkpoint(model, prefix, head="fresh")
    assert_holds(model, tensors, helpers.SHADOW, without=HEAD)
    assert_refused(
        model,
        prefix,
        "2 missing in the checkpoint: head/dense/kernel, head/dense/bias",
    )


@pytest.mark.parametrize("head", ["load", "drop_background", "fresh"])
def test_a_model_without_top_leaves_the_head_out(head, prefix, tensors):
    model = helpers.build_tiny(include_top=False)
    found = efficientnet.load_tf1_checkpoint(model, prefix, head=head)
    assert_holds(model, tensors, helpers.SHADOW)
    assert found.num_classes == 10


def test_an_unknown_head_is_refused(model, prefix):
    assert_refused(
        model,
        prefix,
        "`head` must be one of load, drop_background, fresh. Received: 'keep'",
        head="keep",
    )


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("function", ["load", "describe", "is"])
def test_a_cut_index_is_refused(function, kept, model, folder):
    index = folder / "model.ckpt.index"
    data = index.read_bytes()
    index.write_bytes(data[: int(kept * len(data))])
    message = "index of the checkpoint .* is truncated or damaged: .*sstable"
    if function == "load":
        assert_refused(model, folder, message)
    else:
        with pytest.raises(ValueError, match=message):
            getattr(efficientnet, f"{function}_tf1_checkpoint")(folder)


def data_file(folder):
    return folder / "model.ckpt.data-00000-of-00001"


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_cut_data_are_refused_and_nothing_is_assigned(kept, model, folder):
    data = data_file(folder).read_bytes()
    data_file(folder).write_bytes(data[: int(kept * len(data))])
    assert_refused(
        model, folder, "copy' is truncated or damaged at '.*: Read .*less"
    )


def test_a_changed_bit_is_refused_and_nothing_is_assigned(model, folder):
    data = bytearray(data_file(folder).read_bytes())
    data[len(data) // 2] ^= 1
    data_file(folder).write_bytes(data)
    assert_refused(model, folder, "truncated or damaged at .*(hecksum|corrupt)")


def test_missing_data_are_refused(model, folder):
    data_file(folder).unlink()
    assert_refused(model, folder, "truncated or damaged at .*No such file")


def test_a_checkpoint_of_objects_is_told_apart(model, prefix, tmp_path):
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "objects"))
    assert efficientnet.is_tf1_checkpoint(path) is False
    assert efficientnet.is_tf1_checkpoint(prefix) is True
    message = "one of TensorFlow 2's, which stores objects"
    assert_refused(model, path, message)
    with pytest.raises(ValueError, match=message):
        efficientnet.describe_tf1_checkpoint(path)


@pytest.mark.parametrize(
    "names,received",
    [
        (["conv1/kernel", "fc/kernel"], "Received: conv1, fc."),
        (["global_step", "kernel"], "Received: none."),
        (["teacher_model/efficientnet-b0/stem"], "Received: none."),
    ],
)
def test_what_is_no_single_network_is_refused(names, received, model, tmp_path):
    prefix = helpers.write_tf1_checkpoint(
        tmp_path / "foreign", {name: np.float32(1) for name in names}
    )
    assert efficientnet.is_tf1_checkpoint(prefix)
    assert_refused(
        model, prefix, f"one network, under one top-level name. {received}"
    )


def test_a_foreign_network_is_named(model, tmp_path):
    prefix = helpers.write_tf1_checkpoint(
        tmp_path / "foreign", {"resnet50/conv1/kernel": np.float32(1)}
    )
    assert_refused(
        model,
        prefix,
        "another model, 'resnet50': 140 missing in the checkpoint: .*; "
        "1 without a weight in the model: conv1/kernel",
        use_ema=False,
    )
