"""Evaluates the checkpoints of a run while it is training.

Only reads what the training writes; its own are `eval_metrics.jsonl` in the run
directory and TensorBoard events in `eval/`.
"""

import os
import re
import time

import tensorflow as tf
from absl import logging

from data_prep import files
from efficientnet import checkpoint_names
from noisy_student import checkpoints, evaluate, run_dir

METRICS = "eval_metrics.jsonl"
_EVENTS = "eval"
POLL_SECONDS = 5.0
_STEP = re.compile(r"model\.ckpt-(\d+)")


def follow(run, model, source, strategy):
    """Evaluates every checkpoint of a run that is not evaluated yet.

    Ends when the run is finished and its last checkpoint evaluated. Started
    again, it goes on where it was. Checkpoints that the training deletes before
    their turn are left out.

    Args:
        run: `flags.RunConfig` of `--mode=eval --follow`.
        model: A network as the run's, built under `strategy`.
        source: `labeled_images.LabeledImages` to evaluate.
        strategy: `tf.distribute` strategy.

    Raises:
        TimeoutError: If no checkpoint comes for `run.follow_timeout` seconds.
    """
    log = run_dir.MetricsLog(
        run.model_dir,
        start_step=float("inf"),
        name=METRICS,
        events_dir=os.path.join(run.model_dir, _EVENTS),
    )
    steps = [
        line["step"] for line in run_dir.read_metrics(run.model_dir, METRICS)
    ]
    done = set(steps)
    waiting = _Waiting(run.model_dir, run.follow_timeout)
    while True:
        # Asked first: the last checkpoint is complete before the report.
        finished = run_dir.read_report(run.model_dir) is not None
        found = _next_checkpoint(run.model_dir, done)
        if found is not None:
            step, prefix = found
            done.add(step)
            figures = _evaluate(run, model, source, strategy, prefix)
            if figures is not None:
                log.write(step, figures)
            waiting.reset()
        elif finished:
            return
        else:
            waiting.wait("new checkpoint")


def wait_for_checkpoint(model_dir, timeout):
    """Waits until a run has its first checkpoint.

    Args:
        model_dir: The run directory.
        timeout: Most seconds to wait.

    Raises:
        TimeoutError: If none comes.
    """
    waiting = _Waiting(model_dir, timeout)
    if not _complete_checkpoints(model_dir):
        logging.info(
            "Waiting for a checkpoint in %s, %g seconds at most.",
            model_dir,
            timeout,
        )
    while not _complete_checkpoints(model_dir):
        waiting.wait("checkpoint")


class _Waiting:
    """Sleeps between two looks at a directory, up to a limit."""

    def __init__(self, model_dir, timeout):
        self._model_dir = model_dir
        self._timeout = timeout
        self.reset()

    def reset(self):
        self._started = time.monotonic()

    def wait(self, what):
        waited = time.monotonic() - self._started
        if waited >= self._timeout:
            raise TimeoutError(
                f"No {what} in {self._model_dir!r} for {waited:.0f} seconds "
                f"(--follow_timeout={self._timeout:g})."
            )
        time.sleep(min(POLL_SECONDS, self._timeout - waited))


def _complete_checkpoints(model_dir):
    """Returns [(step, prefix)] of the checkpoints there are, oldest first."""
    try:
        state = tf.train.get_checkpoint_state(model_dir)
    except (ValueError, tf.errors.OpError):
        # It is being replaced.
        state = None
    paths = state.all_model_checkpoint_paths if state is not None else []
    # A run directory that was moved keeps its checkpoints.
    names = map(_STEP.fullmatch, map(os.path.basename, paths))
    return [
        (int(name[1]), os.path.join(model_dir, name[0]))
        for name in names
        if name
        and files.exists(
            os.path.join(model_dir, name[0] + checkpoint_names.INDEX_SUFFIX)
        )
    ]


def _next_checkpoint(model_dir, done):
    remaining = [
        found
        for found in _complete_checkpoints(model_dir)
        if found[0] not in done
    ]
    return min(remaining, default=None)


def _evaluate(run, model, source, strategy, prefix):
    """Returns the figures of a checkpoint, None if it was deleted."""
    try:
        with strategy.scope():
            checkpoints.load_weights(
                model, prefix, use_ema=run.use_ema, head=run.checkpoint_head
            )
    except (ValueError, OSError, tf.errors.OpError):
        # The index is deleted before what it points to.
        if files.exists(prefix + checkpoint_names.INDEX_SUFFIX):
            raise
        logging.warning("%s was deleted before its evaluation.", prefix)
        return None
    values = evaluate.evaluate_source(
        model,
        run.train.model,
        source,
        strategy=strategy,
        batch_size=run.train.eval_batch_size,
    )
    logging.info("%s: top-1 %.2f %%.", prefix, 100 * values["top_1"])
    return {f"eval/{name}": value for name, value in values.items()}
