"""Labelling as a stream: workers, storages, new labels, kills, damage.

The network is small; `test_predict.py` has a whole teacher.
"""

import dataclasses
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from data_prep import (
    hashing,
    prediction_inputs,
    prediction_table,
    prob_storage,
    records,
    shards,
)
from noisy_student import config as config_lib
from noisy_student import (
    input_pipeline,
    labelling_stream,
    predict,
    preprocessing,
    workers,
)
from tests import replicas as replicas_lib
from tests.noisy_student import fixtures

pytestmark = pytest.mark.slow

NUM_IMAGES = 11
NUM_SHARDS = 3
STORAGES = {
    "full": prob_storage.DEFAULT,
    "float16": prob_storage.ProbStorage("float16"),
    "topk": prob_storage.ProbStorage("topk", 2),
}
TOLERANCES = {"full": 1e-6, "float16": 1e-3, "topk": 1e-6}


def small_network():
    weights = np.random.default_rng(0).normal(0, 0.05, (3, 3))
    inputs = tf.keras.Input([fixtures.IMAGE_SIZE, fixtures.IMAGE_SIZE, 3])
    means = tf.keras.layers.GlobalAveragePooling2D()(inputs)
    means = tf.keras.layers.Rescaling(0.3, -40)(means)
    dense = tf.keras.layers.Dense(3, use_bias=False)
    model = tf.keras.Model(inputs, dense(means))
    model.set_weights([weights])
    return model


def without_checkpoint(monkeypatch):
    """Lets `predict` label with `small_network`."""
    monkeypatch.setattr(predict.checkpoint_archive, "find", lambda path: path)
    monkeypatch.setattr(predict.checkpoints, "fingerprint", lambda path: "f")
    monkeypatch.setattr(
        predict.models, "load", lambda *_, **__: small_network()
    )


@pytest.fixture
def settings(tmp_path, monkeypatch):
    without_checkpoint(monkeypatch)
    fixtures.write_unlabeled(
        tmp_path / "images", "train", NUM_IMAGES, num_shards=NUM_SHARDS
    )
    return settings_in(tmp_path)


def settings_in(folder, **changes):
    config = predict.PredictConfig(
        model=fixtures.MODEL,
        checkpoint="teacher",
        input_dir=str(folder / "images"),
        split="train",
        output_dir=str(folder / "labels"),
        batch_size=4,
    )
    return dataclasses.replace(config, **changes)


def run(settings, **changes):
    changed = dataclasses.replace(settings, **changes)
    return predict.predict(changed, tf.distribute.get_strategy())


def teachers_probs(settings):
    """Returns {key: probs}, as a teacher inside the training step has them."""
    view = preprocessing.eval_view(fixtures.MODEL)
    model = small_network()
    found = {}
    for path in shards.list_shards(settings.input_dir, settings.split):
        for serialized in records.read_records(path):
            image_bytes, key = records.unpack_image(serialized)
            logits = model(view(image_bytes)[tf.newaxis], training=False)
            found[key] = tf.nn.softmax(logits)[0].numpy()
    return found


def read_files(folder):
    return {
        path.name: path.read_bytes()
        for path in sorted(pathlib.Path(folder).glob("[!.]*"))
    }


def read_predictions(settings):
    inputs = prediction_inputs.find(
        settings.input_dir, settings.output_dir, "train"
    )
    return [
        list(
            map(
                records.unpack_prediction,
                prediction_inputs.read_predictions(paths),
            )
        )
        for paths in inputs.predictions
    ]


def test_a_table_lies_beside_every_prediction_shard(settings):
    run(settings)
    for shard, predictions in enumerate(read_predictions(settings)):
        name = shards.prediction_name("train", shard, NUM_SHARDS)
        label, confidence, hashes = prediction_table.read(
            prediction_table.path_beside(
                os.path.join(settings.output_dir, name)
            )
        )
        assert label.tolist() == [label for _, label, _ in predictions]
        np.testing.assert_array_equal(
            confidence, [probs.max() for probs, _, _ in predictions]
        )
        assert hashes.tolist() == [
            hashing.hash64(key, salt=b"image") for *_, key in predictions
        ]


def test_records_hold_the_originals_fields_unless_told_otherwise(settings):
    run(settings)
    path = shards.list_predictions(settings.output_dir, "train", NUM_SHARDS)
    serialized = next(records.read_records(path[0][0]))
    assert set(tf.train.Example.FromString(serialized).features.feature) == {
        "probabilities",
        "classes",
        "image/filename",
    }


def test_several_replicas_label_as_one(settings, tmp_path):
    run(settings)
    both = dataclasses.replace(settings, output_dir=str(tmp_path / "both"))
    predict.predict(both, replicas_lib.two_replicas())
    for one, two in zip(read_predictions(settings), read_predictions(both)):
        for (probs, label, key), other in zip(one, two):
            np.testing.assert_allclose(probs, other[0], atol=1e-6)
            assert (label, key) == other[1:]


def test_workers_share_each_shard_image_by_image(settings, tmp_path):
    run(settings)
    together = str(tmp_path / "together")
    first = {"num_workers": 3, "worker": 1, "output_dir": together}
    assert run(settings, **first) is None
    before = read_files(together)
    assert shards.prediction_name("train", 0, NUM_SHARDS, 1) in before
    assert run(settings, **{**first, "worker": 0}) is None
    manifest = run(settings, **{**first, "worker": 2})
    assert manifest.total_records == NUM_IMAGES
    assert manifest.num_records == (4, 4, 3)
    assert manifest.counters == {"labeled": NUM_IMAGES}
    assert before.items() <= read_files(together).items()
    parts = dataclasses.replace(settings, output_dir=together)
    for alone, joined in zip(
        read_predictions(settings), read_predictions(parts)
    ):
        assert [row[1:] for row in alone] == [row[1:] for row in joined]
    info = pathlib.Path(together) / shards.info_name(0, NUM_SHARDS, 2)
    assert info.read_text() == '{"image_num": 1}\n'


def test_a_part_without_images_is_a_file_without_records(settings):
    run(settings, num_workers=8, worker=7)
    info = pathlib.Path(settings.output_dir) / shards.info_name(
        0, NUM_SHARDS, 7
    )
    assert info.read_text() == '{"image_num": 0}\n'


def test_another_number_of_workers_is_refused(settings):
    run(settings, num_workers=3)
    with pytest.raises(ValueError, match="`num_workers`: 3 before, 4 now"):
        run(settings, num_workers=4)
    with pytest.raises(ValueError, match="other shards|other settings"):
        run(settings)


def test_hosts_take_blocks_of_shards(settings, monkeypatch):
    monkeypatch.setattr(workers, "count", lambda strategy: 2)
    found = []
    for host in (0, 1):
        monkeypatch.setattr(workers, "index", lambda strategy, i=host: i)
        found.append(predict._own_shards(settings, None, 5))
    assert found == [{0, 1, 2}, {3, 4}]


@pytest.mark.parametrize("kind", STORAGES)
def test_training_reads_the_teachers_labels_from_every_storage(
    settings, tmp_path, kind
):
    """Offline soft labels equal those of a teacher inside the step."""
    folder = str(tmp_path / kind)
    storage = STORAGES[kind]
    run(settings, output_dir=folder, reassign=True, storage=storage)
    wanted = teachers_probs(settings)
    num_seen = 0
    for path in shards.list_shards(folder, "train"):
        for serialized in records.read_records(path):
            record = records.parse_pseudo_labeled(serialized, 3)
            want = wanted[record["key"].numpy()]
            top = np.argsort(-want)[: 2 if kind == "topk" else 3]
            np.testing.assert_allclose(
                record["probs"].numpy()[top],
                want[top],
                atol=TOLERANCES[kind],
            )
            num_seen += 1
    assert num_seen == NUM_IMAGES


def test_training_batches_hold_what_was_stored_in_part(settings, tmp_path):
    folder = str(tmp_path / "topk")
    run(settings, output_dir=folder, reassign=True, storage=STORAGES["topk"])
    wanted = np.array(list(teachers_probs(settings).values()))
    # The third of three classes has the rest.
    fixtures.write_labeled(tmp_path / "labeled", "train", 4)
    train = fixtures.train_config(
        tmp_path / "labeled",
        unlabel_data_dir=folder,
        batch_size=2,
        labeled_augment=config_lib.AugmentConfig(),
        unlabeled_augment=config_lib.AugmentConfig(),
    )
    batch = next(iter(input_pipeline.train_batches(train)))
    for probs in batch["unlabeled_probs"].numpy():
        assert np.abs(wanted - probs).max(axis=1).min() < 1e-6


def test_the_size_is_logged_before_anything_is_labeled(settings, caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        run(settings, storage=STORAGES["topk"])
    lines = [record.getMessage() for record in caplog.records]
    (size,) = (i for i, line in enumerate(lines) if "stored as topk" in line)
    # A slow machine tells its progress more than once.
    first = min(i for i, line in enumerate(lines) if "images labeled" in line)
    assert size < first
    path = pathlib.Path(settings.output_dir) / shards.prediction_name(
        "train", 0, NUM_SHARDS
    )
    per_image = int(lines[size].split("about ")[1].split(" bytes")[0])
    assert path.stat().st_size / 4 == pytest.approx(per_image, abs=2)


def test_filtered_shards_get_new_labels_and_keep_all_else(settings, tmp_path):
    fixtures.write_pseudo_labeled(tmp_path / "filtered", "train-0", 7)
    again = str(tmp_path / "again")
    manifest = run(
        settings,
        input_dir=str(tmp_path / "filtered"),
        split="train-0",
        output_dir=again,
        reassign=True,
    )
    assert (manifest.kind, manifest.split) == ("pseudo_labeled", "train-0")
    assert sorted(read_files(again)) == [
        "train-0-00000-of-00002",
        "train-0-00001-of-00002",
        "train-0.manifest.json",
    ]
    wanted = teachers_probs(
        dataclasses.replace(
            settings, input_dir=str(tmp_path / "filtered"), split="train-0"
        )
    )
    old = shards.list_shards(tmp_path / "filtered", "train-0")
    for before, after in zip(old, shards.list_shards(again, "train-0")):
        assert records.count_records(before) == records.count_records(after)
        for one, two in zip(
            records.read_records(before), records.read_records(after)
        ):
            assert records.unpack_image(one) == records.unpack_image(two)
            new = records.parse_pseudo_labeled(two, 3)
            probs = wanted[new["key"].numpy()]
            np.testing.assert_allclose(new["probs"], probs, atol=1e-6)
            assert new["label"] == probs.argmax()
            assert new["confidence"] == new["probs"].numpy().max()


def test_every_image_has_its_place_in_a_batch_whatever_is_pending(settings):
    paths, counts = records.count_shards(settings.input_dir, "train")
    assert counts == [4, 4, 3]
    parts = labelling_stream.divide(paths, [4, 4, 3])

    def places(batch_size, *pending):
        stream = labelling_stream.ImageStream(
            parts=tuple(parts[shard] for shard in pending),
            view=lambda image_bytes: tf.zeros([1]),
            batch_size=batch_size,
        )
        return {
            (int(shard), int(index)): (place, batch["key"][place].numpy())
            for batch in stream.dataset()
            for place, (shard, index) in enumerate(
                zip(batch["shard"], batch["index"])
            )
            if shard >= 0
        }

    for batch_size in (3, 32):
        undisturbed = places(batch_size, 0, 1, 2)
        assert len(undisturbed) == NUM_IMAGES
        for pending in ((1,), (0, 2)):
            found = places(batch_size, *pending)
            assert found == {
                image: place
                for image, place in undisturbed.items()
                if image[0] in pending
            }


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_come_in_order_and_waiting_is_what_no_step_covers(
    settings, threads
):
    paths, counts = records.count_shards(settings.input_dir, "train")
    slow_view, slow_step = 0.05, 0.03
    calls = []

    def view(image_bytes):
        def wait(data):
            time.sleep(slow_view)
            return np.float32([len(data)])

        return tf.ensure_shape(
            tf.numpy_function(wait, [image_bytes], tf.float32), [1]
        )

    def forward(images):
        calls.append(threading.get_ident())
        time.sleep(slow_step)
        return [tf.concat([images, images], axis=1)]

    stream = labelling_stream.ImageStream(
        parts=tuple(labelling_stream.divide(paths, counts)),
        view=view,
        batch_size=2,
    )
    waiting = labelling_stream.Waiting()
    started = time.perf_counter()
    rows = list(stream.rows(forward, waiting, threads))
    taken = time.perf_counter() - started
    assert [(row.shard, row.index) for row in rows] == [
        (shard, index) for shard in range(3) for index in range(counts[shard])
    ]
    lengths = [
        len(records.unpack_image(serialized)[0])
        for path in paths
        for serialized in records.read_records(path)
    ]
    assert [row.probs[0] for row in rows] == lengths
    assert len(set(calls)) <= threads
    assert waiting.steps == len(calls) + 1
    # The first image is waited for, and no step that runs is.
    assert slow_view <= waiting.seconds <= taken - slow_step


def test_a_step_that_fails_ends_labelling(settings):
    paths, counts = records.count_shards(settings.input_dir, "train")
    stream = labelling_stream.ImageStream(
        parts=tuple(labelling_stream.divide(paths, counts)),
        view=lambda image_bytes: tf.zeros([1]),
        batch_size=2,
    )

    def forward(images):
        raise FloatingPointError("no memory")

    with pytest.raises(FloatingPointError, match="no memory"):
        list(stream.rows(forward, labelling_stream.Waiting(), 2))


class Killed(Exception):
    """Stands for a signal."""


def stop_at(monkeypatch, image, stop):
    """Calls `stop` when so many images are labeled."""
    advance = predict.progress.Progress.advance
    count = iter(range(1, 1000))

    def stopping(meter, *arguments, **named):
        if next(count) == image:
            stop()
        advance(meter, *arguments, **named)

    monkeypatch.setattr(predict.progress.Progress, "advance", stopping)


@pytest.mark.parametrize("reassign", [False, True])
def test_a_run_that_was_stopped_goes_on_with_the_unfinished_shard(
    settings, tmp_path, monkeypatch, reassign
):
    undisturbed = str(tmp_path / "undisturbed")
    run(settings, output_dir=undisturbed, reassign=reassign)

    def stop():
        raise Killed

    with monkeypatch.context() as context:
        stop_at(context, 6, stop)
        with pytest.raises(Killed):
            run(settings, reassign=reassign)
    done = {
        path: path.stat().st_mtime_ns
        for path in pathlib.Path(settings.output_dir).iterdir()
    }
    finished = [path.name for path in done if "00001-of" in path.name]
    # Of the second shard no record has its name, and no table without it.
    assert not finished
    run(settings, reassign=reassign)
    for path, modified in done.items():
        assert not path.exists() or path.stat().st_mtime_ns == modified
    assert read_files(settings.output_dir) == read_files(undisturbed)


def test_a_restart_takes_batches_of_the_same_size(settings):
    run(settings, shard_ids=(0,))
    message = "`replica_batch_size`: 4 before, 2 now"
    with pytest.raises(ValueError, match=message):
        run(settings, batch_size=2)
    with pytest.raises(ValueError, match=message):
        predict.open_writer(settings, 2)
    # What one of two replicas gets of it is the same.
    predict.open_writer(dataclasses.replace(settings, batch_size=8), 2)
    run(settings)


def test_two_splits_are_not_labeled_into_one_folder(settings, tmp_path):
    run(settings)
    before = read_files(settings.output_dir)
    fixtures.write_unlabeled(
        tmp_path / "images", "extra", 5, num_shards=NUM_SHARDS
    )
    with pytest.raises(ValueError, match="predictions for another split"):
        run(settings, split="extra")
    assert read_files(settings.output_dir) == before


def test_what_killed_runs_left_of_tables_is_removed(settings):
    left = pathlib.Path(settings.output_dir) / (
        f".train-table-00000-of-0000{NUM_SHARDS}-00000.npz.7-ab.tmp"
    )
    left.parent.mkdir()
    left.touch()
    run(settings)
    assert not left.exists()


def test_tables_say_which_predictions_they_are_of(settings):
    run(settings)
    for paths in shards.list_predictions(
        settings.output_dir, "train", NUM_SHARDS
    ):
        table = prediction_table.path_beside(paths[0])
        rows, origin = prediction_table.describe(table)
        assert set(rows.values()) == {records.count_records(paths[0])}
        assert origin == (fixtures.NUM_CLASSES, os.path.getsize(paths[0]), 0)


@pytest.mark.long
def test_a_killed_process_leaves_nothing_that_changes_the_result(
    settings, tmp_path
):
    undisturbed = tmp_path / "undisturbed"
    run(settings, output_dir=str(undisturbed))
    code = f"""
import os, pathlib, signal
import pytest
import efficientnet; efficientnet.require_keras_2()
from tests.noisy_student import test_labelling as tests
monkeypatch = pytest.MonkeyPatch()
tests.without_checkpoint(monkeypatch)
tests.stop_at(
    monkeypatch, 6, lambda: os.kill(os.getpid(), signal.SIGKILL)
)
tests.run(tests.settings_in(pathlib.Path({str(tmp_path)!r})))
"""
    killed = subprocess.run([sys.executable, "-c", code], timeout=300)
    assert killed.returncode == -signal.SIGKILL
    names = os.listdir(settings.output_dir)
    assert any(name.endswith(".tmp") for name in names)
    run(settings)
    assert read_files(settings.output_dir) == read_files(undisturbed)
    assert not any(
        name.startswith(".") for name in os.listdir(settings.output_dir)
    )


def rewrite(settings, shard, serialized):
    """Replaces the records of a shard; the manifest counts the former ones."""
    path = shards.list_shards(settings.input_dir, "train")[shard]
    manifest = shards.read_manifest(settings.input_dir, "train")
    with tf.io.TFRecordWriter(path) as writer:
        for record in serialized:
            writer.write(record)
    num_bytes = list(manifest.num_bytes)
    num_bytes[shard] = os.path.getsize(path)
    shards.write_manifest(
        settings.input_dir, dataclasses.replace(manifest, num_bytes=num_bytes)
    )
    return path


def records_of(settings, shard):
    path = shards.list_shards(settings.input_dir, "train")[shard]
    return list(records.read_records(path))


@pytest.mark.parametrize("change", [[], slice(0, 3), "one more"])
def test_shards_other_than_counted_are_named_and_not_written(settings, change):
    found = records_of(settings, 1)
    if change == "one more":
        changed = [*found, found[0]]
    else:
        changed = found[change] if change else []
    path = rewrite(settings, 1, changed)
    with pytest.raises(records.RecordError, match="does not hold the 4") as e:
        run(settings)
    assert path in str(e.value)
    names = os.listdir(settings.output_dir)
    assert shards.prediction_name("train", 0, NUM_SHARDS) in names
    assert shards.prediction_name("train", 1, NUM_SHARDS) not in names


def test_an_image_that_cannot_be_decoded_is_named(settings):
    found = records_of(settings, 2)
    found[1] = records.unlabeled_example(b"no image", b"k")
    path = rewrite(settings, 2, found)
    message = (
        "record 1 cannot be labeled, and none may be left out: .*"
        "data_prep.jft --input='.*/images/train-.'"
    )
    with pytest.raises(records.RecordError, match=message) as error:
        run(settings)
    assert path in str(error.value)
    output_dir = pathlib.Path(settings.output_dir)
    assert not list(output_dir.glob("[!.]*info-00002*"))


def test_a_truncated_shard_is_named(settings):
    path = pathlib.Path(shards.list_shards(settings.input_dir, "train")[1])
    path.write_bytes(path.read_bytes()[:-20])
    message = f"{path}.*it is truncated"
    with pytest.raises(records.RecordError, match=message):
        run(settings)
    assert not os.path.exists(settings.output_dir)


def test_keys_come_from_the_place_where_there_are_none(settings):
    found = records_of(settings, 0)
    nameless = [
        records.unlabeled_example(records.unpack_image(record)[0], b"")
        for record in found
    ]
    rewrite(settings, 0, nameless)
    run(settings)
    assert [key for *_, key in read_predictions(settings)[0]] == [
        b"train-00000-of-00003:%d" % index for index in range(4)
    ]


def test_new_labels_are_not_shared_among_workers(settings):
    with pytest.raises(ValueError, match="`num_workers` must be 1"):
        dataclasses.replace(settings, reassign=True, num_workers=2)
    with pytest.raises(ValueError, match="<= 3, the number of classes"):
        dataclasses.replace(
            settings, storage=prob_storage.ProbStorage("topk", 4)
        )
