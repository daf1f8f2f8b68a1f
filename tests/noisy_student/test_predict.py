import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from data_prep import records, shards
from noisy_student import (
    checkpoints,
    models,
    optimizers,
    predict,
    preprocessing,
    train,
)
from tests import replicas as replicas_lib
from tests.noisy_student import fixtures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Returns the directory of a teacher whose averages are far from it."""
    directory = str(tmp_path_factory.mktemp("teacher"))
    state = train.create_state(
        models.build(fixtures.MODEL), optimizers.RMSprop(0.1), 0.5
    )
    for shadow in state.moving_average.shadows.values():
        shadow.assign(2 * shadow)
    manager = checkpoints.CheckpointManager(directory, state, max_to_keep=1)
    manager.save(1, {})
    return directory


@pytest.fixture
def settings(teacher, tmp_path):
    fixtures.write_unlabeled(tmp_path / "images", "unlabeled", 9)
    return predict.PredictConfig(
        model=fixtures.MODEL,
        checkpoint=teacher,
        input_dir=str(tmp_path / "images"),
        split="unlabeled",
        output_dir=str(tmp_path / "labels"),
        batch_size=4,
    )


def read_labels(settings):
    """Returns {key: probs} of all prediction shards."""
    labels = {}
    (paths,) = zip(
        *shards.list_predictions(settings.output_dir, settings.split, 2)
    )
    for path in paths:
        for serialized in records.read_records(path):
            record = records.parse_prediction(serialized, 3)
            labels[record["key"].numpy().decode()] = record["probs"].numpy()
    return labels


@pytest.mark.parametrize("replicas", [1, 2])
def test_labels_are_the_averaged_clean_networks_probabilities(
    settings, replicas
):
    strategy = (
        replicas_lib.two_replicas()
        if replicas == 2
        else tf.distribute.get_strategy()
    )
    manifest = predict.predict(settings, strategy)
    assert manifest.total_records == 9
    model = models.build(fixtures.MODEL)
    checkpoints.load_weights(model, settings.checkpoint)
    view = preprocessing.eval_view(fixtures.MODEL)
    labels = read_labels(settings)
    assert len(labels) == 9
    for path in shards.list_shards(settings.input_dir, settings.split):
        for serialized in records.read_records(path):
            record = records.parse_unlabeled(serialized)
            image = view(record["image_bytes"])[tf.newaxis]
            expected = tf.nn.softmax(model(image, training=False))[0]
            key = record["key"].numpy().decode()
            np.testing.assert_allclose(labels[key], expected, atol=1e-5)


def test_a_shard_that_got_lost_is_made_again_and_a_finished_run_not(
    settings, monkeypatch
):
    predict.predict(settings, tf.distribute.get_strategy())
    lost = pathlib.Path(settings.output_dir) / shards.prediction_name(
        "unlabeled", 1, 2
    )
    expected = lost.read_bytes()
    lost.unlink()
    predict.predict(settings, tf.distribute.get_strategy())
    assert lost.read_bytes() == expected
    monkeypatch.setattr(models, "load", None)  # A finished run needs no model.
    predict.predict(settings, tf.distribute.get_strategy())


def test_the_count_file_of_the_original_lies_beside_each_shard(settings):
    predict.predict(settings, tf.distribute.get_strategy())
    info = pathlib.Path(settings.output_dir) / shards.info_name(0, 2)
    assert json.loads(info.read_text()) == {"image_num": 5}


def test_shards_may_be_labeled_by_several_commands(settings, tmp_path):
    strategy = tf.distribute.get_strategy()
    counts = tmp_path / "counts"
    first = dataclasses.replace(settings, shard_ids=(1,), info_dir=str(counts))
    assert predict.predict(first, strategy) is None
    written = {p.name for p in pathlib.Path(settings.output_dir).glob("[!.]*")}
    assert written == {
        shards.prediction_name("unlabeled", 1, 2),
        "unlabeled-table-00001-of-00002-00000.npz",
        shards.info_name(1, 2),
    }
    (info,) = counts.iterdir()
    assert info.name == shards.info_name(1, 2)
    assert json.loads(info.read_text()) == {"image_num": 4}
    second = dataclasses.replace(settings, shard_ids=(0,))
    assert predict.predict(second, strategy).total_records == 9


def test_a_shard_that_is_not_there_is_refused(settings):
    lost = dataclasses.replace(settings, shard_ids=(1, 2))
    with pytest.raises(ValueError, match="below 2.*Received: 2"):
        predict.predict(lost, tf.distribute.get_strategy())


def test_labels_of_another_teacher_are_not_mixed_in(settings, teacher):
    predict.predict(settings, tf.distribute.get_strategy())
    other = dataclasses.replace(
        settings,
        model=dataclasses.replace(fixtures.MODEL, dropout_rate=0.1),
    )
    with pytest.raises(ValueError, match="dropout_rate"):
        predict.predict(other, tf.distribute.get_strategy())


def test_a_missing_teacher_is_an_error_and_writes_nothing(settings, tmp_path):
    lost = dataclasses.replace(settings, checkpoint=str(tmp_path / "nobody"))
    with pytest.raises(FileNotFoundError, match="nobody"):
        predict.predict(lost, tf.distribute.get_strategy())
    assert not os.path.exists(settings.output_dir)


def test_a_released_checkpoint_is_found_in_its_directory(settings, tmp_path):
    prefix = str(tmp_path / "released" / "model.ckpt")
    efficientnet.save_tf1_checkpoint(models.build(fixtures.MODEL), prefix)
    # As downloaded: no file says which checkpoint is the latest.
    (tmp_path / "released" / "checkpoint").unlink()
    released = dataclasses.replace(
        settings, checkpoint=str(tmp_path / "released")
    )
    manifest = predict.predict(released, tf.distribute.get_strategy())
    assert manifest.total_records == 9
    assert manifest.config["checkpoint"] == prefix


def test_batch_size_is_checked(settings):
    with pytest.raises(ValueError, match="`batch_size` .* Received: 0"):
        dataclasses.replace(settings, batch_size=0)
