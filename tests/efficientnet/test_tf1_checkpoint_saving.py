"""Checkpoints in the original's format, written."""

import os
import re

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from efficientnet import tf1_checkpoint
from noisy_student import moving_average
from tests import replicas as replicas_lib
from tests.efficientnet import helpers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    model = helpers.build_tiny()
    helpers.assign_golden_weights(model, "tiny")
    return model


@pytest.fixture(scope="module")
def averages(model):
    """Values unlike the weights, in the order of the weights."""
    return [weight.numpy() - 1 for weight in model.weights]


@pytest.fixture(scope="module")
def fresh():
    return helpers.build_tiny()


def assert_weights_are(model, expected):
    for weight, value in zip(model.get_weights(), expected):
        np.testing.assert_array_equal(weight, value)


def assert_saved(prefix, fresh, weights, averages):
    efficientnet.load_tf1_checkpoint(fresh, prefix, use_ema=False)
    assert_weights_are(fresh, weights)
    efficientnet.load_tf1_checkpoint(fresh, prefix)
    assert_weights_are(fresh, averages)


def test_without_averages_both_are_the_weights(model, fresh, tmp_path):
    prefix = tmp_path / "model.ckpt"
    assert efficientnet.save_tf1_checkpoint(model, prefix) is None
    weights = model.get_weights()
    assert_saved(prefix, fresh, weights, weights)
    assert efficientnet.describe_tf1_checkpoint(
        tmp_path
    ) == efficientnet.Tf1Checkpoint(
        str(prefix), "efficientnet-b0", 10, True, 0, 140
    )
    assert sorted(os.listdir(tmp_path)) == [
        "checkpoint",
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
    ]


@pytest.mark.parametrize(
    "kind", ["sequence", "mapping", "variable names", "moving average"]
)
def test_averages_may_be_given(kind, model, averages, fresh, tmp_path):
    names = helpers.weight_names(model)
    if kind == "sequence":
        given = averages
    elif kind == "mapping":
        given = dict(reversed(list(zip(names, averages))))
    elif kind == "variable names":
        given = {w.name: v for w, v in zip(model.weights, averages)}
    else:
        given = moving_average.MovingAverage(model).shadows
        for name, value in zip(names, averages):
            given[name].assign(value)
    prefix = tmp_path / "new" / "folder" / "model.ckpt"
    efficientnet.save_tf1_checkpoint(model, prefix, given, global_step=350)
    assert_saved(prefix, fresh, model.get_weights(), averages)
    assert efficientnet.describe_tf1_checkpoint(prefix).global_step == 350


def test_replicas_and_their_averages_are_saved_once(model, fresh, tmp_path):
    strategy = replicas_lib.two_replicas()
    with strategy.scope():
        mirrored = helpers.build_tiny()
        shadows = moving_average.MovingAverage(mirrored).shadows
    mirrored.set_weights(model.get_weights())
    statistic = mirrored.get_layer("stem").batch_norm.moving_mean
    replicas = strategy.experimental_local_results(statistic)
    replicas[1].assign(replicas[0] + 2)
    prefix = tmp_path / "model.ckpt"
    efficientnet.save_tf1_checkpoint(mirrored, prefix, shadows)
    efficientnet.load_tf1_checkpoint(fresh, prefix, use_ema=False)
    np.testing.assert_allclose(
        fresh.get_layer("stem").batch_norm.moving_mean,
        model.get_layer("stem").batch_norm.moving_mean + 1,
        rtol=1e-5,
    )
    efficientnet.load_tf1_checkpoint(fresh, prefix)
    initial = [shadow.numpy() for shadow in shadows.values()]
    assert_weights_are(fresh, initial)


def test_a_saver_of_tf1_restores_it(model, averages, tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    efficientnet.save_tf1_checkpoint(model, prefix, averages, global_step=5)
    names = helpers.weight_names(model)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            f"efficientnet-b0/{name}{suffix}": tf.compat.v1.get_variable(
                f"efficientnet-b0/{name}{suffix}", weight.shape
            )
            for name, weight in zip(names, model.weights)
            for suffix in ("", helpers.SHADOW)
        }
        step = tf.compat.v1.train.create_global_step()
        saver = tf.compat.v1.train.Saver()
        saver.restore(session, tf.train.latest_checkpoint(tmp_path))
        values = session.run(variables)
        assert session.run(step) == 5
    for name, raw, average in zip(names, model.weights, averages):
        key = f"efficientnet-b0/{name}"
        np.testing.assert_array_equal(values[key], raw)
        np.testing.assert_array_equal(values[key + helpers.SHADOW], average)


def test_many_parts_hold_what_one_does(
    model, averages, fresh, tmp_path, monkeypatch
):
    monkeypatch.setattr(tf1_checkpoint, "_PART_BYTES", 200_000)
    prefix = tmp_path / "model.ckpt"
    efficientnet.save_tf1_checkpoint(model, prefix, averages)
    data = [name for name in os.listdir(tmp_path) if ".data-" in name]
    # 1,049,520 bytes; each part ends with the weight that fills it.
    assert len(data) == 6
    assert_saved(prefix, fresh, model.get_weights(), averages)
    # Written anew, it leaves nothing of the old one behind.
    monkeypatch.undo()
    efficientnet.save_tf1_checkpoint(model, prefix)
    assert len(os.listdir(tmp_path)) == 3


def test_l2_475_is_saved_under_the_name_of_its_architecture(tmp_path):
    narrow = efficientnet.build_model(
        "efficientnet-l2_475", 2, width_coefficient=0.1, depth_coefficient=0.1
    )
    efficientnet.save_tf1_checkpoint(narrow, tmp_path / "model.ckpt")
    found = efficientnet.load_tf1_checkpoint(narrow, tmp_path)
    assert (found.scope, found.num_classes) == ("efficientnet-l2", 2)


def test_reduced_precision_is_saved_as_float32(fresh, tmp_path):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = helpers.build_tiny()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    averages = [tf.cast(weight, tf.bfloat16) for weight in mixed.weights]
    prefix = tmp_path / "model.ckpt"
    efficientnet.save_tf1_checkpoint(mixed, prefix, averages)
    rounded = [tf.cast(value, tf.float32) for value in averages]
    assert_saved(prefix, fresh, mixed.get_weights(), rounded)


@pytest.mark.parametrize("failing", ["MergeV2Checkpoints", "rename"])
def test_what_stops_it_leaves_no_checkpoint(
    failing, model, tmp_path, monkeypatch
):
    prefix = tmp_path / "model.ckpt"
    efficientnet.save_tf1_checkpoint(model, prefix)

    def stop(source=None, *_, **__):
        if source is None or source.endswith(".index"):
            raise KeyboardInterrupt
        return rename(source, *_, **__)

    rename = tf.io.gfile.rename
    place = tf.raw_ops if failing == "MergeV2Checkpoints" else tf.io.gfile
    monkeypatch.setattr(place, failing, stop)
    with pytest.raises(KeyboardInterrupt):
        efficientnet.save_tf1_checkpoint(model, prefix)
    assert not [name for name in os.listdir(tmp_path) if "tmp" in name]
    if failing == "rename":
        with pytest.raises(FileNotFoundError, match="No checkpoint"):
            efficientnet.describe_tf1_checkpoint(prefix)
    else:
        # The one before is still there, whole.
        monkeypatch.undo()
        efficientnet.load_tf1_checkpoint(helpers.build_tiny(), prefix)


def change(averages, names):
    wrong = dict(zip(names, averages))
    del wrong[names[1]]
    wrong[names[2]] = np.zeros(3)
    wrong["stem/bias"] = np.zeros(8)
    return wrong


def test_averages_that_do_not_fit_are_refused(model, averages, tmp_path):
    names = helpers.weight_names(model)
    for given, message in (
        (averages[:-1], "each of the 140 weights. Received: 139."),
        (
            change(averages, names),
            "Received: 3 missing, of another shape or of no weight: "
            f"{names[1]}, {names[2]}, stem/bias.",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            efficientnet.save_tf1_checkpoint(model, tmp_path / "m", given)
        assert "`ema_weights` must have one value" in str(error.value)
    assert os.listdir(tmp_path) == []


def test_a_prefix_needs_a_file_name(model, tmp_path):
    with pytest.raises(ValueError, match="`prefix` must end in a file name"):
        efficientnet.save_tf1_checkpoint(model, f"{tmp_path}/")


def test_names_are_kept_as_they_are(model, tmp_path):
    for name in ('a "b" c', "größe"):
        prefix = tmp_path / name
        efficientnet.save_tf1_checkpoint(model, prefix)
        found = efficientnet.describe_tf1_checkpoint(tmp_path)
        assert found.prefix == str(prefix)


def test_other_networks_are_refused(tmp_path):
    other = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="EfficientNet.*Received: Sequential"):
        efficientnet.save_tf1_checkpoint(other, str(tmp_path / "model.ckpt"))
    assert not list(tmp_path.iterdir())
