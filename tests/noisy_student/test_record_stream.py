import os

import numpy as np
import pytest
import tensorflow as tf

from noisy_student import record_stream
from tests.noisy_student import fixtures

pytestmark = pytest.mark.slow


def open_stream(directory, split="train", **changes):
    arguments = {"name": "labeled", "seed": 3, "shuffle_buffer": 100}
    return record_stream.open_stream(
        str(directory), split, **{**arguments, **changes}
    )


def rows_of(stream, start, number):
    """Returns (shard, record) of that many records, and their positions."""
    rows = []
    for row in stream.dataset(start).as_numpy_iterator():
        if row.index < len(row.order):
            assert row.records[row.order[row.index]]
            origin = tuple(row.origins[row.order[row.index]].tolist())
            rows.append((origin, int(row.position)))
        if len(rows) == number:
            return rows


def origins_of(stream, start, number):
    return [origin for origin, _ in rows_of(stream, start, number)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(directory, "train", 10)
    fixtures.write_labeled(directory, "six", 23, num_shards=6)
    return directory


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("shuffle_buffer", [1, 3, 100])
def test_every_epoch_has_every_record_once(data_dir, shuffle_buffer, cache):
    stream = open_stream(data_dir, shuffle_buffer=shuffle_buffer, cache=cache)
    origins = origins_of(stream, 0, 30)
    assert stream.num_records == 10
    for epoch in range(3):
        assert len(set(origins[10 * epoch : 10 * epoch + 10])) == 10


def test_epochs_differ_in_order(data_dir):
    origins = origins_of(open_stream(data_dir), 0, 20)
    assert origins[:10] != origins[10:]


def test_a_cached_stream_shuffles_all_records_whatever_the_buffer(data_dir):
    orders = [
        origins_of(open_stream(data_dir, cache=True, shuffle_buffer=n), 0, 20)
        for n in (1, 100)
    ]
    assert orders[0] == orders[1]
    # Two shards of five records: some follow each other from one shard.
    shards = [shard for shard, _ in orders[0]]
    assert shards[:10] not in ([0, 1] * 5, [1, 0] * 5)


@pytest.mark.parametrize(("split", "cache"), [("train", True), ("six", False)])
def test_a_stream_restarts_at_any_position(monkeypatch, data_dir, split, cache):
    monkeypatch.setattr(record_stream, "_READ_PARALLELISM", 2)
    stream = open_stream(data_dir, split, shuffle_buffer=4, cache=cache)
    whole = rows_of(stream, 0, 60)
    assert [position for _, position in whole] == list(range(60))
    for start in (1, 4, 10, 22, 41):
        assert rows_of(stream, start, 60 - start) == whole[start:]


def test_a_restart_opens_no_group_of_shards_that_was_read_before(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(record_stream, "_READ_PARALLELISM", 2)
    fixtures.write_labeled(tmp_path, "six", 24, num_shards=6)
    stream = open_stream(tmp_path, "six", shuffle_buffer=4)
    whole = origins_of(stream, 0, 24)
    first_group = {shard for shard, _ in whole[:8]}
    assert len(first_group) == 2
    for shard in first_group:
        os.remove(stream.shards[shard])
    assert origins_of(stream, 9, 15) == whole[9:]


def test_every_block_ends_with_a_row_without_a_record(data_dir):
    rows = open_stream(data_dir, shuffle_buffer=4).dataset(0).take(13)
    ends = [
        (int(row.index), int(row.position))
        for row in rows.as_numpy_iterator()
        if row.index == len(row.order)
    ]
    assert ends == [(4, 4), (4, 8), (2, 10)]


def test_order_depends_on_the_seed_and_the_stream(data_dir):
    orders = {
        tuple(origins_of(open_stream(data_dir, **change), 0, 10))
        for change in ({}, {"seed": 4}, {"name": "unlabeled"})
    }
    assert len(orders) == 3


def shares(directory, split, num_readers):
    for reader in range(num_readers):
        context = tf.distribute.InputContext(
            num_input_pipelines=num_readers, input_pipeline_id=reader
        )
        yield open_stream(directory, split, context=context)


@pytest.mark.parametrize("num_readers", [2, 4, 5])
def test_readers_share_an_epoch_without_overlap(data_dir, num_readers):
    found = []
    for stream in shares(data_dir, "six", num_readers):
        found += [
            (stream.shards[shard], number)
            for shard, number in origins_of(stream, 0, stream.num_records)
        ]
    assert len(found) == len(set(found)) == 23


def test_a_shared_stream_restarts_at_any_position(data_dir):
    stream = list(shares(data_dir, "six", 4))[2]
    assert (stream.stride, stream.offset) == (2, 1)
    whole = origins_of(stream, 0, 12)
    assert origins_of(stream, 7, 5) == whole[7:]


def test_readers_read_their_own_shards_where_these_divide(data_dir):
    streams = list(shares(data_dir, "six", 3))
    assert [len(stream.shards) for stream in streams] == [2, 2, 2]
    assert {stream.stride for stream in streams} == {1}
    streams = list(shares(data_dir, "six", 4))
    assert [len(stream.shards) for stream in streams] == [3, 3, 3, 3]
    assert [stream.offset for stream in streams] == [0, 0, 1, 1]


def test_readers_of_the_same_shards_see_different_views(data_dir):
    seeds = [
        stream.view_seed(tf.constant(position, tf.int64)).numpy().tolist()
        for stream in shares(data_dir, "six", 4)
        for position in range(3)
    ]
    assert len(np.unique(seeds, axis=0)) == 12


def test_an_empty_pattern_is_named(data_dir):
    with pytest.raises(FileNotFoundError, match="extra-"):
        open_stream(data_dir, "extra")


def test_fewer_records_than_readers_are_refused(tmp_path):
    fixtures.write_labeled(tmp_path, "train", 2, num_shards=1)
    context = tf.distribute.InputContext(num_input_pipelines=3)
    with pytest.raises(ValueError, match="2 records in .*each of 3 input"):
        open_stream(tmp_path, context=context)


def test_a_stream_may_read_the_first_shards_alone(data_dir):
    stream = open_stream(data_dir, "six", num_shards=2)
    assert [os.path.basename(path) for path in stream.shards] == [
        "six-00000-of-00006",
        "six-00001-of-00006",
    ]
    assert {shard for shard, _ in origins_of(stream, 0, 20)} == {0, 1}
