"""Which images of each class are kept, and in how many copies.

Everything is decided from one table row per image: its class, the teacher's
confidence and a hash of its key. Tables come shard by shard; what is held at a
time is one of them and the class table. No decision depends on the order or the
sharding of the images.

Source: paper, Section 4.1 ("exact"); noisystudent `filter_unlabel.py`
("binned").
"""

import dataclasses

import numpy as np

from data_prep import hashing

SELECTIONS = ("exact", "binned")
TABLE_DTYPE = np.dtype(
    [("label", "<i4"), ("confidence", "<f4"), ("hash", "<u8")]
)
BIN_EDGES = np.array([k / 100.0 for k in range(101)])

_DIGIT_BITS = 8
_ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


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
        use_all: Keep one copy of every image from `min_threshold` to
            `max_prob`.
    """

    selection: str = "exact"
    num_image: int = 1300
    min_threshold: float = 0.0
    max_prob: float = 2.0
    upsample: bool = True
    use_all: bool = False

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
        if self.selection == "binned" and self.min_threshold not in BIN_EDGES:
            raise ValueError(
                "`min_threshold` must be a multiple of 0.01 for "
                f"`selection='binned'`. Received: {self.min_threshold}."
            )


def histogram(table, num_classes):
    """Counts images by class and confidence.

    Args:
        table: `TABLE_DTYPE` [images].
        num_classes: int.

    Returns:
        int64 [num_classes, 101]; bin k holds confidences from k / 100 to below
        (k + 1) / 100, the last one all from 1 up.

    Quirk:
        Confidences are float32 and the edges float64, so that one stored as
        float32(0.29) lies below 0.29. Kept: the original's counts follow it.
    """
    confidence = table["confidence"].astype(np.float64)
    bins = np.searchsorted(BIN_EDGES, confidence, side="right") - 1
    flat = table["label"].astype(np.int64) * len(BIN_EDGES) + bins
    counts = np.bincount(flat, minlength=num_classes * len(BIN_EDGES))
    return counts.reshape(num_classes, len(BIN_EDGES))


def choose(config, counts, read_tables):
    """Decides what to keep of every class.

    Args:
        config: `BalanceConfig`.
        counts: int64 [num_classes, 101], `histogram` of the whole corpus.
        read_tables: Function without arguments that returns an iterator over
            the tables of all shards, in order; called once per pass.

    Returns:
        A plan: `plan.copies(table, shard)` gives int64 [images], the copies of
        each image of a shard, and `plan.thresholds(lowest)` float64
        [num_classes], given the least confidence kept of each class;
        `plan.totals` int64 [num_classes], different images from there up.
    """
    if config.selection == "binned":
        return BinnedPlan(config, *bin_thresholds(config, counts))
    return _choose_exact(config, len(counts), read_tables)


def bin_thresholds(config, counts):
    """Chooses the threshold of each class on the grid.

    Args:
        config: `BalanceConfig`.
        counts: int64 [num_classes, 101], from `histogram`.

    Returns:
        (float64 [num_classes] thresholds, int64 [num_classes] images at or
        above them). The threshold is the highest edge with `num_image` images,
        or `min_threshold` where there are fewer.

    Quirk:
        Bins count up to the edge below `max_prob`, images are kept up to
        `max_prob` itself.
    """
    first = int(np.searchsorted(BIN_EDGES, config.min_threshold))
    last = int(np.searchsorted(BIN_EDGES, config.max_prob)) - 1
    # at_least[c, j] counts class c from edge first + j up.
    usable = counts[:, first : last + 1]
    at_least = usable[:, ::-1].cumsum(axis=1)[:, ::-1]
    enough = at_least >= config.num_image
    if config.use_all:
        enough = np.zeros_like(enough)
    # The number of edges with enough images, less one, is the last of them.
    chosen = np.maximum(enough.sum(axis=1) - 1, 0)
    totals = np.take_along_axis(at_least, chosen[:, None], axis=1)[:, 0]
    return BIN_EDGES[first + chosen], totals


class BinnedPlan:
    """Every image at or above its class's threshold, thinned by hash.

    Args:
        config: `BalanceConfig`.
        thresholds: float64 [num_classes].
        totals: int64 [num_classes], images at or above them.
    """

    def __init__(self, config, thresholds, totals):
        self._thresholds = thresholds
        self.totals = totals
        self._config = config

    def thresholds(self, lowest):
        """Returns the thresholds on the grid, whatever was kept."""
        del lowest
        return self._thresholds

    def expected_copies(self):
        """Returns float64 [num_classes], expected copies of a kept image."""
        config = self._config
        if config.use_all:
            return np.ones(len(self.totals))
        expected = config.num_image / np.maximum(self.totals, 1)
        return expected if config.upsample else np.minimum(expected, 1.0)

    def copies(self, table, shard):
        """Returns int64 [images], floor or ceiling of the expected copies."""
        del shard  # What happens to an image depends on its key alone.
        label = table["label"]
        confidence = table["confidence"].astype(np.float64)
        expected = self.expected_copies()[label]
        whole = np.floor(expected)
        extra = hashing.to_fraction(table["hash"]) < expected - whole
        kept = confidence >= self._thresholds[label]
        kept &= confidence <= self._config.max_prob
        return np.where(kept, whole + extra, 0).astype(np.int64)


def eligible(config, table):
    """Returns bool [images]: confidence in [min_threshold, max_prob]."""
    confidence = table["confidence"].astype(np.float64)
    return (confidence >= config.min_threshold) & (
        confidence <= config.max_prob
    )


def _choose_exact(config, num_classes, read_tables):
    available = np.zeros(num_classes, np.int64)
    for table in read_tables():
        labels = table["label"][eligible(config, table)]
        available += np.bincount(labels, minlength=num_classes)
    over_full = (available > config.num_image) & (not config.use_all)
    base = np.ones(num_classes, np.int64)
    extra = np.zeros(num_classes, np.int64)
    if config.upsample and not config.use_all:
        short = (available > 0) & ~over_full
        base[short] = config.num_image // available[short]
        extra[short] = config.num_image % available[short]
    kept_cutoffs = _select_first(
        np.where(over_full, config.num_image, 0),
        lambda: _ranked(config, read_tables, _confidence_order),
    )
    extra_cutoffs = _select_first(
        extra, lambda: _ranked(config, read_tables, _hash_order)
    )
    return ExactPlan(
        config=config,
        totals=np.where(over_full, config.num_image, available),
        base=base,
        over_full=over_full,
        kept_cutoffs=kept_cutoffs,
        has_extra=extra > 0,
        extra_cutoffs=extra_cutoffs,
    )


@dataclasses.dataclass(frozen=True)
class ExactPlan:
    """The most confident images of full classes, all of the others.

    Attributes:
        config: `BalanceConfig`.
        totals: int64 [num_classes], different images kept.
        base: int64 [num_classes], copies of every kept image.
        over_full: bool [num_classes], classes that are cut.
        kept_cutoffs: uint64 [num_classes, words], last image kept of those, in
            the order of confidence, then hash.
        has_extra: bool [num_classes], classes with one more copy of some.
        extra_cutoffs: uint64 [num_classes, words], last image with one more
            copy, in the order of hashes.
    """

    config: BalanceConfig
    totals: np.ndarray
    base: np.ndarray
    over_full: np.ndarray
    kept_cutoffs: np.ndarray
    has_extra: np.ndarray
    extra_cutoffs: np.ndarray

    def thresholds(self, lowest):
        """Returns `lowest` for the classes that are cut, the minimum else."""
        return np.where(self.over_full, lowest, self.config.min_threshold)

    def copies(self, table, shard):
        """Returns int64 [images], the copies of each image of a shard."""
        label = table["label"]
        kept = eligible(self.config, table)
        rank = _confidence_order(table, shard)
        kept &= ~self.over_full[label] | _at_most(
            rank, self.kept_cutoffs[label]
        )
        extra = self.has_extra[label] & _at_most(
            _hash_order(table, shard), self.extra_cutoffs[label]
        )
        return np.where(kept, self.base[label] + extra, 0)


def _confidence_order(table, shard):
    """Returns uint64 [images, 3]: most confident first, then by hash."""
    # Bits of non-negative floats are ordered as the floats; + 0.0 turns the
    # negative zero into the positive one.
    bits = (table["confidence"] + np.float32(0)).view(np.uint32)
    # Half the hash fills the first word, which leaves few ties to the others.
    high = (~bits).astype(np.uint64) << np.uint64(32)
    first = high | (table["hash"] >> np.uint64(32))
    return np.stack([first, table["hash"], _position(table, shard)], axis=1)


def _hash_order(table, shard):
    """Returns uint64 [images, 2]: lowest hash first."""
    return np.stack([table["hash"], _position(table, shard)], axis=1)


def _position(table, shard):
    # Tells records with equal keys apart.
    return np.arange(len(table), dtype=np.uint64) + np.uint64(shard << 40)


def _ranked(config, read_tables, order):
    for shard, table in enumerate(read_tables()):
        mask = eligible(config, table)
        yield table["label"][mask], order(table, shard)[mask]


def _select_first(wanted, read_ranked):
    """Finds the n-th key of each class in ascending order, by radix.

    Args:
        wanted: int64 [num_classes], n; 0 for classes without a question.
        read_ranked: Function without arguments that returns an iterator over
            (int labels [images], uint64 keys [images, words]); called once per
            digit until every class is decided.

    Returns:
        uint64 [num_classes, words]: exactly n keys of a class are <= its row.
    """
    num_words = next(iter(read_ranked()))[1].shape[1]
    cutoffs = np.full((len(wanted), num_words), _ALL_ONES)
    remaining = wanted.copy()
    undecided = wanted > 0
    for word in range(num_words):
        for shift in range(64 - _DIGIT_BITS, -1, -_DIGIT_BITS):
            if not undecided.any():
                return cutoffs
            counts = np.zeros((len(wanted), 1 << _DIGIT_BITS), np.int64)
            for labels, keys in read_ranked():
                _count_digits(
                    counts, labels, keys, cutoffs, undecided, word, shift
                )
            at_most = counts.cumsum(axis=1)
            digits = (at_most < remaining[:, None]).sum(axis=1)
            digits[~undecided] = 0
            inside = np.take_along_axis(counts, digits[:, None], axis=1)[:, 0]
            below = np.take_along_axis(at_most, digits[:, None], axis=1)[:, 0]
            remaining = np.where(
                undecided, remaining - below + inside, remaining
            )
            _set_digit(cutoffs[:, word], digits, shift, undecided)
            # The whole bin is taken: the bits that follow may be anything.
            undecided &= inside != remaining
    return cutoffs


def _count_digits(counts, labels, keys, cutoffs, undecided, word, shift):
    """Adds the next digits of the keys that agree with the cutoffs so far."""
    mask = undecided[labels]
    for previous in range(word):
        mask &= keys[:, previous] == cutoffs[labels, previous]
    if shift + _DIGIT_BITS < 64:
        above = np.uint64(shift + _DIGIT_BITS)
        mask &= keys[:, word] >> above == cutoffs[labels, word] >> above
    digits = (keys[mask, word] >> np.uint64(shift)).astype(np.int64)
    digits &= (1 << _DIGIT_BITS) - 1
    flat = labels[mask].astype(np.int64) * counts.shape[1] + digits
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)


def _set_digit(words, digits, shift, where):
    mask = np.uint64(((1 << _DIGIT_BITS) - 1) << shift)
    placed = digits.astype(np.uint64) << np.uint64(shift)
    words[where] = (words & ~mask | placed)[where]


def _at_most(keys, bounds):
    """Returns bool [images]: whether keys [images, words] <= bounds."""
    result = np.ones(len(keys), bool)
    for word in reversed(range(keys.shape[1])):
        key, bound = keys[:, word], bounds[:, word]
        result = (key < bound) | ((key == bound) & result)
    return result
