"""Decisions by hash: the same for any order, sharding or restart."""

import hashlib


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
