"""Tests of record schemas and of reading shards."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from data_prep import prob_storage, records
from tests.data_prep import corpus


def _write(path, payloads):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)


def _numpy(parsed):
    return {name: value.numpy() for name, value in parsed.items()}


PROBS = np.array([0.125, 0.5, 0.375], np.float32)
EXAMPLES = {
    "labeled": (
        records.labeled_example(b"image", 3, "key"),
        records.parse_labeled,
        {"image_bytes": b"image", "label": 3, "key": b"key"},
    ),
    "unlabeled": (
        records.unlabeled_example(b"image", b"key"),
        records.parse_unlabeled,
        {"image_bytes": b"image", "key": b"key"},
    ),
    "pseudo_labeled": (
        records.pseudo_labeled_example(b"image", 1, 0.5, PROBS, b"key"),
        lambda serialized: records.parse_pseudo_labeled(serialized, 3),
        {
            "image_bytes": b"image",
            "label": 1,
            "confidence": 0.5,
            "probs": PROBS,
            "key": b"key",
        },
    ),
    "prediction": (
        records.prediction_example(PROBS, b"key"),
        lambda serialized: records.parse_prediction(serialized, 3),
        {"probs": PROBS, "label": 1, "key": b"key"},
    ),
}


@pytest.mark.parametrize("in_dataset", [False, True])
@pytest.mark.parametrize("kind", EXAMPLES)
def test_records_parse_to_what_was_put_in(kind, in_dataset):
    serialized, parse, expected = EXAMPLES[kind]
    if in_dataset:
        dataset = tf.data.Dataset.from_tensors(serialized).map(parse)
        parsed = next(dataset.as_numpy_iterator())
    else:
        parsed = _numpy(parse(serialized))
    assert parsed.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(parsed[name], value)
    assert "label" not in parsed or parsed["label"].dtype == np.int64


def test_field_names_are_those_of_the_original():
    fields = {
        kind: set(tf.train.Example.FromString(row[0]).features.feature)
        for kind, row in EXAMPLES.items()
    }
    assert fields == {
        "labeled": {"image/encoded", "image/class/label", "image/filename"},
        "unlabeled": {"image/encoded", "image/filename"},
        "pseudo_labeled": {
            "image/encoded",
            "image/filename",
            "label",
            "prob",
            "probabilities",
        },
        "prediction": {"image/filename", "probabilities", "classes"},
    }


def test_records_without_a_key_parse_to_an_empty_one():
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(b"i")
    example.features.feature["image/class/label"].int64_list.value.append(7)
    serialized = example.SerializeToString()
    assert _numpy(records.parse_labeled(serialized))["key"] == b""
    assert records.unpack_image(serialized) == (b"i", b"")


def test_serialized_bytes_do_not_depend_on_the_order_of_fields():
    serialized = EXAMPLES["pseudo_labeled"][0]
    example = tf.train.Example.FromString(serialized)
    assert example.SerializeToString(deterministic=True) == serialized
    # Field names appear in sorted order.
    places = [
        serialized.index(name)
        for name in (b"image/encoded", b"image/filename", b"label", b"prob")
    ]
    assert places == sorted(places)


def test_a_batch_of_predictions_parses_at_once():
    batch = [records.prediction_example(PROBS[::s], b"k") for s in (1, -1)]
    parsed = records.parse_prediction(tf.constant(batch), 3)
    assert parsed["probs"].shape == (2, 3)
    assert parsed["label"].numpy().tolist() == [1, 1]


def test_a_prediction_of_another_length_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="probabilities"):
        records.parse_prediction(EXAMPLES["prediction"][0], 4)


def test_unpack_prediction_returns_what_was_put_in():
    probs, label, key = records.unpack_prediction(EXAMPLES["prediction"][0])
    np.testing.assert_array_equal(probs, PROBS)
    assert probs.dtype == np.float32
    assert (label, key) == (1, b"key")


def test_unpacking_garbage_is_a_record_error():
    with pytest.raises(records.RecordError, match="no tf.train.Example"):
        records.unpack_image(b"\xff\xff\xff")


def test_default_key_names_shard_and_index():
    assert (
        records.default_key("/data/train-00000-of-00001", 12)
        == b"train-00000-of-00001:12"
    )


def test_reading_gives_every_payload_in_order(tmp_path):
    payloads = [bytes([i]) * i for i in range(200)]
    _write(tmp_path / "a", payloads)
    assert list(records.read_records(tmp_path / "a")) == payloads
    assert records.count_records(tmp_path / "a") == 200
    size = sum(map(records.framed_size, payloads))
    assert size == (tmp_path / "a").stat().st_size


def test_an_empty_shard_has_no_records(tmp_path):
    _write(tmp_path / "a", [])
    assert list(records.read_records(tmp_path / "a")) == []
    assert records.count_records(tmp_path / "a") == 0


@pytest.mark.parametrize("cut", [1, 20, 32])
def test_truncation_is_located(tmp_path, cut):
    _write(tmp_path / "a", [b"0123456789"] * 70)
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-cut])
    index = 69 if cut < 26 else 68
    where = rf"a': record {index} \(byte offset {26 * index}\): .*truncated"
    with pytest.raises(records.RecordError, match=where):
        list(records.read_records(tmp_path / "a"))
    with pytest.raises(records.RecordError, match=where):
        records.count_records(tmp_path / "a")


def test_a_wrong_checksum_is_located(tmp_path):
    _write(tmp_path / "a", [b"0123456789"] * 70)
    content = bytearray((tmp_path / "a").read_bytes())
    content[26 * 66 + 15] ^= 1
    (tmp_path / "a").write_bytes(content)
    where = r"record 66 \(byte offset 1716\): wrong checksum"
    with pytest.raises(records.RecordError, match=where):
        list(records.read_records(tmp_path / "a"))


def test_corpus_helper_reads_back_fields(tmp_path):
    _write(tmp_path / "a", [EXAMPLES["labeled"][0]])
    assert corpus.read_features([str(tmp_path / "a")]) == [
        {
            "image/encoded": [b"image"],
            "image/class/label": [3],
            "image/filename": [b"key"],
        }
    ]


def _write_set(directory, num_records=3):
    writer = records.ShardedWriter(
        directory, "train", 2, kind="unlabeled", config={}
    )
    for index in writer.pending:
        with writer.open_shard(index) as shard:
            for number in range(num_records + index):
                shard.write(records.unlabeled_example(b"jpeg", b"%d" % number))
    return [pathlib.Path(writer.path(i)) for i in range(2)], writer.finish()


def test_a_set_is_counted_by_its_manifest(tmp_path, monkeypatch):
    paths, manifest = _write_set(tmp_path)
    assert manifest.num_bytes == tuple(path.stat().st_size for path in paths)
    with monkeypatch.context() as patch:
        patch.setattr(records, "count_records", None)
        counted = records.count_shards(tmp_path, "train")
    assert counted == ([str(path) for path in paths], [3, 4])
    (tmp_path / "train.manifest.json").unlink()
    assert records.count_shards(tmp_path, "train") == counted


@pytest.mark.parametrize(
    ("change", "problem"), [(-3, "truncated"), (16, "another file")]
)
def test_a_shard_that_is_not_the_manifests_is_named(tmp_path, change, problem):
    paths, manifest = _write_set(tmp_path)
    size = manifest.num_bytes[1]
    os.truncate(paths[1], size + change)
    message = (
        f"{paths[1]}' has {size + change} bytes, {size} by its manifest: it "
        f"is {problem}"
    )
    with pytest.raises(records.RecordError, match=message):
        records.count_shards(tmp_path, "train")


@pytest.mark.parametrize("kind", prob_storage.KINDS)
def test_a_distribution_stays_as_a_prediction_stores_it(kind):
    probs = np.random.default_rng(0).dirichlet([0.3] * 20).astype(np.float32)
    label = int(probs.argmax())
    storage = prob_storage.ProbStorage(kind, 3)
    prediction = records.prediction_example(probs, b"k", storage=storage)
    assert records.labeled_by_prediction(
        b"jpeg", label, probs[label], prediction, b"k"
    ) == records.pseudo_labeled_example(
        b"jpeg", label, probs[label], probs, b"k", storage=storage
    )
