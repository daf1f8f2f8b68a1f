"""Turns ImageNet, as tar files or as folders, into the standard shards.

The training images come as ILSVRC2012_img_train.tar, as its class archives
(n01440764.tar) or as class folders; the validation images as
ILSVRC2012_img_val.tar or a folder, in class folders or flat with
--validation_labels. Labels are 1 to 1000, in the order of the sorted synsets.
JPEG files in RGB or grey are kept byte by byte; the one PNG and the 22 CMYK
files among the training images become RGB JPEG. Nothing is unpacked.
"""

import collections
import dataclasses
import os
import re

from data_prep import class_names as class_names_lib
from data_prep import command_line, files, source_writer, tar_index

TRAIN_SHARDS = 1024
VALIDATION_SHARDS = 128

_ORDER_SALT = b"imagenet/order"
_SYNSET = re.compile(r"^(n\d{8})(\.tar)?$")
_IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")
_VALIDATION_NAME = re.compile(r"^ILSVRC2012_val_(\d{8})\.", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ImageNetConfig:
    """What to read and what to make of it.

    Attributes:
        output_dir: Folder of the shards.
        train: Training images: tar file, or folder of class folders or class
            archives; None leaves `train` out.
        validation: Validation images: tar file or folder; None leaves
            `validation` out.
        validation_labels: Text file with a line for each validation image, in
            the order of their numbers: a synset, or with `devkit_meta` the
            number that the development kit gives it. Not for class folders.
        devkit_meta: meta.mat of the development kit.
        unlabeled: Whether training images become unlabeled records.
        image_size: Shorter side, in pixels, to which larger images shrink;
            None keeps their size.
        train_shards: Number of training shards.
        validation_shards: Number of validation shards.
    """

    output_dir: str
    train: str = None
    validation: str = None
    validation_labels: str = None
    devkit_meta: str = None
    unlabeled: bool = False
    image_size: int = None
    train_shards: int = TRAIN_SHARDS
    validation_shards: int = VALIDATION_SHARDS

    def __post_init__(self):
        source_writer.check_needed(self, "output_dir")
        source_writer.check_positive(
            self, "image_size", "train_shards", "validation_shards"
        )
        if not self.train and not self.validation:
            raise ValueError("--train or --validation is needed.")
        if self.unlabeled and (self.validation or not self.train):
            raise ValueError(
                "--unlabeled takes --train, and no --validation. Received: "
                f"{self.train!r}, {self.validation!r}."
            )
        if self.validation_labels and not self.validation:
            raise ValueError("--validation_labels needs --validation.")
        if self.devkit_meta and not self.validation_labels:
            raise ValueError("--devkit_meta needs --validation_labels.")


def write(config):
    """Writes the shards; finished ones are kept.

    Args:
        config: `ImageNetConfig`.

    Returns:
        dict split -> `shards.Manifest`.

    Raises:
        FileNotFoundError: An input does not exist.
        ValueError: Classes are unknown or missing, the validation labels do
            not fit the images, an archive is truncated, or the output folder
            holds other shards.
    """
    source_writer.check_inputs(
        config, "train", "validation", "validation_labels", "devkit_meta"
    )
    splits = []
    if config.train:
        found = _find(config.train)
        _check_classes("train", config.train, found)
        splits.append(_split(config, "train", found, config.train_shards))
    if config.validation:
        found = _find_validation(config)
        splits.append(
            _split(config, "validation", found, config.validation_shards)
        )
    origin = f"--train={config.train}, --validation={config.validation}"
    return source_writer.write(splits, origin)


def _split(config, name, sources, num_shards):
    synsets = [synset for synset, _ in class_names_lib.imagenet_classes()]
    _check_keys(name, sources)
    return source_writer.split_of_list(
        config.output_dir,
        name,
        # The validation images have a standard order, and a random one.
        sources
        if name == "validation"
        else source_writer.sort_by_hash(sources, _ORDER_SALT),
        num_shards=num_shards,
        encode=source_writer.encode_jpeg(config.image_size),
        settings={
            "source": "imagenet",
            "image_size": config.image_size,
            "num_files": len(sources),
            "files_digest": source_writer.digest(sources),
        },
        class_names=None if config.unlabeled else tuple(synsets),
    )


def _find(path):
    """Returns the sorted `Source`s of a tar file or folder.

    Keys are file names without folders, as in the standard records.
    """
    sources = []
    labels = class_names_lib.imagenet_labels()
    for source in _list(path):
        folders, name = os.path.split(os.fsdecode(source.key))
        synset = _synset(folders)
        if synset and synset not in labels:
            raise ValueError(
                f"{source.path!r}: {synset!r} is none of the 1000 classes."
            )
        dropped = source.dropped
        if not name.lower().endswith(_IMAGE_SUFFIXES) or name.startswith("."):
            dropped = dropped or "dropped:other_file"
        sources.append(
            source._replace(
                key=os.fsencode(name),
                label=labels[synset] + 1 if synset else None,
                dropped=dropped,
            )
        )
    return sorted(sources, key=lambda s: (s.key, s.path, s.offset))


def _list(path):
    """Yields `Source`s whose keys are paths below `path`."""
    if not files.is_dir(path):
        yield from tar_index.list_members(path)
        return
    for folder, folders, names in os.walk(path, followlinks=True):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            inside = os.path.relpath(file, path)
            if not os.path.exists(file):
                key = os.fsencode(inside)
                yield source_writer.Source(
                    key, file, None, dropped="dropped:broken_link"
                )
            elif tar_index.is_tar(name):
                for member in tar_index.list_members(file):
                    key = os.fsencode(f"{inside}/") + member.key
                    yield member._replace(key=key)
            else:
                yield source_writer.Source(
                    os.fsencode(inside), file, files.size(file)
                )


def _synset(folders):
    """Returns the innermost synset among folders and archives, or None."""
    for part in reversed(folders.split("/")):
        if match := _SYNSET.match(part):
            return match[1]
    return None


def _check_classes(flag, path, sources):
    """Checks that each image has a class and each class an image."""
    images = [s for s in sources if not s.dropped]
    if not images:
        raise FileNotFoundError(f"--{flag}={path}: no images in it.")
    for source in images:
        if source.label is None:
            raise ValueError(
                f"--{flag}={path}: {os.fsdecode(source.key)!r} is in no class "
                "folder or class archive such as n01440764."
            )
    present = {source.label for source in images}
    missing = [
        synset
        for synset, label in class_names_lib.imagenet_labels().items()
        if label + 1 not in present
    ]
    if missing:
        raise ValueError(
            f"--{flag}={path}: {len(missing)} of 1000 classes have no image: "
            f"{', '.join(missing[:5])}. For another set of classes, "
            "`data_prep.image_folder` takes any folders."
        )


def _check_keys(split, sources):
    counts = collections.Counter(s.key for s in sources if not s.dropped)
    repeated = sorted(key for key, count in counts.items() if count > 1)
    if repeated:
        raise ValueError(
            f"{len(repeated)} names of {split} images occur more than once, "
            f"such as {os.fsdecode(repeated[0])!r}."
        )


def _find_validation(config):
    sources = _find(config.validation)
    images = [s for s in sources if not s.dropped]
    in_folders = bool(images) and all(s.label for s in images)
    if in_folders and config.validation_labels:
        raise ValueError(
            "--validation_labels is for images without class folders, but "
            f"--validation={config.validation} has them."
        )
    if not in_folders and config.validation_labels:
        sources = _label(config, sources)
    elif not in_folders and images:
        raise ValueError(
            f"--validation={config.validation} has no class folders, so that "
            "--validation_labels is needed."
        )
    _check_classes("validation", config.validation, sources)
    return sources


def _label(config, sources):
    """Returns the `Source`s with the labels of the file of labels."""
    labels = _read_labels(config)
    numbers = {}
    for source in sources:
        match = _VALIDATION_NAME.match(os.fsdecode(source.key))
        if match and not source.dropped:
            numbers[source.key] = int(match[1])
        elif not source.dropped:
            raise ValueError(
                f"--validation={config.validation}: "
                f"{os.fsdecode(source.key)!r} is not called "
                "ILSVRC2012_val_<number>.JPEG, so that it has no line in "
                "--validation_labels."
            )
    wanted = set(range(1, len(labels) + 1))
    if difference := sorted(wanted ^ set(numbers.values())):
        raise ValueError(
            f"--validation_labels={config.validation_labels} has "
            f"{len(labels)} lines, --validation={config.validation} "
            f"{len(numbers)} images; number {difference[0]} is only in one of "
            "them."
        )
    return [
        s if s.dropped else s._replace(label=labels[numbers[s.key] - 1])
        for s in sources
    ]


def _read_labels(config):
    """Returns the list of labels, 1-based, in the order of the numbers."""
    path = config.validation_labels
    lines = files.read_bytes(path).decode("utf-8", "replace").split()
    table = {
        synset: label + 1
        for synset, label in class_names_lib.imagenet_labels().items()
    }
    if config.devkit_meta:
        synsets = _read_devkit(config.devkit_meta)
        table = {number: table.get(name) for number, name in synsets.items()}
    for number, line in enumerate(lines, 1):
        if table.get(line) is None:
            hint = (
                " The development kit's numbers are not in the order of the "
                "synsets; give its meta.mat with --devkit_meta."
                if line.isdigit() and not config.devkit_meta
                else ""
            )
            raise ValueError(
                f"--validation_labels={path}: entry {number}, {line!r}, is "
                f"none of the 1000 classes.{hint}"
            )
    return [table[line] for line in lines]


def _read_devkit(path):
    """Returns dict of the numbers in meta.mat, as str, to synset ids."""
    scipy_io = source_writer.import_scipy_io("meta.mat")
    try:
        rows = scipy_io.loadmat(path, squeeze_me=True)["synsets"]
        return {
            str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in rows
        }
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ValueError(
            f"--devkit_meta={path} is not the meta.mat of the ILSVRC2012 "
            f"development kit: {error!r}."
        ) from error


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(ImageNetConfig)}
    group = command_line.FlagGroup("Input", flag_values)
    group.string(
        "train",
        None,
        "ILSVRC2012_img_train.tar, or a folder of class folders or archives.",
    )
    group.string(
        "validation", None, "ILSVRC2012_img_val.tar, or a folder of images."
    )
    group.string(
        "validation_labels",
        None,
        "Classes of validation images that are not in class folders, in the "
        "order of their numbers: synsets (synset_labels.txt), or with "
        "--devkit_meta ILSVRC2012_validation_ground_truth.txt.",
    )
    group.string("devkit_meta", None, "meta.mat of the development kit.")
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder to write the shards to.")
    group.bool(
        "unlabeled",
        defaults["unlabeled"],
        "Write the training images as unlabeled records.",
    )
    group.integer(
        "image_size",
        None,
        "Shrink images whose shorter side is longer than this many pixels.",
        lower_bound=1,
    )
    for name in ("train_shards", "validation_shards"):
        group.integer(
            name, defaults[name], "Number of those shards.", lower_bound=1
        )


def main(flag_values):
    """Writes the shards as the flags say."""
    config = source_writer.config_from_flags(ImageNetConfig, flag_values)
    source_writer.log_manifests(write(config))


if __name__ == "__main__":
    command_line.run(main, define_flags)
