"""Prepared data sets of tensorflow_datasets, their images undecoded.

Nothing is downloaded or prepared here; tensorflow_datasets' own command does
that, once: `tfds build imagenet2012`.
"""

import tensorflow as tf


def open_labeled(name, split):
    """Opens a data set that holds `image` and `label`.

    Args:
        name: As `tfds.builder` takes it: "mnist", "imagenet_v2/config:3.0.0".
        split: As tensorflow_datasets takes it: "validation", "test[:100]".

    Returns:
        (elements, number of images, number of classes or None). The elements
        are a `tf.data.Dataset` in the order of the files, of dicts
        `image_bytes` (string, encoded) and `label` (int64, 0-based).

    Raises:
        ValueError: There is no such data set or split, or it holds no labeled
            images.
        FileNotFoundError: The data set is not prepared on this machine.
    """
    # A second or more to import; most commands need none of it.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except (ValueError, ImportError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"tensorflow_datasets has no data set {name!r}: {reason}"
        ) from error
    if not builder.info.splits:
        raise FileNotFoundError(
            f"The data set {name!r} is not prepared in {builder.data_dir!r}; "
            f"`tfds build {name}` prepares it. TFDS_DATA_DIR says where."
        )
    features = builder.info.features
    if not _is_labeled(tfds, features):
        raise ValueError(
            f"The data set {name!r} must hold an `image` and a `label`. "
            f"Received: {', '.join(sorted(features))}."
        )
    try:
        num_images = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"The data set {name!r} has no split {split!r}, but "
            f"{', '.join(sorted(builder.info.splits))}."
        ) from error
    elements = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        # One file after the other: the order is that of the records.
        read_config=tfds.ReadConfig(
            interleave_cycle_length=1, try_autocache=False
        ),
    )
    return elements.map(_rename), num_images, features["label"].num_classes


def _is_labeled(tfds, features):
    kinds = {
        "image": tfds.features.Image,
        "label": tfds.features.ClassLabel,
    }
    return isinstance(features, tfds.features.FeaturesDict) and all(
        key in features and isinstance(features[key], kind)
        for key, kind in kinds.items()
    )


def _rename(example):
    return {
        "image_bytes": example["image"],
        "label": tf.cast(example["label"], tf.int64),
    }
