"""Writes scikit-learn's handwritten digits as a small semi-supervised task.

1,797 scans of 8x8 become 32x32 JPEG records: `test`, a few labeled `train`
images, and the rest `unlabeled`, with their truth in `unlabeled_truth.json`
for reports only. With --dev_size, recipes can be compared on `dev` images, and
`test` is not written at all.
"""

import dataclasses
import io
import os

import numpy as np
from absl import logging
from PIL import Image

from data_prep import command_line, files, hashing, shard_writer

NUM_CLASSES = 10
IMAGE_SIZE = 32
TEST_SIZE = 450
TRUTH_FILE = "unlabeled_truth.json"

_LARGEST_INK = 16  # The scans hold 0 (paper) to 16 (ink).
_JPEG_QUALITY = 95
_NUM_SHARDS = {"train": 1, "unlabeled": 4, "dev": 1, "test": 1}


@dataclasses.dataclass(frozen=True)
class DigitsConfig:
    """One division of the digits.

    Attributes:
        output_dir: Folder of the shards.
        seed: Which images are labeled; `test` and `dev` do not depend on it.
        num_labeled: Labeled images, as many of each class as possible.
        dev_size: Labeled images to choose recipes on, taken out of the
            unlabeled ones; 0 writes `test` instead.
    """

    output_dir: str
    seed: int = 0
    num_labeled: int = 60
    dev_size: int = 0

    def __post_init__(self):
        if not self.output_dir:
            raise ValueError("--output_dir is needed: a folder for the shards.")
        if self.num_labeled < NUM_CLASSES:
            raise ValueError(
                f"`num_labeled` must be >= {NUM_CLASSES}, one per class. "
                f"Received: {self.num_labeled}."
            )
        if self.dev_size < 0:
            raise ValueError(
                f"`dev_size` must be >= 0. Received: {self.dev_size}."
            )


def write(config):
    """Writes the shards; finished ones are kept.

    Args:
        config: `DigitsConfig`.

    Returns:
        dict split -> `shards.Manifest`.

    Raises:
        ValueError: scikit-learn is missing, the sizes leave no unlabeled
            images, or the folder is a file or holds another division.
    """
    files.check_folder("output_dir", config.output_dir)
    scans, labels = _load()
    chosen = choose_splits(labels, config)
    manifests = {
        split: _write_split(config, split, chosen[split], scans, labels)
        for split in chosen
    }
    files.write_json(
        os.path.join(config.output_dir, TRUTH_FILE),
        {_key(i): int(labels[i]) for i in chosen["unlabeled"]},
    )
    return manifests


def choose_splits(labels, config):
    """Divides the images among the splits, each in an order set by hash.

    Args:
        labels: int [images], classes 0-based.
        config: `DigitsConfig`.

    Returns:
        dict split -> list of image indices. The test images are in no other
        split, whether or not they are written.

    Raises:
        ValueError: `num_labeled` and `dev_size` leave no unlabeled images.
    """
    rest = _by_class(range(len(labels)), labels)
    sizes = [len(members) for members in rest]
    test = _take(rest, _proportional(TEST_SIZE, sizes), "test")
    free = sum(map(len, rest))
    if config.num_labeled + config.dev_size >= free:
        raise ValueError(
            f"`num_labeled` + `dev_size` must be < {free}, the images outside "
            f"`test`. Received: {config.num_labeled} + {config.dev_size}."
        )
    sizes = [len(members) for members in rest]
    dev = _take(rest, _proportional(config.dev_size, sizes), "dev")
    sizes = [len(members) for members in rest]
    purpose = f"train/{config.seed}"
    train = _take(rest, _even(config.num_labeled, sizes), purpose)
    unlabeled = _sorted_by_hash(np.concatenate(rest), "unlabeled")
    evaluation = {"dev": dev} if config.dev_size else {"test": test}
    return {"train": train, "unlabeled": unlabeled, **evaluation}


def _by_class(indices, labels):
    return [[i for i in indices if labels[i] == c] for c in range(NUM_CLASSES)]


def _take(rest, quotas, purpose):
    """Moves the first `quotas[c]` of each class, by hash, out of `rest`."""
    taken = []
    for label, quota in enumerate(quotas):
        ordered = _sorted_by_hash(rest[label], purpose)
        taken += ordered[:quota]
        rest[label] = ordered[quota:]
    return _sorted_by_hash(taken, purpose)


def _sorted_by_hash(indices, purpose):
    salt = f"digits/{purpose}".encode()
    return sorted(
        (int(i) for i in indices),
        key=lambda i: hashing.hash64(_key(i).encode(), salt=salt),
    )


def _proportional(total, sizes):
    """Returns counts that add up to `total`, in proportion to `sizes`."""
    exact = np.asarray(sizes) * total / sum(sizes)
    counts = exact.astype(int)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts.tolist()


def _even(total, sizes):
    """Returns counts that add up to `total`, as even as `sizes` allow."""
    counts = [0] * len(sizes)
    while sum(counts) < total:
        open_classes = [c for c, size in enumerate(sizes) if counts[c] < size]
        counts[min(open_classes, key=lambda c: counts[c])] += 1
    return counts


def _key(index):
    return f"digits/{index:04d}"


def _load():
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ValueError(
            "The digits come with scikit-learn, which is not installed: "
            "pip install 'noisy-student-training[quickstart]', or "
            "scikit-learn alone."
        ) from error
    digits = datasets.load_digits()
    return digits.images, digits.target


def encode_scan(scan):
    """Returns a scan as JPEG bytes, RGB, 32x32.

    Args:
        scan: float [8, 8] in [0, 16].
    """
    grey = np.round(np.asarray(scan) * (255 / _LARGEST_INK)).astype(np.uint8)
    enlarged = Image.fromarray(grey).resize(
        (IMAGE_SIZE, IMAGE_SIZE), Image.BICUBIC
    )
    encoded = io.BytesIO()
    enlarged.convert("RGB").save(
        encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0
    )
    return encoded.getvalue()


def _write_split(config, split, indices, scans, labels):
    labeled = split != "unlabeled"
    num_shards = _NUM_SHARDS[split]
    writer = shard_writer.ShardedWriter(
        config.output_dir,
        split,
        num_shards,
        kind="labeled" if labeled else "unlabeled",
        config={
            "source": "digits",
            "seed": config.seed,
            "num_labeled": config.num_labeled,
            "dev_size": config.dev_size,
        },
        num_classes=NUM_CLASSES,
        class_names=[str(c) for c in range(NUM_CLASSES)],
    )
    for number in writer.pending:
        members = indices[number::num_shards]
        with writer.open_shard(number, num_input=len(members)) as shard:
            for i in members:
                label = int(labels[i]) + 1 if labeled else None
                _write_scan(shard, scans[i], label, _key(i))
    return writer.finish()


def _write_scan(shard, scan, label, key):
    # Imported here, so that --help and wrong flags need no TensorFlow.
    from data_prep import records

    image_bytes = encode_scan(scan)
    if label is None:
        shard.write(records.unlabeled_example(image_bytes, key))
    else:
        example = records.labeled_example(image_bytes, label, key)
        shard.write(example, label)
    shard.count("kept")


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(DigitsConfig)}
    group = command_line.FlagGroup("Digits", flag_values)
    group.string("output_dir", None, "Folder to write the shards to.")
    group.integer("seed", defaults["seed"], "Chooses which images are labeled.")
    group.integer(
        "num_labeled",
        defaults["num_labeled"],
        "Labeled images, spread evenly over the ten classes.",
        lower_bound=NUM_CLASSES,
    )
    group.integer(
        "dev_size",
        defaults["dev_size"],
        "Images to compare recipes on, instead of the test images.",
        lower_bound=0,
    )


def config_from_flags(flag_values):
    """Returns the `DigitsConfig` the flags ask for."""
    names = [field.name for field in dataclasses.fields(DigitsConfig)]
    return DigitsConfig(**{n: flag_values[n].value for n in names})


def main(flag_values):
    """Writes the digits as the flags say."""
    manifests = write(config_from_flags(flag_values))
    for split, manifest in manifests.items():
        logging.info("%s: %d records", split, manifest.total_records)


if __name__ == "__main__":
    command_line.run(main, define_flags)
