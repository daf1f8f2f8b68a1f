"""Decisions by hash: the same for any order, sharding or restart.

A key is hashed once, without a seed; what is decided about it is decided by
that hash mixed with a salt, the purpose of the decision and the seed. So tables
of hashes serve every seed.
"""

import hashlib

import numpy as np

# Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
# 2014: splitmix64, its increment and the constants of its finalizer.
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FINALIZER = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT = np.uint64(31)


def hash64(key, *, salt):
    """Returns a stable 64-bit hash of a record's key.

    Args:
        key: bytes, the record's key.
        salt: bytes, at most 64: the purpose of the decision and the seed, so
            that different decisions about one record are independent.

    Returns:
        int in [0, 2**64).
    """
    digest = hashlib.blake2b(key, digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "big")


def mix(hashes, *, salt, number=0):
    """Returns hashes made anew for a decision, as splitmix64 makes them.

    Each salt and number gives a permutation of the 64-bit numbers: hashes that
    differ stay different.

    Args:
        hashes: uint64 array, `hash64` of keys.
        salt: bytes, at most 64: the purpose of the decision and the seed.
        number: int or uint64 array, which of several decisions about a key.

    Returns:
        uint64 array.
    """
    seed = np.uint64(hash64(b"", salt=salt))
    # Overflow is meant: sums and products are those modulo 2**64.
    with np.errstate(over="ignore"):
        words = (
            np.asarray(hashes, np.uint64) ^ seed
        ) + _INCREMENT * np.asarray(number, np.uint64)
        for shift, factor in _FINALIZER:
            words = (words ^ (words >> shift)) * factor
    return words ^ (words >> _LAST_SHIFT)


def to_fraction(hashes):
    """Returns 64-bit hashes as floats, uniform in [0, 1).

    Args:
        hashes: int in [0, 2**64) or uint64 array.

    Returns:
        float or float64 array. Only the upper 53 bits count: a double holds no
        more, and rounding up to 1 would break "in [0, 1)".
    """
    return (hashes >> 11) * 2.0**-53


def hash_fraction(key, *, salt):
    """Returns `hash64(key, salt=salt)` as a float, uniform in [0, 1)."""
    return to_fraction(hash64(key, salt=salt))


def rank_evenly(items, *, salt):
    """Returns items so that the first n are as even as possible in class.

    Args:
        items: Sequence of objects with a `key` (bytes) and a `label`.
        salt: bytes, at most 64: what the order is for, and the seed.

    Returns:
        List of the items: the first of each class by hash, then the second of
        each, and so on, those of one rank in the order of their hashes.
    """
    members = {}
    for item in items:
        members.setdefault(item.label, []).append(
            (hash64(item.key, salt=salt), item)
        )
    ranked = []
    for pairs in members.values():
        pairs.sort(key=lambda pair: pair[0])
        ranked += [(rank, *pair) for rank, pair in enumerate(pairs)]
    ranked.sort(key=lambda row: row[:2])
    return [item for _, _, item in ranked]
