"""Finds the evaluation image that an image duplicates.

Equal hashes are found by binary search. Perceptual hashes within a distance of
d bits agree, in at least one of four bands of 16 bits, up to d // 4 bits. For
each band a table lists the evaluation images under every value that near to
theirs; an image then looks into one list a band, and counts the bits that
differ for those it finds there.
"""

import itertools

import numpy as np

from data_prep import image_fingerprints

KINDS = ("same_bytes", "same_pixels", "near", "near_mirrored")
MAX_DISTANCE = 11

MATCH_DTYPE = np.dtype(
    [("row", "<u4"), ("evaluation", "<u4"), ("kind", "u1"), ("distance", "u1")]
)

_BAND_BITS = 16
_NUM_BANDS = 64 // _BAND_BITS
# Pairs of images compared at once; they need about 40 bytes each.
_MOST_PAIRS = 1 << 19
_BIT_COUNTS = np.unpackbits(
    np.arange(1 << _BAND_BITS, dtype="<u2").view(np.uint8)
).reshape(-1, _BAND_BITS)
_BIT_COUNTS = _BIT_COUNTS.sum(1).astype(np.uint8)


def distances(first, second):
    """Returns in how many bits hashes differ, uint8 [...] of uint64 [...]."""
    different = np.ascontiguousarray(first ^ second, "<u8").view("<u2")
    counts = _BIT_COUNTS[different.reshape(-1, _NUM_BANDS)]
    # Four columns: adding them is twice as fast as a sum over a short axis.
    return counts[:, 0] + counts[:, 1] + counts[:, 2] + counts[:, 3]


class FingerprintIndex:
    """The evaluation images, ready to be searched; it can be pickled.

    Args:
        evaluation: `image_fingerprints.DTYPE` [images].
        max_distance: int in 0..11, the bits in which the perceptual hashes of
            near duplicates may differ; None finds equal images only.
        mirrored: Whether the mirror image of an evaluation image counts too.

    Raises:
        ValueError: `max_distance` is out of range, or there is no evaluation
            image.
    """

    def __init__(self, evaluation, *, max_distance, mirrored=False):
        check_max_distance(max_distance)
        if not len(evaluation):
            raise ValueError("`evaluation` must hold at least one image.")
        decoded = evaluation["state"] != image_fingerprints.UNDECODABLE
        structured = np.flatnonzero(
            evaluation["state"] == image_fingerprints.STRUCTURED
        )
        everything = np.arange(len(evaluation))
        self._encoded = _Sorted(evaluation["encoded"], everything)
        self._pixels = _Sorted(
            evaluation["pixels"][decoded], np.flatnonzero(decoded)
        )
        self._searches = []
        if max_distance is not None:
            columns = ("perceptual", "mirrored")[: 1 + mirrored]
            self._searches = [
                _Bands(evaluation[name][structured], structured, max_distance)
                for name in columns
            ]

    def match(self, fingerprints):
        """Finds the images that duplicate an evaluation image.

        Args:
            fingerprints: `image_fingerprints.DTYPE` [images].

        Returns:
            `MATCH_DTYPE` [matches], by `row`, one for each image that has any:
            `row`, its index; `evaluation`, that of the evaluation image;
            `kind`, an index into `KINDS`, the first that applies; `distance`,
            differing bits, 0 for equal images. Of several evaluation images
            the nearest is taken, then the first.
        """
        state = fingerprints["state"]
        best = np.zeros(len(fingerprints), MATCH_DTYPE)
        best["row"] = np.arange(len(fingerprints))
        found = np.zeros(len(fingerprints), bool)

        def take(kind, rows, evaluation, distance):
            best["evaluation"][rows] = evaluation
            best["distance"][rows] = distance
            best["kind"][rows] = KINDS.index(kind)
            found[rows] = True

        rows, evaluation = self._encoded.find(fingerprints["encoded"])
        take("same_bytes", rows, evaluation, 0)
        rest = np.flatnonzero(
            ~found & (state != image_fingerprints.UNDECODABLE)
        )
        at, evaluation = self._pixels.find(fingerprints["pixels"][rest])
        take("same_pixels", rest[at], evaluation, 0)
        for kind, search in zip(KINDS[2:], self._searches):
            rest = np.flatnonzero(
                ~found & (state == image_fingerprints.STRUCTURED)
            )
            at, evaluation, distance = search.find(
                fingerprints["perceptual"][rest]
            )
            take(kind, rest[at], evaluation, distance)
        return best[found]


def check_max_distance(max_distance):
    """Raises ValueError unless it is None or in 0..`MAX_DISTANCE`."""
    if max_distance is not None and not 0 <= max_distance <= MAX_DISTANCE:
        raise ValueError(
            f"`max_distance` must be in 0..{MAX_DISTANCE}. Received: "
            f"{max_distance}."
        )


class _Sorted:
    """Finds equal hashes; of equal ones the first place."""

    def __init__(self, hashes, places):
        self._hashes, first = np.unique(hashes, return_index=True)
        self._places = places[first]

    def find(self, queries):
        """Returns (indices of the queries found, their places)."""
        if not len(self._hashes):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        at = np.searchsorted(self._hashes, queries)
        at = np.minimum(at, len(self._hashes) - 1)
        equal = np.flatnonzero(self._hashes[at] == queries)
        return equal, self._places[at[equal]]


class _Bands:
    """Finds the nearest of hashes within a distance, else none."""

    def __init__(self, hashes, places, max_distance):
        self._hashes = np.ascontiguousarray(hashes)
        self._places = places
        self._max_distance = max_distance
        masks = _masks(max_distance // _NUM_BANDS)
        self._tables = [
            _table(_band(hashes, band), masks) for band in range(_NUM_BANDS)
        ]

    def find(self, queries):
        """Returns (indices of the queries found, places, distances)."""
        parts = [np.empty((3, 0), np.int64)]
        for band, (starts, members) in enumerate(self._tables):
            values = _band(queries, band)
            first, number = starts[values], np.diff(starts)[values]
            for rows in _chunks(number):
                parts.append(
                    self._compare(queries, rows, first, number, members)
                )
        row, distance, member = _nearest(np.concatenate(parts, axis=1))
        return row, self._places[member], distance

    def _compare(self, queries, rows, first, number, members):
        """Returns int64 [3, rows found]: row, distance, nearest member."""
        number = number[rows]
        ends = np.cumsum(number)
        offsets = np.arange(ends[-1] if len(ends) else 0)
        offsets += np.repeat(first[rows] - (ends - number), number)
        member = members[offsets]
        row = np.repeat(rows, number)
        distance = distances(queries[row], self._hashes[member])
        near = distance <= self._max_distance
        return _nearest(
            np.stack([row[near], distance[near], member[near]]).astype(np.int64)
        )


def _nearest(pairs):
    """Returns the first of each row, by distance, then member.

    Args:
        pairs: int64 [3, pairs]: row, distance, member.
    """
    pairs = pairs[:, np.lexsort(pairs[::-1])]
    return pairs[:, np.flatnonzero(np.diff(pairs[0], prepend=-1))]


def _band(hashes, band):
    shifted = hashes >> np.uint64(_BAND_BITS * band)
    return (shifted & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)


def _masks(radius):
    """Returns all numbers of a band with at most `radius` bits set."""
    return np.array(
        [
            sum(1 << bit for bit in bits)
            for number in range(radius + 1)
            for bits in itertools.combinations(range(_BAND_BITS), number)
        ],
        np.int64,
    )


def _table(values, masks):
    """Returns (starts, members): `members[starts[v]:starts[v + 1]]` are near v.

    Args:
        values: int64 [images], one band of their hashes.
        masks: int64, what to change in a value to get those near it.
    """
    near = (values[None, :] ^ masks[:, None]).astype(np.uint16).ravel()
    order = np.argsort(near, kind="stable")
    counts = np.bincount(near, minlength=1 << _BAND_BITS)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return starts, (order % max(len(values), 1)).astype(np.uint32)


def _chunks(number):
    """Yields ranges of rows that together have few pairs, or one row."""
    total = np.cumsum(number)
    start = 0
    while start < len(number):
        before = total[start - 1] if start else 0
        end = np.searchsorted(total, before + _MOST_PAIRS, side="right")
        end = max(int(end), start + 1)
        yield np.arange(start, end)
        start = end
