"""Checks shards record by record and says where the first bad one is."""

import collections
import dataclasses

import numpy as np
import tensorflow as tf
from google.protobuf import message

from data_prep import prob_storage, records, shards

# What `tf.io.decode_image` reads, by its first bytes.
_IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")
_TYPE_NAMES = {
    "bytes_list": "bytes",
    "int64_list": "int64",
    "float_list": "float",
    None: "nothing",
}
# float32 rounding lets a softmax exceed 1 by a little.
_MAX_PROB = 1.001


@dataclasses.dataclass(frozen=True)
class RecordCounts:
    """What `validate` found in valid shards.

    Attributes:
        num_shards: Number of files.
        num_records: Records in all of them.
        num_without_key: Records that store no key.
        label_counts: dict label as stored -> number of records, sorted.
    """

    num_shards: int
    num_records: int
    num_without_key: int
    label_counts: dict


def validate(pattern, kind, num_classes=None):
    """Checks every record of a set of shards.

    Args:
        pattern: Folder, pattern or file, as in `shards.list_shards`.
        kind: "labeled", "unlabeled", "pseudo_labeled" or "prediction".
        num_classes: Upper bound of labels and length of distributions; None
            only demands that all distributions have one length.

    Returns:
        `RecordCounts`.

    Raises:
        records.RecordError: Names the file, record index, byte offset and field
            of the first malformed record.
        ValueError: `kind` is unknown, or shards are missing.
        FileNotFoundError: Nothing matches.
    """
    if kind not in _FIELDS:
        raise ValueError(
            f"`kind` must be one of {sorted(_FIELDS)}. Received: {kind!r}."
        )
    paths = shards.list_shards(pattern)
    labels = collections.Counter()
    num_records = num_without_key = 0
    for path in paths:
        offset = 0
        for index, serialized in enumerate(records.read_records(path)):
            where = records.describe_position(path, index, offset)
            values = check_record(serialized, kind, num_classes, where)
            if records.PROBS in values:
                num_classes = len(values[records.PROBS])
            for name in _LABEL_FIELDS.intersection(values):
                labels[int(values[name][0])] += 1
            num_without_key += not values[records.KEY]
            num_records += 1
            offset += records.framed_size(serialized)
    return RecordCounts(
        num_shards=len(paths),
        num_records=num_records,
        num_without_key=num_without_key,
        label_counts=dict(sorted(labels.items())),
    )


def check_record(serialized, kind, num_classes, where):
    """Checks one record.

    Args:
        serialized: bytes.
        kind: A kind `validate` knows.
        num_classes: Upper bound of labels and length of distributions, or
            None.
        where: What messages begin with; see `records.describe_position`.

    Returns:
        dict field -> values, () for a missing key.

    Raises:
        records.RecordError: It is malformed; names the field.
    """
    try:
        example = tf.train.Example.FromString(serialized)
    except message.DecodeError as error:
        raise records.RecordError(f"{where}not a tf.train.Example.") from error
    feature = example.features.feature
    values = {}
    for name, (type_name, check) in _FIELDS[kind].items():
        values[name] = _read_field(feature, name, type_name, where)
        is_missing_key = name == records.KEY and values[name] == ()
        problem = not is_missing_key and check(values[name], num_classes)
        if problem:
            raise records.RecordError(f"{where}field {name!r} {problem}.")
    if kind == "pseudo_labeled":
        _check_label_matches(values, where)
    return values


def _read_field(feature, name, type_name, where):
    """Returns the values of a field, () for a missing key."""
    # Not `feature[name]`: that would insert what is missing.
    stored = feature[name].WhichOneof("kind") if name in feature else None
    if stored is None and name == records.KEY:
        return ()
    if stored is None and name == records.PROBS:
        try:
            return prob_storage.decode(feature)
        except ValueError as error:
            raise records.RecordError(f"{where}{error}") from error
    if stored != type_name:
        raise records.RecordError(
            f"{where}field {name!r} must hold {_TYPE_NAMES[type_name]}. "
            f"Received: {_TYPE_NAMES[stored]}."
        )
    return getattr(feature[name], stored).value


def _check_label_matches(values, where):
    label = values[records.PSEUDO_LABEL][0]
    probs = values[records.PROBS]
    confidence = values[records.CONFIDENCE][0]
    if label >= len(probs):
        raise records.RecordError(
            f"{where}field {records.PSEUDO_LABEL!r} must be < {len(probs)}, "
            f"the length of {records.PROBS!r}. Received: {label}."
        )
    if abs(probs[label] - confidence) > 1e-3:
        raise records.RecordError(
            f"{where}field {records.CONFIDENCE!r} must be entry {label} of "
            f"{records.PROBS!r}, {probs[label]}. Received: {confidence}."
        )


def has_signature(image_bytes):
    """Returns whether bytes begin as an image that TensorFlow decodes."""
    return image_bytes.startswith(_IMAGE_SIGNATURES)


def _check_single(values):
    return (
        None if len(values) == 1 else f"must hold one value, has {len(values)}"
    )


def _check_key(values, num_classes):
    del num_classes
    return _check_single(values)


def _check_image(values, num_classes):
    del num_classes
    if problem := _check_single(values):
        return problem
    if not values[0]:
        return "is empty"
    if not has_signature(values[0]):
        return f"is no JPEG, PNG, GIF or BMP; it starts with {values[0][:8]!r}"
    return None


def _label_check(first):
    def check(values, num_classes):
        if problem := _check_single(values):
            return problem
        last = None if num_classes is None else num_classes - 1 + first
        if values[0] < first or (last is not None and values[0] > last):
            bound = f"in {first}..{last}" if num_classes else f">= {first}"
            return f"must be {bound}. Received: {values[0]}"
        return None

    return check


def _check_confidence(values, num_classes):
    del num_classes
    return _check_single(values) or _check_probability(values)


def _check_probs(values, num_classes):
    if not len(values) or num_classes not in (None, len(values)):
        return f"must hold {num_classes or 'some'} values, has {len(values)}"
    return _check_probability(values)


def _check_probability(values):
    array = np.asarray(values, np.float32)
    # Written so that NaN fails too.
    wrong = ~((array >= 0) & (array <= _MAX_PROB))
    if wrong.any():
        return f"must be in [0, 1]. Received: {array[wrong][0]}"
    return None


_IMAGE_FIELD = {records.IMAGE: ("bytes_list", _check_image)}
_KEY_FIELD = {records.KEY: ("bytes_list", _check_key)}
_PROBS_FIELD = {records.PROBS: ("float_list", _check_probs)}
_FIELDS = {
    "labeled": {
        **_IMAGE_FIELD,
        records.LABEL: ("int64_list", _label_check(first=1)),
        **_KEY_FIELD,
    },
    "unlabeled": {**_IMAGE_FIELD, **_KEY_FIELD},
    "pseudo_labeled": {
        **_IMAGE_FIELD,
        **_PROBS_FIELD,
        records.PSEUDO_LABEL: ("int64_list", _label_check(first=0)),
        records.CONFIDENCE: ("float_list", _check_confidence),
        **_KEY_FIELD,
    },
    "prediction": {
        **_PROBS_FIELD,
        records.PREDICTED_CLASS: ("int64_list", _label_check(first=0)),
        **_KEY_FIELD,
    },
}
_LABEL_FIELDS = frozenset(
    {records.LABEL, records.PSEUDO_LABEL, records.PREDICTED_CLASS}
)
