"""The teacher labels the unlabeled shards.

Images are clean, at the teacher's own resolution, and the teacher computes
with its averaged weights and without noise.

Source: noisystudent `predict_label.py`; paper, Algorithm 1, step 2.
"""

import dataclasses
import os
from typing import Optional

import numpy as np
import tensorflow as tf
from absl import logging

from data_prep import files, progress, records, shard_writer, shards
from efficientnet import checkpoint_archive
from noisy_student import (
    checkpoints,
    input_pipeline,
    models,
    preprocessing,
)
from noisy_student import config as config_lib


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """One labelling run.

    Attributes:
        model: The teacher.
        checkpoint: Its weights; see `checkpoints.load_weights` for them and
            the last two.
        input_dir: Directory of the unlabeled shards.
        split: Prefix of their names.
        output_dir: Directory of the prediction shards.
        batch_size: Images per step over all replicas.
        use_ema: Whether to label with the moving averages.
        head: What becomes of the checkpoint's classifier.
        shard_ids: Which shards to label, tuple of int; None labels all.
        info_dir: Directory that gets the count of each shard's images, as
            `output_dir` does; None writes it there alone.
    """

    model: config_lib.ModelConfig
    checkpoint: str
    input_dir: str
    split: str
    output_dir: str
    batch_size: int = 8
    use_ema: bool = True
    head: str = "load"
    shard_ids: Optional[tuple] = None
    info_dir: Optional[str] = None

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(
                f"`batch_size` must be >= 1. Received: {self.batch_size}."
            )


def predict(config, strategy):
    """Writes one prediction shard per unlabeled shard; skips finished ones.

    Args:
        config: `PredictConfig`.
        strategy: `tf.distribute` strategy.

    Returns:
        The `shards.Manifest` of the prediction shards; None while some are
        pending that are not among `shard_ids`.

    Raises:
        FileNotFoundError: If shards or checkpoint are missing.
        ValueError: If a shard of `shard_ids` is not there, the checkpoint does
            not fit the model, or the output directory holds predictions of
            another run.
    """
    writer = open_writer(config)
    wanted = _wanted_shards(config, writer.num_shards)
    if pending := wanted.intersection(writer.pending):
        _label_shards(Labeller(config, strategy), writer, pending)
    if config.info_dir is not None:
        _copy_counts(config, wanted, writer.num_shards)
    if left := writer.pending:
        logging.info(
            "%d of %d shards are left to others.", len(left), writer.num_shards
        )
        return None
    return writer.finish()


def open_writer(config):
    """Returns the `shard_writer.ShardedWriter` of a labelling run.

    Args:
        config: `PredictConfig`.

    Raises:
        FileNotFoundError: If shards or checkpoint are missing.
        ValueError: If the output directory holds predictions of another run.
    """
    inputs = shards.list_shards(config.input_dir, config.split)
    prefix = checkpoint_archive.find(config.checkpoint)
    return shard_writer.ShardedWriter(
        config.output_dir,
        config.split,
        len(inputs),
        kind="prediction",
        num_classes=config.model.num_classes,
        config={
            "model": config_lib.to_dict(config.model),
            "checkpoint": prefix,
            "weights": checkpoints.fingerprint(prefix),
            "use_ema": config.use_ema,
            "head": config.head,
            "input_dir": config.input_dir,
            "images": files.fingerprint(inputs),
        },
    )


class Labeller:
    """A teacher that is loaded, and labels shards one after the other.

    Args:
        config: `PredictConfig`.
        strategy: `tf.distribute` strategy.
    """

    def __init__(self, config, strategy):
        with strategy.scope():
            teacher = models.load(
                config.model,
                checkpoint_archive.find(config.checkpoint),
                use_ema=config.use_ema,
                head=config.head,
            )
        self._config = config
        self._strategy = strategy
        self._inputs = shards.list_shards(config.input_dir, config.split)
        self._forward = _make_forward(teacher, strategy)

    def write_shard(self, writer, index):
        """Writes the predictions for image shard `index`.

        Args:
            writer: From `open_writer`.
            index: int, one of its pending shards.

        Returns:
            int, the images labeled.
        """
        path = self._inputs[index]
        probs = _label_shard(self._config, self._strategy, self._forward, path)
        keys = _keys(path)
        with writer.open_shard(index, num_input=len(keys)) as shard:
            for key, row in zip(keys, probs):
                shard.write(records.prediction_example(row, key))
            shard.count("labeled", len(keys))
        return len(keys)


def _wanted_shards(config, num_shards):
    """Returns the set of the shards' indices that are to be labeled."""
    wanted = set(range(num_shards))
    if config.shard_ids is None:
        return wanted
    if unknown := set(config.shard_ids) - wanted:
        raise ValueError(
            f"`shard_ids` must be below {num_shards}, the number of shards. "
            f"Received: {min(unknown)}."
        )
    return set(config.shard_ids)


def _copy_counts(config, indices, num_shards):
    for index in indices:
        name = shards.info_name(index, num_shards)
        count = files.read_json(os.path.join(config.output_dir, name))
        path = os.path.join(config.info_dir, name)
        files.write_json(path, count, indent=None)


def _label_shards(labeller, writer, pending):
    done = writer.num_shards - len(writer.pending)
    meter = progress.Progress("label", total=len(pending) + done, done=done)
    for index in sorted(pending):
        labeller.write_shard(writer, index)
        meter.advance()


def _make_forward(teacher, strategy):
    def probs_of(images):
        logits = tf.cast(teacher(images, training=False), tf.float32)
        return tf.nn.softmax(logits)

    @tf.function(autograph=False)
    def per_replica(batch):
        return strategy.run(probs_of, args=(batch["images"],))

    def forward(batch):
        parts = strategy.experimental_local_results(per_replica(batch))
        return np.concatenate([part.numpy() for part in parts])

    return forward


def _label_shard(config, strategy, forward, shard):
    """Returns float32 [images of the shard, num_classes]."""
    batches = input_pipeline.distribute_eval_batches(
        strategy,
        [shard],
        preprocessing.eval_view(config.model),
        parse=records.parse_unlabeled,
        batch_size=config.batch_size,
    )
    parts = [forward(batch) for batch in batches]
    return np.concatenate(parts)[: records.count_records(shard)]


def _keys(shard):
    """Returns the keys of a shard's images, bytes, in order."""
    dataset = tf.data.TFRecordDataset(shard).map(
        lambda serialized: records.parse_unlabeled(serialized)["key"],
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return [
        key or records.default_key(shard, index)
        for index, key in enumerate(dataset.as_numpy_iterator())
    ]
