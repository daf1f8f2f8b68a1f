"""What filtering keeps and drops, by class and by reason."""

import dataclasses
import os

import numpy as np

from data_prep import balancing, confidence_bins, duplicate_keys, files

REASONS = (
    "kept",
    "dropped:low_confidence",
    "dropped:above_max_prob",
    "dropped:class_full",
)


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

    Args:
        balance: `balancing.BalanceConfig`.
        plan: From `balancing.choose`.
        tables: `counting.Tables`.

    Returns:
        `FilterReport`.
    """
    num_classes = len(plan.totals)

    def count(table, shard):
        copies = plan.copies(table, shard)
        reason = reasons(balance, table, copies)
        by_class = [
            np.bincount(table.label, weights, num_classes)
            for weights in (
                balancing.eligible(balance, table),
                copies > 0,
                copies,
            )
        ]
        return (
            np.bincount(reason, minlength=len(REASONS)),
            np.array(by_class, np.int64),
        )

    counted, totals = tables.sum(count)
    num_unique, kept = int(totals[1].sum()), totals[1]
    if balance.use_all:
        # Only here may records share a key.
        num_unique, kept = duplicate_keys.distinct(
            balance, tables, num_classes, int(counted.sum())
        )
    return FilterReport(
        num_input=int(counted.sum()),
        num_unique=num_unique,
        num_records=int(totals[2].sum()),
        counters=name_reasons(counted),
        classes=tuple(
            ClassReport(*map(int, row), threshold=float(threshold))
            for *row, threshold in zip(
                totals[0], kept, totals[2], plan.thresholds()
            )
        ),
    )


def reasons(balance, table, copies):
    """Says what becomes of each image.

    Args:
        balance: `balancing.BalanceConfig`.
        table: `balancing.Table`.
        copies: int [images], what the plan makes of them.

    Returns:
        int64 [images], indices into `REASONS`.
    """
    confidence = table.confidence.astype(np.float64)
    return np.select(
        [
            copies > 0,
            confidence < balance.min_threshold,
            confidence > balance.max_prob,
        ],
        [0, 1, 2],
        3,
    )


def name_reasons(counted):
    """Returns dict reason -> int, of counts by `REASONS`, without zeros."""
    named = zip(REASONS, np.asarray(counted).tolist())
    return {name: number for name, number in sorted(named) if number}


def prelim_stats_path(folder, shard, worker):
    """Returns where the counts of a prediction file lie, as in the original."""
    return os.path.join(folder, f"prelim_stats_{shard:05d}_{worker}.json")


def write_prelim_stats(path, table, num_classes):
    """Writes the counts of a prediction file in the original's format.

    Args:
        path: Its file.
        table: `balancing.Table` of the prediction file.
        num_classes: int.
    """
    bins = confidence_bins.ConfidenceBins(num_classes)
    counts = bins.hundredths(balancing.histogram(table, num_classes, bins))
    present = np.flatnonzero(counts.any(axis=1)).tolist()
    files.write_json(path, _with_edges(counts, present), indent=None)


def write_counts(folder, counts):
    """Writes the counts of the corpus in the original's format.

    Args:
        folder: Folder of the first stage.
        counts: int64 [num_classes, 101], in hundredths.
    """
    for name, table in (
        ("total_counts.json", counts),
        ("total_counts_sum.json", counts[:, ::-1].cumsum(axis=1)[:, ::-1]),
    ):
        values = _with_edges(table, range(len(table)))
        files.write_json(os.path.join(folder, name), values, indent=None)


def _with_edges(counts, labels):
    edges = confidence_bins.HUNDREDTHS.tolist()
    return {
        str(label): [list(pair) for pair in zip(edges, counts[label].tolist())]
        for label in labels
    }


def write_thresholds(folder, plan):
    """Writes the thresholds in the original's format.

    Args:
        folder: Output folder.
        plan: From `balancing.choose`.
    """
    thresholds = plan.thresholds().tolist()
    totals = plan.totals.tolist()
    files.write_json(
        os.path.join(folder, "threshold.json"),
        {
            str(label): list(pair)
            for label, pair in enumerate(zip(thresholds, totals))
        },
    )
    num_image = plan.config.num_image
    files.write_json(
        os.path.join(folder, "num_image_across_cat.json"),
        # The original's spelling.
        {"num_image_acorss_cat": sum(min(n, num_image) for n in totals)},
    )


def write_shard_stats(folder, shard, task, labels):
    """Writes the records of each class in an output shard.

    Args:
        folder: Output folder.
        shard: int.
        task: int, in the file's name.
        labels: List of int, of the records.
    """
    path = os.path.join(folder, "stats", f"stats_{shard:05d}_{task}.json")
    found, numbers = np.unique(np.array(labels, np.int64), return_counts=True)
    counts = zip(map(str, found.tolist()), numbers.tolist())
    files.write_json(path, dict(counts), indent=None)


def write_final_stats(folder, report):
    """Writes the records of each class in the output, in the original's format.

    Args:
        folder: Output folder.
        report: `FilterReport`.
    """
    counts = {
        str(label): row.copies
        for label, row in enumerate(report.classes)
        if row.copies
    }
    files.write_json(
        os.path.join(folder, "stats", "final_stats.json"),
        {
            "cat_count": counts,
            "cat_sorted_pairs": sorted(
                map(list, counts.items()), key=lambda pair: -pair[1]
            ),
            "total_cnt": report.num_records,
        },
    )
