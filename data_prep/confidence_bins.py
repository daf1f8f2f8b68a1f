"""Bins of confidence: fine ones, and the hundredths they add up to.

Confidences are float32. The bit patterns of floats from 0 up are ordered as the
floats, so a bin is a range of bit patterns; no edge is rounded.
"""

import numpy as np

HUNDREDTHS = np.array([k / 100.0 for k in range(101)])

# One bin holds all from 0 up to the first of these powers of two, one all from
# the second up, where no probability is.
_LOWEST = int(np.float32(2.0**-12).view(np.uint32))
_HIGHEST = int(np.float32(2.0).view(np.uint32))
_MOST_CELLS = 1 << 23
_FINEST, _COARSEST = 14, 23
_NO_EDGE = np.uint32(0xFFFFFFFF)


def bits_of(confidence):
    """Returns the bit patterns, uint32, of float32 confidences >= 0."""
    # + 0.0 turns the negative zero into the positive one.
    return (confidence + np.float32(0)).view(np.uint32)


def first_bits(edge, *, above=False):
    """Returns the bit pattern of the smallest float32 from an edge up.

    Args:
        edge: float >= 0.
        above: Whether the edge itself is left out.
    """
    value = np.float32(min(edge, np.finfo(np.float32).max))
    if float(value) < edge or (above and float(value) == edge):
        value = np.nextafter(value, np.float32(np.inf))
    elif float(np.nextafter(value, np.float32(0))) > edge:
        value = np.nextafter(value, np.float32(0))
    return int((value + np.float32(0)).view(np.uint32))


class ConfidenceBins:
    """Bins that no edge cuts, as fine as a table of all classes allows.

    Args:
        num_classes: int, classes that are counted in these bins.
        low: float, edge: the least confidence accepted.
        high: float, edge: the largest one accepted.

    Attributes:
        starts: uint32 [bins], the lowest bit pattern of each, ascending.
        accepted: slice of the bins from `low` to `high`.
    """

    def __init__(self, num_classes, low=0.0, high=2.0):
        span = _HIGHEST - _LOWEST
        self._shift = _FINEST
        while (
            self._shift < _COARSEST
            and (span >> self._shift) * num_classes > _MOST_CELLS
        ):
            self._shift += 1
        hundredths = [first_bits(edge) for edge in HUNDREDTHS]
        edges = [first_bits(low), min(first_bits(high, above=True), _HIGHEST)]
        cells = range(_LOWEST, _HIGHEST + 1, 1 << self._shift)
        starts = sorted({0, *cells, *hundredths, *edges})
        self.starts = np.array(starts, np.uint32)
        self._hundredths = np.searchsorted(self.starts, hundredths)
        self.accepted = slice(*np.searchsorted(self.starts, edges).tolist())
        self._make_lookup()

    def __len__(self):
        return len(self.starts)

    def _make_lookup(self):
        """Lists, by cell, its first bin and the starts of its further ones."""
        cell = self._cell(self.starts)
        _, self._first_bin, sizes = np.unique(
            cell, return_index=True, return_counts=True
        )
        self._further = []
        for offset in range(1, sizes.max()):
            further = np.full(len(sizes), _NO_EDGE)
            has = np.flatnonzero(sizes > offset)
            further[has] = self.starts[self._first_bin[has] + offset]
            self._further.append(further)

    def _cell(self, bits):
        clipped = np.clip(bits, np.uint32(_LOWEST), np.uint32(_HIGHEST))
        return (clipped - np.uint32(_LOWEST)) >> np.uint32(self._shift)

    def index(self, confidence):
        """Returns int64 [images], the bins of float32 confidences >= 0."""
        bits = bits_of(confidence)
        cell = self._cell(bits)
        index = self._first_bin[cell]
        for further in self._further:
            index += bits >= further[cell]
        return index

    def last_bits(self, index):
        """Returns uint32, the highest bit pattern of each bin of an array."""
        ends = np.append(self.starts[1:] - np.uint32(1), _NO_EDGE)
        return ends[index]

    def hundredths(self, counts):
        """Returns counts in hundredths.

        Args:
            counts: int64 [num_classes, bins].

        Returns:
            int64 [num_classes, 101]; bin k holds confidences from k / 100 to
            below (k + 1) / 100, the last one all from 1 up.

        Quirk:
            Confidences are float32 and the edges float64, so that one stored as
            float32(0.29) lies below 0.29. Kept: the original's counts follow
            it.
        """
        return np.add.reduceat(counts, self._hundredths, axis=1)
