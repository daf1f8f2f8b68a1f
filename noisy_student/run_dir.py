"""Everything a run writes besides checkpoints.

A run directory holds `config.json` (written before anything slow),
`metrics.jsonl` (one JSON object a line), TensorBoard events, beside each
checkpoint a companion (`model.ckpt-N.json`: what was known at that step) and
`report.json` (final figures and what made them).
"""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import re
import subprocess

from absl import logging

from data_prep import class_names, files
from noisy_student import config as config_lib

_PACKAGES = ("tensorflow", "tf_keras", "keras", "numpy")
_METRICS = "metrics.jsonl"
_COMPANION = re.compile(r"model\.ckpt-(\d+)\.json")
# Settings that change no step of a run, and may so be others when it goes on.
_CHANGE_NO_STEP = frozenset(
    {
        "async_checkpoints",
        "eval_batch_size",
        "iterations_per_loop",
        "keep_checkpoint_max",
        "max_damaged_fraction",
        "recompute_activations",
        "save_checkpoints_steps",
        "steps_per_eval",
    }
)


@contextlib.contextmanager
def locked(directory):
    """Keeps other processes from training in a run directory meanwhile.

    Remote directories, and disks that know no locks, are not protected.

    Raises:
        ValueError: If another process is training there.
    """
    if files.is_remote(directory):
        yield
        return
    files.make_dirs(directory)
    with open(os.path.join(directory, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{directory!r}: another process is training there. Wait for "
                "it, or end it."
            ) from error
        except OSError as error:
            logging.warning("%s cannot be locked: %s.", directory, error)
        yield


def round_dir(work_dir, number, *parts):
    """Returns the path of what a round keeps; round 0 is the first teacher."""
    return os.path.join(work_dir, f"round_{number}", *parts)


def pseudo_labeled_dir(work_dir, number):
    """Returns the directory of the shards that student `number` trains on."""
    return round_dir(work_dir, number, "pseudo_labeled", "data")


def fixres_dir(work_dir):
    """Returns the run directory of the phase that tunes the last student."""
    return os.path.join(work_dir, "fixres")


def claim(directory, values):
    """Makes a directory the home of one configuration.

    Args:
        directory: Created if missing.
        values: The configuration as plain JSON values.

    Returns:
        The report of the run, if it is finished, else None.

    Raises:
        ValueError: If the directory holds a run with another configuration;
            the message lists the differences. A run that came to nothing, not
            even a checkpoint, does not count.
    """
    if _is_started(directory):
        for known in _known_configs(directory):
            changed = files.describe_difference(
                _what_matters(known), _what_matters(values)
            )
            if changed:
                raise ValueError(
                    f"{directory!r} holds a run with other settings: "
                    f"{changed}. Use another directory, or the settings it was "
                    "started with."
                )
    path = os.path.join(directory, "config.json")
    if not (files.exists(path) and _is_started(directory)):
        files.write_json(path, values)
    return read_report(directory)


def _known_configs(directory):
    """Returns what a started run says of itself, `config.json` first."""
    known = []
    path = os.path.join(directory, "config.json")
    if files.exists(path):
        known.append(files.read_json(path))
    companion = _last_companion(directory)
    if companion is not None:
        known.append(files.read_json(companion)["config"])
    if not known:
        raise ValueError(
            f"{directory!r} holds a run without its config.json: its settings "
            "cannot be compared. Use another directory."
        )
    return known


def _last_companion(directory):
    """Returns the path of the last checkpoint's companion, None without one."""
    steps = [
        int(match[1])
        for match in map(_COMPANION.fullmatch, files.list_names(directory))
        if match
    ]
    for step in sorted(steps, reverse=True):
        prefix = os.path.join(directory, f"model.ckpt-{step}")
        if files.exists(prefix + ".index"):
            return companion_path(prefix)
    return None


def companion_path(prefix):
    """Returns the path of what lies beside a checkpoint, given its prefix."""
    return f"{prefix}.json"


def read_companion(prefix):
    """Returns what was known when a checkpoint was written.

    Args:
        prefix: The checkpoint.

    Returns:
        The values that `checkpoints.CheckpointManager.save` was given, or None.
    """
    path = companion_path(prefix)
    return files.read_json(path) if files.exists(path) else None


def _what_matters(values):
    """Returns a configuration without what changes no step of a run."""
    if isinstance(values, dict):
        return {
            name: _what_matters(value)
            for name, value in values.items()
            if name not in _CHANGE_NO_STEP
        }
    if isinstance(values, list):
        return list(map(_what_matters, values))
    return values


def _is_started(directory):
    first_round = round_dir(directory, 0, "model")
    return any(
        files.exists(os.path.join(place, name))
        for place in (directory, first_round)
        for name in ("checkpoint", "report.json")
    )


def trained_model_config(path):
    """Returns the `ModelConfig` of the run a checkpoint belongs to.

    Args:
        path: A checkpoint prefix or a run directory.

    Returns:
        The config, or None if no run's `config.json` lies beside it.
    """
    values = _config_beside(path)
    if values is None:
        return None
    try:
        return config_lib.model_from_dict(values["model"])
    except TypeError as error:
        raise ValueError(
            f"{_config_path(path)!r} does not describe a network of this "
            f"version: {error}"
        ) from error


def trained_class_names(path):
    """Returns the class names of the data that a checkpoint was trained on.

    Args:
        path: A checkpoint prefix or a run directory.

    Returns:
        Tuple of str in label order, or None where they are not known.
    """
    values = _config_beside(path)
    if values is None:
        return None
    data = values.get("data", {})
    names = os.path.join(data.get("label_data_dir") or "", "classes.json")
    return class_names.read_class_names(names) if files.exists(names) else None


def _config_path(path):
    directory = path if files.is_dir(path) else os.path.dirname(path)
    return os.path.join(directory, "config.json")


def _config_beside(path):
    """Returns the configuration of a checkpoint's run, None without one."""
    config_path = _config_path(path)
    if not files.exists(config_path):
        return None
    values = files.read_json(config_path)
    # Others may be some other program's.
    is_run = isinstance(values, dict) and "model" in values
    return values if is_run else None


def read_report(directory):
    """Returns the report of a finished run, or None."""
    path = os.path.join(directory, "report.json")
    return files.read_json(path) if files.exists(path) else None


def write_report(directory, report):
    """Writes `report.json`; its presence says that a run is finished."""
    files.write_json(os.path.join(directory, "report.json"), report)


def add_versions(figures):
    """Returns figures with the commit and the versions that made them."""
    return {**figures, "made_with": versions()}


def versions():
    """Returns the commit and the package versions that run now."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["commit"] = _commit()
    return found


def _commit():
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=os.path.dirname(os.path.abspath(__file__)),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class MetricsLog:
    """Appends metrics to `metrics.jsonl` and to TensorBoard events.

    Args:
        directory: The run directory.
        start_step: Lines of later steps, left by a run that was killed before
            its checkpoint, are removed: they will be written again. Events
            cannot be removed, so TensorBoard shows such steps twice.
        name: Name of the file.
        events_dir: Where events go; None takes `directory`.
    """

    def __init__(
        self, directory, *, start_step, name=_METRICS, events_dir=None
    ):
        # Imported here: reading a finished run needs no TensorFlow.
        import tensorflow as tf

        self._path = os.path.join(directory, name)
        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(events_dir or directory)
        kept = [
            m for m in read_metrics(directory, name) if m["step"] <= start_step
        ]
        files.write_bytes(self._path, "".join(map(_line, kept)).encode())

    def write(self, step, metrics):
        """Writes one line.

        Args:
            step: Steps finished.
            metrics: {name: float}, names such as `train/labeled_loss`.
        """
        with files.open_file(self._path, "a") as log:
            log.write(_line({"step": step, **metrics}))
        with self._writer.as_default():
            for name, value in metrics.items():
                self._summary.scalar(name, value, step=step)
        self._writer.flush()


class NoMetricsLog:
    """Stands for `MetricsLog` on workers that write nothing."""

    def write(self, step, metrics):
        """Does nothing."""


def read_metrics(directory, name=_METRICS):
    """Returns the lines of `metrics.jsonl` as dicts; [] if there is none.

    A last line cut short by a kill is left out.

    Args:
        directory: The run directory.
        name: Name of another such file.
    """
    path = os.path.join(directory, name)
    if not files.exists(path):
        return []
    metrics = []
    with files.open_file(path, "r") as log:
        for line in log:
            try:
                metrics.append(json.loads(line))
            except json.JSONDecodeError:
                logging.warning("%s: dropped the partial line %r.", path, line)
    return metrics


def _line(values):
    return json.dumps(values) + "\n"
