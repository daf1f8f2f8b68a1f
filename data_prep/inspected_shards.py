"""Reads shards of any kind into rows of label, confidence and hash.

Every record read is checked. Predictions for image shards are read from their
compact tables where these lie beside them.
"""

import collections
import dataclasses
import os

import numpy as np

from data_prep import (
    files,
    prediction_inputs,
    prediction_table,
    records,
    shard_summary,
    shards,
    validation,
)


@dataclasses.dataclass
class RecordFacts:
    """What the records of image shards hold besides labels.

    Attributes:
        counters: Records by what they hold: "format:<name>", "without_key".
        num_bytes: Bytes of all images.
        num_classes: Length of distributions, None without any.
    """

    counters: collections.Counter
    num_bytes: int = 0
    num_classes: int = None


_FORMATS = {
    b"\xff\xd8": "JPEG",
    b"\x89P": "PNG",
    b"GI": "GIF",
    b"BM": "BMP",
}


def find_kind(paths):
    """Returns the kind of records in shards: their manifest's, or the first's.

    Raises:
        ValueError: There is no record, or it is of no known kind.
    """
    folder, name = os.path.split(paths[0])
    parsed = shards.parse_name(name)
    manifest = parsed and shards.read_manifest(folder, parsed["split"])
    if manifest:
        return manifest.kind
    for path in paths:
        for serialized in records.read_records(path):
            return _kind_of(serialized, path)
    raise ValueError(f"{paths[0]!r} and the shards after it hold no records.")


def _kind_of(serialized, path):
    for kind in ("pseudo_labeled", "prediction", "labeled", "unlabeled"):
        try:
            validation.check_record(serialized, kind, None, "")
        except records.RecordError:
            continue
        return kind
    raise records.RecordError(
        f"{path!r}: the first record is of no known kind."
    )


def read(path, kind, num_classes, facts):
    """Reads and checks one shard.

    Args:
        path: The shard.
        kind: Kind of its records.
        num_classes: Upper bound of labels, or None.
        facts: `RecordFacts`; added to.

    Returns:
        `shard_summary.ROW_DTYPE` [records].

    Raises:
        records.RecordError: A record is malformed; names file, index, field.
    """
    rows = []
    offset = 0
    for index, serialized in enumerate(records.read_records(path)):
        where = records.describe_position(path, index, offset)
        values = validation.check_record(
            serialized, kind, num_classes or facts.num_classes, where
        )
        offset += records.framed_size(serialized)
        key = next(iter(values[records.KEY]), b"")
        facts.counters["without_key"] += not key
        if records.IMAGE in values:
            image = values[records.IMAGE][0]
            facts.counters[f"format:{_FORMATS[image[:2]]}"] += 1
            facts.num_bytes += len(image)
        if records.PROBS in values:
            facts.num_classes = len(values[records.PROBS])
        key = key or records.default_key(path, index)
        rows.append((*_label(values), prediction_table.hash_of(key)))
    return np.array(rows, shard_summary.ROW_DTYPE)


def _label(values):
    """Returns (0-based label or -1, confidence or NaN) of a record."""
    if records.LABEL in values:
        return values[records.LABEL][0] - 1, np.nan
    if records.PSEUDO_LABEL in values:
        return values[records.PSEUDO_LABEL][0], values[records.CONFIDENCE][0]
    if records.PREDICTED_CLASS in values:
        label = values[records.PREDICTED_CLASS][0]
        return label, values[records.PROBS][label]
    return -1, np.nan


def find_predictions(prediction_dir, paths):
    """Returns the prediction files of each image shard, tuples of paths.

    Args:
        prediction_dir: Folder of the prediction shards.
        paths: Image shards of a split, all or some; their names say which.

    Raises:
        FileNotFoundError: Prediction files are missing; names them.
        ValueError: The image shards are of several sets.
    """
    parsed = [shards.parse_name(os.path.basename(path)) for path in paths]
    splits = {part and part["split"] for part in parsed}
    if len(splits) > 1 or None in splits:
        raise ValueError(
            "--prediction_dir needs image shards of one split; --split names "
            f"it. Received: {sorted(map(str, splits))}."
        )
    sets = {
        (os.path.dirname(path), int(part["total"]))
        for path, part in zip(paths, parsed)
    }
    if len(sets) > 1:
        raise ValueError(
            "--prediction_dir needs image shards of one set. Received (folder, "
            f"number of shards): {sorted(sets)}."
        )
    ((_, total),) = sets
    found = prediction_inputs.find_predictions(
        prediction_dir, splits.pop(), total
    )
    return [found[int(part["index"])] for part in parsed]


def read_predictions(image_path, prediction_paths, num_classes):
    """Reads the predictions for one image shard.

    Args:
        image_path: The image shard.
        prediction_paths: Its prediction files, one for each worker.
        num_classes: Length of distributions, or None.

    Returns:
        `shard_summary.ROW_DTYPE` [images].

    Raises:
        ValueError: There are not as many predictions as images, or a
            prediction is malformed.
    """
    tables = [prediction_table.path_beside(path) for path in prediction_paths]
    if all(map(files.exists, tables)):
        rows = _read_tables(tables)
    else:
        rows = _read_prediction_records(
            image_path, prediction_paths, num_classes
        )
    num_images = records.count_records(image_path)
    if len(rows) != num_images:
        raise ValueError(
            f"{image_path!r} holds {num_images} images, but there are "
            f"{len(rows)} predictions in "
            f"{', '.join(map(repr, prediction_paths))}."
        )
    return rows


def _read_tables(tables):
    parts = [prediction_table.read(path) for path in tables]
    rows = np.empty(
        sum(len(part[0]) for part in parts), shard_summary.ROW_DTYPE
    )
    for worker, part in enumerate(parts):
        own = rows[worker :: len(parts)]
        if len(own) != len(part[0]):
            raise ValueError(
                f"{tables[worker]!r} must hold {len(own)} of {len(rows)} "
                f"predictions. Received: {len(part[0])}."
            )
        for name, column in zip(prediction_table.COLUMNS, part):
            own[name] = column
    return rows


def _read_prediction_records(image_path, prediction_paths, num_classes):
    rows = []
    image_keys = prediction_inputs.ImageKeys(image_path)
    reader = prediction_inputs.read_predictions(prediction_paths)
    for index, serialized in enumerate(reader):
        where = f"{prediction_paths[0]!r}: prediction {index}: "
        values = validation.check_record(
            serialized, "prediction", num_classes, where
        )
        key = next(iter(values[records.KEY]), b"")
        key = image_keys.find(index, key)
        rows.append((*_label(values), prediction_table.hash_of(key)))
    return np.array(rows, shard_summary.ROW_DTYPE)
