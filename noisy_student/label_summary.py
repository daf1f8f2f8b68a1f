"""What the labels of the last round look like: counts, and examples.

Reads what the last teacher predicted, shard by shard, and keeps a histogram of
the confidences and the labels at both ends of them.
"""

import dataclasses
import heapq
import itertools
from typing import Optional

import numpy as np

from data_prep import files, shards
from noisy_student import run_dir

_BINS = 20
_NUM_EXAMPLES = 32  # Of the most, and of the least confident labels.
_BATCH = 256
_FILTERED_SPLIT = "train"


@dataclasses.dataclass(frozen=True)
class Example:
    """One pseudo label, and where its image is.

    Attributes:
        confidence: Probability of the label, in [0, 1].
        shard: Path of the image shard.
        index: Place of the image in it.
        key: Name of the image.
        label: 0-based.
        truth: The right label; None where it is not known.
    """

    confidence: float
    shard: str
    index: int
    key: str
    label: int
    truth: Optional[int]

    @property
    def is_wrong(self):
        """Whether the label is known to be wrong."""
        return self.truth not in (None, self.label)


@dataclasses.dataclass
class LabelSummary:
    """Counts per bin of confidence, and the examples at both ends.

    Attributes:
        counts: int [bins], labels per equal part of [0, 1].
        wrong_counts: int [bins], those among them that are wrong.
        most_confident: `Example`s, the most confident first.
        least_confident: `Example`s, the least confident first.
    """

    counts: np.ndarray
    wrong_counts: np.ndarray
    most_confident: list
    least_confident: list


def summarize(work_dir, report):
    """Reads the last round's labels; holds counts and a few examples only.

    Args:
        work_dir: Directory of the finished self-training run.
        report: The content of its `report.json`.

    Returns:
        `LabelSummary` of all labels, those the filter dropped included.

    Raises:
        FileNotFoundError: If the labels, or the images they belong to, are
            missing.
    """
    truth_path = report["unlabeled"]["truth"]
    truth = {} if truth_path is None else files.read_json(truth_path)
    summary = LabelSummary(
        np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64), [], []
    )
    for batch in _read_labels(work_dir, report, truth):
        summary.counts += _histogram(batch)
        summary.wrong_counts += _histogram(e for e in batch if e.is_wrong)
        summary.most_confident = _first(
            [*summary.most_confident, *batch], lambda e: -e.confidence
        )
        summary.least_confident = _first(
            [*summary.least_confident, *batch], lambda e: e.confidence
        )
    return summary


def _histogram(examples):
    confidences = [example.confidence for example in examples]
    return np.histogram(confidences, bins=_BINS, range=(0, 1))[0]


def _first(examples, order):
    """Returns the first examples in an order, one per key, ties as stored."""
    # Images that are filtered once and then relabeled come with their copies.
    unique = {e.key: e for e in reversed(examples)}.values()
    return heapq.nsmallest(
        _NUM_EXAMPLES, unique, key=lambda e: (order(e), e.shard, e.index)
    )


def _read_labels(work_dir, report, truth):
    """Yields the last round's labels as lists of `Example`."""
    # Imported here: importing this module needs no TensorFlow.
    from data_prep import prediction_inputs, records

    number = report["rounds"][-1]["round"]
    directory = run_dir.round_dir(work_dir, number, "labels")
    images_dir, split = _find_images(directory, report["unlabeled"]["split"])
    inputs = prediction_inputs.find(images_dir, directory, split)
    for shard, predictions in zip(inputs.images, inputs.predictions):
        reader = enumerate(prediction_inputs.read_predictions(predictions))
        while batch := list(itertools.islice(reader, _BATCH)):
            indices, serialized = zip(*batch)
            parsed = records.parse_prediction(serialized, report["num_classes"])
            keys = [
                (key or records.default_key(shard, index)).decode(
                    errors="backslashreplace"
                )
                for index, key in zip(indices, parsed["key"].numpy().tolist())
            ]
            yield [
                Example(confidence, shard, index, key, label, truth.get(key))
                for confidence, index, key, label in zip(
                    # Rounding can leave a probability slightly above one.
                    parsed["probs"].numpy().max(axis=1).clip(max=1).tolist(),
                    indices,
                    keys,
                    parsed["label"].numpy().tolist(),
                )
            ]


def _find_images(labels_dir, unlabeled_split):
    """Returns (directory, split) of the images that labels were given to."""
    for split in (unlabeled_split, _FILTERED_SPLIT):
        manifest = shards.read_manifest(labels_dir, f"{split}-info")
        if manifest:
            return manifest.config["input_dir"], split
    raise FileNotFoundError(
        f"No finished labels of {unlabeled_split!r} in {labels_dir!r}."
    )
