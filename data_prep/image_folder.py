"""Turns a folder of images into shards of labeled or unlabeled records.

Sub-folders are classes, in sorted order or as --class_list_file says; a folder
without sub-folders gives unlabeled records. JPEG files are kept byte by byte,
whatever else Pillow reads becomes a JPEG of quality 100, and every file that is
not used is counted by reason in the manifest.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import os

from absl import logging

from data_prep import class_names as class_names_lib
from data_prep import (
    command_line,
    files,
    hashing,
    progress,
    shard_writer,
    shards,
)

CLASSES_FILE = "classes.json"
IMAGES_PER_SHARD = 1024

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
        for name in ("input_dir", "output_dir", "split", "holdout_split"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed.")
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
        for name in ("num_shards", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be >= 1. Received: {value}.")
        if self.unlabeled and self.class_list_file:
            raise ValueError("`class_list_file` needs labels, not `unlabeled`.")


@dataclasses.dataclass(frozen=True)
class Source:
    """One file of the input.

    Attributes:
        key: bytes, its path below the input folder, with slashes.
        path: Where it is.
        size: Its size in bytes, None for a broken link.
        label: 1-based class, None without one.
        dropped: Reason why it is not used whatever it holds, else None.
    """

    key: bytes
    path: str
    size: int
    label: int = None
    dropped: str = None


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
    is_new = not files.exists(config.output_dir)
    parts = {config.split: sources}
    if config.holdout_fraction:
        held_out = [_is_held_out(s, config.holdout_fraction) for s in sources]
        parts = {
            config.split: [s for s, h in zip(sources, held_out) if not h],
            config.holdout_split: [s for s, h in zip(sources, held_out) if h],
        }
    manifests = {
        split: _write_split(config, split, members, class_names)
        for split, members in parts.items()
    }
    if not any(manifest.total_records for manifest in manifests.values()):
        _discard(config.output_dir, manifests, is_new)
        raise ValueError(
            f"--input_dir={config.input_dir}: none of {len(sources)} files "
            f"became a record: {_add_counters(manifests)}."
        )
    if class_names is not None:
        files.write_json(classes_path, list(class_names))
    return manifests


def _add_counters(manifests):
    total = collections.Counter()
    for manifest in manifests.values():
        total.update(manifest.counters)
    return dict(sorted(total.items()))


def _discard(directory, manifests, is_new):
    """Removes finished shards and, if `is_new`, their empty local folder."""
    for split, manifest in manifests.items():
        # Without the manifest the shards count as unfinished.
        files.remove(shards.manifest_path(directory, split))
        for index in range(manifest.num_shards):
            name = shards.shard_name(split, index, manifest.num_shards)
            files.remove(os.path.join(directory, name))
    empty = not files.list_names(directory)
    if is_new and empty and not files.is_remote(directory):
        os.rmdir(directory)


def find_classes(config):
    """Returns the tuple of class names in label order, None for unlabeled."""
    if not os.path.isdir(config.input_dir):
        raise FileNotFoundError(
            f"--input_dir={config.input_dir}: no such folder."
        )
    folders = sorted(
        entry.name
        for entry in os.scandir(config.input_dir)
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if config.class_list_file:
        return _read_class_list(config.class_list_file, folders)
    if config.unlabeled or not folders:
        return None
    return tuple(folders)


def _read_class_list(path, folders):
    try:
        names = class_names_lib.read_class_names(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"--class_list_file={path}: {error}") from error
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
        List of `Source`. It holds names, not images.

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
        sources.append(Source(key, entry.path, size, label, dropped))
    if not sources:
        raise FileNotFoundError(f"--input_dir={directory}: no files in it.")
    return sorted(
        sources, key=lambda s: (hashing.hash64(s.key, salt=_ORDER_SALT), s.key)
    )


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


def _write_split(config, split, sources, class_names):
    num_shards = config.num_shards or -(-len(sources) // IMAGES_PER_SHARD) or 1
    writer = shard_writer.ShardedWriter(
        config.output_dir,
        split,
        num_shards,
        kind="unlabeled" if class_names is None else "labeled",
        config={
            "source": "image_folder",
            "holdout_fraction": config.holdout_fraction,
            "image_size": config.image_size,
            "num_files": len(sources),
            "files_digest": _digest(sources),
        },
        num_classes=None if class_names is None else len(class_names),
        class_names=class_names,
    )
    bounds = [n * len(sources) // num_shards for n in range(num_shards + 1)]
    pending = writer.pending
    meter = progress.Progress(
        f"{split} images",
        total=len(sources),
        done=len(sources) - sum(bounds[n + 1] - bounds[n] for n in pending),
    )
    for number in pending:
        members = sources[bounds[number] : bounds[number + 1]]
        with writer.open_shard(number, num_input=len(members)) as shard:
            _write_shard(shard, members, config.image_size, meter)
    return writer.finish()


def _digest(sources):
    digest = hashlib.blake2b(digest_size=8)
    for source in sources:
        digest.update(b"%s\0%d\0" % (source.key, source.size or 0))
    return digest.hexdigest()


def _write_shard(shard, sources, image_size, meter):
    # Imported here, so that --help and finished runs need no TensorFlow.
    from data_prep import image_encoding, records

    def encode(source):
        if source.dropped:
            return None, source.dropped
        return image_encoding.to_jpeg(files.read_bytes(source.path), image_size)

    # Pillow releases the interpreter's lock while it decodes.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, (image, reason) in zip(sources, pool.map(encode, sources)):
            shard.count(reason)
            if image is not None and source.label is None:
                shard.write(records.unlabeled_example(image, source.key))
            elif image is not None:
                example = records.labeled_example(
                    image, source.label, source.key
                )
                shard.write(example, source.label)
            meter.advance()


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
        "the sorted names of the sub-folders.",
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
        f"Number of shards; without it, one for {IMAGES_PER_SHARD} images.",
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
    group.integer(
        "image_size",
        None,
        "Shrink images whose shorter side is longer than this many pixels.",
        lower_bound=1,
    )


def config_from_flags(flag_values):
    """Returns the `ImageFolderConfig` the flags ask for."""
    names = [field.name for field in dataclasses.fields(ImageFolderConfig)]
    return ImageFolderConfig(**{n: flag_values[n].value for n in names})


def main(flag_values):
    """Writes the shards as the flags say."""
    manifests = write(config_from_flags(flag_values))
    for split, manifest in manifests.items():
        logging.info(
            "%s: %d records in %d shards; %s",
            split,
            manifest.total_records,
            manifest.num_shards,
            ", ".join(f"{k}: {v}" for k, v in manifest.counters.items()),
        )


if __name__ == "__main__":
    command_line.run(main, define_flags)
