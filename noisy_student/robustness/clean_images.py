"""The images that are to be corrupted, and the names of their files.

Names are those of the input where it is files: `class folder/image`. Records
are numbered, and their class folders are the names of the classes.
"""

import collections
import dataclasses
import hashlib
import os
from typing import Optional

import numpy as np
import tensorflow as tf
from PIL import Image

from data_prep import class_names, files, image_encoding, records
from efficientnet.messages import first_names
from noisy_student import evaluate, image_places, labeled_images

# Of released images the shorter side is this many times that of the crop.
_RESIZED_TO_CROP = 256 / 224
_MOST_CLASSES = 1 << 31


@dataclasses.dataclass(frozen=True)
class CleanImages:
    """Images with the names of what is made of them.

    Attributes:
        source: `labeled_images.LabeledImages`.
        names: List of str `class/image` in the order of the source; None for
            records, which are numbered.
        folders: Names of the class folders in label order, or None if a label
            is its own name.
        listed: Whether `folders` is an order that names alone do not tell.
        num_classes: Number of classes, None if the source does not tell.
    """

    source: labeled_images.LabeledImages
    names: list = None
    folders: tuple = None
    listed: bool = False
    num_classes: Optional[int] = None

    def read(self):
        """Yields (name, where it comes from, bytes of an image file).

        Raises:
            ValueError: An image cannot be read, or has no class.
        """
        most = self.num_classes or _MOST_CLASSES
        images = self.source.dataset().as_numpy_iterator()
        try:
            for position, image in enumerate(images):
                name = self._name(position, int(image["label"]), most)
                origin = self.source.describe(position)
                yield name, origin, image["image_bytes"]
        except tf.errors.OpError:
            # TensorFlow does not say of which image it speaks.
            self.source.explain_failure(lambda data: data, most)
            raise

    def _name(self, position, label, num_classes):
        if self.names is not None:
            return self.names[position]
        if not 0 <= label < num_classes:
            raise ValueError(
                f"{self.source.describe(position)}: label {label}, not in "
                f"0..{num_classes - 1}."
            )
        return f"{_folder(self.folders, label)}/{position:08d}"

    def describe(self):
        """Returns how many there are and, of files, a digest of the names."""
        digest = hashlib.blake2b(digest_size=8)
        for name in self.names or ():
            digest.update(os.fsencode(name) + b"\0")
        return {
            "num_images": self.source.num_images,
            "names": self.names and digest.hexdigest(),
        }


def open_images(value, *, split, num_classes, num_images=None):
    """Opens what `--input` names, which is what `labeled_images` takes.

    Args:
        value: Directory of shards, image folder, list, or `tfds:NAME`.
        split: Prefix of the shards, or the split of a tfds data set.
        num_classes: Number of classes; None is what the folder, the shards or
            the data set say.
        num_images: Images to take, evenly spread over all; None takes all.

    Returns:
        `CleanImages`; their headers have been looked at.

    Raises:
        FileNotFoundError: There is nothing, or no image, of that name.
        ValueError: Labels or images do not fit, two images would get one name,
            or a list comes without `num_classes`.
    """
    is_tfds = image_places.is_tfds(value)
    is_shards = not is_tfds and labeled_images.is_shards(value)
    is_folder = not is_tfds and not is_shards and files.is_dir(value)
    folders = None
    if is_folder:
        folders = _class_list(value)
        if num_classes is None:
            num_classes = len(folders or files.list_folders(value))
    elif is_shards:
        manifest = records.read_manifest(value, split)
        folders = manifest and manifest.class_names
    elif num_classes is None and not is_tfds and files.exists(value):
        raise ValueError(f"--input={value}: a list needs --num_classes.")
    source = labeled_images.open_source(
        value, split=split, num_classes=num_classes, flag="input"
    )
    source.check()
    source = evaluate.sample(source, num_images)
    synsets = _imagenet_folders(num_classes or source.num_classes)
    listed = folders is not None and folders != synsets
    if folders is None:
        folders = synsets
    names = None
    if not is_tfds and not is_shards:
        names = _name_files(source, value if is_folder else None, folders)
    if folders is not None:
        num_classes = len(folders)
    return CleanImages(
        source, names, folders, listed, num_classes or source.num_classes
    )


def _class_list(folder):
    path = os.path.join(folder, labeled_images.CLASSES_FILE)
    return class_names.read_class_names(path) if files.exists(path) else None


def _imagenet_folders(num_classes):
    if num_classes != class_names.NUM_IMAGENET_CLASSES:
        return None
    return tuple(class_names.imagenet_labels())


def _folder(folders, label):
    """Returns the name of a class folder."""
    return str(label) if folders is None else folders[label].replace("/", "_")


def _name_files(source, directory, folders):
    """Returns the names `class/image` of image files, in their order.

    Args:
        source: `labeled_images.LabeledImages` of files.
        directory: The image folder; None for a list.
        folders: Names of the classes of a list.
    """
    names = []
    for element in source.elements().as_numpy_iterator():
        path = os.fsdecode(element["path"])
        if directory is None:
            folder = _folder(folders, int(element["label"]))
            name = os.path.basename(path)
        else:
            folder, *below = os.path.relpath(path, directory).split(os.sep)
            # Released class folders hold images only.
            name = "_".join(below)
        names.append(f"{folder}/{os.path.splitext(name)[0]}")
    counts = collections.Counter(names)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(
            f"{source.origin}: {len(twice)} names are those of two images or "
            f"more, of which one file would be made: {first_names(twice)}."
        )
    return names


def decode(data):
    """Decodes an image.

    Args:
        data: bytes of an image file.

    Returns:
        uint8 [height, width, 3].

    Raises:
        ValueError: It cannot be decoded.
    """
    image, reason = image_encoding.decode(data)
    if image is None:
        raise ValueError(f"{image_encoding.describe_reason(reason)}.")
    return np.asarray(image)


def resize(image, crop):
    """Returns an image as released sets were resized before their crop.

    Args:
        image: uint8 [height, width, 3].
        crop: Side of the crop to come, in pixels.

    Returns:
        uint8 [new height, new width, 3]; the shorter side is 256 / 224 of
        `crop`, the other one in proportion, cut to a whole number.
    """
    height, width = image.shape[:2]
    shorter = round(crop * _RESIZED_TO_CROP)
    size = [int(shorter * s / min(height, width)) for s in (width, height)]
    resized = Image.fromarray(image).resize(size, Image.BILINEAR)
    return np.asarray(resized)
