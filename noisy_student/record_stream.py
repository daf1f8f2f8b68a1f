"""In which order training sees records, and how a position is found again.

The order is a function of the seed and the position alone: an epoch's shards
are drawn, read a few at a time, and shuffled in blocks. A stream that starts at
a position therefore goes on with the very record a stopped one would have read
next, without any state of its own.
"""

import dataclasses
import math
import zlib
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from data_prep import records
from noisy_student import labeled_images

_READ_PARALLELISM = 16


class Row(NamedTuple):
    """One element of a stream: a record, or the end of its block.

    The block is passed by reference, so a row costs no copy of it, and whoever
    misses a row finds in the next one which record that was.

    Attributes:
        records: string [n], the block's records as they were read.
        origins: int64 [n, 2], index of the shard and of the record in it.
        order: int32 [n], the order in which the block is delivered.
        index: int64 scalar, place of the row in that order; n ends the block.
        position: int64 scalar, place of the row in the stream. An end has that
            of the record after it.
    """

    records: tf.Tensor
    origins: tf.Tensor
    order: tf.Tensor
    index: tf.Tensor
    position: tf.Tensor


@dataclasses.dataclass(frozen=True)
class RecordStream:
    """An endless, shuffled, resumable stream of one reader's records.

    Attributes:
        shards: Paths of the TFRecord files it reads.
        counts: Records in each of them.
        seed: Seed of the order and of every view.
        shuffle_buffer: Records of a block; a second one is read ahead.
        cache: Whether all records are held in memory and shuffled as one
            block.
        stride: Readers that share these shards, record by record.
        offset: Which of them this is.
    """

    shards: tuple
    counts: tuple
    seed: int
    shuffle_buffer: int
    cache: bool = False
    stride: int = 1
    offset: int = 0

    @property
    def num_records(self):
        """Records of one epoch of this reader."""
        return len(range(self.offset, sum(self.counts), self.stride))

    @property
    def block_size(self):
        """Records of a whole block."""
        if self.cache:
            return self.num_records
        return min(self.shuffle_buffer, self.num_records)

    def view_seed(self, position):
        """Returns the seed, int64 [2], of the view of the record there.

        Args:
            position: int64 scalar tensor, a place in the stream.
        """
        # Readers of the same shards count them together.
        place = position * self.stride + self.offset
        return tf.stack([tf.constant(self.seed, tf.int64), place])

    def dataset(self, start):
        """Returns an endless dataset of `Row`s from a position on.

        Args:
            start: Position of the first row, >= 0.
        """
        first_epoch, within = divmod(start, self.num_records)
        first_block = tf.constant(within // self.block_size, tf.int64)
        cached = self._read_all() if self.cache else None

        @tf.autograph.experimental.do_not_convert
        def rows_of_epoch(epoch):
            is_first = tf.cast(epoch == first_epoch, tf.int64)
            skipped = first_block * is_first
            if self.cache:
                blocks = tf.data.Dataset.from_tensors(cached)
            else:
                blocks = self._blocks(epoch, skipped)
            blocks = blocks.enumerate(skipped)
            # One block is read while the one before it is delivered.
            blocks = blocks if self.cache else blocks.prefetch(1)
            rows = blocks.flat_map(
                lambda number, block: self._rows(
                    *block, epoch=epoch, number=number, start=start
                )
            )
            return rows.concatenate(self._end_of_epoch(epoch))

        epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
        return epochs.flat_map(rows_of_epoch)

    def find_fault(self):
        """Returns, in a sentence, which shard does not hold what was counted.

        Reads the shards one after the other, so it is slow.
        """
        for path, count in zip(self.shards, self.counts):
            try:
                found = sum(1 for _ in records.read_records(path))
            except records.RecordError as error:
                return str(error)
            except (OSError, tf.errors.OpError) as error:
                return f"{path!r} cannot be read: {_cause(error)}"
            if found != count:
                return (
                    f"{path!r} holds {found} records, but {count} by its "
                    "manifest: it was changed afterwards."
                )
        return "Reading the shards failed, but only once."

    def _end_of_epoch(self, epoch):
        # Arrives even if no record of the epoch could be read.
        end = Row(
            records=tf.zeros([0], tf.string),
            origins=tf.zeros([0, 2], tf.int64),
            order=tf.zeros([0], tf.int32),
            index=tf.zeros([], tf.int64),
            position=(epoch + 1) * self.num_records,
        )
        return tf.data.Dataset.from_tensors(end)

    def _blocks(self, epoch, skipped):
        """Returns an epoch's blocks without the first ones: what is read.

        Each is (records string [n], shards int64 [n], numbers int64 [n]): the
        index of each record's shard and its own index there.
        """
        seed = tf.stack([tf.constant(self.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(self.shards), dtype=tf.int64), seed=seed
        )
        skipped_records = skipped * self.block_size * self.stride + self.offset
        # Shards are read in groups, of which those before the position need
        # not be opened.
        size = _READ_PARALLELISM
        ends = tf.cumsum(tf.gather(tf.constant(self.counts, tf.int64), order))
        groups = tf.reduce_sum(
            tf.cast(ends[size - 1 :: size] <= skipped_records, tf.int64)
        )
        before = tf.concat([[0], ends], axis=0)[groups * size]
        dataset = tf.data.Dataset.from_tensor_slices(order[groups * size :])
        dataset = dataset.batch(size).flat_map(self._read_group)
        dataset = dataset.skip(skipped_records - before)
        if self.stride > 1:
            dataset = dataset.shard(self.stride, 0)
        return dataset.batch(self.block_size)

    def _read_group(self, indices):
        at_once = min(_READ_PARALLELISM, len(self.shards))
        return tf.data.Dataset.from_tensor_slices(indices).interleave(
            self._read_shard,
            cycle_length=at_once,
            num_parallel_calls=at_once,
            deterministic=True,
        )

    def _read_shard(self, shard):
        path = tf.gather(tf.constant(self.shards), shard)
        # A dataset whose file cannot be opened fails for ever, while an error
        # in this function ends the shard.
        opened = (
            tf.data.TFRecordDataset(path)
            .take(1)
            .reduce(tf.zeros([], tf.int64), lambda count, _: count + 1)
        )
        with tf.control_dependencies([opened]):
            path = tf.identity(path)
        return tf.data.Dataset.zip(
            (
                tf.data.TFRecordDataset(path),
                tf.data.Dataset.from_tensors(shard).repeat(),
                tf.data.Dataset.range(tf.int64.max),
            )
        )

    def _read_all(self):
        shards = tf.range(len(self.shards), dtype=tf.int64)
        dataset = self._read_group(shards).skip(self.offset)
        dataset = dataset.shard(self.stride, 0).batch(self.num_records)
        try:
            return dataset.get_single_element()
        except tf.errors.OpError as error:
            raise ValueError(self.find_fault()) from error

    def _rows(self, block, shards, numbers, *, epoch, number, start):
        size = tf.shape(block)[0]
        origins = tf.stack([shards, numbers], axis=1)
        first = epoch * self.num_records + number * self.block_size
        seed = tf.stack([self.seed + number + 1, epoch])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(size), seed=seed
        )
        indices = tf.data.Dataset.range(
            tf.maximum(start - first, 0), tf.cast(size, tf.int64) + 1
        )
        return indices.map(
            lambda index: Row(block, origins, order, index, first + index)
        )


def _cause(error):
    if isinstance(error, OSError):
        return str(error)
    return labeled_images.first_cause(error)


def open_stream(
    directory,
    split,
    *,
    name,
    seed,
    shuffle_buffer,
    cache=False,
    context=None,
    num_shards=None,
):
    """Returns the `RecordStream` of one input pipeline over a split.

    Pipelines share the shards; where these do not divide among them, groups of
    pipelines share shards and take turns at their records.

    Args:
        directory: Directory of the shards.
        split: Prefix of their names.
        name: Separates the randomness of streams with the same seed.
        seed: Seed of the run.
        shuffle_buffer: Records held for shuffling.
        cache: Whether to hold all records in memory.
        context: `tf.distribute.InputContext` of this input pipeline.
        num_shards: How many of the shards to read, the first ones; None reads
            all.

    Raises:
        FileNotFoundError: If there are no shards.
        ValueError: If the shards hold no record, or too few for the pipelines.
    """
    shards, counts = records.count_shards(directory, split)
    shards, counts = shards[:num_shards], counts[:num_shards]
    readers = context.num_input_pipelines if context else 1
    reader = context.input_pipeline_id if context else 0
    if sum(counts) < readers:
        raise ValueError(
            f"{sum(counts)} records in {directory}/{split}-*: each of "
            f"{readers} input pipelines needs one."
        )
    groups = math.gcd(len(shards), readers)
    group = reader % groups
    logging.info(
        "%d records in %d shards %s/%s-*.",
        sum(counts),
        len(shards),
        directory,
        split,
    )
    return RecordStream(
        shards=tuple(shards[group::groups]),
        counts=tuple(counts[group::groups]),
        # Readers of the same shards agree on their order.
        seed=zlib.crc32(f"{name}:{seed}:{group}".encode()),
        shuffle_buffer=shuffle_buffer,
        cache=cache,
        stride=readers // groups,
        offset=reader // groups,
    )
