"""The one place that knows what is inside a record.

Four kinds of `tf.train.Example`, in TFRecord files:

labeled: an image and its class, 1-based, as ImageNet's records have it.
unlabeled: an image.
pseudo_labeled: an image and what a teacher says about it; classes 0-based.
prediction: what a teacher says about the image of the same index in an image
    shard, without the image.

The last two hold a distribution in one of the ways of `prob_storage.py`.

Each has a key that identifies the image; data preparation decides by its hash.
Records written elsewhere may lack it: a prediction then has its image's, and an
image "<shard file name>:<index>".
"""

import os

import numpy as np
import tensorflow as tf
from google.protobuf import message

from data_prep import prob_parsing, prob_storage
from data_prep.record_files import (
    RecordError,
    count_each,
    count_records,
    count_shards,
    describe_position,
    framed_size,
    read_records,
)
from data_prep.shard_writer import ShardedWriter
from data_prep.shards import list_shards, read_manifest

__all__ = [
    "RecordError",
    "ShardedWriter",
    "count_each",
    "count_records",
    "count_shards",
    "describe_position",
    "framed_size",
    "list_shards",
    "read_manifest",
    "read_records",
]

IMAGE = "image/encoded"
KEY = "image/filename"
LABEL = "image/class/label"
PSEUDO_LABEL = "label"
CONFIDENCE = "prob"
PROBS = prob_storage.PROBS
PREDICTED_CLASS = "classes"


def _bytes_feature(value):
    value = value.encode() if isinstance(value, str) else value
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64_feature(value):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))


def _float_feature(values):
    packed = prob_storage.packed_floats(values)
    return tf.train.Feature(float_list=tf.train.FloatList.FromString(packed))


def _numbers_feature(values):
    if values.dtype == np.int64:
        numbers = tf.train.Int64List(value=values)
        return tf.train.Feature(int64_list=numbers)
    return _float_feature(values)


def _probs_features(probs, storage):
    """Returns dict field -> `tf.train.Feature` of a distribution."""
    return {
        name: _bytes_feature(value)
        if isinstance(value, bytes)
        else _numbers_feature(value)
        for name, value in prob_storage.encode(probs, storage).items()
    }


def _serialize(feature):
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Without this, the order of a map's entries is not defined.
    return example.SerializeToString(deterministic=True)


def labeled_example(image_bytes, label, key):
    """Returns a serialized labeled record.

    Args:
        image_bytes: bytes of an encoded image (JPEG).
        label: int, the class, 1-based.
        key: bytes or str that identifies the image.
    """
    return _serialize(
        {
            IMAGE: _bytes_feature(image_bytes),
            LABEL: _int64_feature(label),
            KEY: _bytes_feature(key),
        }
    )


def unlabeled_example(image_bytes, key):
    """Returns a serialized unlabeled record; see `labeled_example`."""
    return _serialize(
        {IMAGE: _bytes_feature(image_bytes), KEY: _bytes_feature(key)}
    )


def pseudo_labeled_example(
    image_bytes,
    label,
    confidence,
    probs,
    key,
    *,
    storage=prob_storage.DEFAULT,
):
    """Returns a serialized pseudo-labeled record.

    Args:
        image_bytes: bytes of an encoded image (JPEG).
        label: int, the teacher's class, 0-based.
        confidence: float, the teacher's probability of that class.
        probs: float [num_classes], the teacher's distribution.
        key: bytes or str that identifies the image.
        storage: `prob_storage.ProbStorage` of the distribution.
    """
    return _serialize(
        {
            IMAGE: _bytes_feature(image_bytes),
            PSEUDO_LABEL: _int64_feature(label),
            CONFIDENCE: _float_feature(confidence),
            **_probs_features(probs, storage),
            KEY: _bytes_feature(key),
        }
    )


def labeled_by_prediction(image_bytes, label, confidence, prediction, key):
    """Returns a pseudo-labeled record with the distribution of a prediction.

    It stays stored as it is there.

    Args:
        image_bytes: As in `pseudo_labeled_example`.
        label: As there.
        confidence: As there.
        prediction: bytes, the serialized prediction.
        key: As there.
    """
    stored = _features(prediction)
    return _serialize(
        {
            IMAGE: _bytes_feature(image_bytes),
            PSEUDO_LABEL: _int64_feature(label),
            CONFIDENCE: _float_feature(confidence),
            **{n: stored[n] for n in prob_storage.FIELDS if n in stored},
            KEY: _bytes_feature(key),
        }
    )


def prediction_example(probs, key, *, storage=prob_storage.DEFAULT):
    """Returns a serialized prediction; the class is the first largest prob.

    Args:
        probs: float [num_classes], the teacher's distribution.
        key: bytes or str, the key of the image.
        storage: `prob_storage.ProbStorage` of the distribution.
    """
    return _serialize(
        {
            **_probs_features(probs, storage),
            PREDICTED_CLASS: _int64_feature(np.argmax(probs)),
            KEY: _bytes_feature(key),
        }
    )


def _scalar(dtype):
    return tf.io.FixedLenFeature([], dtype)


_OPTIONAL_KEY = tf.io.FixedLenFeature([], tf.string, default_value="")


def parse_labeled(serialized):
    """Parses a labeled record; for eager code and `Dataset.map`.

    Args:
        serialized: scalar string tensor.

    Returns:
        dict of scalar tensors: `image_bytes` string, `label` int64 as stored
        (1-based), `key` string, empty where the record has none.
    """
    parsed = tf.io.parse_single_example(
        serialized,
        {
            IMAGE: _scalar(tf.string),
            LABEL: _scalar(tf.int64),
            KEY: _OPTIONAL_KEY,
        },
    )
    return {
        "image_bytes": parsed[IMAGE],
        "label": parsed[LABEL],
        "key": parsed[KEY],
    }


def parse_unlabeled(serialized):
    """Parses the image and key of any record with an image.

    Args:
        serialized: scalar string tensor.

    Returns:
        dict of scalar tensors: `image_bytes` string, `key` string, empty where
        the record has none.
    """
    parsed = tf.io.parse_single_example(
        serialized, {IMAGE: _scalar(tf.string), KEY: _OPTIONAL_KEY}
    )
    return {"image_bytes": parsed[IMAGE], "key": parsed[KEY]}


def parse_pseudo_labeled(serialized, num_classes):
    """Parses a pseudo-labeled record.

    Args:
        serialized: scalar string tensor.
        num_classes: int, length of the stored distribution.

    Returns:
        dict: `image_bytes` string [], `label` int64 [] (0-based),
        `confidence` float32 [], `probs` float32 [num_classes], `key` string []
        (empty where the record has none).
    """
    fields = {
        "image_bytes": (IMAGE, _scalar(tf.string)),
        "label": (PSEUDO_LABEL, _scalar(tf.int64)),
        "confidence": (CONFIDENCE, _scalar(tf.float32)),
        "key": (KEY, _OPTIONAL_KEY),
    }
    return _parse_with_probs(serialized, fields, num_classes)


def parse_prediction(serialized, num_classes):
    """Parses one prediction, or a batch of them.

    Args:
        serialized: string tensor, scalar or [batch].
        num_classes: int, length of the stored distribution.

    Returns:
        dict, with a leading batch axis if `serialized` has one: `probs`
        float32 [num_classes], `label` int64 [] (0-based), `key` string []
        (empty where the record has none).
    """
    fields = {
        "label": (PREDICTED_CLASS, _scalar(tf.int64)),
        "key": (KEY, _OPTIONAL_KEY),
    }
    return _parse_with_probs(serialized, fields, num_classes)


def _parse_with_probs(serialized, fields, num_classes):
    """Parses one record or a batch: `probs` beside the fields named.

    Args:
        serialized: string tensor, scalar or [batch].
        fields: dict name -> (stored name, `tf.io.FixedLenFeature`).
        num_classes: int, length of the stored distribution.
    """
    is_batch = tf.convert_to_tensor(serialized).shape.rank == 1
    parse = tf.io.parse_example if is_batch else tf.io.parse_single_example
    parsed = parse(
        serialized,
        {**dict(fields.values()), PROBS: prob_parsing.feature(num_classes)},
    )
    values = {name: parsed[stored] for name, (stored, _) in fields.items()}
    values["probs"] = prob_parsing.distribution(serialized, parsed[PROBS])
    return values


def unpack_image(serialized):
    """Returns (image bytes, key) of any record with an image, in Python.

    The key is empty where the record has none.
    """
    feature = _features(serialized)
    return _first_bytes(feature, IMAGE), _first_bytes(feature, KEY)


def stores_image(serialized):
    """Returns whether a record has a field for an image, even an empty one."""
    feature = _features(serialized)
    # Not `feature[IMAGE]` alone: that would insert what is missing.
    return IMAGE in feature and feature[IMAGE].HasField("bytes_list")


def stores_probs(serialized):
    """Returns whether a record has a teacher's distribution."""
    fields = prob_storage.FIELD_OF_KIND.values()
    return not set(fields).isdisjoint(_features(serialized))


def unpack_prediction(serialized):
    """Returns (float32 probs [num_classes], label, key) of a prediction.

    Raises:
        RecordError: It is malformed; says how.
    """
    feature = _features(serialized)
    try:
        probs = prob_storage.decode(feature)
    except ValueError as error:
        raise RecordError(str(error)) from error
    labels = feature[PREDICTED_CLASS].int64_list.value
    if len(labels) != 1:
        raise RecordError(
            f"field {PREDICTED_CLASS!r} must hold one int64, has {len(labels)}."
        )
    return probs, labels[0], _first_bytes(feature, KEY)


def confidence_error(serialized):
    """Returns by how much of itself the storage changes a prob, at most."""
    return prob_storage.relative_error(_features(serialized))


def _features(serialized):
    try:
        return tf.train.Example.FromString(serialized).features.feature
    except message.DecodeError as error:
        raise RecordError(
            "A record is no tf.train.Example; `validation.validate` says which."
        ) from error


def _first_bytes(feature, name):
    values = feature[name].bytes_list.value
    return values[0] if values else b""


def default_key(path, index):
    """Returns the key of a record that stores none, as bytes."""
    return f"{os.path.basename(path)}:{index}".encode()
