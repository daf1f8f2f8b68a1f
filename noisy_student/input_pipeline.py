"""Shards in, batches out: labeled and unlabeled streams, evaluation batches.

The order of a training stream is a function of (seed, position) alone, so a
run that was killed continues with the very next image. Randomness of an
image's view is seeded with its position for the same reason.
"""

import dataclasses
import zlib

import tensorflow as tf
from absl import logging

from data_prep import records
from noisy_student import preprocessing

_READ_PARALLELISM = 16


@dataclasses.dataclass(frozen=True)
class RecordStream:
    """An endless, shuffled, resumable stream of records.

    Attributes:
        shards: Paths of TFRecord files.
        num_records: Records in all of them.
        seed: Seed of the order and of every view.
        shuffle_buffer: Records that are shuffled among each other; a second
            block of them is held while one is delivered.
        num_readers: Input pipelines that share the stream.
        reader: Which of them this is; it takes every `num_readers`-th record.
    """

    shards: tuple
    num_records: int
    seed: int
    shuffle_buffer: int
    num_readers: int = 1
    reader: int = 0

    def dataset(self, start):
        """Returns (serialized record, int64 [2] seed of its view) from `start`.

        Args:
            start: Records this reader has already delivered, >= 0.
        """
        position = start * self.num_readers
        epoch, within = divmod(position, self.num_records)
        # Only the epoch that was interrupted is read from its beginning.
        dataset = tf.data.Dataset.range(epoch, tf.int64.max).flat_map(
            self._epoch
        )
        dataset = dataset.skip(within)
        if self.num_readers > 1:
            dataset = dataset.shard(self.num_readers, self.reader)
        first = start * self.num_readers + self.reader
        indices = tf.data.Dataset.range(first, tf.int64.max, self.num_readers)
        return tf.data.Dataset.zip((dataset, indices)).map(
            lambda record, index: (record, tf.stack([self.seed, index]))
        )

    @tf.autograph.experimental.do_not_convert
    def _epoch(self, epoch):
        shards = tf.random.experimental.stateless_shuffle(
            tf.constant(self.shards), seed=tf.stack([self.seed, epoch])
        )
        dataset = tf.data.Dataset.from_tensor_slices(shards).interleave(
            tf.data.TFRecordDataset,
            cycle_length=min(_READ_PARALLELISM, len(self.shards)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # Blocks are shuffled one by one, statelessly: `Dataset.shuffle` takes
        # no seed that is a tensor beside a global seed.
        blocks = dataset.batch(min(self.shuffle_buffer, self.num_records))
        return (
            blocks.enumerate(start=1)
            .map(
                lambda block, records: tf.random.experimental.stateless_shuffle(
                    records, seed=tf.stack([self.seed + block, epoch])
                )
            )
            .unbatch()
        )


def open_stream(directory, split, *, name, seed, shuffle_buffer, context=None):
    """Returns the `RecordStream` over a split.

    Args:
        directory: Directory of the shards.
        split: Prefix of their names.
        name: Separates the randomness of streams with the same seed.
        seed: Seed of the run.
        shuffle_buffer: Records held for shuffling.
        context: `tf.distribute.InputContext` of this input pipeline.

    Raises:
        FileNotFoundError: If there are no shards.
        ValueError: If the shards hold no record.
    """
    shards = records.list_shards(directory, split)
    num_records = sum(map(records.count_records, shards))
    if num_records == 0:
        raise ValueError(f"No records in {directory}/{split}-*.")
    logging.info(
        "%d records in %d shards %s/%s-*.",
        num_records,
        len(shards),
        directory,
        split,
    )
    return RecordStream(
        shards=tuple(shards),
        num_records=num_records,
        seed=zlib.crc32(f"{name}:{seed}".encode()),
        shuffle_buffer=shuffle_buffer,
        num_readers=context.num_input_pipelines if context else 1,
        reader=context.input_pipeline_id if context else 0,
    )


def train_batches(config, context=None, *, start_step=0):
    """Returns an endless dataset of training batches of one input pipeline.

    Args:
        config: `config.TrainConfig`.
        context: `tf.distribute.InputContext`; None for a single replica.
        start_step: Steps already trained; the first batch is that of the
            step after them.

    Returns:
        Dataset of dicts with static shapes: `labeled_images` float32
        [b, h, w, 3], `labeled_labels` int64 [b] (0-based), and with unlabeled
        images `unlabeled_images` float32 [u, h, w, 3] and one of
        `unlabeled_probs` float32 [u, classes], `unlabeled_labels` int64 [u],
        `unlabeled_teacher_images` float32 [u, th, tw, 3].
    """
    replicas = context.num_replicas_in_sync if context else 1
    pipelines = context.num_input_pipelines if context else 1
    per_replica = per_replica_batch_size(config.batch_size, replicas)
    unlabeled = config.step.pseudo_labels.unlabeled_batch_size(per_replica)
    # One dataset element is one replica's batch.
    element_start = start_step * (replicas // pipelines)
    dataset = _labeled_batches(config, per_replica, context, element_start)
    if unlabeled:
        dataset = tf.data.Dataset.zip(
            (
                dataset,
                _unlabeled_batches(config, unlabeled, context, element_start),
            )
        ).map(lambda labeled, extra: {**labeled, **extra})
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def per_replica_batch_size(batch_size, replicas):
    """Returns a replica's share of a batch; ValueError if it is not whole."""
    if batch_size % replicas:
        raise ValueError(
            "--train_batch_size must be a multiple of the number of replicas, "
            f"{replicas}. Received: {batch_size}."
        )
    return batch_size // replicas


def eval_batches(
    elements, view, *, parse, per_replica_batch_size, num_images, context=None
):
    """Returns the batches of an evaluation: each image once, then padding.

    Args:
        elements: Unbatched `tf.data.Dataset`, an element per image, in an
            order that is the same in every input pipeline.
        view: image_bytes -> float32 [h, w, 3].
        parse: element -> dict with `image_bytes` and perhaps `label` (int64).
        per_replica_batch_size: Images of one batch.
        num_images: Number of elements.
        context: `tf.distribute.InputContext`; each pipeline takes its share
            of every step and all replicas get the same number of batches.

    Returns:
        Dataset of dicts with static shapes: `images` float32 [b, h, w, 3],
        `labels` int64 [b] (0 where there are none and in padding), `mask`
        float32 [b], 1 for images and 0 for padding.
    """
    replicas = context.num_replicas_in_sync if context else 1
    pipelines = context.num_input_pipelines if context else 1
    steps = -(-num_images // (per_replica_batch_size * replicas))
    num_batches = steps * (replicas // pipelines)

    @tf.autograph.experimental.do_not_convert
    def look(element):
        record = parse(element)
        return {
            "images": view(record["image_bytes"]),
            "labels": tf.cast(record.get("label", 0), tf.int64),
            "mask": tf.constant(1.0),
        }

    dataset = elements
    if pipelines > 1:
        # Pipelines share every step, so that the replicas' batches, one after
        # the other, are in the order of the elements.
        share = per_replica_batch_size * (replicas // pipelines)
        reader = context.input_pipeline_id
        dataset = (
            dataset.enumerate()
            .filter(lambda index, _: index // share % pipelines == reader)
            .map(lambda _, element: element)
        )
    dataset = dataset.map(look, num_parallel_calls=tf.data.AUTOTUNE)
    padding = tf.nest.map_structure(
        lambda spec: tf.zeros(spec.shape, spec.dtype), dataset.element_spec
    )
    dataset = dataset.concatenate(
        tf.data.Dataset.from_tensors(padding).repeat()
    )
    dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
    return dataset.take(num_batches).prefetch(tf.data.AUTOTUNE)


def distribute_eval_batches(strategy, shards, view, *, parse, batch_size):
    """Returns `eval_batches` of TFRecord shards, for all replicas.

    Args:
        strategy: `tf.distribute` strategy.
        shards: Paths of TFRecord files.
        view: image_bytes -> float32 [h, w, 3].
        parse: serialized record -> dict, as in `eval_batches`.
        batch_size: As in `distribute_elements`.
    """
    return distribute_elements(
        strategy,
        lambda: tf.data.TFRecordDataset(list(shards)),
        view,
        parse=parse,
        num_images=sum(map(records.count_records, shards)),
        batch_size=batch_size,
    )


def distribute_elements(
    strategy, elements, view, *, parse, num_images, batch_size
):
    """Returns `eval_batches` of all replicas of a strategy.

    Args:
        strategy: `tf.distribute` strategy.
        elements: Function without arguments that returns the dataset of
            `eval_batches`.
        view: image_bytes -> float32 [h, w, 3].
        parse: As in `eval_batches`.
        num_images: Number of elements.
        batch_size: Images per step over all replicas; rounded up to a
            multiple of the replicas.
    """
    replicas = strategy.num_replicas_in_sync
    return strategy.distribute_datasets_from_function(
        lambda context: eval_batches(
            elements(),
            view,
            parse=parse,
            per_replica_batch_size=-(-batch_size // replicas),
            num_images=num_images,
            context=context,
        )
    )


def _labeled_batches(config, batch_size, context, element_start):
    stream = open_stream(
        config.data.label_data_dir,
        config.data.train_split,
        name="labeled",
        seed=config.seed,
        shuffle_buffer=config.data.shuffle_buffer,
        context=context,
    )
    view = preprocessing.train_view(config.model, config.labeled_augment)

    @tf.autograph.experimental.do_not_convert
    def look(serialized, seed):
        record = records.parse_labeled(serialized)
        return {
            "labeled_images": view(record["image_bytes"], seed),
            # Stored labels are 1-based.
            "labeled_labels": record["label"] - 1,
        }

    return _batches(stream, look, batch_size, element_start)


def _unlabeled_batches(config, batch_size, context, element_start):
    pseudo = config.step.pseudo_labels
    stream = open_stream(
        config.data.unlabel_data_dir,
        config.data.unlabel_split,
        name="unlabeled",
        seed=config.seed,
        shuffle_buffer=config.data.shuffle_buffer,
        context=context,
    )
    view = preprocessing.train_view(config.model, config.unlabeled_augment)
    if pseudo.online:
        teacher_view = preprocessing.eval_view(config.teacher)

    @tf.autograph.experimental.do_not_convert
    def look(serialized, seed):
        if pseudo.online:
            image_bytes = records.parse_unlabeled(serialized)["image_bytes"]
            return {
                "unlabeled_images": view(image_bytes, seed),
                "unlabeled_teacher_images": teacher_view(image_bytes),
            }
        record = records.parse_pseudo_labeled(
            serialized, num_classes=config.model.num_classes
        )
        images = {"unlabeled_images": view(record["image_bytes"], seed)}
        if pseudo.label_type == "soft":
            return {**images, "unlabeled_probs": record["probs"]}
        return {**images, "unlabeled_labels": record["label"]}

    return _batches(stream, look, batch_size, element_start)


def _batches(stream, look, batch_size, element_start):
    dataset = stream.dataset(element_start * batch_size)
    dataset = dataset.map(look, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size, drop_remainder=True)
