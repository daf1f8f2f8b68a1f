"""What labelling writes: predictions and their tables, or relabeled images."""

import numpy as np
from absl import logging

from data_prep import prediction_table, prob_storage, records


def log_size(config, paths, num_images):
    """Logs how large all labels of a command will be.

    Args:
        config: `predict.PredictConfig`.
        paths: The image shards.
        num_images: How many images the command labels, finished ones included.
    """
    size = prediction_size(
        config.model.num_classes, first_key(paths[0]), storage=config.storage
    )
    logging.info(
        "Labels of %d images, stored as %s, take about %d bytes an image, "
        "%.3g GB in all%s.",
        num_images,
        config.storage.kind,
        size,
        num_images * size / 1e9,
        " beside the images" if config.reassign else "",
    )


def first_key(path):
    """Returns the key of the first record of an image shard, as bytes."""
    first = next(records.read_records(path), None)
    key = records.unpack_image(first)[1] if first is not None else b""
    return key or records.default_key(path, 0)


def prediction_size(num_classes, key, *, storage=prob_storage.DEFAULT):
    """Returns the bytes of a prediction in its shard.

    Args:
        num_classes: Classes of the teacher.
        key: bytes or str, the key of the image.
        storage: `prob_storage.ProbStorage`.
    """
    example = records.prediction_example(
        _largest(num_classes), key, storage=storage
    )
    return records.framed_size(example)


def pseudo_labeled_size(image_bytes, num_classes, key):
    """Returns the bytes of a pseudo-labeled record in its shard.

    Args:
        image_bytes: int, bytes of the encoded image.
        num_classes: As in `prediction_size`, like `key`.
        key: As there.
    """
    probs = _largest(num_classes)
    example = records.pseudo_labeled_example(
        bytes(image_bytes), num_classes - 1, 0.5, probs, key
    )
    return records.framed_size(example)


def _largest(num_classes):
    """Returns a distribution whose record is the largest."""
    # The last classes take the most bytes in a list of classes.
    probs = np.arange(1, num_classes + 1, dtype=np.float32)
    return probs / probs.sum()


def write(config, writer, parts, rows, meter):
    """Writes the shards of a stream of rows, one after the other.

    Args:
        config: `predict.PredictConfig`.
        writer: `shard_writer.ShardedWriter`.
        parts: `labelling_stream.ShardPart`s, in order.
        rows: Iterator of `labelling_stream.Row`, those of all parts.
        meter: `progress.Progress` of images.

    Raises:
        records.RecordError: A shard does not hold the images that were
            counted; names it. Nothing of it is written.
    """
    ahead = _Ahead(rows)
    for part in parts:
        with writer.open_shard(part.shard, num_input=part.num_images) as shard:
            own = _checked(part, config, ahead)
            if config.reassign:
                _write_images(shard, own, config.storage, meter)
            else:
                path = prediction_table.path_beside(writer.path(part.shard))
                _write_predictions(shard, part, own, path, config, meter)
            shard.count("labeled", part.num_images)


class _Ahead:
    """Rows of which the next one is known, so that shards can be told apart.

    Args:
        rows: Iterator of `labelling_stream.Row`.
    """

    def __init__(self, rows):
        self._rows = rows
        self._following = next(rows, None)

    def of_shard(self, shard):
        """Yields the rows up to the first of another shard."""
        while self._following is not None and self._following.shard == shard:
            row = self._following
            self._following = next(self._rows, None)
            yield row


def _checked(part, config, ahead):
    """Yields the rows of a part, and fails unless they are as counted."""
    expected = range(config.worker, part.end, config.num_workers)
    number = 0
    for number, row in enumerate(ahead.of_shard(part.shard), start=1):
        if number > part.num_images or row.index != expected[number - 1]:
            raise _wrong_count(part)
        yield row
    if number != part.num_images:
        raise _wrong_count(part)


def _wrong_count(part):
    return records.RecordError(
        f"{part.path!r} does not hold the {part.end} images that were counted: "
        "it was changed, or its manifest is another's."
    )


def _write_images(shard, rows, storage, meter):
    for row in rows:
        image_bytes, key = records.unpack_image(row.serialized)
        label = int(row.probs.argmax())
        example = records.pseudo_labeled_example(
            image_bytes,
            label,
            row.probs[label],
            row.probs,
            key,
            storage=storage,
        )
        shard.write(example, label)
        meter.advance()


def _write_predictions(shard, part, rows, table_path, config, meter):
    """Writes the predictions, then their table.

    The table comes before the shard has its name, so that no finished shard
    lacks one.
    """
    labels = np.zeros(part.num_images, np.int64)
    confidences = np.zeros(part.num_images, np.float32)
    hashes = np.zeros(part.num_images, np.uint64)
    num_bytes = 0
    for number, row in enumerate(rows):
        key = row.key or records.default_key(part.path, row.index)
        example = records.prediction_example(
            row.probs, key, storage=config.storage
        )
        shard.write(example)
        num_bytes += records.framed_size(example)
        labels[number] = label = int(row.probs.argmax())
        confidences[number] = row.probs[label]
        hashes[number] = prediction_table.hash_of(key)
        meter.advance()
    prediction_table.write(
        table_path,
        label=labels,
        confidence=confidences,
        hash=hashes,
        origin=prediction_table.Origin(config.model.num_classes, num_bytes),
    )
