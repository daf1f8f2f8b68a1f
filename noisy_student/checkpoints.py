"""Saving, resuming, and loading weights for use."""

import os
import tempfile

import tensorflow as tf
from absl import logging

import efficientnet
from data_prep import files
from efficientnet import checkpoint_archive, checkpoint_names
from noisy_student import moving_average, workers

_HEAD = "head/dense/"


class CheckpointManager:
    """Saves and restores a training state.

    Of several workers the chief keeps the checkpoints, from which all of them
    restore.

    Args:
        directory: Where checkpoints go.
        state: `train.TrainState`.
        max_to_keep: Checkpoints kept, the latest ones.
    """

    def __init__(self, directory, state, *, max_to_keep):
        self._is_chief = workers.is_chief(state.strategy)
        self._checkpoint = tf.train.Checkpoint(
            model=state.model,
            optimizer=state.optimizer,
            moving_average=state.moving_average,
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            directory,
            max_to_keep=max_to_keep,
            checkpoint_name="model.ckpt",
        )

    def restore_latest(self):
        """Restores everything from the latest checkpoint, if there is one.

        Returns:
            Path of the checkpoint, or None.

        Raises:
            ValueError: If it does not hold every variable of the state.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return None
        _restore(self._checkpoint, path)
        logging.info("Resumed from %s.", path)
        return path

    def save(self, step):
        """Writes the checkpoint of a step; every worker must call it."""
        if self._is_chief:
            self._manager.save(checkpoint_number=step)
            return
        # Averages over the replicas are taken while saving, so all workers
        # have to go through the same variables.
        with tempfile.TemporaryDirectory() as unused:
            self._checkpoint.write(os.path.join(unused, "model.ckpt"))


def fingerprint(checkpoint):
    """Returns a short digest that tells a checkpoint from another.

    Args:
        checkpoint: What `checkpoint_archive.find` returned.
    """
    if not checkpoint_names.is_archive(checkpoint):
        checkpoint += checkpoint_names.INDEX_SUFFIX
    return files.fingerprint([checkpoint])


def load_weights(model, path, *, use_ema=True, head="load"):
    """Loads weights into a model.

    Args:
        model: A built model of the same architecture.
        path: A checkpoint prefix or a run directory; or a released checkpoint
            as `efficientnet.load_tf1_checkpoint` takes it.
        use_ema: Whether to load the moving averages, not the raw weights.
        head: "load" takes the classifier as it is, "fresh" leaves the model's
            own, whatever the number of classes in the checkpoint, and
            "drop_background" takes a released classifier without its first
            class.

    Returns:
        The checkpoint that was read.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it does not hold every weight of the model, each with
            its shape.
    """
    if efficientnet.is_tf1_checkpoint(path):
        efficientnet.load_tf1_checkpoint(model, path, use_ema, head=head)
        return path
    prefix = checkpoint_archive.find(path)
    if head == "drop_background":
        raise ValueError(
            f"{prefix!r} was not made by the original code: it has no "
            "background class to drop."
        )
    if use_ema:
        # Restores the shadows straight into the weights, without a copy.
        shadows = tf.train.Checkpoint()
        shadows.shadows = {
            name: weight
            for name, weight in moving_average.named_weights(model).items()
            if head == "load" or not name.startswith(_HEAD)
        }
        checkpoint = tf.train.Checkpoint(moving_average=shadows)
    elif head == "fresh":
        raise ValueError("A fresh classifier needs the moving averages.")
    else:
        checkpoint = tf.train.Checkpoint(model=model)
    _restore(checkpoint, prefix, partial=True)
    return prefix


def _restore(checkpoint, path, *, partial=False):
    status = None
    try:
        status = checkpoint.read(path) if partial else checkpoint.restore(path)
        status.assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ValueError(
            f"The checkpoint {path!r} does not fit the model: {first_line}"
        ) from error
    finally:
        if status is not None and partial:
            # Silences one warning per slot that is not loaded, or per weight.
            status.expect_partial()
