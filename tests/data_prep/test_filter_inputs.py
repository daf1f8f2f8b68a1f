"""Tests of what filtering does with inputs that do not fit together."""

import dataclasses
import os

import numpy as np
import pytest

from data_prep import (
    counting,
    duplicate_keys,
    filter_unlabel,
    prediction_inputs,
    prediction_table,
    records,
    shards,
)
from tests.data_prep import corpus, filter_corpus
from tests.data_prep.filter_corpus import (
    KEYS,
    NUM_CLASSES,
    NUM_IMAGES,
    PROBS,
    RULE,
)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    return filter_corpus.make(tmp_path_factory)


def _remove(name):
    return lambda folder: os.remove(folder / name)


def _truncate(name):
    def truncate(folder):
        with open(folder / name, "r+b") as file:
            file.truncate(1000)

    return truncate


def _miscount(folder):
    info = folder / "probs" / "info-00000-of-00002-00000.txt"
    info.write_text('{"image_num": 99}')


def _mix_up_shards(folder):
    for kind, name in (("info-", ".txt"), ("train-info-", "")):
        paths = [
            folder / "probs" / f"{kind}0000{i}-of-00002-00000{name}"
            for i in range(2)
        ]
        os.rename(paths[0], folder / "other")
        os.rename(paths[1], paths[0])
        os.rename(folder / "other", paths[1])


def _mix_class_counts(folder):
    path = folder / "probs" / "train-info-00001-of-00002-00000"
    with records.tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(200):
            writer.write(records.prediction_example([0.5] * 2, b""))


@pytest.mark.parametrize(
    ("damage", "error_type", "message"),
    [
        (
            _remove("images/train-00001-of-00002"),
            ValueError,
            "missing: train-00001-of-00002",
        ),
        (
            _remove("probs/train-info-00001-of-00002-00000"),
            FileNotFoundError,
            "missing in .*: train-info-00001-of-00002-00000",
        ),
        (
            _remove("probs/info-00001-of-00002-00000.txt"),
            FileNotFoundError,
            "info-00001-of-00002-00000.txt' is missing: the labelling",
        ),
        (
            _truncate("images/train-00000-of-00002"),
            ValueError,
            "images/train-00000-of-00002': record .*truncated",
        ),
        (
            _truncate("probs/train-info-00000-of-00002-00000"),
            ValueError,
            "train-info-00000-of-00002-00000': record .*truncated",
        ),
        (
            _mix_class_counts,
            ValueError,
            "train-info-00001-of-00002-00000' holds distributions over 2 cl",
        ),
        (_miscount, ValueError, "holds 100 predictions, but .*.txt' says 99"),
        (
            _mix_up_shards,
            ValueError,
            "train-00000-of-00002' holds 100 images, but there are 200",
        ),
    ],
)
def test_damaged_inputs_are_named_before_anything_is_written(
    tmp_path, damage, error_type, message
):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 100, 300])
    corpus.forget_manifests(tmp_path)
    damage(tmp_path)
    with pytest.raises(error_type, match=message):
        filter_unlabel.run(filter_corpus.config(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_each_worker_must_have_taken_its_share(tmp_path):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 300])
    corpus.forget_manifests(tmp_path)
    path = tmp_path / "probs" / "train-info-00000-of-00001-00000"
    payloads = list(records.read_records(path))
    for worker, part in enumerate(
        (payloads[::2] + payloads[1:2], payloads[3::2])
    ):
        name = f"00000-of-00001-0000{worker}"
        with records.tf.io.TFRecordWriter(
            str(tmp_path / "probs" / f"train-info-{name}")
        ) as writer:
            for payload in part:
                writer.write(payload)
        info = tmp_path / "probs" / f"info-{name}.txt"
        info.write_text(f'{{"image_num": {len(part)}}}')
    message = "00001-00000' must hold 150 predictions, .* 300. Received: 151"
    with pytest.raises(ValueError, match=message):
        filter_unlabel.run(filter_corpus.config(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_label_classes": 7},
            "distributions over 5 classes. Received: --num_label_classes=7",
        ),
        ({"num_shards": 3}, "--num_shards=3, but there are 4 'train' shards"),
        ({"shard_id": 4}, "--shard_id=4, but there are 4 shards"),
        ({"num_used_shards": 5}, "--only_use_num_shards=5, but there are 4"),
        ({"total_replicas": 2}, "--total_replicas=2, but there are 1 pred"),
    ],
)
def test_inputs_must_be_as_large_as_stated(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        filter_unlabel.run(
            filter_corpus.config(folder, tmp_path / "out", **changes)
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("input_dir", "No shards match"),
        ("prediction_dir", "4 prediction files are missing"),
        ("output_dir", "'.*no' is a file, not a folder"),
        ("prelim_stats_dir", "'.*no' is a file, not a folder"),
    ],
)
def test_wrong_folders_are_named_with_their_flags(
    folder, tmp_path, name, message
):
    path = tmp_path / "no"
    if message.endswith("not a folder"):
        path.touch()
    folders = {"output_dir": tmp_path / "out", name: str(path)}
    config = filter_corpus.config(folder, **folders)
    with pytest.raises(
        (ValueError, FileNotFoundError), match=f"^--{name}={path}: {message}"
    ):
        filter_unlabel.run(config)


def _replace_prediction(folder, index, serialized):
    path = folder / "probs" / "train-info-00000-of-00001-00000"
    corpus.forget_manifests(folder)
    payloads = list(records.read_records(path))
    payloads[index] = serialized
    with records.tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)


@pytest.mark.parametrize(
    ("serialized", "message"),
    [
        (
            records.prediction_example([np.nan] * NUM_CLASSES, b""),
            "record 270: field 'probabilities' holds a negative",
        ),
        (
            records.prediction_example([1, 0, 0, 0, 0], b"key/7"),
            "record 270 has the key b'key/270', .* is for b'key/7'",
        ),
    ],
)
def test_malformed_predictions_are_named(tmp_path, serialized, message):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 300])
    _replace_prediction(tmp_path, 270, serialized)
    rule = dataclasses.replace(RULE, num_image=1000, use_all=True)
    with pytest.raises(records.RecordError, match=message):
        filter_unlabel.run(
            filter_corpus.config(tmp_path, tmp_path / "out", balance=rule)
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": [0, NUM_CLASSES]}, r"in 0..4. Received: 0..5"),
        ({"confidence": [0.5, np.nan]}, "in .0, 2.. Received: nan for image 1"),
        ({"confidence": [-0.5, 1]}, "in .0, 2.. Received: -0.5 for image 0"),
    ],
)
def test_a_table_that_no_teacher_wrote_is_named(tmp_path, changes, message):
    columns = {"label": [0, 1], "confidence": [0, 1], "hash": [0, 1]}
    path = str(tmp_path / "table.npz")
    prediction_table.write(path, **{**columns, **changes})
    tables = counting.Tables(((path,),))
    bins = RULE.bins(NUM_CLASSES)
    with pytest.raises(ValueError, match=f"table.npz': .*{message}"):
        counting.histogram(tables, NUM_CLASSES, bins)


def _write_tables(folder):
    """Writes the tables that labelling writes beside its predictions."""
    images = shards.list_shards(folder / "images")
    predictions = shards.list_predictions(
        folder / "probs", "train", len(images)
    )
    inputs = prediction_inputs.PredictionInputs(images, predictions)
    for shard, (path,) in enumerate(predictions):
        columns = counting.read_columns(inputs, shard, 0, NUM_CLASSES)
        prediction_table.write(
            prediction_table.path_beside(path),
            **columns,
            origin=prediction_table.Origin(NUM_CLASSES, os.path.getsize(path)),
        )


def test_tables_beside_the_predictions_are_read_where_they_are(
    tmp_path, monkeypatch
):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 100, 300])
    without = filter_unlabel.run(
        filter_corpus.config(tmp_path, tmp_path / "without")
    )
    _write_tables(tmp_path)
    monkeypatch.delattr(counting, "read_columns")
    report = filter_unlabel.run(
        filter_corpus.config(tmp_path, tmp_path / "with")
    )
    assert report == without
    assert not list((tmp_path / "with" / "prelim_stats").glob("*.npz"))
    for name in ("train-00000-of-00002", "train-00001-of-00002"):
        written = [
            (tmp_path / run / "data" / name).read_bytes()
            for run in ("with", "without")
        ]
        assert written[0] == written[1]


def test_a_mix_of_class_counts_is_found_where_tables_hide_it(tmp_path):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 300])
    _write_tables(tmp_path)
    _replace_prediction(
        tmp_path, 270, records.prediction_example([0.5] * 4, KEYS[270])
    )
    rule = dataclasses.replace(RULE, min_threshold=0.0, use_all=True)
    message = (
        "train-info-00000-of-00001-00000' has .* bytes, .* by .*train-table"
        "-00000-of-00001-00000.npz': it is truncated or was changed"
    )
    with pytest.raises(ValueError, match=message):
        filter_unlabel.run(
            filter_corpus.config(tmp_path, tmp_path / "out", balance=rule)
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 100, -1])
def test_a_truncated_table_is_named(tmp_path, size):
    path = str(tmp_path / "table.npz")
    prediction_table.write(path, label=[0], confidence=[1], hash=[1])
    with open(path, "r+b") as file:
        file.truncate(size % os.path.getsize(path))
    with pytest.raises(ValueError, match="table.npz' is no table"):
        prediction_table.read(path)


def test_a_table_of_other_predictions_is_named(tmp_path):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 100, 300])
    _write_tables(tmp_path)
    path = tmp_path / "probs" / "train-table-00001-of-00002-00000.npz"
    _, origin = prediction_table.describe(path)
    label, confidence, hashes = prediction_table.read(path)
    columns = {"label": label, "confidence": confidence, "hash": hashes}
    shorter = {name: column[1:] for name, column in columns.items()}
    prediction_table.write(path, **shorter, origin=origin)
    with pytest.raises(
        ValueError, match="200 predictions by .*, but .* has 199 rows"
    ):
        filter_unlabel.run(filter_corpus.config(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    columns["label"] = np.roll(label, 1)
    prediction_table.write(path, **columns, origin=origin)
    with pytest.raises(records.RecordError, match="table of predictions says"):
        filter_unlabel.run(filter_corpus.config(tmp_path, tmp_path / "out"))


@pytest.mark.parametrize("stored", [None, [b""] * NUM_IMAGES])
def test_equal_keys_are_named_before_images_are_written(tmp_path, stored):
    keys = list(KEYS)
    keys[7] = keys[250]
    corpus.write_corpus(tmp_path, PROBS, keys, [0, 100, 300], stored)
    message = (
        r"1 keys belong to several images, such as b'key/250' \("
        r"'.*train-00000-of-00002': record 7, "
        r"'.*train-00001-of-00002': record 150\). Keys must be unique"
    )
    with pytest.raises(ValueError, match=message):
        filter_unlabel.run(filter_corpus.config(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out" / "data").exists()
    assert not (tmp_path / "out" / "threshold.json").exists()


def test_different_keys_with_one_hash_are_no_error(tmp_path, monkeypatch):
    hashes = {KEYS[7]: 5, KEYS[250]: 5}
    hash_of = prediction_table.hash_of
    monkeypatch.setattr(
        prediction_table, "hash_of", lambda key: hashes.get(key) or hash_of(key)
    )
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 100, 300])
    report = filter_unlabel.run(
        filter_corpus.config(tmp_path, tmp_path / "out")
    )
    assert report.num_records == RULE.num_image * NUM_CLASSES


@pytest.mark.parametrize("range_size", [7, 1 << 24])
def test_equal_hashes_are_found_in_any_range(tmp_path, range_size):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 64, 300, np.uint64)
    hashes[[3, 100, 299]] = hashes[50]
    hashes[[7, 8]] = 0, 2**64 - 1
    hashes[[9, 10]] = hashes[[7, 8]]
    label = rng.integers(0, 3, 300)
    paths = []
    for shard, rows in enumerate(np.split(np.arange(300), [120, 120])):
        paths.append((str(tmp_path / f"{shard}.npz"),))
        prediction_table.write(
            *paths[-1],
            label=label[rows],
            confidence=np.ones(len(rows)),
            hash=hashes[rows],
        )
    tables = counting.Tables(tuple(paths), num_workers=2)
    found = duplicate_keys.repeated_hashes(tables, 300, range_size)
    assert found.tolist() == sorted([0, int(hashes[50]), 2**64 - 1])
    total, by_class = duplicate_keys.distinct(RULE, tables, 3, 300, range_size)
    pairs = set(zip(label.tolist(), hashes.tolist()))
    assert total == len(set(hashes.tolist())) == 295
    assert by_class.tolist() == [
        sum(pair[0] == c for pair in pairs) for c in range(3)
    ]
