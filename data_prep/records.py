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

from data_prep import files, prob_parsing, prob_storage, shards
from data_prep.shard_writer import ShardedWriter
from data_prep.shards import list_shards, read_manifest

__all__ = ["ShardedWriter", "list_shards", "read_manifest"]

IMAGE = "image/encoded"
KEY = "image/filename"
LABEL = "image/class/label"
PSEUDO_LABEL = "label"
CONFIDENCE = "prob"
PROBS = prob_storage.PROBS
PREDICTED_CLASS = "classes"

# A TFRecord frames its payload: length and its crc before, the payload's after.
_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_READ_BATCH = 64


class RecordError(ValueError):
    """A record or a shard is malformed; the message says which and where."""


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
    label = feature[PREDICTED_CLASS].int64_list.value[0]
    return probs, label, _first_bytes(feature, KEY)


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


def framed_size(payload):
    """Returns the bytes a record takes in an uncompressed TFRecord file."""
    return _HEADER_BYTES + len(payload) + _FOOTER_BYTES


def read_records(path):
    """Yields the payloads of a TFRecord file, in order, checksums verified.

    Args:
        path: Local or remote file.

    Yields:
        bytes, one serialized example each.

    Raises:
        RecordError: The file is truncated or a checksum is wrong; names the
            file, the record's index and its byte offset.
    """
    dataset = tf.data.TFRecordDataset(os.fspath(path)).batch(_READ_BATCH)
    index = offset = 0
    try:
        for batch in dataset.as_numpy_iterator():
            for payload in batch.tolist():
                yield payload
                index += 1
                offset += framed_size(payload)
    except tf.errors.DataLossError as error:
        raise _locate_damage(os.fspath(path)) from error
    # TensorFlow takes a file that ends inside a header for complete.
    if offset != files.size(path):
        where = describe_position(path, index, offset)
        raise RecordError(f"{where}the file is truncated.")


def _locate_damage(path):
    """Returns the error for a file whose reading failed: where it failed."""
    index = offset = 0
    try:
        for payload in tf.data.TFRecordDataset(path).as_numpy_iterator():
            index += 1
            offset += framed_size(payload)
    except tf.errors.DataLossError as error:
        truncated = "truncated" in error.message
        problem = "the file is truncated" if truncated else "wrong checksum"
        return RecordError(
            describe_position(path, index, offset) + f"{problem}."
        )
    return RecordError(f"{path!r}: reading it failed, but only once.")


def describe_position(path, index, offset):
    """Returns how error messages say where a record is."""
    return f"{os.fspath(path)!r}: record {index} (byte offset {offset}): "


def count_records(path):
    """Returns how many records a TFRecord file holds, without reading them.

    Raises:
        RecordError: The file ends inside a record.
    """
    total = files.size(path)
    index = offset = 0
    with files.open_file(path, "rb") as file:
        while offset < total:
            file.seek(offset)
            header = file.read(_HEADER_BYTES)
            length = int.from_bytes(header[:8], "little")
            end = offset + _HEADER_BYTES + length + _FOOTER_BYTES
            if len(header) < _HEADER_BYTES or end > total:
                raise RecordError(
                    describe_position(path, index, offset)
                    + "the file is truncated, or is no TFRecord file."
                )
            offset = end
            index += 1
    return index


def count_shards(directory, split):
    """Finds the shards of a split and how many records each holds.

    The manifest is believed where there is one, if shards have the sizes it
    says: a large corpus is not read to be counted.

    Args:
        directory: Folder of the shards; it and the split as in `list_shards`.
        split: Prefix of their names.

    Returns:
        (sorted list of paths, list of int).

    Raises:
        FileNotFoundError: There is no shard.
        ValueError: Shards are missing, or the manifest is none.
        RecordError: A file has another size than its manifest says, or ends
            inside a record.
    """
    paths = list_shards(directory, split)
    known = {}
    for folder in shards.separate(os.fspath(directory)):
        for name in shards.separate(split):
            manifest = read_manifest(folder, name)
            if manifest is None:
                continue
            for index in range(manifest.num_shards):
                shard = shards.shard_name(name, index, manifest.num_shards)
                known[os.path.join(folder, shard)] = manifest, index
    return paths, [
        _stated_count(path, *known[path])
        if path in known
        else count_records(path)
        for path in paths
    ]


def _stated_count(path, manifest, index):
    size, stated = files.size(path), manifest.num_bytes[index]
    if size != stated:
        raise RecordError(
            f"{path!r} has {size} bytes, {stated} by its manifest: it is "
            f"{'truncated' if size < stated else 'another file'}. Make it "
            "anew, or delete the manifest if this is what it should be."
        )
    return manifest.num_records[index]
