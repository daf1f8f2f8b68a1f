import gc
import time
import weakref

import numpy as np
import pytest
import tensorflow as tf

from efficientnet import checkpoint_archive
from noisy_student import (
    checkpoints,
    config,
    models,
    moving_average,
    optimizers,
    preflight,
    run_dir,
    train,
)
from tests import replicas as replicas_lib
from tests.noisy_student import fixtures, tiny_run

pytestmark = pytest.mark.slow


def new_state(seed):
    tf.keras.utils.set_random_seed(seed)
    return train.create_state(
        models.build(fixtures.MODEL), optimizers.RMSprop(0.1), 0.5
    )


def train_once(state):
    batch = {
        "labeled_images": tf.random.stateless_uniform(
            [3, 16, 16, 3], [0, 0], maxval=255.0
        ),
        "labeled_labels": tf.constant([0, 1, 2]),
    }
    train.train_step(state, batch, config.StepConfig(num_classes=3))


def everything(state):
    """Returns all values that a resumed run needs, as one array."""
    slots = [
        slot
        for v in state.model.trainable_variables
        for slot in state.optimizer.slots(v)
    ]
    averages = list(state.moving_average.shadows.values())
    values = [*state.model.weights, *slots, *averages, state.step]
    return np.concatenate([np.ravel(v.numpy()) for v in values])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns (state, directory) after one step, saved."""
    directory = str(tmp_path_factory.mktemp("run"))
    run_dir.claim(directory, {"model": config.to_dict(fixtures.MODEL)})
    state = new_state(0)
    manager = checkpoints.CheckpointManager(directory, state, max_to_keep=2)
    assert manager.restore_latest() is None
    train_once(state)
    manager.save(1, {})
    return state, directory


def test_a_resumed_state_has_weights_slots_averages_and_step(trained):
    state, directory = trained
    resumed = new_state(1)
    assert (everything(resumed) != everything(state)).any()
    manager = checkpoints.CheckpointManager(directory, resumed, max_to_keep=2)
    assert manager.restore_latest() == checkpoint_archive.find(directory)
    np.testing.assert_array_equal(everything(resumed), everything(state))


def test_only_the_latest_checkpoints_are_kept(tmp_path):
    manager = checkpoints.CheckpointManager(
        str(tmp_path), new_state(0), max_to_keep=2
    )
    for step in (1, 2, 3):
        manager.save(step, {})
    kept = sorted(path.name for path in tmp_path.glob("*.index"))
    assert kept == ["model.ckpt-2.index", "model.ckpt-3.index"]


def test_checkpoints_of_an_earlier_process_count_among_those_kept(tmp_path):
    for steps in ((1, 2), (3, 4)):
        state = tiny_state()
        with checkpoints.CheckpointManager(
            str(tmp_path), state, max_to_keep=3
        ) as manager:
            for step in steps:
                manager.save(step, {"step": step})
    kept = sorted(path.name for path in tmp_path.glob("model.ckpt-*.index"))
    assert kept == [f"model.ckpt-{step}.index" for step in (2, 3, 4)]
    # Companions go with their checkpoints.
    companions = sorted(path.name for path in tmp_path.glob("*.json"))
    assert companions == [f"model.ckpt-{step}.json" for step in (2, 3, 4)]
    prefix = str(tmp_path / "model.ckpt-3")
    assert run_dir.read_companion(prefix) == {"step": 3}


def tiny_state():
    """Returns the state of a small network."""
    tf.keras.utils.set_random_seed(0)
    return train.create_state(
        tiny_run.build(fixtures.MODEL), optimizers.RMSprop(0.1), 0.5
    )


def test_what_is_saved_in_the_background_equals_what_is_not(tmp_path):
    strategy = replicas_lib.two_replicas()
    with strategy.scope():
        state = tiny_state()

    def batch(context):
        seed = [context.replica_id_in_sync_group, 0]
        return {
            "labeled_images": tf.random.stateless_uniform(
                [3, 16, 16, 3], seed, maxval=255.0
            ),
            "labeled_labels": tf.constant([0, 1, 2]),
        }

    # Statistics and averages differ between the replicas.
    batch = strategy.experimental_distribute_values_from_function(batch)
    step = tf.function(
        lambda: train.train_step(state, batch, config.StepConfig(3))
    )
    content = {}
    managers = {
        name: checkpoints.CheckpointManager(
            str(tmp_path / name), state, max_to_keep=5, asynchronous=background
        )
        for name, background in (("background", True), ("here", False))
    }
    for number in (1, 2, 3):
        step()
        for manager in managers.values():
            manager.save(number, {})
    # What comes after a save is not in it.
    step()
    for name, manager in managers.items():
        with manager:
            pass
        for number in (1, 2, 3):
            (data,) = (tmp_path / name).glob(f"model.ckpt-{number}.data*")
            content.setdefault(number, set()).add(data.read_bytes())
    assert all(len(versions) == 1 for versions in content.values())


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_checkpoint_holds_what_its_step_ended_with(
    tmp_path, monkeypatch, policy
):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        state = tiny_state()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    write = tf.train.Checkpoint._write

    def write_late(*args, **kwargs):
        time.sleep(0.3)
        return write(*args, **kwargs)

    monkeypatch.setattr(tf.train.Checkpoint, "_write", write_late)
    expected = {}
    with checkpoints.CheckpointManager(
        str(tmp_path), state, max_to_keep=5, asynchronous=True
    ) as manager:
        for step in (1, 2):
            train_once(state)
            expected[step] = everything(state)
            manager.save(step, {})
            # Training goes on; what comes after a save is not in it.
            train_once(state)
    for step, values in expected.items():
        saved = tf.train.Checkpoint(
            model=state.model,
            optimizer=state.optimizer,
            moving_average=state.moving_average,
        )
        saved.read(str(tmp_path / f"model.ckpt-{step}")).expect_partial()
        np.testing.assert_array_equal(everything(state), values)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_closed_manager_lets_go_of_the_state(tmp_path, asynchronous):
    state = tiny_state()
    with checkpoints.CheckpointManager(
        str(tmp_path), state, max_to_keep=5, asynchronous=asynchronous
    ) as manager:
        manager.save(1, {})
        manager.save(2, {})
    weight = weakref.ref(state.model.weights[0])
    del state, manager
    tf.keras.backend.clear_session()
    gc.collect()
    assert weight() is None


def test_an_error_in_the_background_surfaces_at_the_latest_on_closing(
    tmp_path, monkeypatch
):
    manager = checkpoints.CheckpointManager(
        str(tmp_path / "run"), tiny_state(), max_to_keep=5, asynchronous=True
    )
    manager.save(1, {})
    manager.wait()
    monkeypatch.setattr(
        type(manager._manager),
        "_record_state",
        lambda _: (_ for _ in ()).throw(OSError(28, "No space left")),
    )
    manager.save(2, {})
    with (
        pytest.raises(
            checkpoints.CheckpointError,
            match=r"run' failed: .*No space left.*checkpoint is .*ckpt-1; the",
        ),
        manager,
    ):
        pass


def test_an_error_before_closing_is_the_one_that_is_reported(
    tmp_path, monkeypatch
):
    manager = checkpoints.CheckpointManager(
        str(tmp_path / "run"), tiny_state(), max_to_keep=5, asynchronous=True
    )
    monkeypatch.setattr(
        type(manager._manager),
        "_record_state",
        lambda _: (_ for _ in ()).throw(OSError(28, "No space left")),
    )
    with pytest.raises(ZeroDivisionError), manager:
        manager.save(1, {})
        raise ZeroDivisionError


def test_what_a_killed_write_left_is_removed(tmp_path):
    with checkpoints.CheckpointManager(
        str(tmp_path), tiny_state(), max_to_keep=5
    ) as manager:
        manager.save(1, {})
    before = {path.name for path in tmp_path.iterdir()}
    (tmp_path / "model.ckpt-2_temp").mkdir()
    (tmp_path / "model.ckpt-2_temp" / "part-00000-of-00001.index").touch()
    (tmp_path / "model.ckpt-2.json").write_text("{}")
    (tmp_path / ".model.ckpt-2.json.123.tmp").touch()
    (tmp_path / "checkpoint.tmp0123").touch()
    with checkpoints.CheckpointManager(
        str(tmp_path), tiny_state(), max_to_keep=5
    ) as manager:
        assert manager.restore_latest() == str(tmp_path / "model.ckpt-1")
    assert {path.name for path in tmp_path.iterdir()} == before


def test_averages_are_loaded_by_default_and_raw_weights_by_choice(trained):
    state, directory = trained
    model = models.build(fixtures.MODEL)
    checkpoints.load_weights(model, directory)
    for name, weight in moving_average.named_weights(model).items():
        expected = state.moving_average.shadows[name]
        np.testing.assert_array_equal(weight, expected, err_msg=name)
    checkpoints.load_weights(model, directory, use_ema=False)
    for ours, theirs in zip(model.weights, state.model.weights):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_of_another_network_is_refused(trained):
    _, directory = trained
    other = models.build(
        config.ModelConfig("efficientnet-b0", 4, 16, width_coefficient=0.1)
    )
    with pytest.raises(ValueError, match="does not fit the model"):
        checkpoints.load_weights(other, directory)


def test_a_missing_checkpoint_is_named(tmp_path):
    prefix = str(tmp_path / "model.ckpt-7")
    with pytest.raises(FileNotFoundError, match="No checkpoint .*model.ckpt-7"):
        checkpoints.load_weights(None, prefix)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("model.ckpt", ["model.ckpt.index"]),
        ("", ["model.ckpt.index"]),
        ("released.tgz", ["released.tgz"]),
        ("", ["._model.ckpt.index"]),
        ("", ["checkpoint"]),
        ("model.ckpt", ["checkpoint"]),
        ("released.tgz", ["released.tgz.index"]),
    ],
)
def test_what_is_loaded_is_seen_before_tensorflow_is(tmp_path, name, names):
    folder = tmp_path / "run [1]"
    folder.mkdir()
    for file in names:
        (folder / file).touch()
    path = str(folder / name)
    try:
        checkpoint_archive.find(path)
        found = True
    except FileNotFoundError:
        found = False
    assert preflight.has_checkpoint(path) == found
    assert found == (names[0] in ("model.ckpt.index", "released.tgz"))


def test_checkpoints_are_told_apart(trained, tmp_path):
    _, directory = trained
    prefix = checkpoint_archive.find(directory)
    archive = tmp_path / "released.tgz"
    archive.write_bytes(b"content")
    digests = [checkpoints.fingerprint(p) for p in (prefix, str(archive))]
    assert digests[0] == checkpoints.fingerprint(prefix) != digests[1]
    archive.write_bytes(b"other content")
    assert checkpoints.fingerprint(str(archive)) != digests[1]


def test_the_network_of_a_run_is_found_beside_its_checkpoint(trained, tmp_path):
    _, directory = trained
    prefix = checkpoint_archive.find(directory)
    for path in (directory, prefix):
        assert run_dir.trained_model_config(path) == fixtures.MODEL
    assert run_dir.trained_model_config(str(tmp_path)) is None
