"""The labeled images of an evaluation, wherever they come from.

`--label_data_dir` names one of four sources:

directories of TFRecord shards, separated by semicolons, local or remote;
an image folder: its sub-folders are classes;
a list: a text file with a line `path<space or tab>label` per image;
`tfds:NAME`: a prepared data set of tensorflow_datasets.

Each gives its images in a fixed order, one at a time. Nothing is left out: an
image that cannot be evaluated ends the evaluation, and is named.
"""

import dataclasses
import operator
import os
import re
from typing import Callable, Optional

import numpy as np
import tensorflow as tf
from absl import logging

from data_prep import (
    class_names,
    cores,
    files,
    image_encoding,
    image_folder,
    records,
    shards,
    tf_data,
    tfds_dataset,
)
from efficientnet.messages import first_names
from noisy_student import image_places, label_order

CLASSES_FILE = image_folder.CLASSES_FILE

_LABELS_AT_ONCE = 1024
_SYNSET = re.compile(r"n\d{8}")
# TensorFlow's words for an image of another size than a network's.
_OTHER_SIZE = re.compile(
    r"Shape of tensor \S+ \[(\d+),(\d+),3\] is not compatible with expected "
    r"shape \[(\d+),(\d+),3\]"
)


@dataclasses.dataclass(frozen=True)
class LabeledImages:
    """Labeled images in a fixed order.

    Attributes:
        origin: Where they come from, as messages say it.
        num_images: How many there are.
        num_classes: Number of classes, None if the source does not tell.
        class_names: Tuple of the names of the classes in label order, None if
            the source does not tell.
        elements: Returns an unbatched `tf.data.Dataset`, a cheap element per
            image, in order.
        parse: element -> dict `image_bytes` (string, a JPEG or PNG file) and
            `label` (int64, 0-based), for `Dataset.map`.
        describe: Position of an image -> the name messages give it.
        check: Raises ValueError if some images cannot be evaluated, as far
            as that is seen without decoding them.
        fingerprint: Returns a short digest that differs if files or labels
            have been replaced, None for a data set of tensorflow_datasets.
        label_of: element -> what `parse` gives as `label`, for `Dataset.map`.
    """

    origin: str
    num_images: int
    num_classes: Optional[int]
    elements: Callable
    parse: Callable
    describe: Callable
    class_names: Optional[tuple] = None
    check: Callable = lambda: None
    fingerprint: Callable = lambda: None
    label_of: Callable = operator.itemgetter("label")

    def dataset(self):
        """Returns a `tf.data.Dataset` of what `parse` returns."""
        images = self.elements().map(
            self.parse, num_parallel_calls=cores.count()
        )
        return tf_data.fixed(images)

    def read_labels(self):
        """Returns the labels, int64 [images, ...]; decodes no image.

        Raises:
            ValueError: If they cannot be read.
        """
        labels = self.elements().map(
            self.label_of, num_parallel_calls=cores.count()
        )
        batches = tf_data.fixed(labels.batch(_LABELS_AT_ONCE))
        try:
            return np.concatenate(list(batches.as_numpy_iterator()))
        except tf.errors.OpError as error:
            raise ValueError(
                f"{self.origin}: the labels cannot be read: "
                f"{first_cause(error)}."
            ) from error

    def explain_failure(self, view, num_classes):
        """Finds the images that made an evaluation fail.

        Looks at one image after the other, so it is slow.

        Args:
            view: image_bytes -> pixels.
            num_classes: Number of classes of the model.

        Raises:
            ValueError: With the count and the first names, if there are any.
        """
        logging.info("Looking for images that cannot be evaluated.")
        found = []
        # An iterator goes on behind an element that failed.
        images = iter(self.dataset())
        for position in range(self.num_images):
            problem = _problem(images, view, num_classes)
            if problem:
                found.append(f"{self.describe(position)} ({problem})")
        _refuse(self.origin, found, self.num_images)


def open_source(
    value, *, split, num_classes, class_names=None, flag="label_data_dir"
):
    """Opens what `--label_data_dir` names; see the module's docstring.

    An image folder's labels are the positions of its sub-folders' names in
    `class_names`, else in the list of its `classes.json`. Without either,
    names that are the numbers from 0 are labels; with 1000 classes other names
    must be synset ids of ImageNet; else the label is the position among the
    sorted names, of which there must be `num_classes`. In a
    list, paths are relative to the list's folder, and a label is a number
    from 0 or, with 1000 classes, a synset id. Shards and tfds data sets hold
    labels; if they tell the names of the classes, those must be in the order
    of `class_names`, or of ImageNet's synset ids, if they are those.

    Args:
        value: The value of `--label_data_dir`.
        split: Prefix of the shards, or the split of a tfds data set.
        num_classes: Number of classes of the model.
        class_names: Names of the sub-folders in label order, or None.
        flag: The flag that gave `value`, as messages name it.

    Returns:
        `LabeledImages`; reads names and labels, no image yet.

    Raises:
        FileNotFoundError: There is nothing, or no image, of that name.
        ValueError: It is none of the four, or a label does not fit.
    """
    origin = f"--{flag}={value}"
    if not value:
        raise ValueError(
            f"--{flag} is needed: a directory of shards, an image "
            "folder, a list of images, or tfds:NAME."
        )
    if image_places.is_tfds(value):
        source = _open_tfds(origin, image_places.tfds_name(value), split)
    elif is_shards(value):
        source = _open_shards(origin, value, split)
    elif files.is_dir(value):
        return _open_folder(origin, value, num_classes, class_names)
    elif files.exists(value):
        return _open_list(origin, value, num_classes)
    else:
        raise FileNotFoundError(
            f"{origin}: no such file or directory; wanted a directory of "
            f"shards {split}-?????-of-?????, a folder of class folders, a list "
            "of images, or tfds:NAME."
        )
    label_order.check(source.origin, source.class_names, class_names)
    return source


def is_shards(value):
    """Returns whether `--label_data_dir` names directories of shards."""
    return all(
        files.is_dir(folder)
        and any(map(shards.parse_name, files.list_names(folder)))
        for folder in shards.separate(value)
    )


def _open_shards(origin, directory, split):
    with files.naming(origin):
        paths = records.list_shards(directory, split)
    manifest = records.read_manifest(directory, split)
    counts = [records.count_records(path) for path in paths]
    ends = np.cumsum(counts)

    def describe(position):
        shard = int(np.searchsorted(ends, position, side="right"))
        first = int(ends[shard]) - counts[shard]
        return f"{paths[shard]}: record {position - first}"

    return LabeledImages(
        origin=f"{origin}, {split}-*",
        num_images=sum(counts),
        num_classes=manifest.num_classes if manifest else None,
        class_names=manifest.class_names if manifest else None,
        elements=lambda: tf.data.TFRecordDataset(paths),
        parse=parse_record,
        describe=describe,
        fingerprint=lambda: files.fingerprint(paths),
        label_of=lambda serialized: parse_record(serialized)["label"],
    )


def parse_record(serialized):
    """Parses a labeled record: `image_bytes`, `label` (int64, 0-based)."""
    record = records.parse_labeled(serialized)
    # Stored labels are 1-based.
    return {"image_bytes": record["image_bytes"], "label": record["label"] - 1}


def _open_tfds(origin, name, split):
    with files.naming(origin):
        elements, num_images, names = tfds_dataset.open_labeled(name, split)
    return LabeledImages(
        origin=f"{origin}, split {split}",
        num_images=num_images,
        num_classes=None if names is None else len(names),
        class_names=names,
        elements=lambda: elements,
        parse=dict,
        describe=lambda position: f"record {position}",
    )


def _open_folder(origin, directory, num_classes, names):
    folders = files.list_folders(directory)
    if not folders or files.is_remote(directory):
        raise FileNotFoundError(
            f"{origin}: neither shards (*-?????-of-?????) nor, in a local "
            "directory, class folders with images in them."
        )
    names = label_order.of_folders(
        origin, directory, folders, num_classes, names
    )
    try:
        found = image_folder.find_sources(directory, names)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{origin}: no image in its class folders."
        ) from error
    _log_ignored(origin, found)
    # A broken link in a class folder is an image that should be there.
    images = sorted(
        (s for s in found if s.label and s.dropped != "dropped:hidden"),
        key=lambda source: source.key,
    )
    if not images:
        raise FileNotFoundError(f"{origin}: no image in its class folders.")
    return from_paths(
        origin,
        [image.path for image in images],
        [image.label - 1 for image in images],
        len(names),
    )


def _log_ignored(origin, sources):
    for reason in ("hidden", "outside_class_folders"):
        count = sum(s.dropped == f"dropped:{reason}" for s in sources)
        if count:
            logging.info("%s: ignored %d files, %s.", origin, count, reason)


def _open_list(origin, path, num_classes):
    try:
        lines = files.read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{origin}: this file is no list of images (text, a line `path "
            f"label` each): {error}."
        ) from error
    labels = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, label = _parse_line(f"{origin}, line {number}", line, num_classes)
        image = os.path.join(os.path.dirname(path), name)
        if image in labels:
            raise ValueError(
                f"{origin}, line {number}: {name!r} is listed twice."
            )
        labels[image] = label
    if not labels:
        raise ValueError(f"{origin}: this list of images is empty.")
    return from_paths(
        origin, list(labels), list(labels.values()), num_classes=None
    )


def _parse_line(where, line, num_classes):
    parts = line.strip().rsplit(None, 1)
    if len(parts) != 2:
        raise ValueError(
            f"{where}: must be `path label`. Received: {line[:80]!r}."
        )
    name, label = parts
    if _SYNSET.fullmatch(label) and (
        num_classes == class_names.NUM_IMAGENET_CLASSES
    ):
        position = class_names.imagenet_labels().get(label, -1)
    else:
        position = int(label) if label.isdecimal() else -1
    if not 0 <= position < num_classes:
        synset = num_classes == class_names.NUM_IMAGENET_CLASSES
        raise ValueError(
            f"{where}: the label must be in 0..{num_classes - 1}"
            f"{' or a synset id of ImageNet' if synset else ''}. Received: "
            f"{label!r}."
        )
    return name, position


def from_paths(origin, paths, labels, num_classes):
    """Returns the `LabeledImages` of image files.

    Args:
        origin: Where they come from, as messages say it.
        paths: Their paths, in order.
        labels: int [images] or [images, labels of each], 0-based.
        num_classes: As in `LabeledImages`.
    """

    def check():
        _refuse(origin, image_encoding.find_unreadable(paths), len(paths))

    def fingerprint():
        return files.fingerprint_unread(
            (f"{label}/{os.path.basename(path)}", path)
            for path, label in zip(paths, labels)
        )

    return LabeledImages(
        origin=origin,
        num_images=len(paths),
        num_classes=num_classes,
        elements=lambda: tf.data.Dataset.from_tensor_slices(
            {"path": paths, "label": np.array(labels, np.int64)}
        ),
        parse=_read_element,
        describe=lambda position: paths[position],
        check=check,
        fingerprint=fingerprint,
    )


def _read_element(element):
    data = tf.io.read_file(element["path"])
    is_jpeg = tf.equal(tf.strings.substr(data, 0, 3), b"\xff\xd8\xff")
    # Four channels are CMYK, of which Pillow and TensorFlow think differently.
    is_plain = tf.cond(
        is_jpeg,
        lambda: tf.io.extract_jpeg_shape(data)[2] < 4,
        lambda: tf.constant(False),
    )
    image_bytes = tf.cond(
        is_plain,
        lambda: data,
        lambda: tf.numpy_function(_to_lossless, [data], tf.string, False),
    )
    return {
        "image_bytes": tf.ensure_shape(image_bytes, []),
        "label": element["label"],
    }


def _to_lossless(data):
    encoded, reason = image_encoding.to_lossless(data)
    if encoded is None:
        raise ValueError(image_encoding.describe_reason(reason))
    return encoded


def _problem(images, view, num_classes):
    """Returns why the next image cannot be evaluated, None if it can."""
    try:
        image = next(images)
        for label in np.ravel(image["label"]):
            if not 0 <= label < num_classes:
                return f"label {label}, not in 0..{num_classes - 1}"
        view(image["image_bytes"])
    except tf.errors.OpError as error:
        return first_cause(error)
    return None


def first_cause(error):
    """Returns what is wrong with an image, from a TensorFlow error, in a line.

    No full stop ends it.
    """
    # Where it happened stands before it, a traceback behind.
    message = re.sub(r"\{\{.*?\}\} ", "", error.message).splitlines()[0]
    message = re.sub(r"^Error in user-defined .* Iterator::\S+: ", "", message)
    message = re.sub(r"^ValueError: | \[Op:\w+\].*$", "", message)
    message = _OTHER_SIZE.sub(r"\1 pixels high and \2 wide, not \3x\4", message)
    return message.rstrip(".")


def _refuse(origin, found, num_images):
    if found:
        raise ValueError(
            f"{origin}: {len(found)} of {num_images} images cannot be "
            f"evaluated, and none may be left out: {first_names(found)}."
        )
