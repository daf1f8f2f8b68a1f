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
from tests.noisy_student import fixtures


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
    manager.save(1)
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
        manager.save(step)
    kept = sorted(path.name for path in tmp_path.glob("*.index"))
    assert kept == ["model.ckpt-2.index", "model.ckpt-3.index"]


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
