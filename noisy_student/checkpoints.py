"""Saving, resuming, and loading weights for use."""

import atexit
import contextlib
import logging as std_logging
import os
import re
import tempfile

import tensorflow as tf
from absl import logging

import efficientnet
from data_prep import files
from efficientnet import checkpoint_archive, checkpoint_names
from noisy_student import moving_average, run_dir, workers

_HEAD = "head/dense/"
_NAME = "model.ckpt"
_COMPANION = re.compile(rf"{re.escape(_NAME)}-\d+\.json")
_PARTIAL_DIRECTORY = re.compile(rf"{re.escape(_NAME)}-\d+_temp")
_PARTIAL_FILE = re.compile(rf"checkpoint\.tmp.*|\.{re.escape(_NAME)}-.*\.tmp")


class CheckpointError(OSError):
    """A run directory cannot be written to."""


class CheckpointManager:
    """Saves and restores a training state.

    Beside each checkpoint lies a companion, `model.ckpt-N.json`, of what is
    known of the run at that step. It is written first, so no checkpoint is
    without one. Of several workers the chief keeps them, and all of them
    restore from them.

    Leaving the manager as a context waits for what is being written and lets go
    of the state.

    Args:
        directory: Where checkpoints go.
        state: `train.TrainState`.
        max_to_keep: Checkpoints kept, the latest ones.
        asynchronous: Whether `save` returns once the state is copied into the
            host's memory, and a thread writes the copy. Where several workers
            write, or TensorFlow cannot copy a variable, it does not.
    """

    def __init__(self, directory, state, *, max_to_keep, asynchronous=False):
        self._directory = directory
        self._is_chief = workers.is_chief(state.strategy)
        # Workers write together.
        one = workers.count(state.strategy) == 1
        self._asynchronous = asynchronous and one and _can_be_copied(state)
        self._checkpoint = tf.train.Checkpoint(
            model=state.model,
            optimizer=state.optimizer,
            moving_average=state.moving_average,
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            directory,
            max_to_keep=max_to_keep,
            checkpoint_name=_NAME,
        )
        self._background = _Background(self._checkpoint)
        self._remove_partial()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        try:
            self.wait()
        except CheckpointError as write_error:
            if kind is None:
                raise
            # The first error is the one to report.
            logging.error("%s", write_error)
        finally:
            self._background.release()

    @property
    def latest(self):
        """Path of the latest complete checkpoint, or None."""
        return tf.train.latest_checkpoint(self._directory)

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

    def save(self, step, companion):
        """Writes the checkpoint of a step, after the one before it.

        Every worker must call it.

        Args:
            step: Steps finished.
            companion: What is known of the run at this step, as JSON values.

        Returns:
            Path of the checkpoint; unless it is asynchronous, it is complete.

        Raises:
            CheckpointError: If this one or the one before cannot be written.
        """
        self.wait()
        path = os.path.join(self._directory, f"{_NAME}-{step}")
        options = tf.train.CheckpointOptions(
            experimental_enable_async_checkpoint=self._asynchronous
        )
        # How often a run was saved is no part of its state: one that was
        # stopped in between ends with the same bytes. TensorFlow adds one.
        self._checkpoint.save_counter.assign(-1)
        with self.explained_errors():
            if self._is_chief:
                files.write_json(run_dir.companion_path(path), companion)
                self._manager.save(checkpoint_number=step, options=options)
            else:
                self._take_part()
        return path

    def _take_part(self):
        # Averages over the replicas are taken while saving, so all workers
        # have to go through the same variables.
        with tempfile.TemporaryDirectory() as unused:
            self._checkpoint.write(os.path.join(unused, _NAME))

    def wait(self):
        """Waits until what was saved is complete.

        Raises:
            CheckpointError: If it could not be written.
        """
        self._checkpoint.sync()
        with self.explained_errors():
            self._background.raise_error()
            self._remove_stale_companions()

    @contextlib.contextmanager
    def explained_errors(self):
        """Turns what fails in writing to the run directory into one error.

        Raises:
            CheckpointError: It names the directory and the last checkpoint,
                which is intact.
        """
        try:
            yield
        except CheckpointError:
            raise
        except (OSError, tf.errors.OpError) as error:
            self._remove_partial()
            cause = getattr(error, "message", None) or str(error)
            raise CheckpointError(
                f"Writing to {self._directory!r} failed: "
                f"{cause.strip().splitlines()[0]}. The last good checkpoint is "
                f"{self.latest or 'none'}; the same command goes on from there."
            ) from error

    def _remove_partial(self):
        """Removes what a write left that did not come to its end."""
        if not self._is_chief:
            return
        for name in files.list_names(self._directory):
            path = os.path.join(self._directory, name)
            if _PARTIAL_DIRECTORY.fullmatch(name):
                tf.io.gfile.rmtree(path)
            elif _PARTIAL_FILE.fullmatch(name):
                files.remove(path)

    def _remove_stale_companions(self):
        if not self._is_chief:
            return
        names = files.list_names(self._directory)
        for name in filter(_COMPANION.fullmatch, names):
            index = name[: -len(".json")] + checkpoint_names.INDEX_SUFFIX
            if index not in names:
                files.remove(os.path.join(self._directory, name))


def _can_be_copied(state):
    """Returns whether TensorFlow can copy all variables of a state.

    Of others it writes, after no more than a warning, what they hold when its
    thread comes to them, which may be weights of a later step. Those of Keras
    2.15 in mixed precision are such, but not where they have replicas.
    """
    variables = (
        *state.model.weights,
        *state.optimizer.variables,
        *state.moving_average.shadows.values(),
    )
    # What raises an error for any variable without a method of its own.
    missing = tf.Variable._copy_trackable_to_cpu
    if all(type(v)._copy_trackable_to_cpu is not missing for v in variables):
        return True
    logging.info(
        "Checkpoints are not written in the background: this version of Keras "
        "cannot copy variables in mixed precision."
    )
    return False


class _Background:
    """What TensorFlow's asynchronous checkpoints do not offer in public.

    Args:
        checkpoint: A `tf.train.Checkpoint`.
    """

    def __init__(self, checkpoint):
        self._checkpoint = checkpoint
        # It tells each of its steps, several lines a checkpoint.
        logging.get_absl_logger().addFilter(_is_no_detail)

    @property
    def _helper(self):
        return self._checkpoint._async_checkpointer_impl

    def raise_error(self):
        """Raises the error that ended the last write, if one did.

        TensorFlow itself raises it at the next write, or when Python exits.
        """
        if self._helper is not None and self._helper._async_error is not None:
            error, self._helper._async_error = self._helper._async_error, None
            raise error

    def release(self):
        """Ends the writing thread, which would hold the state for ever."""
        if self._helper is not None:
            atexit.unregister(self._helper._join_async_save_thread)
            self._helper._join_async_save_thread()


def _is_no_detail(record):
    return (
        record.module != "async_checkpoint_helper"
        or record.levelno > std_logging.INFO
    )


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
