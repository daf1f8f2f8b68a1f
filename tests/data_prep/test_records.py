"""Tests of record schemas and of reading shards."""

import numpy as np
import pytest
import tensorflow as tf

from data_prep import prob_storage, records
from tests.data_prep import corpus


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


def test_corpus_helper_reads_back_fields(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        writer.write(EXAMPLES["labeled"][0])
    assert corpus.read_features([str(tmp_path / "a")]) == [
        {
            "image/encoded": [b"image"],
            "image/class/label": [3],
            "image/filename": [b"key"],
        }
    ]


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
