"""Tests of decisions by hash."""

import hashlib

import numpy as np
import pytest

from data_prep import hashing


def test_hash_is_keyed_blake2b():
    digest = hashlib.blake2b(b"key", digest_size=8, key=b"salt").digest()
    expected = int.from_bytes(digest, "big")
    assert hashing.hash64(b"key", salt=b"salt") == expected


def test_hash_does_not_change_between_versions():
    # Shards written today must be continued by tomorrow's code.
    assert hashing.hash64(b"a", salt=b"b") == 8282287838800519222


def test_salts_give_independent_decisions():
    keys = [str(i).encode() for i in range(2000)]
    first = [hashing.hash_fraction(k, salt=b"1") < 0.5 for k in keys]
    second = [hashing.hash_fraction(k, salt=b"2") < 0.5 for k in keys]
    both = np.mean(np.logical_and(first, second))
    assert both == pytest.approx(0.25, abs=0.05)


def test_fractions_are_uniform():
    fractions = [
        hashing.hash_fraction(str(i).encode(), salt=b"") for i in range(5000)
    ]
    counts = np.histogram(fractions, bins=10, range=(0, 1))[0]
    assert counts.min() > 400
    assert counts.max() < 600


def test_the_largest_hash_stays_below_one():
    assert hashing.to_fraction(2**64 - 1) < 1
    assert hashing.to_fraction(0) == 0


def test_arrays_and_numbers_give_the_same_fraction():
    hashes = [0, 1, 2**11, 2**63 + 12345, 2**64 - 1]
    fractions = hashing.to_fraction(np.array(hashes, np.uint64))
    assert fractions.dtype == np.float64
    assert fractions.tolist() == [hashing.to_fraction(h) for h in hashes]


def test_mixing_is_splitmix64():
    # The first two numbers of that generator, seeded with 0 and stepped once.
    seed = hashing.hash64(b"", salt=b"s")
    start = np.array([seed], np.uint64)
    expected = [0, 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    for number in range(3):
        found = hashing.mix(start, salt=b"s", number=number)
        assert found.tolist() == [expected[number]]


def test_mixed_hashes_stay_different_and_are_uniform():
    hashes = np.arange(100_000, dtype=np.uint64)
    mixed = hashing.mix(hashes, salt=b"1")
    assert len(np.unique(mixed)) == len(hashes)
    counts = np.histogram(hashing.to_fraction(mixed), 100, (0, 1))[0]
    # The standard deviation is that of a Poisson number, about 32.
    assert np.abs(counts - 1000).max() < 5 * 32


@pytest.mark.parametrize("other", [{"salt": b"2"}, {"salt": b"1", "number": 1}])
def test_salts_and_numbers_give_independent_orders(other):
    hashes = np.arange(100_000, dtype=np.uint64)
    first = hashing.to_fraction(hashing.mix(hashes, salt=b"1")) < 0.5
    second = hashing.to_fraction(hashing.mix(hashes, **other)) < 0.5
    assert np.mean(first & second) == pytest.approx(0.25, abs=0.01)
