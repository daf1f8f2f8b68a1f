"""One stream of images over all shards that a labelling command labels.

Decoding goes on while the network computes, across the ends of shards. Every
image has a place in its batch that depends on the data set alone, since the
last bits of a network's output may depend on that place: a restart that labels
some shards only gives the same bytes.
"""

import dataclasses
import time
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from data_prep import cores, records, shards, tf_data
from noisy_student import labeled_images, steps_ahead

_READ_BYTES = 1 << 23
_READ_AHEAD_IMAGES = 64


@dataclasses.dataclass(frozen=True)
class ShardPart:
    """The images of a shard that one worker labels.

    Attributes:
        path: Image shard.
        shard: Its index in the data set.
        end: How many images it holds.
        num_images: How many of them are this worker's.
        first: This worker's images in all shards before it.
    """

    path: str
    shard: int
    end: int
    num_images: int
    first: int


class Row(NamedTuple):
    """One labeled image.

    Attributes:
        shard: Index of its shard.
        index: Its index there.
        key: bytes, empty where the record has none.
        serialized: bytes, the record; empty unless asked for.
        probs: float32 [num_classes].
    """

    shard: int
    index: int
    key: bytes
    serialized: bytes
    probs: np.ndarray


@dataclasses.dataclass
class Waiting:
    """How long labelling waited for images.

    Attributes:
        seconds: In which nothing but decoding went on.
        steps: Batches that were waited for.
        computed: When the last step returned, by `time.perf_counter`.
    """

    seconds: float = 0.0
    steps: int = 0
    computed: float = 0.0


def divide(paths, counts, num_workers=1, worker=0):
    """Returns one worker's `ShardPart` of every shard, a list.

    Args:
        paths: Image shards.
        counts: Images in each.
        num_workers: Workers that share each shard, image by image.
        worker: Which of them this is.
    """
    parts, first = [], 0
    for shard, (path, count) in enumerate(zip(paths, counts)):
        num_images = len(range(worker, count, num_workers))
        parts.append(ShardPart(path, shard, count, num_images, first))
        first += num_images
    return parts


@dataclasses.dataclass(frozen=True)
class ImageStream:
    """Batches of the images of some shards.

    Attributes:
        parts: `ShardPart`s in order, at least one.
        view: image_bytes -> pixels [h, w, 3].
        batch_size: Images of a batch.
        num_workers: As in `divide`.
        worker: As in `divide`.
        keep_records: Whether rows hold the records.
    """

    parts: tuple
    view: Callable
    batch_size: int
    num_workers: int = 1
    worker: int = 0
    keep_records: bool = False

    def _paddings(self):
        """Returns the empty rows before each part, and the steps of all."""
        position, paddings = 0, []
        for part in self.parts:
            paddings.append((part.first - position) % self.batch_size)
            position += paddings[-1] + part.num_images
        # Never full: an image more than counted has a place to show up.
        return paddings, position // self.batch_size + 1

    def dataset(self):
        """Returns a dataset of batches with static shapes.

        Each is a dict of `images` [b, h, w, 3], `key` and `serialized` string
        [b], and int64 [b] `shard`, -1 for padding, and `index`.
        """
        paddings, steps = self._paddings()
        rows = tf.data.Dataset.from_tensor_slices(
            (
                [part.path for part in self.parts],
                np.array([part.shard for part in self.parts], np.int64),
                np.array(paddings, np.int64),
            )
        ).flat_map(self._rows_of_part)
        rows = rows.concatenate(_padding().repeat())
        rows = rows.take(steps * self.batch_size)
        batches = rows.map(
            self._look(), num_parallel_calls=cores.count()
        ).batch(self.batch_size, drop_remainder=True)
        ahead = max(2, _READ_AHEAD_IMAGES // self.batch_size)
        return tf_data.fixed(batches.prefetch(ahead))

    @tf.autograph.experimental.do_not_convert
    def _rows_of_part(self, path, shard, padding):
        dataset = tf.data.TFRecordDataset(path, buffer_size=_READ_BYTES)
        dataset = dataset.enumerate()
        if self.num_workers > 1:
            dataset = dataset.shard(self.num_workers, self.worker)
        dataset = dataset.map(
            lambda index, serialized: (serialized, shard, index)
        )
        return _padding().repeat(padding).concatenate(dataset)

    def _look(self):
        view = tf.function(self.view, autograph=False).get_concrete_function(
            tf.TensorSpec([], tf.string)
        )
        pixels = view.structured_outputs

        @tf.autograph.experimental.do_not_convert
        def look(serialized, shard, index):
            def nothing():
                blank = tf.zeros(pixels.shape, pixels.dtype)
                return blank, tf.constant("")

            def decode():
                record = records.parse_unlabeled(serialized)
                return view(record["image_bytes"]), record["key"]

            image, key = tf.cond(shard < 0, nothing, decode)
            return {
                "images": tf.ensure_shape(image, pixels.shape),
                "key": key,
                "serialized": serialized if self.keep_records else "",
                "shard": shard,
                "index": index,
            }

        return look

    def rows(self, forward, waiting, threads=1):
        """Yields the `Row` of each image, in order.

        Steps are started before the result of the one before them is fetched,
        so that devices need not wait.

        Args:
            forward: images -> list of tensors, probs [n, num_classes], which
                joined are those of the batch.
            waiting: `Waiting` that is kept up to date.
            threads: Steps that are started at a time. More than one where
                `forward` returns when all is computed, as on a processor.

        Raises:
            records.RecordError: An image cannot be decoded, or a shard is
                damaged; names file and record.
        """

        def step(images):
            outputs = forward(images)
            waiting.computed = time.perf_counter()
            return outputs

        ahead = steps_ahead.StepsAhead(step, threads)
        for batch, outputs in ahead.run(self._batches(waiting, ahead)):
            yield from _unpack(batch, outputs)

    def _batches(self, waiting, ahead):
        """Yields each batch's columns but `images`, and these."""
        batches = iter(self.dataset())
        shard = self.parts[0].shard
        while batch := self._next(batches, waiting, ahead, shard):
            shard = int(batch["shard"][-1])
            if np.any(batch["shard"] >= 0):
                yield batch, batch.pop("images")

    def _next(self, batches, waiting, ahead, shard):
        began = time.perf_counter()
        try:
            return next(batches, None)
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError):
            self._explain_failure(shard)
            raise
        finally:
            waiting.steps += 1
            if ahead.is_idle:
                idle = max(began, waiting.computed)
                waiting.seconds += time.perf_counter() - idle

    def _explain_failure(self, shard):
        """Raises an error that names the first record that fails.

        Args:
            shard: The first that may hold it.
        """
        for part in self.parts:
            if part.shard < shard:
                continue
            for index, serialized in enumerate(records.read_records(part.path)):
                if index % self.num_workers != self.worker:
                    continue
                try:
                    record = records.parse_unlabeled(serialized)
                    self.view(record["image_bytes"])
                except tf.errors.OpError as error:
                    raise records.RecordError(
                        f"{part.path!r}: record {index} cannot be labeled, and "
                        "none may be left out: "
                        f"{labeled_images.first_cause(error)}. "
                        "`python -m data_prep.jft --input='"
                        f"{shards.pattern_of(part.path) or part.path}'` writes "
                        "the shards to another folder without such images."
                    ) from error


def _padding():
    return tf.data.Dataset.from_tensors(("", np.int64(-1), np.int64(-1)))


def _unpack(batch, outputs):
    """Yields the rows of a batch that are no padding."""
    probs = np.concatenate([output.numpy() for output in outputs])
    columns = (
        batch[name].numpy().tolist()
        for name in ("shard", "index", "key", "serialized")
    )
    for values in zip(*columns, probs):
        if values[0] >= 0:
            yield Row(*values)
