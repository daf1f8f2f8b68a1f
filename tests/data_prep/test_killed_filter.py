"""Filtering that is killed ends with the bytes of an undisturbed run."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.data_prep import corpus, killed_filter

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent.parent
NUM_IMAGES = 300


def _content(folder):
    """Returns dict name -> bytes; what a kill left half written is hidden."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".tmp")
    }


@pytest.mark.parametrize(
    ("kills", "seed"),
    [
        pytest.param(4, 0, marks=pytest.mark.slow),
        *(pytest.param(30, s, marks=pytest.mark.long) for s in range(4)),
    ],
)
def test_a_run_killed_at_random_ends_with_the_same_bytes(tmp_path, kills, seed):
    probs = corpus.random_probs(NUM_IMAGES, killed_filter.NUM_CLASSES, seed)
    keys = [b"key/%d" % i for i in range(NUM_IMAGES)]
    corpus.write_corpus(tmp_path, probs, keys, [0, 100, 100, 180, 300])
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.data_prep.killed_filter",
            str(tmp_path),
            str(kills),
            str(seed),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    whole, killed = _content(tmp_path / "whole"), _content(tmp_path / "killed")
    assert sorted(killed) == sorted(whole)
    assert killed == whole
    hidden = [*(tmp_path / "killed" / "data").glob(".*")]
    assert not hidden
    assert not (tmp_path / "killed" / ".spill").exists()
