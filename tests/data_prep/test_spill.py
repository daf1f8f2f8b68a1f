"""Tests of the files between the two steps of shuffling."""

import numpy as np
import pytest

from data_prep import spill


def _spills(folder, num_inputs=2):
    return spill.Spills(str(folder), num_inputs, num_outputs=3, num_counters=2)


def test_output_shards_find_their_parts_of_every_file(tmp_path):
    spills = _spills(tmp_path)
    assert spills.pending == (0, 1)
    first = [(0, 5, 1, b"a"), (0, 2**64 - 1, 2, b""), (2, 7, 3, b"b" * 1000)]
    spills.write(0, first, np.arange(6).reshape(3, 2))
    assert spills.pending == (1,)
    spills.write(1, [(1, 6, 4, b"c")], np.ones((3, 2), int))
    read = [spills.read(output) for output in range(3)]
    assert [found for found, _ in read] == [
        [(5, b"a", 1), (2**64 - 1, b"", 2)],
        [(6, b"c", 4)],
        [(7, b"b" * 1000, 3)],
    ]
    assert [counters.tolist() for _, counters in read] == [
        [1, 2],
        [3, 4],
        [5, 6],
    ]


def test_a_file_that_is_not_finished_is_not_there(tmp_path):
    def failing():
        yield 0, 1, 2, b"record"
        raise KeyboardInterrupt

    spills = _spills(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        spills.write(0, failing(), np.zeros((3, 2), int))
    assert spills.pending == (0, 1)
    assert not list((tmp_path / ".spill").iterdir())


def test_removing_leaves_nothing(tmp_path):
    spills = _spills(tmp_path)
    spills.remove()
    spills.write(0, [], np.zeros((3, 2), int))
    (tmp_path / ".spill" / ".left.tmp").touch()
    spills.remove()
    assert not list(tmp_path.iterdir())
