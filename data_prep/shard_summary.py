"""Counts and examples of the images of many shards, added a shard at a time.

What is held grows with the number of classes and of examples asked for, not
with the number of images.
"""

import dataclasses

import numpy as np

NUM_BINS = 20
ENDS = ("random", "most confident", "least confident")

ROW_DTYPE = np.dtype([("label", "<i4"), ("confidence", "<f4"), ("hash", "<u8")])


@dataclasses.dataclass(frozen=True)
class Example:
    """One image of those shown.

    Attributes:
        shard: Path of its image shard.
        index: Its place in it.
        label: 0-based, None without one.
        confidence: Of the label, None where it is not a teacher's.
    """

    shard: str
    index: int
    label: int = None
    confidence: float = None


class ShardSummary:
    """What is in shards.

    Args:
        classes: Labels, 0-based, of which examples are kept; None among them
            are all images together.
        num_examples: Examples of each class: at random, of the most and of the
            least confident ones.
    """

    def __init__(self, classes, num_examples):
        self._num_examples = num_examples
        self._best = {(label, end): [] for label in classes for end in ENDS}
        self.num_images = 0
        self.confidence_counts = np.zeros(NUM_BINS, np.int64)
        self.class_counts = np.zeros(0, np.int64)
        self.class_confidence = np.zeros(0, np.float64)

    def add(self, path, rows):
        """Adds the images of a shard.

        Args:
            path: Its path, where examples are read later.
            rows: `ROW_DTYPE` [images]: `label`, 0-based or -1; `confidence` of
                it or NaN; `hash` of the key, decides which are random.
        """
        self.num_images += len(rows)
        labeled = rows[rows["label"] >= 0]
        known = labeled[~np.isnan(labeled["confidence"])]
        self.confidence_counts += np.histogram(
            # Rounding can leave a probability slightly above one.
            known["confidence"].clip(0, 1),
            bins=NUM_BINS,
            range=(0, 1),
        )[0]
        self._grow(int(labeled["label"].max(initial=-1)) + 1)
        size = len(self.class_counts)
        self.class_counts += np.bincount(labeled["label"], minlength=size)
        self.class_confidence += np.bincount(
            known["label"], known["confidence"], size
        )
        for (label, end), best in self._best.items():
            self._best[label, end] = self._merge(best, path, rows, label, end)

    def _grow(self, size):
        more = max(0, size - len(self.class_counts))
        self.class_counts = np.pad(self.class_counts, (0, more))
        self.class_confidence = np.pad(self.class_confidence, (0, more))

    def _merge(self, best, path, rows, label, end):
        """Returns the first (order, hash, `Example`) of both, one a hash."""
        chosen = np.arange(len(rows))
        if label is not None:
            chosen = np.flatnonzero(rows["label"] == label)
        hashes = rows["hash"][chosen]
        order = np.zeros(len(chosen))
        if end != "random":
            sign = -1 if end == "most confident" else 1
            order = sign * rows["confidence"][chosen].astype(np.float64)
            known = ~np.isnan(order)
            chosen, hashes, order = chosen[known], hashes[known], order[known]
        found = {(key, value): example for key, value, example in best}
        for place in np.lexsort((hashes, order)).tolist():
            if len(found) >= len(best) + self._num_examples:
                break
            # Images that are filtered come with their copies.
            key = (float(order[place]), int(hashes[place]))
            if key not in found:
                found[key] = _example(path, int(chosen[place]), rows)
        ordered = sorted(found.items(), key=lambda item: item[0])
        return [(*k, example) for k, example in ordered[: self._num_examples]]

    def examples(self, label, end):
        """Returns list of `Example`, the first in order first.

        Args:
            label: One of the classes.
            end: One of `ENDS`.
        """
        return [example for *_, example in self._best[label, end]]


def _example(path, index, rows):
    label, confidence, _ = rows[index].tolist()
    return Example(
        path,
        index,
        None if label < 0 else label,
        None if np.isnan(confidence) else confidence,
    )
