"""Turns CIFAR-10 into shards of lossless PNG records.

Reads cifar-10-python.tar.gz or cifar-10-binary.tar.gz, packed or unpacked; both
give the same records. With --num_labeled only so many training images, as many
of each class as possible, keep their labels; the others become `unlabeled`.
"""

import dataclasses
import hashlib
import io
import os
import pickle
import tarfile
import zlib

import numpy as np

from data_prep import (
    command_line,
    files,
    hashing,
    image_encoding,
    source_writer,
)

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
NUM_CLASSES = len(CLASS_NAMES)

_IMAGE_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
# Batches in order, by their names in the Python and in the binary version.
_BATCHES = {
    "train": [f"data_batch_{n}" for n in range(1, 6)],
    "test": ["test_batch"],
}
_BINARY_SUFFIX = ".bin"
_NUM_SHARDS = 16


@dataclasses.dataclass(frozen=True)
class Cifar10Config:
    """What to read and what to make of it.

    Attributes:
        input: The archive, or the folder of its batches.
        output_dir: Folder of the shards.
        num_labeled: Training images that keep their label; None for all.
        dev_size: Training images that become `dev`, as many of each class as
            possible.
        seed: Which images are labeled; `dev` does not depend on it.
        num_shards: Shards of each split.
    """

    input: str
    output_dir: str
    num_labeled: int = None
    dev_size: int = 0
    seed: int = 0
    num_shards: int = _NUM_SHARDS

    def __post_init__(self):
        source_writer.check_needed(self, "input", "output_dir")
        source_writer.check_positive(self, "num_labeled", "num_shards")
        if self.dev_size < 0:
            raise ValueError(
                f"`dev_size` must be >= 0. Received: {self.dev_size}."
            )


@dataclasses.dataclass(frozen=True)
class _Picture:
    """One image: its key, uint8 pixels [32, 32, 3] and label, 1-based."""

    key: bytes
    pixels: np.ndarray
    label: int


def write(config):
    """Writes the shards; finished ones are kept.

    Args:
        config: `Cifar10Config`.

    Returns:
        dict split -> `shards.Manifest`.

    Raises:
        FileNotFoundError: The input or one of its batches is missing.
        ValueError: A batch is not CIFAR-10's, the sizes leave no images, or
            the output folder holds other shards.
    """
    source_writer.check_inputs(config, "input")
    batches = _read_batches(config.input)
    pictures = {name: _pictures(name, batches[name]) for name in batches}
    parts = _divide(config, pictures["train"])
    parts["test"] = pictures["test"]
    splits = [_split(config, name, parts[name]) for name in parts]
    return source_writer.write(splits, f"--input={config.input}")


def _pictures(name, batches):
    """Returns the list of `_Picture` of all batches, in their order."""
    pixels = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    pixels = pixels.reshape(-1, *_IMAGE_SHAPE).transpose(0, 2, 3, 1)
    return [
        _Picture(
            f"cifar10/{name}/{i:05d}".encode(), pixels[i], int(labels[i]) + 1
        )
        for i in range(len(labels))
    ]


def _divide(config, train):
    """Returns dict split -> list of `_Picture`, in the order of their hashes.

    Raises:
        ValueError: There are fewer images than the sizes ask for.
    """
    num_labeled = config.num_labeled
    if num_labeled is None:
        num_labeled = len(train) - config.dev_size
    if num_labeled < 1 or num_labeled + config.dev_size > len(train):
        raise ValueError(
            f"`num_labeled` + `dev_size` must be <= {len(train)}, the training "
            f"images, and leave some labeled. Received: {config.num_labeled} + "
            f"{config.dev_size}."
        )
    ranked = _rank(train, "dev")
    parts = {"dev": ranked[: config.dev_size]} if config.dev_size else {}
    rest = _rank(ranked[config.dev_size :], f"train/{config.seed}")
    parts["train"] = rest[:num_labeled]
    if rest[num_labeled:]:
        parts["unlabeled"] = rest[num_labeled:]
    return {
        name: source_writer.sort_by_hash(parts[name], b"cifar10/order")
        for name in parts
    }


def _rank(pictures, purpose):
    return hashing.rank_evenly(pictures, salt=f"cifar10/{purpose}".encode())


def _split(config, name, pictures):
    return source_writer.split_of_list(
        config.output_dir,
        name,
        pictures,
        num_shards=config.num_shards,
        encode=_encode,
        settings={
            "source": "cifar10",
            "num_labeled": config.num_labeled,
            "dev_size": config.dev_size,
            "seed": config.seed,
            "images_digest": _digest(pictures),
        },
        class_names=None if name == "unlabeled" else CLASS_NAMES,
    )


def _digest(pictures):
    digest = hashlib.blake2b(digest_size=8)
    for picture in pictures:
        digest.update(picture.pixels.tobytes() + bytes([picture.label]))
    return digest.hexdigest()


def _encode(picture):
    pixels = np.ascontiguousarray(picture.pixels)
    return image_encoding.pixels_to_png(pixels), "kept"


def _read_batches(path):
    """Returns dict "train", "test" -> list of (pixels, labels) of a batch."""
    if files.is_dir(path):
        found = {
            name: os.path.join(path, name) for name in files.list_names(path)
        }
        return _parse(path, found, lambda name: files.read_bytes(found[name]))
    try:
        with files.open_file(path, "rb") as file:
            content = _read_archive(file)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"--input={path} is truncated, or no tar file: {error}."
        ) from error
    return _parse(path, content, content.get)


def _read_archive(file):
    """Returns dict name of a batch -> its bytes."""
    wanted = {name for names in _BATCHES.values() for name in names}
    content = {}
    with tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            name = os.path.basename(member.name)
            stem = name[: -len(_BINARY_SUFFIX)]
            if member.isreg() and wanted & {name, stem}:
                content[name] = tar.extractfile(member).read()
    return content


def _parse(path, names, read):
    binary = _BATCHES["test"][0] + _BINARY_SUFFIX in names
    suffix = _BINARY_SUFFIX if binary else ""
    parse = _read_binary if binary else _read_pickle
    batches = {}
    for split, stems in _BATCHES.items():
        for stem in stems:
            name = stem + suffix
            if name not in names:
                raise FileNotFoundError(f"--input={path}: no batch {name!r}.")
            try:
                batch = parse(read(name))
            except Exception as error:  # Pickles can raise anything.
                raise ValueError(
                    f"--input={path}: {name!r} is not a batch of CIFAR-10: "
                    f"{error}"
                ) from error
            batches.setdefault(split, []).append(batch)
    return batches


def _read_binary(data):
    """Returns (uint8 [images, 3072], uint8 [images]) of a binary batch."""
    if not data or len(data) % (1 + _PIXELS):
        raise ValueError(
            f"its size, {len(data)} bytes, is no multiple of {1 + _PIXELS}."
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return _check_batch(rows[:, 1:], rows[:, 0])


def _read_pickle(data):
    """Returns the same of a batch of the Python version."""
    batch = _BatchUnpickler(io.BytesIO(data), encoding="bytes").load()
    return _check_batch(
        np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    )


def _check_batch(pixels, labels):
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS):
        raise ValueError(
            f"its pixels must be uint8 [{len(labels)}, {_PIXELS}]. Received: "
            f"{pixels.dtype} {list(pixels.shape)}."
        )
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        raise ValueError(
            f"its labels must be in 0..{NUM_CLASSES - 1}. Received: "
            f"{labels.min()}..{labels.max()}."
        )
    return pixels, labels


class _BatchUnpickler(pickle.Unpickler):
    """Reads arrays, numbers, text, lists and dicts; executes nothing else."""

    # The function that NumPy's own pickles call, wherever this NumPy has it.
    _ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        """Returns one of the few allowed classes; else raises ValueError."""
        if (module, name) not in self._ALLOWED:
            raise ValueError(
                f"it asks for {module}.{name}, which is no part of an array."
            )
        return self._ALLOWED[module, name]


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(Cifar10Config)}
    group = command_line.FlagGroup("CIFAR-10", flag_values)
    group.string(
        "input",
        None,
        "cifar-10-python.tar.gz, cifar-10-binary.tar.gz or the folder inside.",
    )
    group.string("output_dir", None, "Folder to write the shards to.")
    group.integer(
        "num_labeled",
        None,
        "Training images that keep their labels; without it, all.",
        lower_bound=1,
    )
    group.integer(
        "dev_size",
        defaults["dev_size"],
        "Training images to hold out as `dev`.",
        lower_bound=0,
    )
    group.integer("seed", defaults["seed"], "Chooses which images are labeled.")
    group.integer(
        "num_shards",
        defaults["num_shards"],
        "Shards of each split.",
        lower_bound=1,
    )


def main(flag_values):
    """Writes the shards as the flags say."""
    config = source_writer.config_from_flags(Cifar10Config, flag_values)
    source_writer.log_manifests(write(config))


if __name__ == "__main__":
    command_line.run(main, define_flags)
