"""Tests of the validator: every kind of damage is named and located."""

import pytest
import tensorflow as tf

from data_prep import records, validation
from tests.data_prep import corpus

JPEG = corpus.JPEG
GOOD = {
    "labeled": records.labeled_example(JPEG, 3, b"key"),
    "unlabeled": records.unlabeled_example(JPEG, b"key"),
    "pseudo_labeled": records.pseudo_labeled_example(
        JPEG, 1, 0.75, [0.25, 0.75, 0.0], b"key"
    ),
    "prediction": records.prediction_example([0.25, 0.75, 0.0], b"key"),
}


def _write(tmp_path, payloads):
    path = str(tmp_path / "train-00000-of-00001")
    with tf.io.TFRecordWriter(path) as writer:
        for payload in payloads:
            writer.write(payload)
    return path


def _changed(kind, name, feature):
    """Returns a good record with one field replaced, or removed by None."""
    example = tf.train.Example.FromString(GOOD[kind])
    del example.features.feature[name]
    if feature is not None:
        example.features.feature[name].CopyFrom(feature)
    return example.SerializeToString(deterministic=True)


def _ints(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(*values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _bytes(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("kind", GOOD)
def test_valid_shards_are_counted(tmp_path, kind, num_classes):
    _write(tmp_path, [GOOD[kind]] * 2)
    labels = {"labeled": {3: 2}, "unlabeled": {}}.get(kind, {1: 2})
    assert validation.validate(
        tmp_path, kind, num_classes
    ) == validation.RecordCounts(
        num_shards=1, num_records=2, num_without_key=0, label_counts=labels
    )


@pytest.mark.parametrize("kind", GOOD)
def test_a_key_is_optional(tmp_path, kind):
    _write(tmp_path, [_changed(kind, "image/filename", None)])
    assert validation.validate(tmp_path, kind).num_without_key == 1


@pytest.mark.parametrize(
    ("kind", "name", "feature", "message"),
    [
        ("unlabeled", "image/encoded", None, "hold bytes. Received: nothing"),
        ("unlabeled", "image/encoded", _ints(1), "bytes. Received: int64"),
        ("unlabeled", "image/encoded", _bytes(b""), "is empty"),
        ("unlabeled", "image/encoded", _bytes(b"text"), "is no JPEG.*b'text'"),
        ("unlabeled", "image/encoded", _bytes(JPEG, JPEG), "one value, has 2"),
        ("unlabeled", "image/filename", _ints(1), "bytes. Received: int64"),
        ("labeled", "image/class/label", None, "int64. Received: nothing"),
        ("labeled", "image/class/label", _floats(1), "int64. Received: float"),
        ("labeled", "image/class/label", _ints(0), "in 1..3. Received: 0"),
        ("labeled", "image/class/label", _ints(4), "in 1..3. Received: 4"),
        ("prediction", "classes", _ints(3), "in 0..2. Received: 3"),
        ("prediction", "classes", _ints(-1), "in 0..2. Received: -1"),
        ("prediction", "probabilities", _floats(1), "3 values, has 1"),
        (
            "prediction",
            "probabilities",
            _floats(0, float("nan"), 1),
            r"in \[0, 1\]. Received: nan",
        ),
        ("pseudo_labeled", "prob", _floats(1.5), "in .0, 1.. Received: 1.5"),
        ("pseudo_labeled", "prob", _floats(0.5), "must be entry 1 .*0.75"),
        ("pseudo_labeled", "label", _ints(0), "'prob' must be entry 0"),
    ],
)
def test_the_first_bad_record_is_located(
    tmp_path, kind, name, feature, message
):
    path = _write(tmp_path, [GOOD[kind], _changed(kind, name, feature)])
    with pytest.raises(records.RecordError, match=message) as error:
        validation.validate(tmp_path, kind, 3)
    offset = records.framed_size(GOOD[kind])
    where = f"{path!r}: record 1 (byte offset {offset}): field '"
    assert str(error.value).startswith(where)
    assert f"'{name}'" in str(error.value) or name == "label"


def test_without_a_number_of_classes_labels_have_a_lower_bound_only(tmp_path):
    _write(tmp_path, [_changed("labeled", "image/class/label", _ints(4000))])
    assert validation.validate(tmp_path, "labeled").label_counts == {4000: 1}
    _write(tmp_path, [_changed("labeled", "image/class/label", _ints(0))])
    with pytest.raises(records.RecordError, match="must be >= 1. Received: 0"):
        validation.validate(tmp_path, "labeled")


def test_without_a_number_of_classes_lengths_must_agree(tmp_path):
    _write(tmp_path, [GOOD["prediction"], records.prediction_example([1], "")])
    with pytest.raises(records.RecordError, match="3 values, has 1"):
        validation.validate(tmp_path, "prediction")


def test_a_pseudo_label_outside_its_distribution_is_named(tmp_path):
    _write(tmp_path, [_changed("pseudo_labeled", "label", _ints(5))])
    with pytest.raises(records.RecordError, match="'label' must be < 3"):
        validation.validate(tmp_path, "pseudo_labeled")


def test_bytes_that_are_no_example_are_located(tmp_path):
    _write(tmp_path, [GOOD["unlabeled"], b"\xff\xff\xff"])
    with pytest.raises(records.RecordError, match="record 1 .*not a tf.train"):
        validation.validate(tmp_path, "unlabeled")


def test_truncation_is_located(tmp_path):
    path = _write(tmp_path, [GOOD["unlabeled"]] * 2)
    with open(path, "r+b") as file:
        file.truncate(records.framed_size(GOOD["unlabeled"]) + 5)
    with pytest.raises(records.RecordError, match="record 1 .*truncated"):
        validation.validate(tmp_path, "unlabeled")


def test_kinds_are_checked(tmp_path):
    with pytest.raises(ValueError, match="`kind` must be one of.*'other'"):
        validation.validate(tmp_path, "other")
