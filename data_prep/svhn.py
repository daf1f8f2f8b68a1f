"""Turns the cropped digits of SVHN into shards of lossless PNG records.

Reads train_32x32.mat, test_32x32.mat and extra_32x32.mat. 4,000 of the training
images become `dev`, the same ones as in the original code; the extra images
become unlabeled records, called `extra`, in the folder `unlabeled`. Digit 0,
which the files call 10, is the first class.
"""

import dataclasses
import functools
import os

import numpy as np

from data_prep import command_line, files, image_encoding, source_writer

NUM_CLASSES = 10
DEV_SIZE = 4000
NUM_SHARDS = 128
UNLABELED_FOLDER = "unlabeled"

_IMAGE_SHAPE = (32, 32, 3)
_FILE = "{}_32x32.mat"
# What the original code seeds NumPy's generator with.
_SEED = 0


@dataclasses.dataclass(frozen=True)
class SvhnConfig:
    """What to read and what to make of it.

    Attributes:
        input_dir: Folder of the .mat files; without extra_32x32.mat there are
            no unlabeled records.
        output_dir: Folder of the shards.
        dev_size: Training images that become `dev`; 0 for all in `train`.
        num_shards: Shards of `train` and of `extra`; `dev` and `test` have
            half as many.
    """

    input_dir: str
    output_dir: str
    dev_size: int = DEV_SIZE
    num_shards: int = NUM_SHARDS

    def __post_init__(self):
        source_writer.check_needed(self, "input_dir", "output_dir")
        source_writer.check_positive(self, "num_shards")
        if self.dev_size < 0:
            raise ValueError(
                f"`dev_size` must be >= 0. Received: {self.dev_size}."
            )


@dataclasses.dataclass(frozen=True)
class _Digit:
    """One image: its key, its place in the file and its label, 1-based."""

    key: bytes
    index: int
    label: int


def write(config):
    """Writes the shards; finished ones are kept.

    Args:
        config: `SvhnConfig`.

    Returns:
        dict split -> `shards.Manifest`.

    Raises:
        FileNotFoundError: A .mat file is missing.
        ValueError: scipy is missing, a file holds something else, `dev_size`
            leaves no training images, or the output folder holds other shards.

    Source:
        noisystudent `proc_svhn.py:main`: one generator permutes the training
        images, whose first 4,000 are `dev`, and then the extra images. There
        images become JPEG; here they stay as they are.
    """
    source_writer.check_inputs(config, "input_dir")
    scipy_io = source_writer.import_scipy_io("SVHN's .mat files")
    names = [n for n in ("train", "test", "extra") if _exists(config, n)]
    if missing := {"train", "test"} - set(names):
        raise FileNotFoundError(
            f"--input_dir={config.input_dir}: no file "
            f"{_FILE.format(max(missing))!r}."
        )
    loaders = {name: _Loader(scipy_io, config, name) for name in names}
    sizes = {name: loader.size for name, loader in loaders.items()}
    if config.dev_size >= sizes["train"]:
        raise ValueError(
            f"`dev_size` must be < {sizes['train']}, the training images. "
            f"Received: {config.dev_size}."
        )
    splits = [
        _split(config, name, loaders[source], order)
        for name, (source, order) in _orders(sizes, config.dev_size).items()
    ]
    return source_writer.write(splits, f"--input_dir={config.input_dir}")


def _path(config, name):
    return os.path.join(config.input_dir, _FILE.format(name))


def _exists(config, name):
    return files.exists(_path(config, name))


def _orders(sizes, dev_size):
    """Returns dict split -> (file it is from, indices of its images)."""
    generator = np.random.RandomState(_SEED)
    train = np.arange(sizes["train"])
    generator.shuffle(train)
    orders = {"train": ("train", train[dev_size:])}
    if dev_size:
        orders["dev"] = ("train", train[:dev_size])
    orders["test"] = ("test", np.arange(sizes["test"]))
    if "extra" in sizes:
        extra = np.arange(sizes["extra"])
        generator.shuffle(extra)
        orders["extra"] = ("extra", extra)
    return orders


class _Loader:
    """A .mat file, of which the shape is read first and the rest if needed."""

    def __init__(self, scipy_io, config, name):
        self.name = name
        self.path = _path(config, name)
        self._scipy_io = scipy_io
        try:
            shapes = {n: s for n, s, _ in scipy_io.whosmat(self.path)}
        except Exception as error:  # scipy raises anything on other files.
            raise ValueError(
                f"{self.path!r} is no MATLAB file: {error}."
            ) from error
        images, labels = shapes.get("X", ()), shapes.get("y", ())
        if (
            len(images) != 4
            or images[:3] != _IMAGE_SHAPE
            or labels != (images[3], 1)
        ):
            raise ValueError(
                f"{self.path!r} must hold X [32, 32, 3, images] and y [images, "
                f"1]. Received: {shapes}."
            )
        self.size = images[3]

    @functools.cached_property
    def content(self):
        """(uint8 images [images, 32, 32, 3], int digits [images])."""
        try:
            values = self._scipy_io.loadmat(self.path)
        except Exception as error:  # As above.
            raise ValueError(
                f"{self.path!r} is truncated or damaged: {error}."
            ) from error
        digits = values["y"].reshape(-1).astype(int)
        if digits.min() < 1 or digits.max() > NUM_CLASSES:
            raise ValueError(
                f"{self.path!r}: labels must be in 1..10. Received: "
                f"{digits.min()}..{digits.max()}."
            )
        return np.transpose(values["X"], (3, 0, 1, 2)), digits % NUM_CLASSES


def _split(config, name, loader, order):
    bounds = source_writer.even_bounds(len(order), _num_shards(config, name))
    unlabeled = name == "extra"
    directory = config.output_dir
    if unlabeled:
        directory = os.path.join(directory, UNLABELED_FOLDER)

    def read_items(number):
        _, digits = loader.content
        return [
            _Digit(_key(loader.name, index), index, int(digits[index]) + 1)
            for index in order[slice(*bounds[number])]
        ]

    return source_writer.Split(
        directory=directory,
        name=name,
        sizes=tuple(end - start for start, end in bounds),
        read_items=read_items,
        encode=functools.partial(_encode, loader),
        settings={
            "source": "svhn",
            "dev_size": config.dev_size,
            "file_digest": files.fingerprint([loader.path]),
        },
        class_names=(
            None if unlabeled else tuple(str(c) for c in range(NUM_CLASSES))
        ),
    )


def _num_shards(config, name):
    whole = name in ("train", "extra")
    return config.num_shards if whole else max(1, config.num_shards // 2)


def _key(name, index):
    return f"svhn/{name}/{index:06d}".encode()


def _encode(loader, item):
    images, _ = loader.content
    pixels = np.ascontiguousarray(images[item.index])
    return image_encoding.pixels_to_png(pixels), "kept"


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(SvhnConfig)}
    group = command_line.FlagGroup("SVHN", flag_values)
    group.string("input_dir", None, "Folder of train_32x32.mat and so on.")
    group.string("output_dir", None, "Folder to write the shards to.")
    group.integer(
        "dev_size",
        defaults["dev_size"],
        "Training images to hold out as `dev`.",
        lower_bound=0,
    )
    group.integer(
        "num_shards",
        defaults["num_shards"],
        "Shards of `train` and `extra`; `dev` and `test` have half as many.",
        lower_bound=1,
    )


def main(flag_values):
    """Writes the shards as the flags say."""
    config = source_writer.config_from_flags(SvhnConfig, flag_values)
    source_writer.log_manifests(write(config))


if __name__ == "__main__":
    command_line.run(main, define_flags)
