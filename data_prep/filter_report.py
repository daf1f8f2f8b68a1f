"""What filtering keeps and drops, by class and by reason."""

import collections
import dataclasses
import os

import numpy as np

from data_prep import balancing, files


@dataclasses.dataclass(frozen=True)
class ClassReport:
    """What became of the images of one class.

    Attributes:
        available: Images with a confidence in the accepted range.
        kept: Different images written: keys, where records share one.
        copies: Records written.
        threshold: Confidence from which images were kept.
    """

    available: int
    kept: int
    copies: int
    threshold: float


@dataclasses.dataclass(frozen=True)
class FilterReport:
    """What a filtering run does.

    Attributes:
        num_input: Records read.
        num_unique: Different images written: keys, where records share one.
        num_records: Records written, duplicates included.
        counters: dict reason -> records read; they add up to `num_input`.
        classes: Tuple of `ClassReport`, by label.
    """

    num_input: int
    num_unique: int
    num_records: int
    counters: dict
    classes: tuple

    @property
    def empty_classes(self):
        """Tuple of the labels of which nothing is kept."""
        return tuple(c for c, row in enumerate(self.classes) if not row.kept)


def report_from_json(values):
    """Returns the `FilterReport` that `dataclasses.asdict` made `values` of."""
    classes = tuple(ClassReport(**row) for row in values["classes"])
    return FilterReport(**{**values, "classes": classes})


def make_report(balance, plan, tables):
    """Applies a plan to the tables of all shards.

    Where the input holds copies of an image, as the output of filtering does,
    they are taken to lie in one shard, as filtering writes them.

    Args:
        balance: `balancing.BalanceConfig`.
        plan: From `balancing.choose`.
        tables: Iterable of the tables of all shards, in order.

    Returns:
        `FilterReport`.
    """
    num_classes = len(plan.totals)
    totals = np.zeros((3, num_classes), np.int64)
    lowest = np.full(num_classes, np.inf)
    counters = collections.Counter()
    num_unique = 0
    for shard, table in enumerate(tables):
        copies = plan.copies(table, shard)
        counters.update(count_reasons(balance, table, copies))
        label, kept = table["label"], copies > 0
        num_unique += len(np.unique(table["hash"][kept]))
        distinct = _first_of_each(table, kept)
        for row, weights in zip(
            totals, (balancing.eligible(balance, table), distinct, copies)
        ):
            row += np.bincount(label, weights, num_classes).astype(np.int64)
        np.minimum.at(lowest, label[kept], table["confidence"][kept])
    return FilterReport(
        num_input=sum(counters.values()),
        num_unique=num_unique,
        num_records=int(totals[2].sum()),
        counters=dict(sorted(counters.items())),
        classes=tuple(
            ClassReport(*map(int, row), threshold=float(threshold))
            for row, threshold in zip(totals.T, plan.thresholds(lowest))
        ),
    )


def _first_of_each(table, kept):
    """Returns bool [images]: of the `kept`, one per class and key."""
    rows = np.flatnonzero(kept)
    _, first = np.unique(table[["label", "hash"]][rows], return_index=True)
    distinct = np.zeros(len(table), bool)
    distinct[rows[first]] = True
    return distinct


def count_reasons(balance, table, copies):
    """Counts the images of a shard by what becomes of them.

    Args:
        balance: `balancing.BalanceConfig`.
        table: `balancing.TABLE_DTYPE` [images].
        copies: int [images].

    Returns:
        dict reason -> int, only those that occur.
    """
    confidence = table["confidence"].astype(np.float64)
    dropped = copies == 0
    below = dropped & (confidence < balance.min_threshold)
    above = dropped & (confidence > balance.max_prob)
    reasons = {
        "kept": ~dropped,
        "dropped:low_confidence": below,
        "dropped:above_max_prob": above,
        "dropped:class_full": dropped & ~below & ~above,
    }
    return {
        name: int(mask.sum()) for name, mask in reasons.items() if mask.any()
    }


def write_stats(folder, counts, totals, report):
    """Writes counts and thresholds under the original's names.

    Args:
        folder: Output folder.
        counts: int64 [num_classes, 101], from `balancing.histogram`.
        totals: int64 [num_classes], images from the thresholds up.
        report: `FilterReport`.
    """
    edges = balancing.BIN_EDGES.tolist()
    for name, table in (
        ("total_counts.json", counts),
        ("total_counts_sum.json", counts[:, ::-1].cumsum(axis=1)[:, ::-1]),
    ):
        values = {
            str(label): [list(pair) for pair in zip(edges, row.tolist())]
            for label, row in enumerate(table)
        }
        files.write_json(os.path.join(folder, name), values, indent=None)
    files.write_json(
        os.path.join(folder, "threshold.json"),
        {
            str(label): [row.threshold, int(totals[label])]
            for label, row in enumerate(report.classes)
        },
    )
    files.write_json(
        os.path.join(folder, "stats", "final_stats.json"),
        {
            "cat_count": {
                str(label): row.copies
                for label, row in enumerate(report.classes)
                if row.copies
            },
            "total_cnt": report.num_records,
        },
    )
