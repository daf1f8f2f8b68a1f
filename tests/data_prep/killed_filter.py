"""Filters a corpus and kills the process that does it, again and again.

Called as `python -m tests.data_prep.killed_filter FOLDER KILLS SEED`: the
corpus is that of FOLDER, an undisturbed run writes to FOLDER/whole, those
killed write to FOLDER/killed.
"""

import os
import pathlib
import random
import signal
import sys
import time

from data_prep import balancing, filter_unlabel

# TensorFlow is imported once, before any process is forked, and not used here.
from data_prep import filtered_shard  # noqa: F401  isort: skip

RULE = balancing.BalanceConfig("binned", num_image=40, min_threshold=0.4)
NUM_CLASSES = 5


def start(folder, name):
    """Starts a process that filters; returns its id."""
    child = os.fork()
    if child:
        return child
    filter_unlabel.run(
        filter_unlabel.FilterConfig(
            input_dir=str(folder / "images"),
            prediction_dir=str(folder / "probs"),
            output_dir=str(folder / name),
            num_label_classes=NUM_CLASSES,
            num_output_shards=3,
            balance=RULE,
        )
    )
    os._exit(0)


def main(folder, kills, seed):
    """Filters once undisturbed, then with some kills; fails if a run fails."""
    started = time.monotonic()
    _, status = os.waitpid(start(folder, "whole"), 0)
    duration = time.monotonic() - started
    rng = random.Random(seed)
    for _ in range(kills):
        child = start(folder, "killed")
        # A part of the time, so that many kills hit the work of each stage.
        time.sleep(rng.random() * duration * 0.8)
        os.kill(child, signal.SIGKILL)
        _, killed = os.waitpid(child, 0)
        if killed not in (0, signal.SIGKILL):
            sys.exit(f"a run ended with {killed}")
    _, last = os.waitpid(start(folder, "killed"), 0)
    sys.exit(status or last)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
