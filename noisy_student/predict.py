"""The teacher labels the unlabeled shards.

Images are clean, at the teacher's own resolution, and the teacher computes
with its averaged weights and without noise. `labelling_stream.py` says how
images reach it, `labelling_output.py` what is written.

Source: noisystudent `predict_label.py`; paper, Algorithm 1, step 2.
"""

import dataclasses
import os
import time
from typing import Optional

import numpy as np
import tensorflow as tf
from absl import logging

from data_prep import (
    files,
    prediction_table,
    prob_storage,
    progress,
    records,
    shard_writer,
    shards,
)
from efficientnet import checkpoint_archive
from noisy_student import (
    checkpoints,
    labelling_output,
    labelling_stream,
    models,
    preprocessing,
    steps_ahead,
    workers,
)
from noisy_student import config as config_lib


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """One labelling run.

    Attributes:
        model: The teacher.
        checkpoint: Its weights; see `checkpoints.load_weights` for them,
            `use_ema` and `head`.
        input_dir: Directory of the unlabeled shards.
        split: Prefix of their names.
        output_dir: Directory of the prediction shards.
        batch_size: Images per step over all replicas.
        use_ema: Whether to label with the moving averages.
        head: What becomes of the checkpoint's classifier.
        shard_ids: Which shards to label, tuple of int; None labels all.
        info_dir: Directory that gets the count of each shard's images, as
            `output_dir` does; None writes it there alone.
        num_workers: Workers that share each shard, image by image.
        worker: Which of them this is, from 0.
        reassign: Whether the images are written, too, with their new labels,
            under the names of the shards they come from.
        storage: How the distributions are stored.
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
    num_workers: int = 1
    worker: int = 0
    reassign: bool = False
    storage: prob_storage.ProbStorage = prob_storage.DEFAULT

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(
                f"`batch_size` must be >= 1. Received: {self.batch_size}."
            )
        if self.reassign and self.num_workers > 1:
            raise ValueError(
                "`num_workers` must be 1 with `reassign`. Received: "
                f"{self.num_workers}."
            )
        self.storage.check_classes(self.model.num_classes)


def predict(config, strategy):
    """Writes one labeled shard per image shard; skips finished ones.

    Several hosts of one strategy take the shards in blocks, one each.

    Args:
        config: `PredictConfig`.
        strategy: `tf.distribute` strategy.

    Returns:
        The `shards.Manifest` of what was written; None while some is pending
        that is not among `shard_ids` or another worker's, and for all hosts
        but the first.

    Raises:
        FileNotFoundError: If shards or checkpoint are missing.
        ValueError: If a shard of `shard_ids` is not there, the checkpoint does
            not fit the model, an image cannot be decoded, or the output
            directory holds what another run wrote.
    """
    writer = open_writer(config, strategy.num_replicas_in_sync)
    own = _own_shards(config, strategy, writer.num_shards)
    pending = sorted(own.intersection(writer.pending))
    # All hosts build the network together, or none of them.
    if sum(workers.gather(strategy, len(pending))):
        labeller = Labeller(config, strategy)
        with workers.together(strategy):
            _label(config, labeller, writer, own, pending)
    with workers.together(strategy):
        if config.info_dir is not None and not config.reassign:
            _copy_counts(config, own, writer.num_shards)
        if not workers.is_chief(strategy):
            return None
        if left := writer.unfinished:
            logging.info(
                "%d of %d shards are left to others.",
                len(left),
                writer.num_shards,
            )
            return None
        return finish(config, writer)


def finish(config, writer):
    """Writes the manifest, removes what killed runs left of tables.

    Args:
        config: `PredictConfig`.
        writer: From `open_writer`.

    Returns:
        `shards.Manifest`.
    """
    manifest = writer.finish()
    if not config.reassign:
        names = (
            os.path.basename(prediction_table.path_beside(path))
            for path in writer.paths()
        )
        files.remove_leftovers(config.output_dir, names)
    return manifest


def open_writer(config, num_replicas=1):
    """Returns the `shard_writer.ShardedWriter` of a labelling run.

    Args:
        config: `PredictConfig`.
        num_replicas: Replicas that share a batch.

    Raises:
        FileNotFoundError: If shards or checkpoint are missing.
        ValueError: If the output directory holds what another run wrote.
    """
    inputs = shards.list_shards(config.input_dir, config.split)
    prefix = checkpoint_archive.find(config.checkpoint)
    return shard_writer.ShardedWriter(
        config.output_dir,
        config.split,
        len(inputs),
        kind="pseudo_labeled" if config.reassign else "prediction",
        num_classes=config.model.num_classes,
        num_workers=config.num_workers,
        worker=config.worker,
        config={
            "model": config_lib.to_dict(config.model),
            "checkpoint": prefix,
            "weights": checkpoints.fingerprint(prefix),
            "use_ema": config.use_ema,
            "head": config.head,
            "input_dir": config.input_dir,
            "images": files.fingerprint(inputs),
            "storage": config.storage.settings(),
            # The last bits of a prob depend on the shape of the batch.
            "replica_batch_size": -(-config.batch_size // num_replicas),
        },
    )


def _own_shards(config, strategy, num_shards):
    """Returns the set of the shards' indices that this host labels."""
    wanted = set(range(num_shards))
    if config.shard_ids is not None:
        if unknown := set(config.shard_ids) - wanted:
            raise ValueError(
                f"`shard_ids` must be below {num_shards}, the number of "
                f"shards. Received: {min(unknown)}."
            )
        wanted = set(config.shard_ids)
    # In blocks, so that images that follow each other share batches.
    blocks = np.array_split(sorted(wanted), workers.count(strategy))
    return set(blocks[workers.index(strategy)].tolist())


def _copy_counts(config, indices, num_shards):
    for index in indices:
        name = shards.info_name(index, num_shards, config.worker)
        count = files.read_json(os.path.join(config.output_dir, name))
        path = os.path.join(config.info_dir, name)
        files.write_json(path, count, indent=None)


def find_parts(config):
    """Returns the `labelling_stream.ShardPart`s of a labelling run, a list."""
    paths, counts = records.count_shards(config.input_dir, config.split)
    return labelling_stream.divide(
        paths, counts, config.num_workers, config.worker
    )


def _label(config, labeller, writer, own, pending):
    parts = find_parts(config)
    total = sum(parts[index].num_images for index in own)
    num_pending = sum(parts[index].num_images for index in pending)
    labelling_output.log_size(config, [part.path for part in parts], total)
    if not pending:
        return
    meter = progress.Progress(
        "images labeled", total=total, done=total - num_pending
    )
    labeller.write(writer, [parts[index] for index in pending], meter)


class Labeller:
    """A teacher that is loaded, and labels shards.

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
        self._batch_size = local_batch_size(strategy, config.batch_size)
        self._forward = make_forward(teacher, strategy)
        self._threads = steps_ahead.num_threads(strategy)

    def write(self, writer, parts, meter):
        """Labels shards in one stream of images, and writes them.

        Args:
            writer: From `open_writer`.
            parts: List of those of `find_parts` that are pending.
            meter: `progress.Progress` of images.
        """
        config = self._config
        stream = labelling_stream.ImageStream(
            parts=tuple(parts),
            view=preprocessing.eval_view(config.model),
            batch_size=self._batch_size,
            num_workers=config.num_workers,
            worker=config.worker,
            keep_records=config.reassign,
        )
        waiting = labelling_stream.Waiting()
        started = time.perf_counter()
        labelling_output.write(
            config,
            writer,
            stream.parts,
            stream.rows(self._forward, waiting, self._threads),
            meter,
        )
        logging.info(
            "Labelling waited for images in %.1f %% of its time.",
            100 * waiting.seconds / (time.perf_counter() - started),
        )


def local_batch_size(strategy, batch_size):
    """Returns the images of one step on this host.

    Args:
        strategy: `tf.distribute` strategy.
        batch_size: Images per step over all replicas; rounded up to a
            multiple of them.
    """
    replicas = strategy.num_replicas_in_sync
    return -(-batch_size // replicas) * (replicas // workers.count(strategy))


def make_forward(teacher, strategy):
    """Returns the function that labels a batch of this host.

    Args:
        teacher: `tf.keras.Model`, built under the strategy.
        strategy: `tf.distribute` strategy.

    Returns:
        images [b, h, w, 3] -> list of tensors, the replicas' probs float32
        [n, num_classes] in the order of the images.
    """
    replicas = strategy.num_replicas_in_sync // workers.count(strategy)

    def probs_of(images):
        logits = tf.cast(teacher(images, training=False), tf.float32)
        return tf.nn.softmax(logits)

    @tf.function(autograph=False)
    def per_replica(images):
        return strategy.run(probs_of, args=(images,))

    def forward(images):
        parts = iter([images] if replicas == 1 else tf.split(images, replicas))
        distributed = strategy.experimental_distribute_values_from_function(
            lambda context: next(parts)
        )
        return strategy.experimental_local_results(per_replica(distributed))

    return forward
