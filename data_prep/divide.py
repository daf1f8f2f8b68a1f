"""Divides labeled shards for a semi-supervised experiment.

Of one labeled data set some images keep their labels, some become `dev`, to
choose recipes on, and the others lose their labels and become `unlabeled`. For
example:

    python -m data_prep.divide --input_dir=data/all --output_dir=data/seed_0
        --num_labeled=2500 --dev_size=2500 --seed=0

What an image becomes depends on its key and the seed alone; `dev` does not
depend on the seed. Each split has as many shards as the input, and their order.
"""

import dataclasses
import typing

from data_prep import (
    command_line,
    files,
    hashing,
    progress,
    shard_writer,
    shards,
    source_writer,
)

DEV = "dev"
UNLABELED = "unlabeled"
_READ_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class DivideConfig:
    """What to divide, and how.

    Attributes:
        input_dir: Folder of the labeled shards, with their manifest.
        output_dir: Another folder, for the splits.
        split: Split of the input.
        labeled_split: Split of the images that keep their labels.
        num_labeled: How many do, as many of each class as possible; None for
            all that are not `dev`.
        dev_size: Images of `dev`, as many of each class as possible.
        seed: Which images are labeled.
        labeled_classes: Names of the classes that labels and `dev` are of, in
            the order of their new labels; empty for all, which keep theirs.
        unlabeled_classes: Names of the classes that unlabeled images are of;
            empty for all.
    """

    input_dir: str
    output_dir: str
    split: str = "train"
    labeled_split: str = "train"
    num_labeled: int = None
    dev_size: int = 0
    seed: int = 0
    labeled_classes: tuple = ()
    unlabeled_classes: tuple = ()

    def __post_init__(self):
        source_writer.check_needed(
            self, "input_dir", "output_dir", "split", "labeled_split"
        )
        source_writer.check_positive(self, "num_labeled")
        if self.dev_size < 0:
            raise ValueError(
                f"`dev_size` must be >= 0. Received: {self.dev_size}."
            )
        if self.labeled_split in (DEV, UNLABELED):
            raise ValueError(
                f"`labeled_split` must be neither {DEV!r} nor {UNLABELED!r}. "
                f"Received: {self.labeled_split!r}."
            )
        for name in ("labeled_classes", "unlabeled_classes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


class _Image(typing.NamedTuple):
    """One record of the input: its key, and its label, 1-based."""

    key: bytes
    label: int


def write(config):
    """Writes the splits; finished shards are kept.

    Args:
        config: `DivideConfig`.

    Returns:
        dict split -> `shards.Manifest`; only of splits that have images.

    Raises:
        FileNotFoundError: There are no such shards.
        ValueError: The manifest or a class is missing, keys are not unique, the
            sizes do not fit, or the output folder holds another division.
    """
    files.check_folder("output_dir", config.output_dir)
    paths = shards.list_shards(config.input_dir, config.split)
    names = _class_names(config)
    new_labels, unlabeled = _classes(config, names)
    images = list(_read_images(paths))
    parts = _divide(config, images, new_labels, unlabeled)
    manifests = {}
    for name, keys in parts.items():
        labels = None if name == UNLABELED else new_labels
        writer = _writer(config, name, paths, names, labels)
        manifests[name] = _write_split(writer, name, paths, keys, labels)
    return manifests


def _class_names(config):
    """Returns the names of the input's classes, in the order of labels."""
    manifest = shards.read_manifest(config.input_dir, config.split)
    names = None if manifest is None else manifest.class_names
    if not names:
        raise ValueError(
            f"--input_dir={config.input_dir}: no manifest of "
            f"{config.split!r} that names the classes."
        )
    return names


def _classes(config, names):
    """Returns ({old label: new label}, set of the unlabeled images' labels)."""
    numbers = {name: i for i, name in enumerate(names, start=1)}
    chosen = {}
    for flag in ("labeled_classes", "unlabeled_classes"):
        wanted = getattr(config, flag) or names
        if unknown := [name for name in wanted if name not in numbers]:
            raise ValueError(
                f"--{flag} must be of {', '.join(names)}. "
                f"Received: {unknown[0]!r}."
            )
        chosen[flag] = [numbers[name] for name in wanted]
    new_labels = {
        old: new for new, old in enumerate(chosen["labeled_classes"], start=1)
    }
    return new_labels, set(chosen["unlabeled_classes"])


def _read_records(path):
    """Yields the records of a labeled shard as dicts, see `parse_labeled`."""
    # Imported here, so that --help and wrong flags need no TensorFlow.
    import tensorflow as tf

    from data_prep import records

    dataset = tf.data.TFRecordDataset(path).map(records.parse_labeled)
    # One by one they take ten times as long.
    for batch in dataset.batch(_READ_BATCH).as_numpy_iterator():
        for values in zip(*batch.values()):
            yield dict(zip(batch, values))


def _read_images(paths):
    """Yields the `_Image` of each record."""
    seen = set()
    for path in paths:
        for index, record in enumerate(_read_records(path)):
            key = record["key"]
            if not key or key in seen:
                raise ValueError(
                    f"{path!r}, record {index}: its key is "
                    f"{'that of another' if key else 'missing'}: {key!r}."
                )
            seen.add(key)
            yield _Image(key, int(record["label"]))


def _divide(config, images, new_labels, unlabeled):
    """Returns dict split -> set of keys; splits without images are left out.

    Raises:
        ValueError: There are fewer images than the sizes ask for.
    """
    known = [image for image in images if image.label in new_labels]
    ranked = hashing.rank_evenly(known, salt=b"divide/dev")
    dev, rest = ranked[: config.dev_size], ranked[config.dev_size :]
    rest = hashing.rank_evenly(
        rest, salt=f"divide/train/{config.seed}".encode()
    )
    num_labeled = config.num_labeled or len(rest)
    if not rest or num_labeled > len(rest):
        raise ValueError(
            f"`num_labeled` + `dev_size` must be <= {len(known)}, the images "
            f"of labeled classes, and leave some labeled. Received: "
            f"{config.num_labeled} + {config.dev_size}."
        )
    taken = {image.key for image in (*dev, *rest[:num_labeled])}
    parts = {
        config.labeled_split: {image.key for image in rest[:num_labeled]},
        DEV: {image.key for image in dev},
        UNLABELED: {
            image.key
            for image in images
            if image.label in unlabeled and image.key not in taken
        },
    }
    return {name: keys for name, keys in parts.items() if keys}


def _writer(config, name, paths, names, labels):
    """Returns the writer of a split, whose new labels are `labels`."""
    return shard_writer.ShardedWriter(
        config.output_dir,
        name,
        len(paths),
        kind="unlabeled" if labels is None else "labeled",
        config={
            "source": "divide",
            **{
                field: getattr(config, field)
                for field in (
                    "num_labeled",
                    "dev_size",
                    "seed",
                    "labeled_classes",
                    "unlabeled_classes",
                )
            },
            "images": files.fingerprint(paths),
        },
        num_classes=None if labels is None else len(labels),
        class_names=None if labels is None else [names[i - 1] for i in labels],
    )


def _write_split(writer, name, paths, keys, labels):
    """Writes the records of `keys`, with their new labels where there are."""
    pending = writer.pending
    meter = progress.Progress(
        f"{name} shards", total=len(paths), done=len(paths) - len(pending)
    )
    for number in pending:
        with writer.open_shard(number) as shard:
            _write_shard(shard, paths[number], keys, labels)
        meter.advance()
    return writer.finish()


def _write_shard(shard, path, keys, labels):
    from data_prep import records

    for record in _read_records(path):
        key, image = record["key"], record["image_bytes"]
        if key not in keys:
            shard.count("other_split")
            continue
        shard.count("kept")
        if labels is None:
            shard.write(records.unlabeled_example(image, key))
        else:
            label = labels[int(record["label"])]
            shard.write(records.labeled_example(image, label, key), label)


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(DivideConfig)}
    group = command_line.FlagGroup("Input", flag_values)
    group.string("input_dir", None, "Folder of the labeled shards.")
    group.string("split", defaults["split"], "Split, in the shards' names.")
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Another folder, for the splits.")
    group.string(
        "labeled_split",
        defaults["labeled_split"],
        "Split of the images that keep their labels.",
    )
    group.integer(
        "num_labeled",
        None,
        "Images that keep their labels, spread evenly over the classes; all "
        "but dev without it.",
        lower_bound=1,
    )
    group.integer(
        "dev_size",
        defaults["dev_size"],
        "Images to choose recipes on, spread evenly over the classes.",
        lower_bound=0,
    )
    group.integer("seed", defaults["seed"], "Chooses which images are labeled.")
    group.list(
        "labeled_classes",
        [],
        "Classes that labels and dev are of, in the order of their new labels; "
        "without it, all.",
    )
    group.list(
        "unlabeled_classes",
        [],
        "Classes that unlabeled images are of; without it, all.",
    )


def main(flag_values):
    """Divides the shards as the flags say."""
    config = source_writer.config_from_flags(DivideConfig, flag_values)
    source_writer.log_manifests(write(config))


if __name__ == "__main__":
    command_line.run(main, define_flags)
