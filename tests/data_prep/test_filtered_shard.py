"""Tests of the records that filtering writes, and where each of them goes."""

import numpy as np
import pytest
import tensorflow as tf

from data_prep import filtered_shard, records


def test_every_copy_has_its_own_place():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 64, 500, np.uint64)
    copies = rng.integers(0, 5, 500)
    rows, order = filtered_shard.output_order(hashes, copies, seed=3)
    np.testing.assert_array_equal(np.bincount(rows, minlength=500), copies)
    assert (order[1:] > order[:-1]).all()
    for row in range(0, 500, 50):
        expected = [
            int(filtered_shard.order_of(hashes[row : row + 1], 3, number)[0])
            for number in range(copies[row])
        ]
        assert sorted(order[rows == row].tolist()) == sorted(expected)


def test_places_do_not_depend_on_the_other_images():
    hashes = np.arange(100, dtype=np.uint64)
    copies = np.arange(100) % 3
    whole = filtered_shard.output_order(hashes, copies, 0)
    parts = [
        filtered_shard.output_order(hashes[part], copies[part], 0)[1]
        for part in (slice(0, 30), slice(30, 100))
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), whole[1])
    other = filtered_shard.output_order(hashes, copies, 1)
    assert (other[1] != whole[1]).all()


@pytest.mark.parametrize("num_shards", [1, 3, 1000])
def test_shards_are_equal_ranges_of_the_order(num_shards):
    order = np.sort(np.random.default_rng(0).integers(0, 1 << 64, 10**5, "u8"))
    order[[0, -1]] = 0, 2**64 - 1
    shard = filtered_shard.output_shard(order, num_shards)
    assert shard[0] == 0
    assert shard[-1] == num_shards - 1
    assert (np.diff(shard) >= 0).all()
    counts = np.bincount(shard)
    mean = len(order) / num_shards
    assert np.abs(counts - mean).max() <= 5 * mean**0.5


@pytest.mark.parametrize(
    ("keys", "expected"),
    [((b"i", b"i"), b"i"), ((b"", b"p"), b"p"), ((b"i", b""), b"i")],
)
def test_a_record_has_the_key_of_image_or_prediction(keys, expected):
    image = records.unlabeled_example(b"jpeg", keys[0])
    prediction = records.prediction_example([0.25, 0.75], keys[1])
    example, label, confidence, key = filtered_shard.make_record(
        image, prediction, b"default", 2, "here"
    )
    assert (label, confidence, key) == (1, 0.75, expected)
    parsed = records.parse_pseudo_labeled(example, 2)
    assert parsed["key"].numpy() == expected
    assert parsed["confidence"].numpy() == 0.75
    without = records.unlabeled_example(b"jpeg", b"")
    prediction = records.prediction_example([0.25, 0.75], b"")
    record = filtered_shard.make_record(without, prediction, b"d", 2, "")
    assert record[-1] == b"d"


def test_an_image_and_the_prediction_for_another_are_named():
    image = records.unlabeled_example(b"jpeg", b"a")
    prediction = records.prediction_example([1.0], b"b")
    with pytest.raises(
        records.RecordError, match="^here has the key b'a', but"
    ):
        filtered_shard.make_record(image, prediction, b"", 1, "here")


def test_a_class_that_is_none_is_named():
    image = records.unlabeled_example(b"jpeg", b"a")
    prediction = tf.train.Example.FromString(
        records.prediction_example([0.5, 0.5], b"a")
    )
    prediction.features.feature["classes"].int64_list.value[0] = 2
    with pytest.raises(records.RecordError, match="^here .* class 2 of 2"):
        filtered_shard.make_record(
            image, prediction.SerializeToString(), b"", 2, "here"
        )
