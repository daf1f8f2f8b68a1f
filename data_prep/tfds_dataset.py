"""Turns a prepared data set of tensorflow_datasets into shards.

JPEG and PNG files stay as they are. With --prepare a data set that is not there
yet is downloaded and prepared by tensorflow_datasets first.
"""

import dataclasses
import itertools

from data_prep import (
    command_line,
    files,
    image_encoding,
    source_writer,
)

_JPEG_START = b"\xff\xd8"


@dataclasses.dataclass(frozen=True)
class TfdsConfig:
    """What to read and what to make of it.

    Attributes:
        name: As `tfds.builder` takes it: "mnist", "imagenet_v2/config:3.0.0".
        split: As tensorflow_datasets takes it: "validation", "test[:100]".
        output_dir: Folder of the shards.
        output_split: Split of the shards; None is `split`, which must then be
            a plain name.
        unlabeled: Whether records are unlabeled.
        image_size: Shorter side, in pixels, to which larger images shrink;
            None keeps their size.
        num_shards: Number of shards; None is one for every 1,024 images.
        prepare: Whether a data set that is not prepared is downloaded and
            prepared first.
    """

    name: str
    split: str
    output_dir: str
    output_split: str = None
    unlabeled: bool = False
    image_size: int = None
    num_shards: int = None
    prepare: bool = False

    def __post_init__(self):
        source_writer.check_needed(self, "name", "split", "output_dir")
        source_writer.check_positive(self, "image_size", "num_shards")
        if not self.output_split and not self.split.isidentifier():
            raise ValueError(
                "--output_split is needed for --split="
                f"{self.split}, which cannot name files."
            )


def write(config):
    """Writes the shards; finished ones are kept.

    Args:
        config: `TfdsConfig`.

    Returns:
        dict split -> `shards.Manifest`.

    Raises:
        FileNotFoundError: The data set is not prepared on this machine, and
            `prepare` is not set.
        ValueError: There is no such data set or split, it cannot be prepared,
            it holds no images or no labels, or the output folder holds other
            shards.
    """
    files.check_folder("output_dir", config.output_dir)
    builder, num_images = _open(config.name, config.split, config.prepare)
    features = builder.info.features
    _check_features(config.name, features, labeled=not config.unlabeled)
    class_names = None if config.unlabeled else tuple(features["label"].names)
    num_shards = config.num_shards or (
        -(-num_images // source_writer.IMAGES_PER_SHARD) or 1
    )
    bounds = source_writer.even_bounds(num_images, num_shards)
    stream = _Stream(builder, config)
    split = source_writer.Split(
        directory=config.output_dir,
        name=config.output_split or config.split,
        sizes=tuple(end - start for start, end in bounds),
        read_items=lambda number: stream.read(*bounds[number]),
        encode=_encoder(config.image_size),
        settings={
            "source": "tfds_dataset",
            "name": builder.info.full_name,
            "split": config.split,
            "image_size": config.image_size,
            "num_images": num_images,
        },
        class_names=class_names,
    )
    return source_writer.write([split], f"--name={config.name}")


class _Stream:
    """The images in order, read once however many shards ask in turn."""

    def __init__(self, builder, config):
        self._builder = builder
        self._config = config
        self._images = None
        self._position = 0

    def read(self, start, end):
        """Yields the `source_writer.LoadedImage`s of a range, ascending."""
        if self._images is None:
            self._images = self._open()
        for index, image in itertools.islice(
            self._images, start - self._position, end - self._position
        ):
            self._position = index + 1
            yield image

    def _open(self):
        elements = _as_dataset(
            self._builder, self._config.split, add_tfds_id=True
        )
        for index, element in enumerate(elements.as_numpy_iterator()):
            label = None
            if not self._config.unlabeled:
                # A test split without truth says -1.
                label = int(element["label"]) + 1
            yield (
                index,
                source_writer.LoadedImage(
                    key=element["tfds_id"],
                    data=element["image"],
                    label=label,
                    dropped="dropped:no_label" if label == 0 else None,
                ),
            )


def _encoder(image_size):
    to_jpeg = source_writer.encode_jpeg(image_size)

    def encode(image):
        is_jpeg = image.data.startswith(_JPEG_START)
        if image.dropped or image_size or is_jpeg:
            return to_jpeg(image)
        return image_encoding.to_lossless(image.data)

    return encode


def open_labeled(name, split):
    """Opens a data set that holds `image` and `label`, for evaluation.

    Args:
        name: As in `TfdsConfig`.
        split: As in `TfdsConfig`.

    Returns:
        (elements, number of images, names of the classes). The elements are a
        `tf.data.Dataset` in the order of the files, of dicts `image_bytes`
        (string, encoded) and `label` (int64, 0-based). The names, a tuple in
        label order, are None if the number of classes is not known.

    Raises:
        ValueError: There is no such data set or split, or it holds no labeled
            images.
        FileNotFoundError: The data set is not prepared on this machine.
    """
    builder, num_images = _open(name, split)
    features = builder.info.features
    _check_features(name, features, labeled=True)
    elements = _as_dataset(builder, split)
    label = features["label"]
    names = None if label.num_classes is None else tuple(label.names)
    return elements.map(_rename), num_images, names


def _open(name, split, prepare=False):
    """Returns (builder of a prepared data set, images in the split)."""
    # A second or more to import; most commands need none of it.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except (ValueError, ImportError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"tensorflow_datasets has no data set {name!r}: {reason}"
        ) from error
    if prepare:
        _prepare(name, builder)
    if not builder.info.splits:
        raise FileNotFoundError(
            f"The data set {name!r} is not prepared in {builder.data_dir!r}; "
            f"`python -m data_prep.tfds_dataset --name={name} --prepare ...` "
            "does that. TFDS_DATA_DIR says where."
        )
    try:
        return builder, builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"The data set {name!r} has no split {split!r}, but "
            f"{', '.join(sorted(builder.info.splits))}."
        ) from error


def _prepare(name, builder):
    try:
        builder.download_and_prepare()
    # What it raises is not documented; files to fetch by hand are an assertion.
    except Exception as error:
        raise ValueError(
            f"The data set {name!r} cannot be prepared: {error}"
        ) from error


def _as_dataset(builder, split, add_tfds_id=False):
    import tensorflow_datasets as tfds

    from data_prep import tf_data

    elements = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        # One file after the other: the order is that of the records.
        read_config=tfds.ReadConfig(
            interleave_cycle_length=1,
            try_autocache=False,
            add_tfds_id=add_tfds_id,
        ),
    )
    return tf_data.fixed(elements)


def _check_features(name, features, labeled):
    import tensorflow_datasets as tfds

    kinds = {"image": tfds.features.Image}
    if labeled:
        kinds["label"] = tfds.features.ClassLabel
    if not isinstance(features, tfds.features.FeaturesDict) or not all(
        key in features and isinstance(features[key], kind)
        for key, kind in kinds.items()
    ):
        wanted = " and a ".join(f"`{key}`" for key in kinds)
        raise ValueError(
            f"The data set {name!r} must hold an {wanted}. "
            f"Received: {', '.join(sorted(features))}."
        )


def _rename(example):
    import tensorflow as tf

    return {
        "image_bytes": example["image"],
        "label": tf.cast(example["label"], tf.int64),
    }


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(TfdsConfig)}
    group = command_line.FlagGroup("Input", flag_values)
    group.string("name", None, "Name of a data set, such as mnist.")
    group.string("split", None, "Split to read, such as train or test[:100].")
    group.bool(
        "prepare",
        defaults["prepare"],
        "Download and prepare it first, if it is not.",
    )
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder to write the shards to.")
    group.string(
        "output_split",
        None,
        "Split, in the shards' names; without it, that of --split.",
    )
    group.bool("unlabeled", defaults["unlabeled"], "Leave the labels out.")
    source_writer.define_image_size_flag(group)
    group.integer(
        "num_shards",
        None,
        "Number of shards; without it, one for "
        f"{source_writer.IMAGES_PER_SHARD} images.",
        lower_bound=1,
    )


def main(flag_values):
    """Writes the shards as the flags say."""
    config = source_writer.config_from_flags(TfdsConfig, flag_values)
    source_writer.log_manifests(write(config))


if __name__ == "__main__":
    command_line.run(main, define_flags)
