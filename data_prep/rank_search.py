"""Finds the n-th image of each class in an order, in few passes over tables.

What is held is a table of counts by class, or a bounded number of images.
"""

import numpy as np

_DIGIT_BITS = 12
_NUM_DIGITS = 1 << _DIGIT_BITS
_ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
# What a pass may collect; a further pass is cheaper than sorting more.
MOST_CANDIDATES = 1 << 20
_FLUSH_AT = 1 << 22


class FlatCounter:
    """Counts indices that come in parts.

    Args:
        num_cells: int; indices are in [0, num_cells).
    """

    def __init__(self, num_cells):
        self._num_cells = num_cells
        # Made when it is needed: an empty counter is sent to other machines.
        self._total = None
        self._waiting = []
        self._length = 0

    def add(self, indices, counts=None):
        """Counts an int64 array of indices, different ones if with counts."""
        if counts is not None:
            self._flush()
            self._total[indices] += counts
            return
        self._waiting.append(indices)
        self._length += len(indices)
        # Each count goes over all cells, so it is worth to wait.
        if self._length >= _FLUSH_AT:
            self._flush()

    def _flush(self):
        if self._total is None:
            self._total = np.zeros(self._num_cells, np.int64)
        if self._waiting:
            self._total += np.bincount(
                np.concatenate(self._waiting), minlength=self._num_cells
            )
        self._waiting, self._length = [], 0

    def total(self):
        """Returns int64 [num_cells]."""
        self._flush()
        return self._total


class RankSearch:
    """The last of the first n images of each class in ascending order.

    Images are ordered by two words, then by their position, which tells those
    apart that agree in both.

    Args:
        wanted: int64 [num_classes], n, counted from `low`; 0 asks nothing.
        inside: int64 [num_classes], images from `low` to `high`.
        low: uint64 [num_classes], least first word of what is undecided.
        high: uint64 [num_classes], largest first word of it.
        words: Function of a table and int rows of it that returns the two
            words, uint64 [rows] each.
        accepted: Function of a table that returns bool [images]: which take
            part.

    Attributes:
        cutoffs: uint64 [num_classes, 3], once `done`: exactly n images of a
            class are <= its row.
    """

    def __init__(
        self,
        *,
        wanted,
        inside,
        low,
        high,
        words,
        accepted,
    ):
        self._wanted = np.array(wanted, np.int64)
        self._inside = np.array(inside, np.int64)
        self._low = np.array(low, np.uint64)
        self._high = np.array(high, np.uint64)
        self._words = words
        self._accepted = accepted
        self.cutoffs = np.full((len(self._wanted), 3), _ALL_ONES)
        self._asked = self._wanted > 0
        self._settle()

    @property
    def done(self):
        """Whether every class is decided."""
        return not self._asked.any()

    def measure(self, table, shard):
        """Returns what a pass needs to know of a table, a tuple of arrays.

        Args:
            table: `balancing.Table`.
            shard: int, its shard.

        Returns:
            (int64 indices to count,), or the columns of candidates.
        """
        label = table.label
        rows = np.flatnonzero(self._asked[label] & self._accepted(table))
        first, second = self._words(table, rows)
        label = label[rows].astype(np.int64)
        offset = first - self._low[label]
        # Below `low` the difference wraps around and is too large as well.
        found = offset <= (self._high - self._low)[label]
        label, offset = label[found], offset[found]
        if self._collects:
            position = rows[found].astype(np.uint64) + np.uint64(shard << 40)
            return label, first[found], second[found], position
        digit = (offset >> self._shift[label]).astype(np.int64)
        return (label * _NUM_DIGITS + digit,)

    def observe(self, measured):
        """Takes what `measure` returned for a table, or for several together.

        Indices of several are followed by how often each of them occurs.
        """
        if self._collects:
            self._candidates.append(measured)
        else:
            self._counter.add(*measured)

    def conclude(self):
        """Ends a pass, in which every table was measured and observed."""
        if self._collects:
            self._pick(*map(np.concatenate, zip(*self._candidates)))
            return
        counts = self._counter.total().reshape(-1, _NUM_DIGITS)
        at_most = counts.cumsum(axis=1)
        digit = (at_most < self._wanted[:, None]).sum(axis=1)
        digit[~self._asked] = 0
        here = np.take_along_axis(counts, digit[:, None], axis=1)[:, 0]
        below = np.take_along_axis(at_most, digit[:, None], axis=1)[:, 0] - here
        low = self._low + (digit.astype(np.uint64) << self._shift)
        width = (np.uint64(1) << self._shift) - np.uint64(1)
        high = low + np.minimum(width, self._high - low)
        for old, new in (
            (self._low, low),
            (self._high, high),
            (self._inside, here),
            (self._wanted, self._wanted - below),
        ):
            old[self._asked] = new[self._asked]
        self._settle()

    def _settle(self):
        """Plans the next pass."""
        span = np.where(self._asked, self._high - self._low, np.uint64(0))
        num_candidates = self._inside[self._asked].sum()
        self._collects = num_candidates <= MOST_CANDIDATES or not span.any()
        self._shift = np.array(
            [max(0, int(s).bit_length() - _DIGIT_BITS) for s in span], np.uint64
        )
        self._candidates = []
        self._counter = None
        if not self.done and not self._collects:
            self._counter = FlatCounter(len(span) * _NUM_DIGITS)

    def _pick(self, label, first, second, position):
        order = np.lexsort((position, second, first, label))
        classes = np.flatnonzero(self._asked)
        starts = np.searchsorted(label[order], classes)
        last = order[starts + self._wanted[classes] - 1]
        self.cutoffs[classes] = np.stack(
            [first[last], second[last], position[last]], axis=1
        )
        self._asked[:] = False
        self._settle()


def search_all(searches, map_tables):
    """Brings searches to their end, all of them in each pass.

    Args:
        searches: List of `RankSearch`.
        map_tables: Function of a function (table, shard) -> result that
            returns an iterator over the results for all tables, in any order.
    """
    while active := [search for search in searches if not search.done]:
        for results in map_tables(_measure_for(active)):
            for search, measured in zip(active, results):
                search.observe(measured)
        for search in active:
            search.conclude()


def _measure_for(searches):
    return lambda table, shard: [s.measure(table, shard) for s in searches]
