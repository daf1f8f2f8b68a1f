"""Tests of what is found before filtering chooses, and of going on after it."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest

from data_prep import (
    counting,
    duplicate_keys,
    filter_unlabel,
    prediction_inputs,
    prediction_table,
    prob_storage,
    record_files,
    records,
    shards,
)
from tests.data_prep import corpus, filter_corpus
from tests.data_prep.filter_corpus import KEYS, NUM_CLASSES, PROBS, RULE

BOUNDS = [0, 100, 300]
PREDICTIONS = "probs/train-info-00001-of-00002-00000"
TABLE = "probs/train-table-00001-of-00002-00000.npz"


@pytest.fixture(name="folder")
def _folder(tmp_path):
    corpus.write_corpus(tmp_path, PROBS, KEYS, BOUNDS)
    return tmp_path


def _run(folder, **changes):
    return filter_unlabel.run(
        filter_corpus.config(folder, folder / "out", **changes)
    )


def _rewrite(path, change):
    """Writes a shard anew, with its list of records changed."""
    payloads = list(records.read_records(path))
    change(payloads)
    corpus.forget_manifests(path.parent.parent)
    with records.tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)


def _replace(index, payload):
    def change(payloads):
        payloads[index] = payload

    return change


def _example(**feature):
    features = records.tf.train.Features(feature=feature)
    return records.tf.train.Example(features=features).SerializeToString()


def _write_tables(folder, probs=PROBS):
    """Writes the tables that labelling writes beside its predictions."""
    found = shards.list_predictions(folder / "probs", "train", len(BOUNDS) - 1)
    for (path,), start, end in zip(found, BOUNDS, BOUNDS[1:]):
        part = probs[start:end]
        prediction_table.write(
            prediction_table.path_beside(path),
            label=part.argmax(axis=1),
            confidence=part.max(axis=1),
            hash=[prediction_table.hash_of(key) for key in KEYS[start:end]],
            origin=prediction_table.Origin(NUM_CLASSES, os.path.getsize(path)),
        )


def _left(folder):
    """Returns what is there beside tables that can be used again."""
    return [
        path.name
        for path in (folder / "out").rglob("*")
        if path.is_file() and path.suffix != ".npz"
    ]


PROBS_FEATURE = records._float_feature(PROBS[0])
MALFORMED = {
    "no class": _example(probabilities=PROBS_FEATURE),
    "no probs": _example(classes=records._int64_feature(1)),
    "class of bytes": _example(
        probabilities=PROBS_FEATURE, classes=records._bytes_feature(b"x")
    ),
    "no example": b"junk",
    "other length": records.prediction_example([0.5] * 4, b""),
    "NaN": records.prediction_example([np.nan] * NUM_CLASSES, b""),
    "class out of range": _example(
        probabilities=PROBS_FEATURE, classes=records._int64_feature(5)
    ),
}


@pytest.mark.parametrize("index", [0, 150])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_prediction_is_named_before_a_choice(folder, name, index):
    _rewrite(folder / PREDICTIONS, _replace(index, MALFORMED[name]))
    where = f"{PREDICTIONS}'"
    if (name, index) != ("other length", 0):
        where += f": record {index}"
    with pytest.raises(ValueError, match=where):
        _run(folder)
    assert not _left(folder)


def test_mended_predictions_and_other_rules_take_the_same_folder(folder):
    whole = (folder / PREDICTIONS).read_bytes()
    expected = filter_unlabel.run(
        filter_corpus.config(folder, folder / "whole")
    )
    _rewrite(folder / PREDICTIONS, _replace(150, MALFORMED["other length"]))
    with pytest.raises(records.RecordError, match="over 4 classes"):
        _run(folder)
    (folder / PREDICTIONS).write_bytes(whole)
    assert _run(folder) == expected


@pytest.mark.parametrize("selection", ["exact", "binned"])
def test_tables_of_predictions_that_changed_are_made_anew(folder, selection):
    rule = dataclasses.replace(RULE, selection=selection)
    config = filter_corpus.config(
        folder, folder / "out", balance=rule, shard_id=1
    )
    assert filter_unlabel.run(config, only_get_stats=True) is None
    counts = folder / "out/prelim_stats/prelim_stats_00001_0.json"
    before = counts.read_bytes() if selection == "binned" else None
    size = os.path.getsize(folder / PREDICTIONS)
    # Of the same size, so that nothing but what they hold tells.
    _rewrite(folder / PREDICTIONS, list.reverse)
    _rewrite(folder / "images/train-00001-of-00002", list.reverse)
    sure = records.prediction_example(
        np.eye(NUM_CLASSES, dtype=np.float32)[4], KEYS[100]
    )
    _rewrite(folder / PREDICTIONS, _replace(199, sure))
    assert os.path.getsize(folder / PREDICTIONS) == size
    report = _run(folder, balance=rule)
    other = filter_corpus.config(folder, folder / "other", balance=rule)
    assert report == filter_unlabel.run(other)
    assert before is None or counts.read_bytes() != before


def test_equal_keys_leave_nothing_in_the_way_of_use_all(tmp_path):
    keys = list(KEYS)
    keys[7] = keys[250]
    corpus.write_corpus(tmp_path, PROBS, keys, BOUNDS)
    with pytest.raises(ValueError, match="only --use_all takes"):
        _run(tmp_path)
    assert not _left(tmp_path)
    use_all = dataclasses.replace(RULE, use_all=True)
    assert _run(tmp_path, balance=use_all).num_records


def test_a_table_says_how_long_all_distributions_are(folder):
    _write_tables(folder)
    with pytest.raises(ValueError, match="5 classes.*num_label_classes=7"):
        _run(folder, num_label_classes=7)
    path = str(folder / TABLE)
    columns = dict(zip(prediction_table.COLUMNS, prediction_table.read(path)))
    size = os.path.getsize(folder / PREDICTIONS)
    mixed = prediction_table.Origin(4, size)
    prediction_table.write(path, **columns, origin=mixed)
    with pytest.raises(ValueError, match=f"{PREDICTIONS}' holds .* 4 classes"):
        _run(folder)
    prediction_table.write(path, **columns)
    with pytest.raises(ValueError, match=f"{TABLE}' .*an older version"):
        _run(folder)
    assert not (folder / "out").exists()


def test_inputs_are_checked_without_reading_them(folder, monkeypatch):
    _write_tables(folder)
    for name in ("count_records", "read_records"):
        monkeypatch.delattr(record_files, name)
    monkeypatch.delattr(records, "read_records")
    monkeypatch.setattr(
        prediction_table, "read", lambda path, columns: pytest.fail(path)
    )
    # It gets as far as reading the tables for the counts.
    with pytest.raises(pytest.fail.Exception, match="table-00000-of-00002"):
        _run(folder)


@pytest.mark.parametrize("name", ["images/train-00001-of-00002", PREDICTIONS])
def test_a_shard_of_another_size_than_its_manifest_says_is_named(folder, name):
    size = os.path.getsize(folder / name)
    os.truncate(folder / name, size - 1)
    with pytest.raises(ValueError, match=f"{name}' has {size - 1} .*truncated"):
        _run(folder)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("value", ["[1]", '{"image_num": "x"}', "{}"])
def test_a_malformed_count_is_named(folder, value):
    (folder / "probs/info-00001-of-00002-00000.txt").write_text(value)
    with pytest.raises(ValueError, match="info-00001-of-00002-00000.txt' must"):
        _run(folder)


def test_a_table_that_is_an_array_is_named(folder):
    with open(folder / TABLE, "wb") as file:
        np.save(file, np.zeros(200))
    with pytest.raises(ValueError, match=f"{TABLE}' is no table"):
        _run(folder)
    with pytest.raises(ValueError, match=f"{TABLE}' is no table"):
        prediction_table.read(str(folder / TABLE))


def test_confidences_of_another_teacher_are_noticed(folder):
    probs = PROBS.copy()
    rows = np.arange(len(probs))
    probs[rows, PROBS.argmax(axis=1)] += np.float32(1e-3)
    _write_tables(folder, probs)
    with pytest.raises(records.RecordError, match="table .* says otherwise"):
        _run(folder)


def test_a_confidence_may_differ_by_what_its_storage_loses(folder):
    half = prob_storage.ProbStorage("float16")
    found = shards.list_predictions(folder / "probs", "train", 2)
    for (path,), start, end in zip(found, BOUNDS, BOUNDS[1:]):

        def store(payloads, start=start, end=end):
            payloads[:] = [
                records.prediction_example(PROBS[i] / 3, KEYS[i], storage=half)
                for i in range(start, end)
            ]

        _rewrite(pathlib.Path(path), store)
    _write_tables(folder, PROBS / 3)
    rule = dataclasses.replace(RULE, min_threshold=0.1)
    assert _run(folder, balance=rule).num_records


def test_an_image_record_without_image_is_named(folder):
    path = folder / "images" / "train-00001-of-00002"
    rule = dataclasses.replace(RULE, use_all=True, min_threshold=0.0)
    key = records._bytes_feature(KEYS[105])
    _rewrite(path, _replace(5, _example(**{records.KEY: key})))
    message = "train-00001-of-00002' with .*record 5 has no image"
    with pytest.raises(records.RecordError, match=message):
        _run(folder, balance=rule)


def test_flags_that_exclude_each_other_are_refused(folder):
    with pytest.raises(ValueError, match="shard_id=1, but .* 1 are used"):
        _run(folder, shard_id=1, num_used_shards=1)
    with pytest.raises(ValueError, match="--prelim_stats_dir must not be --ou"):
        _run(folder, prelim_stats_dir=f"{folder}/x/../out")


def test_what_a_killed_run_left_half_written_is_removed(folder):
    left = [
        folder / "out/.config.json.7-ab.tmp",
        folder / "out/prelim_stats/.total_counts.json.7-ab.tmp",
        folder / "out/stats/.stats_00000_0.json.7-ab.tmp",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    _run(folder)
    assert not any(path.exists() for path in left)


def test_places_of_a_key_that_all_images_share_are_few(tmp_path):
    paths = []
    for shard in range(3):
        paths.append((str(tmp_path / f"{shard}.npz"),))
        hashes = np.full(20_000, 7, np.uint64)
        hashes[-2:] = shard, 99
        prediction_table.write(
            *paths[-1],
            label=np.zeros(len(hashes), int),
            confidence=np.ones(len(hashes)),
            hash=hashes,
        )
    tables = counting.Tables(tuple(paths))
    found = duplicate_keys.repeated_hashes(tables, 60_000, 1000)
    assert found.tolist() == [7, 99]
    places = duplicate_keys._find(tables, found)
    assert places == [
        *((0, row) for row in range(5)),
        *((shard, 19_999) for shard in range(3)),
    ]
    # Of a range that is too full, two of each hash are enough.
    few = duplicate_keys._few_copies(hashes, 10)
    assert few.tolist() == [2, 7, 7, 99]


def test_keys_are_looked_up_by_the_first_images_that_share_them(tmp_path):
    keys = [b"same"] * len(KEYS)
    corpus.write_corpus(tmp_path, PROBS, keys, BOUNDS)
    with pytest.raises(ValueError, match="'same' .*: record 4[)]. Keys must"):
        _run(tmp_path)
    inputs = prediction_inputs.find(
        str(tmp_path / "images"), str(tmp_path / "probs"), "train"
    )
    assert len(inputs.images) == 2
