"""Which images of each class are kept, and in how many copies.

Everything is decided from one table row per image: its class, the teacher's
confidence and a hash of its key. Tables come shard by shard; what is held at a
time is a few of them and tables of all classes. No decision depends on the
order or the sharding of the images. Nothing here reads or writes a file.

Source: paper, Section 4.1 ("exact"); noisystudent `filter_unlabel.py`
("binned").
"""

import dataclasses

import numpy as np

from data_prep import confidence_bins, hashing, rank_search

SELECTIONS = ("exact", "binned")

_ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_HALF = np.uint64(32)


@dataclasses.dataclass(frozen=True)
class Table:
    """What is known of the images of a shard, in its order.

    Attributes:
        label: int [images], the predicted class of each, 0-based; like the
            others, None where the column was not read.
        confidence: float32 [images], its probability, from 0 to 2.
        hash: uint64 [images], `prediction_table.hash_of` its key.
    """

    label: np.ndarray = None
    confidence: np.ndarray = None
    hash: np.ndarray = None

    def __len__(self):
        return len(self.hash if self.label is None else self.label)


@dataclasses.dataclass(frozen=True)
class BalanceConfig:
    """The rule by which images are chosen.

    Attributes:
        selection: "exact": the `num_image` most confident of each class.
            "binned": thresholds on a grid of 0.01; every image at or above its
            class's threshold is kept, with `num_image` / (their number)
            expected copies.
        num_image: Images wanted per class.
        min_threshold: Least confidence, in [0, 1]; on the grid for "binned".
        max_prob: Largest confidence; rounding lets a softmax exceed 1.
        upsample: Whether images of classes with too few are duplicated.
        use_top: Whether the most confident are taken; else all from
            `min_threshold` up have the same chance.
        use_all: Keep one copy of every image from `min_threshold` to
            `max_prob`.
        seed: Seeds what is left to chance, by hash.
    """

    selection: str = "exact"
    num_image: int = 1300
    min_threshold: float = 0.0
    max_prob: float = 2.0
    upsample: bool = True
    use_top: bool = True
    use_all: bool = False
    seed: int = 0

    def __post_init__(self):
        if self.selection not in SELECTIONS:
            raise ValueError(
                f"`selection` must be one of {SELECTIONS}. Received: "
                f"{self.selection!r}."
            )
        if self.num_image < 1:
            raise ValueError(
                f"`num_image` must be >= 1. Received: {self.num_image}."
            )
        if not 0 <= self.min_threshold <= 1:
            raise ValueError(
                "`min_threshold` must be in [0, 1]. Received: "
                f"{self.min_threshold}."
            )
        if self.max_prob <= self.min_threshold:
            raise ValueError(
                f"`max_prob` must be > `min_threshold`. Received: "
                f"{self.max_prob}, {self.min_threshold}."
            )
        grid = confidence_bins.HUNDREDTHS
        if self.selection == "binned" and self.min_threshold not in grid:
            raise ValueError(
                "`min_threshold` must be a multiple of 0.01 for "
                f"`selection='binned'`. Received: {self.min_threshold}."
            )

    def chance(self, hashes):
        """Returns uint64 hashes that decide what is left to chance."""
        return hashing.mix(hashes, salt=f"filter/{self.seed}".encode())

    def bins(self, num_classes):
        """Returns the `ConfidenceBins` that `choose` wants counts in."""
        return confidence_bins.ConfidenceBins(
            num_classes, self.min_threshold, self.max_prob
        )


def flat_bins(table, bins):
    """Returns int64 [images], class * len(bins) + bin of each image.

    Args:
        table: `Table`; its hashes are not used.
        bins: `confidence_bins.ConfidenceBins`.
    """
    index = bins.index(table.confidence)
    index += table.label.astype(np.int64) * len(bins)
    return index


def histogram(table, num_classes, bins):
    """Counts images by class and confidence; counts of tables can be added.

    Args:
        table: `Table`; its hashes are not used.
        num_classes: int.
        bins: `confidence_bins.ConfidenceBins`.

    Returns:
        int64 [num_classes, bins].
    """
    counts = np.bincount(
        flat_bins(table, bins), minlength=num_classes * len(bins)
    )
    return counts.reshape(num_classes, len(bins))


def eligible(config, table):
    """Returns bool [images]: confidence in [min_threshold, max_prob]."""
    low = confidence_bins.first_bits(config.min_threshold)
    high = confidence_bins.first_bits(config.max_prob, above=True)
    bits = confidence_bins.bits_of(table.confidence)
    return (bits >= np.uint32(low)) & (bits < np.uint32(high))


def choose(config, counts, map_tables):
    """Decides what to keep of every class.

    Args:
        config: `BalanceConfig`.
        counts: int64 [num_classes, bins], `histogram` of the whole corpus, in
            `config.bins(num_classes)`.
        map_tables: Function of a function (`Table`, int shard) -> result that
            returns an iterator over the results for all tables, in any order;
            called once per pass.

    Returns:
        A plan: `plan.copies(table, shard)` gives int64 [images], the copies of
        each image of a shard, `plan.thresholds()` float64 [num_classes] the
        least confidence kept of each class, `plan.totals` int64 [num_classes]
        the different images from there up, `plan.arrays()` what
        `restore_plan` makes the plan of again.
    """
    bins = config.bins(len(counts))
    if config.selection == "binned":
        return BinnedPlan(
            config, *bin_thresholds(config, bins.hundredths(counts))
        )
    return _choose_exact(config, counts, bins, map_tables)


def restore_plan(config, arrays):
    """Returns the plan that `arrays` of the same rule was taken from."""
    kind = BinnedPlan if config.selection == "binned" else ExactPlan
    return kind(config, **arrays)


def bin_thresholds(config, counts):
    """Chooses the threshold of each class on the grid.

    Args:
        config: `BalanceConfig`.
        counts: int64 [num_classes, 101], in hundredths.

    Returns:
        (float64 [num_classes] thresholds, int64 [num_classes] images at or
        above them). The threshold is the highest edge with `num_image` images,
        or `min_threshold` where there are fewer.

    Quirk:
        Bins count up to the edge below `max_prob`, images are kept up to
        `max_prob` itself.

    Source:
        noisystudent `filter_unlabel.py:get_threshold`.
    """
    edges = confidence_bins.HUNDREDTHS
    first = int(np.searchsorted(edges, config.min_threshold))
    last = int(np.searchsorted(edges, config.max_prob)) - 1
    # at_least[c, j] counts class c from edge first + j up.
    usable = counts[:, first : last + 1]
    at_least = usable[:, ::-1].cumsum(axis=1)[:, ::-1]
    enough = at_least >= config.num_image
    if config.use_all or not config.use_top:
        enough = np.zeros_like(enough)
    # The number of edges with enough images, less one, is the last of them.
    chosen = np.maximum(enough.sum(axis=1) - 1, 0)
    totals = np.take_along_axis(at_least, chosen[:, None], axis=1)[:, 0]
    return edges[first + chosen], totals


class _Plan:
    """A rule and arrays of all classes."""

    def arrays(self):
        """Returns dict of the arrays by name."""
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names[1:]}


@dataclasses.dataclass(frozen=True)
class BinnedPlan(_Plan):
    """Every image at or above its class's threshold, thinned by hash.

    Attributes:
        config: `BalanceConfig`.
        lowest: float64 [num_classes], thresholds on the grid.
        totals: int64 [num_classes], images at or above them.
    """

    config: BalanceConfig
    lowest: np.ndarray
    totals: np.ndarray

    def thresholds(self):
        """Returns the thresholds on the grid, whatever was kept."""
        return self.lowest

    def expected_copies(self):
        """Returns float64 [num_classes], expected copies of a kept image."""
        config = self.config
        if config.use_all:
            return np.ones(len(self.totals))
        expected = config.num_image / np.maximum(self.totals, 1)
        return expected if config.upsample else np.minimum(expected, 1.0)

    def copies(self, table, shard):
        """Returns int64 [images], floor or ceiling of the expected copies."""
        del shard  # What happens to an image depends on its key alone.
        label = table.label
        confidence = table.confidence.astype(np.float64)
        expected = self.expected_copies()[label]
        whole = np.floor(expected)
        chance = hashing.to_fraction(self.config.chance(table.hash))
        kept = confidence >= self.lowest[label]
        kept &= confidence <= self.config.max_prob
        return np.where(kept, whole + (chance < expected - whole), 0).astype(
            np.int64
        )


@dataclasses.dataclass(frozen=True)
class ExactPlan(_Plan):
    """The most confident images of full classes, all of the others.

    Attributes:
        config: `BalanceConfig`.
        totals: int64 [num_classes], different images kept.
        base: int64 [num_classes], copies of every kept image.
        extra: int64 [num_classes], images with one more copy.
        over_full: bool [num_classes], classes that are cut.
        kept_cutoffs: uint64 [num_classes, 3], last image kept of those, in the
            order of confidence (without `use_top`, of chance), then chance.
        extra_cutoffs: uint64 [num_classes, 3], last image with one more copy,
            in the order of chance.
    """

    config: BalanceConfig
    totals: np.ndarray
    base: np.ndarray
    extra: np.ndarray
    over_full: np.ndarray
    kept_cutoffs: np.ndarray
    extra_cutoffs: np.ndarray

    def thresholds(self):
        """Returns the confidence of the last image kept, or the minimum."""
        least = np.full(len(self.totals), self.config.min_threshold)
        if not self.config.use_top:
            return least
        bits = ~(self.kept_cutoffs[:, 0] >> _HALF).astype(np.uint32)
        cut = self.over_full
        least[cut] = bits[cut].view(np.float32)
        return least

    def copies(self, table, shard):
        """Returns int64 [images], the copies of each image of a shard."""
        label = table.label
        rows = np.flatnonzero(eligible(self.config, table))
        kept = self._is_within(
            table, shard, rows, self.over_full, self.kept_cutoffs
        )
        rows = rows[kept]
        copies = np.zeros(len(table), np.int64)
        copies[rows] = self.base[label[rows]]
        some = rows[self.extra[label[rows]] > 0]
        words = (*_by_chance(self.config, table, some), _position(some, shard))
        copies[some] += _at_most(words, self.extra_cutoffs[label[some]])
        return copies

    def _is_within(self, table, shard, rows, asked, cutoffs):
        within = np.ones(len(rows), bool)
        cut = np.flatnonzero(asked[table.label[rows]])
        order = _kept_order(self.config)
        words = order(self.config, table, rows[cut])
        words = (*words, _position(rows[cut], shard))
        within[cut] = _at_most(words, cutoffs[table.label[rows[cut]]])
        return within


def _choose_exact(config, counts, bins, map_tables):
    accepted = counts[:, bins.accepted]
    available = accepted.sum(axis=1)
    over_full = (available > config.num_image) & (not config.use_all)
    base = np.ones_like(available)
    extra = np.zeros_like(available)
    if config.upsample and not config.use_all:
        short = (available > 0) & ~over_full
        base[short] = config.num_image // available[short]
        extra[short] = config.num_image % available[short]
    kept_search = _kept_search(config, accepted, over_full, bins)
    extra_search = _chance_search(config, extra, available)
    rank_search.search_all([kept_search, extra_search], map_tables)
    return ExactPlan(
        config=config,
        totals=np.where(over_full, config.num_image, available),
        base=base,
        extra=extra,
        over_full=over_full,
        kept_cutoffs=kept_search.cutoffs,
        extra_cutoffs=extra_search.cutoffs,
    )


def _kept_search(config, accepted, over_full, bins):
    """Returns the search for the last image kept of each class that is cut."""
    wanted = np.where(over_full, config.num_image, 0)
    if not config.use_top:
        return _chance_search(config, wanted, accepted.sum(axis=1))
    at_least = accepted[:, ::-1].cumsum(axis=1)[:, ::-1]
    enough = (at_least >= np.maximum(wanted, 1)[:, None]).sum(axis=1)
    index = np.maximum(enough - 1, 0)
    here = np.take_along_axis(accepted, index[:, None], axis=1)[:, 0]
    above = np.take_along_axis(at_least, index[:, None], axis=1)[:, 0] - here
    first, last = (
        (~bits).astype(np.uint64) << _HALF
        for bits in (
            bins.last_bits(bins.accepted.start + index),
            bins.starts[bins.accepted.start + index],
        )
    )
    return rank_search.RankSearch(
        wanted=np.where(over_full, wanted - above, 0),
        inside=here,
        low=first,
        high=last | (_ALL_ONES >> _HALF),
        words=lambda table, rows: _by_confidence(config, table, rows),
        accepted=lambda table: eligible(config, table),
    )


def _chance_search(config, wanted, available):
    return rank_search.RankSearch(
        wanted=wanted,
        inside=available,
        low=np.zeros(len(wanted), np.uint64),
        high=np.full(len(wanted), _ALL_ONES),
        words=lambda table, rows: _by_chance(config, table, rows),
        accepted=lambda table: eligible(config, table),
    )


def _kept_order(config):
    return _by_confidence if config.use_top else _by_chance


def _by_confidence(config, table, rows):
    """Returns two words, uint64 [rows]: most confident first, then chance."""
    bits = confidence_bins.bits_of(table.confidence[rows])
    chance = config.chance(table.hash[rows])
    # Half the hash fills the first word, which leaves few ties to the others.
    return (~bits).astype(np.uint64) << _HALF | chance >> _HALF, chance


def _by_chance(config, table, rows):
    """Returns two words, uint64 [rows], for the order of chance."""
    chance = config.chance(table.hash[rows])
    return chance, chance


def _position(rows, shard):
    # Tells records with equal hashes apart.
    return rows.astype(np.uint64) + np.uint64(shard << 40)


def _at_most(words, bounds):
    """Returns bool [images]: whether words, a tuple, are <= bounds' columns."""
    result = np.ones(len(bounds), bool)
    for column in reversed(range(bounds.shape[1])):
        word, bound = words[column], bounds[:, column]
        result = (word < bound) | ((word == bound) & result)
    return result
