"""Turns a folder of images into shards of labeled or unlabeled records.

Sub-folders are classes, in sorted order or as --class_list_file says; a folder
without sub-folders gives unlabeled records. JPEG files are kept byte by byte,
whatever else Pillow reads becomes a JPEG of quality 100, and every file that is
not used is counted by reason in the manifest.
"""

import dataclasses
import os

from data_prep import class_names as class_names_lib
from data_prep import command_line, files, hashing, source_writer

CLASSES_FILE = "classes.json"

_ORDER_SALT = b"image_folder/order"
_HOLDOUT_SALT = b"image_folder/holdout"


@dataclasses.dataclass(frozen=True)
class ImageFolderConfig:
    """What to read and what to make of it.

    Attributes:
        input_dir: Local folder of images or of class folders.
        output_dir: Folder of the shards, not inside `input_dir`.
        split: Split of the shards.
        num_shards: Number of shards; None is one for every 1,024 files.
        unlabeled: Whether sub-folders are no classes and records unlabeled.
        class_list_file: Class names in label order, a line each or as a JSON
            list; None is the sorted names of the sub-folders.
        holdout_fraction: Share of the images, in [0, 1), chosen by hash, that
            go to `holdout_split` instead.
        holdout_split: Split of the held-out images.
        image_size: Shorter side, in pixels, to which larger images shrink;
            None keeps their size.
    """

    input_dir: str
    output_dir: str
    split: str = "train"
    num_shards: int = None
    unlabeled: bool = False
    class_list_file: str = None
    holdout_fraction: float = 0.0
    holdout_split: str = "validation"
    image_size: int = None

    def __post_init__(self):
        source_writer.check_needed(
            self, "input_dir", "output_dir", "split", "holdout_split"
        )
        inside = os.path.relpath(self.output_dir, self.input_dir)
        if not inside.startswith("..") and not files.is_remote(self.output_dir):
            raise ValueError(
                "`output_dir` must not be inside `input_dir`. Received: "
                f"{self.output_dir!r}, {self.input_dir!r}."
            )
        if not 0 <= self.holdout_fraction < 1:
            raise ValueError(
                "`holdout_fraction` must be in [0, 1). Received: "
                f"{self.holdout_fraction}."
            )
        if self.holdout_fraction and self.holdout_split == self.split:
            raise ValueError(
                "`holdout_split` must differ from `split`. Received: "
                f"{self.split!r}."
            )
        source_writer.check_positive(self, "num_shards", "image_size")
        if self.unlabeled and self.class_list_file:
            raise ValueError("`class_list_file` needs labels, not `unlabeled`.")


def write(config):
    """Writes the shards; finished ones are kept.

    Args:
        config: `ImageFolderConfig`.

    Returns:
        dict split -> `shards.Manifest`.

    Raises:
        FileNotFoundError: The input folder does not exist or holds no file.
        ValueError: The class list does not fit the folders, no file is an
            image (nothing is left behind then), or the output folder holds
            other shards (the difference is shown).
    """
    files.check_folder("output_dir", config.output_dir)
    class_names = find_classes(config)
    sources = find_sources(config.input_dir, class_names)
    classes_path = os.path.join(config.output_dir, CLASSES_FILE)
    if class_names is not None:
        _check_classes(classes_path, class_names)
    parts = {config.split: sources}
    if config.holdout_fraction:
        held_out = [_is_held_out(s, config.holdout_fraction) for s in sources]
        parts = {
            config.split: [s for s, h in zip(sources, held_out) if not h],
            config.holdout_split: [s for s, h in zip(sources, held_out) if h],
        }
    manifests = source_writer.write(
        [_split(config, name, parts[name], class_names) for name in parts],
        f"--input_dir={config.input_dir}",
    )
    if class_names is not None:
        files.write_json(classes_path, list(class_names))
    return manifests


def _split(config, name, sources, class_names):
    return source_writer.split_of_list(
        config.output_dir,
        name,
        sources,
        num_shards=config.num_shards,
        encode=source_writer.encode_jpeg(config.image_size),
        settings={
            "source": "image_folder",
            "holdout_fraction": config.holdout_fraction,
            "image_size": config.image_size,
            "num_files": len(sources),
            "files_digest": source_writer.digest(sources),
        },
        class_names=class_names,
    )


def find_classes(config):
    """Returns the tuple of class names in label order, None for unlabeled."""
    if not os.path.isdir(config.input_dir):
        raise FileNotFoundError(
            f"--input_dir={config.input_dir}: no such folder."
        )
    folders = class_names_lib.in_label_order(
        entry.name
        for entry in os.scandir(config.input_dir)
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if config.class_list_file:
        return _read_class_list(config.class_list_file, folders)
    if config.unlabeled or not folders:
        return None
    return folders


def _read_class_list(path, folders):
    with files.naming(f"--class_list_file={path}"):
        names = class_names_lib.read_class_names(path)
    if len(set(names)) != len(names):
        raise ValueError(
            f"--class_list_file={path} must list each class once. Received: "
            f"{len(names)} names, {len(set(names))} different."
        )
    if unknown := sorted(set(folders) - set(names)):
        raise ValueError(
            f"--class_list_file={path} lacks {len(unknown)} of the class "
            f"folders: {', '.join(unknown[:5])}."
        )
    return names


def _check_classes(path, class_names):
    if files.exists(path) and files.read_json(path) != list(class_names):
        raise ValueError(
            f"{path!r} lists other classes than this input. To give both the "
            f"same labels, pass --class_list_file={path}; otherwise write to "
            "another folder."
        )


def find_sources(directory, class_names):
    """Lists every file below a folder, ordered by the hash of its key.

    Args:
        directory: Input folder.
        class_names: Class names in label order; None for unlabeled.

    Returns:
        List of `source_writer.Source`. It holds names, not images.

    Raises:
        FileNotFoundError: There is no file.
    """
    labels = {name: i + 1 for i, name in enumerate(class_names or ())}
    sources = []
    for entry in _walk(directory):
        parts = os.path.relpath(entry.path, directory).split(os.sep)
        label = labels.get(parts[0]) if len(parts) > 1 else None
        dropped = None
        if any(part.startswith(".") for part in parts):
            dropped = "dropped:hidden"
        elif class_names is not None and label is None:
            dropped = "dropped:outside_class_folders"
        key = os.fsencode("/".join(parts))
        size = _size(entry)
        if size is None:
            dropped = "dropped:broken_link"
        sources.append(
            source_writer.Source(key, entry.path, size, label, dropped)
        )
    if not sources:
        raise FileNotFoundError(f"--input_dir={directory}: no files in it.")
    return source_writer.sort_by_hash(sources, _ORDER_SALT)


def _walk(directory, follow_links=True):
    for entry in os.scandir(directory):
        # A class folder may be a link to where the images are; deeper links
        # are not followed, as they may lead in a circle.
        if entry.is_dir(follow_symlinks=follow_links):
            yield from _walk(entry.path, follow_links=False)
        else:
            yield entry


def _size(entry):
    try:
        return entry.stat().st_size
    except OSError:
        return None


def _is_held_out(source, fraction):
    return hashing.hash_fraction(source.key, salt=_HOLDOUT_SALT) < fraction


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {
        f.name: f.default for f in dataclasses.fields(ImageFolderConfig)
    }
    group = command_line.FlagGroup("Input", flag_values)
    group.string("input_dir", None, "Folder of images or of class folders.")
    group.string(
        "class_list_file",
        None,
        "Class names in label order, a line each or a JSON list; without it, "
        "the sorted names of the sub-folders; numbers from 0 are labels.",
    )
    group.bool(
        "unlabeled",
        defaults["unlabeled"],
        "Take all images below --input_dir, without labels.",
    )
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder to write the shards to.")
    group.string("split", defaults["split"], "Split, in the shards' names.")
    group.integer(
        "num_shards",
        None,
        "Number of shards; without it, one for "
        f"{source_writer.IMAGES_PER_SHARD} images.",
        lower_bound=1,
    )
    group.float(
        "holdout_fraction",
        defaults["holdout_fraction"],
        "Share of the images to hold out, chosen by the hash of their path.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    group.string(
        "holdout_split", defaults["holdout_split"], "Split of those images."
    )
    source_writer.define_image_size_flag(group)


def main(flag_values):
    """Writes the shards as the flags say."""
    config = source_writer.config_from_flags(ImageFolderConfig, flag_values)
    source_writer.log_manifests(write(config))


if __name__ == "__main__":
    command_line.run(main, define_flags)
