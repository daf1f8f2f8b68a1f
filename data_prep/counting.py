"""First stage of filtering: the tables, and the images of each class counted.

Labelling writes a table beside each prediction shard. Where there is none, the
prediction shards, large because each record holds a whole distribution, are
read once into tables of the same form; every later decision reads tables only.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import os

import numpy as np

from data_prep import (
    balancing,
    duplicate_keys,
    files,
    prediction_inputs,
    prediction_table,
    progress,
    rank_search,
)

_BATCH = 256
_LARGEST_CONFIDENCE = 2


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables of all shards, read as often as they are asked for.

    Attributes:
        paths: Tuple (shard) of tuples (worker) of files. With w workers, image
            i is row i // w of worker i % w.
        num_workers: Threads that read.
    """

    paths: tuple
    num_workers: int = 1

    def read(self, shard, columns=prediction_table.COLUMNS):
        """Returns the `balancing.Table` of a shard, with some of its columns.

        Raises:
            ValueError: A file is damaged or no table; names it.
        """
        parts = [
            prediction_table.read(path, columns) for path in self.paths[shard]
        ]
        joined = parts[0] if len(parts) == 1 else _interleave(parts)
        return balancing.Table(**dict(zip(columns, joined)))

    def map(self, function, columns=prediction_table.COLUMNS):
        """Yields function(table, shard) for all shards, in their order.

        No more tables are held than a few for each thread.
        """
        with concurrent.futures.ThreadPoolExecutor(self.num_workers) as pool:
            waiting = collections.deque()
            for shard in range(len(self.paths)):
                waiting.append(
                    pool.submit(self._apply, function, shard, columns)
                )
                if len(waiting) > self.num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def measure(self, function, columns=prediction_table.COLUMNS):
        """Yields function(table, shard) of each table, or of several together.

        Args:
            function: Returns a list of tuples of arrays. A tuple of one holds
                indices to count, and may come back as (different indices, how
                often each occurs); others hold columns of rows to collect.
            columns: Columns the tables have to have.
        """
        return self.map(function, columns)

    def sum(self, function):
        """Returns the sums of function(table, shard), a tuple of arrays."""
        return tuple(map(sum, zip(*self.map(function))))

    def repeated_hashes(self, num_images, range_size):
        """Returns what `duplicate_keys.repeated_hashes` does."""
        return duplicate_keys.repeated_hashes(self, num_images, range_size)

    def _apply(self, function, shard, columns):
        return function(self.read(shard, columns), shard)


def _interleave(parts):
    """Joins the columns of workers who took images by turns."""
    num_rows = sum(len(part[0]) for part in parts)
    joined = []
    for columns in zip(*parts):
        column = np.empty(num_rows, np.result_type(*columns))
        for worker, values in enumerate(columns):
            column[worker :: len(parts)] = values
        joined.append(column)
    return joined


def check_columns(label, confidence, num_classes, where):
    """Checks that classes and confidences can be what they are said to be.

    Args:
        label: int [images].
        confidence: float [images].
        num_classes: int.
        where: str, file and so on, for the message.

    Raises:
        ValueError: A class is outside 0..num_classes - 1, or a confidence is
            negative, above 2 or NaN.
    """
    if not len(label):
        return
    if label.min() < 0 or label.max() >= num_classes:
        raise ValueError(
            f"{where}: classes must be in 0..{num_classes - 1}. Received: "
            f"{label.min()}..{label.max()}."
        )
    # Written so that NaN fails too.
    valid = (confidence >= 0) & (confidence <= _LARGEST_CONFIDENCE)
    if not valid.all():
        raise ValueError(
            f"{where}: confidences must be in [0, {_LARGEST_CONFIDENCE}]. "
            f"Received: {confidence[~valid][0]} for image "
            f"{int(np.argmin(valid))}."
        )


def histogram(tables, num_classes, bins):
    """Counts the images of all tables by class and confidence.

    Args:
        tables: `Tables`.
        num_classes: int.
        bins: `confidence_bins.ConfidenceBins`.

    Returns:
        int64 [num_classes, bins], as `balancing.histogram`.

    Raises:
        ValueError: A table holds what no prediction can be; names the file.
    """

    def flat_bins(table, shard):
        where = repr(tables.paths[shard][0])
        check_columns(table.label, table.confidence, num_classes, where)
        return [(balancing.flat_bins(table, bins),)]

    counter = rank_search.FlatCounter(num_classes * len(bins))
    columns = ("label", "confidence")
    for (measured,) in tables.measure(flat_bins, columns):
        counter.add(*measured)
    return counter.total().reshape(num_classes, len(bins))


def make_tables(config, inputs, shard_ids):
    """Writes the tables that are missing for some shards.

    Args:
        config: `filter_unlabel.FilterConfig`.
        inputs: `prediction_inputs.PredictionInputs`.
        shard_ids: Iterable of int, the shards.

    Raises:
        ValueError: A prediction is malformed; names file and record.
    """
    paths = table_paths(inputs, config.prelim_stats_dir)
    missing = [
        (shard, worker, path)
        for shard in shard_ids
        for worker, path in enumerate(paths[shard])
        if not has_table(config, inputs, shard, worker, path)
    ]
    meter = progress.Progress("prediction files counted", total=len(missing))
    for shard, worker, path in missing:
        origin = _origin(config, inputs, shard, worker)
        columns = read_columns(inputs, shard, worker, config.num_label_classes)
        prediction_table.write(path, **columns, origin=origin)
        meter.advance()


def has_table(config, inputs, shard, worker, path):
    """Returns whether a prediction file has a table, and its own.

    Args:
        config: As in `make_tables`, like `inputs`.
        inputs: As there.
        shard: int.
        worker: int, which of the shard's prediction files.
        path: The table, of `table_paths`.
    """
    if not files.exists(path):
        return False
    if path == prediction_table.path_beside(inputs.predictions[shard][worker]):
        # `prediction_checks` knows these.
        return True
    _, origin = prediction_table.describe(path)
    return origin == _origin(config, inputs, shard, worker)


def _origin(config, inputs, shard, worker):
    prediction = inputs.predictions[shard][worker]
    # Keys may be those of the images.
    digest = files.fingerprint((prediction, inputs.images[shard]))
    return prediction_table.Origin(
        config.num_label_classes, files.size(prediction), int(digest, 16)
    )


def table_paths(inputs, folder):
    """Returns tuple (shard) of tuples (worker) of the files of all tables.

    Args:
        inputs: `prediction_inputs.PredictionInputs`.
        folder: Where the tables lie that labelling did not write.
    """
    return tuple(
        tuple(_table_path(prediction, folder) for prediction in workers)
        for workers in inputs.predictions
    )


def _table_path(prediction, folder):
    beside = prediction_table.path_beside(prediction)
    if files.exists(beside):
        return beside
    return os.path.join(folder, os.path.basename(beside))


def read_columns(inputs, shard, worker, num_classes):
    """Reads a prediction file into the columns of its table.

    Args:
        inputs: `prediction_inputs.PredictionInputs`.
        shard: int.
        worker: int, which of the shard's prediction files.
        num_classes: int.

    Returns:
        dict of the columns, as `prediction_table.write` takes them.

    Raises:
        records.RecordError: A record is malformed; names file and index.
    """
    # Imported here: where there are tables, deciding needs no TensorFlow.
    from data_prep import records

    workers = inputs.predictions[shard]
    path = workers[worker]
    image_keys = prediction_inputs.ImageKeys(inputs.images[shard])
    columns = {name: [] for name in prediction_table.COLUMNS}
    reader = records.read_records(path)
    first = 0
    while batch := list(itertools.islice(reader, _BATCH)):
        parsed = _parse(batch, num_classes, path, first)
        label = parsed["label"].numpy()
        probs = parsed["probs"].numpy()
        _check_predictions(label, probs, path, first)
        columns["label"].append(label)
        columns["confidence"].append(
            np.take_along_axis(probs, label[:, None], 1)[:, 0]
        )
        keys = (
            image_keys.find((first + i) * len(workers) + worker, key)
            for i, key in enumerate(parsed["key"].numpy().tolist())
        )
        columns["hash"].append(
            np.array([prediction_table.hash_of(key) for key in keys], np.uint64)
        )
        first += len(batch)
    empty = np.empty(0, np.int64)
    return {
        name: np.concatenate(parts) if parts else empty
        for name, parts in columns.items()
    }


def _parse(batch, num_classes, path, first):
    """Parses predictions, the first of which is record `first` of a file."""
    from data_prep import records

    try:
        return records.parse_prediction(batch, num_classes)
    except records.tf.errors.InvalidArgumentError as error:
        for index, serialized in enumerate(batch, first):
            _check_prediction(serialized, num_classes, path, index)
        raise records.RecordError(
            f"{path!r}: records {first} to {first + len(batch) - 1}: not all "
            f"are predictions: {error.message}"
        ) from error


def _check_prediction(serialized, num_classes, path, index):
    from data_prep import records

    where = f"{path!r}: record {index}"
    with files.naming(where):
        probs, _, _ = records.unpack_prediction(serialized)
    if len(probs) != num_classes:
        raise records.RecordError(
            f"{where} holds a distribution over {len(probs)} classes. "
            f"Received: --num_label_classes={num_classes}."
        )


def _check_predictions(label, probs, path, first):
    from data_prep import records

    num_classes = probs.shape[1]
    valid = (label >= 0) & (label < num_classes)
    if not valid.all():
        index = int(np.argmin(valid))
        raise records.RecordError(
            f"{path!r}: record {first + index}: field "
            f"{records.PREDICTED_CLASS!r} must be in 0..{num_classes - 1}. "
            f"Received: {label[index]}."
        )
    # Written so that NaN fails too.
    valid = (probs >= 0).all(axis=1)
    if not valid.all():
        raise records.RecordError(
            f"{path!r}: record {first + int(np.argmin(valid))}: field "
            f"{records.PROBS!r} holds a negative value or NaN."
        )
