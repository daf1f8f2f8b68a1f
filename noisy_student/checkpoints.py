"""Saving, resuming, and loading weights for use."""

import tensorflow as tf
from absl import logging

from noisy_student import moving_average


class CheckpointManager:
    """Saves and restores a training state.

    Args:
        directory: Where checkpoints go.
        state: `train.TrainState`.
        max_to_keep: Checkpoints kept, the latest ones.
    """

    def __init__(self, directory, state, *, max_to_keep):
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(
                model=state.model,
                optimizer=state.optimizer,
                moving_average=state.moving_average,
            ),
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
        _restore(self._manager.checkpoint, path)
        logging.info("Resumed from %s.", path)
        return path

    def save(self, step):
        """Writes the checkpoint of a step and returns its path."""
        return self._manager.save(checkpoint_number=step)


def find_checkpoint(path):
    """Returns the checkpoint prefix that `path` names.

    Args:
        path: A checkpoint prefix, or a directory whose latest one is meant.

    Raises:
        FileNotFoundError: If there is no checkpoint there.
    """
    if tf.io.gfile.isdir(path):
        latest = tf.train.latest_checkpoint(path)
        if latest is None:
            raise FileNotFoundError(f"No checkpoint in the directory {path!r}.")
        return latest
    if not tf.io.gfile.exists(f"{path}.index"):
        raise FileNotFoundError(
            f"No checkpoint {path!r}: neither a directory nor a prefix "
            "of an .index file."
        )
    return path


def load_weights(model, path, *, use_ema=True):
    """Loads the weights of a training run into a model.

    Args:
        model: A built model of the same architecture.
        path: A checkpoint prefix or a run directory.
        use_ema: Whether to load the moving averages, not the raw weights.

    Returns:
        The checkpoint prefix that was read.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it does not hold every weight of the model, each with
            its shape.
    """
    prefix = find_checkpoint(path)
    if use_ema:
        # Restores the shadows straight into the weights, without a copy.
        shadows = tf.train.Checkpoint()
        shadows.shadows = moving_average.named_weights(model)
        checkpoint = tf.train.Checkpoint(moving_average=shadows)
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
