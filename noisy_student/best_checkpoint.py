"""The checkpoint with the best evaluation so far, kept in `archive/`.

`archive/` is used like a run directory: `--checkpoint=RUN/archive`.
"""

import os
import re

import tensorflow as tf
from absl import logging

from data_prep import files
from efficientnet import checkpoint_names

_FIGURE = "eval/top_1"
# Its files, and copies of them that a kill cut short.
_CHECKPOINT = re.compile(r"\.?model\.ckpt-\d+\.")


def archive_dir(model_dir):
    """Returns the path of the archive of a run directory."""
    return os.path.join(model_dir, "archive")


def read(model_dir):
    """Returns what `best.json` says of the archived checkpoint, or None.

    Returns:
        Dict of `checkpoint`, `step` and the figures of its evaluation.
    """
    path = os.path.join(archive_dir(model_dir), "best.json")
    return files.read_json(path) if files.exists(path) else None


def keep(model_dir, prefix, step, figures):
    """Archives a checkpoint unless a better one is there.

    At every moment `archive/checkpoint` names a complete checkpoint.
    `best.json` follows it, so after a kill in between the same evaluation
    archives anew.

    Args:
        model_dir: The run directory.
        prefix: A complete checkpoint in it.
        step: Its step.
        figures: Its evaluation, {name: float} with `eval/top_1`. A tie is won
            by the later checkpoint.

    Returns:
        Whether it was archived.

    Source:
        noisystudent `utils.py:archive_ckpt`.
    """
    best = read(model_dir)
    if best is not None and best[_FIGURE] > figures[_FIGURE]:
        return False
    archive, name = archive_dir(model_dir), os.path.basename(prefix)
    config = os.path.join(model_dir, "config.json")
    if files.exists(config):
        _copy(config, archive)
    names = files.list_names(model_dir)
    mine = [found for found in names if found.startswith(f"{name}.")]
    # The index comes last: with it the checkpoint is complete.
    for found in sorted(mine, key=checkpoint_names.is_index):
        _copy(os.path.join(model_dir, found), archive)
    files.write_bytes(
        os.path.join(archive, checkpoint_names.STATE_FILE),
        f'model_checkpoint_path: "{name}"\n'.encode(),
    )
    files.write_json(
        os.path.join(archive, "best.json"),
        {"checkpoint": name, "step": step, **figures},
    )
    _remove_others(archive, name)
    logging.info(
        "Archived step %d: %.2f %% top-1.", step, 100 * figures[_FIGURE]
    )
    return True


def _copy(path, directory):
    files.make_dirs(directory)
    target = os.path.join(directory, os.path.basename(path))
    temporary = files.temporary_path(target)
    try:
        tf.io.gfile.copy(path, temporary, overwrite=True)
        files.publish(temporary, target)
    except BaseException:
        files.remove(temporary)
        raise


def _remove_others(archive, name):
    for found in files.list_names(archive):
        if _CHECKPOINT.match(found) and not found.startswith(f"{name}."):
            files.remove(os.path.join(archive, found))
