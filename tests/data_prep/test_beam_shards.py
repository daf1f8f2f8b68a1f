"""What is gathered from the workers, in whatever parts it comes."""

import numpy as np
import pytest

pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")

from data_prep import beam_shards  # noqa: E402

# Of each shard: indices to count, and rows to collect.
SHARDS = [
    [(np.array([3, 1, 3]),), (np.array([1.0, 2.0]), np.array([10, 20]))],
    [(np.array([], np.int64),), (np.array([]), np.array([], np.int64))],
    [(np.array([1, 7]),), (np.array([3.0]), np.array([30]))],
]


@pytest.mark.parametrize("parts", [[3], [1, 2], [1, 1, 1], [0, 3]])
def test_gathered_numbers_do_not_depend_on_the_parts(parts):
    gather = beam_shards.Gather()
    accumulators, shards = [], iter(SHARDS)
    for size in parts:
        accumulator = gather.create_accumulator()
        for _ in range(size):
            accumulator = gather.add_input(accumulator, next(shards))
        accumulators.append(accumulator)
    total = gather.merge_accumulators(accumulators)
    (indices, counts), (first, second) = gather.extract_output(total)
    assert indices.tolist() == [1, 3, 7]
    assert counts.tolist() == [2, 2, 1]
    assert first.tolist() == [1.0, 2.0, 3.0]
    assert second.tolist() == [10, 20, 30]


def test_tuples_of_arrays_are_added_entry_by_entry():
    total = beam_shards.Sum()
    empty = total.create_accumulator()
    one = total.add_input(empty, (np.array([1, 2]), np.array([[3]])))
    two = total.add_input(one, (np.array([10, 20]), np.array([[30]])))
    merged = total.extract_output(total.merge_accumulators([two, empty, one]))
    assert [part.tolist() for part in merged] == [[12, 24], [[36]]]
