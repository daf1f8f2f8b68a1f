"""Finds images of equal bytes inside a corpus.

Of equal images the one whose key's hash is least is kept, so that the choice
depends on neither order nor sharding. Hashes are compared a part at a time;
what grows with the corpus is a byte an image.
"""

import numpy as np

_MOST_HASHES = 1 << 22


def find(fingerprints, most_hashes=_MOST_HASHES):
    """Marks all but one of the images of equal bytes.

    Args:
        fingerprints: `fingerprint_files.FingerprintFiles` of the corpus.
        most_hashes: int, how many hashes to compare at once, about.

    Returns:
        List of bool [images], one for each shard.
    """
    num_shards = len(fingerprints.paths)
    marks = [
        np.zeros(len(fingerprints.read(shard, "order")), bool)
        for shard in range(num_shards)
    ]
    num_parts = max(1, -(-sum(map(len, marks)) // most_hashes))
    for part in range(num_parts):
        columns = [
            _part_of_shard(fingerprints, shard, part, num_parts)
            for shard in range(num_shards)
        ]
        encoded, order, shards, rows = map(np.concatenate, zip(*columns))
        # Stable: of equal keys the first in the corpus comes first.
        by_hash = np.lexsort((order, encoded))
        repeats = encoded[by_hash[1:]] == encoded[by_hash[:-1]]
        for place in by_hash[1:][repeats]:
            marks[shards[place]][rows[place]] = True
    return marks


def _part_of_shard(fingerprints, shard, part, num_parts):
    encoded = fingerprints.read(shard, "rows")["encoded"]
    rows = np.flatnonzero(encoded % np.uint64(num_parts) == part)
    order = fingerprints.read(shard, "order")[rows]
    shards = np.full(len(rows), shard, np.uint32)
    return encoded[rows], order, shards, rows.astype(np.uint32)
