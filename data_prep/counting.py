"""First stage of filtering: one table row per image, one file per shard.

The prediction shards, large because each record holds a whole distribution, are
read once; every later decision reads the small tables.
"""

import dataclasses
import io
import itertools
import os

import numpy as np

from data_prep import balancing, files, hashing, progress, records, shards

_BATCH = 256


def check_inputs(config, inputs):
    """Checks, without reading images, that predictions fit their shards.

    Args:
        config: `filter_unlabel.FilterConfig`.
        inputs: `prediction_inputs.PredictionInputs`.

    Raises:
        FileNotFoundError: The count beside a prediction shard is missing.
        ValueError: A shard is truncated, counts disagree, or distributions do
            not have `num_label_classes` entries; names the file.
    """
    num_shards = len(inputs.images)
    for index, image in enumerate(inputs.images):
        workers = inputs.predictions[index]
        total = 0
        for worker, path in enumerate(workers):
            count = records.count_records(path)
            info = shards.info_name(index, num_shards, worker)
            _check_info(os.path.join(config.info_dir, info), path, count)
            _check_classes(path, count, config.num_label_classes)
            total += count
        num_images = records.count_records(image)
        if total != num_images:
            raise ValueError(
                f"{image!r} holds {num_images} images, but there are {total} "
                f"predictions in {', '.join(map(repr, workers))}."
            )


def _check_info(info_path, path, count):
    if not files.exists(info_path):
        raise FileNotFoundError(
            f"{info_path!r} is missing: the labelling of {path!r} has not "
            "been finished."
        )
    stated = files.read_json(info_path).get("image_num")
    if stated != count:
        raise ValueError(
            f"{path!r} holds {count} predictions, but {info_path!r} says "
            f"{stated}."
        )


def _check_classes(path, count, num_classes):
    if not count:
        return
    probs = records.unpack_prediction(next(records.read_records(path)))[0]
    if len(probs) != num_classes:
        raise ValueError(
            f"{path!r} holds distributions over {len(probs)} classes. "
            f"Received: --num_label_classes={num_classes}."
        )


def read_predictions(paths):
    """Yields serialized predictions in the order of the image shard.

    Args:
        paths: Prediction files of one shard, one per worker. Image i is record
            i // w of worker i % w, as each of w workers takes every w-th image.
    """
    readers = [records.read_records(path) for path in paths]
    for reader in itertools.cycle(readers):
        serialized = next(reader, None)
        if serialized is None:
            return
        yield serialized


def count_shard(image_path, prediction_paths, num_classes, *, salt):
    """Reads the predictions for one shard into its table.

    Args:
        image_path: Image shard; names the images whose predictions lack a key.
        prediction_paths: Its prediction files, one per worker.
        num_classes: int.
        salt: bytes for `hashing.hash64`.

    Returns:
        `balancing.TABLE_DTYPE` [images].

    Raises:
        records.RecordError: A prediction is malformed; names file and index.
    """
    parts = [np.empty(0, balancing.TABLE_DTYPE)]
    reader = read_predictions(prediction_paths)
    first = 0
    while batch := list(itertools.islice(reader, _BATCH)):
        parsed = records.parse_prediction(batch, num_classes)
        label = parsed["label"].numpy()
        probs = parsed["probs"].numpy()
        where = f"{prediction_paths[0]!r}: predictions {first} to "
        where += f"{first + len(batch) - 1}: "
        _check_predictions(label, probs, where)
        rows = np.empty(len(batch), balancing.TABLE_DTYPE)
        rows["label"] = label
        rows["confidence"] = np.take_along_axis(probs, label[:, None], 1)[:, 0]
        rows["hash"] = [
            hashing.hash64(
                key or records.default_key(image_path, first + i), salt=salt
            )
            for i, key in enumerate(parsed["key"].numpy().tolist())
        ]
        parts.append(rows)
        first += len(batch)
    return np.concatenate(parts)


def _check_predictions(label, probs, where):
    num_classes = probs.shape[1]
    if label.min() < 0 or label.max() >= num_classes:
        raise records.RecordError(
            f"{where}field {records.PREDICTED_CLASS!r} must be in "
            f"0..{num_classes - 1}. Received: {label.min()}..{label.max()}."
        )
    # Written so that NaN fails too.
    if not (probs >= 0).all():
        raise records.RecordError(
            f"{where}field {records.PROBS!r} holds a negative value or NaN."
        )


def count(config, inputs):
    """Writes the table of every shard that has none yet.

    Args:
        config: `filter_unlabel.FilterConfig`.
        inputs: `prediction_inputs.PredictionInputs`.

    Returns:
        `Tables`.
    """
    num_shards = len(inputs.images)
    paths = [
        os.path.join(
            config.prelim_stats_dir,
            f"{shards.shard_name('counts', index, num_shards)}.npy",
        )
        for index in range(num_shards)
    ]
    pending = [i for i, path in enumerate(paths) if not files.exists(path)]
    meter = progress.Progress(
        "shards counted",
        total=num_shards,
        done=num_shards - len(pending),
    )
    for index in pending:
        table = count_shard(
            inputs.images[index],
            inputs.predictions[index],
            config.num_label_classes,
            salt=config.salt,
        )
        buffer = io.BytesIO()
        np.save(buffer, table)
        files.write_bytes(paths[index], buffer.getvalue())
        meter.advance()
    return Tables(tuple(paths))


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables of all shards, read one at a time.

    Attributes:
        paths: Tuple of files, in the order of the shards.
    """

    paths: tuple

    def read(self, shard):
        """Returns `balancing.TABLE_DTYPE` [images], the table of a shard."""
        return np.load(io.BytesIO(files.read_bytes(self.paths[shard])))

    def __iter__(self):
        return (self.read(shard) for shard in range(len(self.paths)))

    def histogram(self, num_classes):
        """Returns `balancing.histogram` of all shards together."""
        total = np.zeros((num_classes, len(balancing.BIN_EDGES)), np.int64)
        for table in self:
            total += balancing.histogram(table, num_classes)
        return total
