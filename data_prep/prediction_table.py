"""The compact form of predictions: class, confidence and hash of each image.

Labelling writes a table beside each prediction shard, which holds a whole
distribution for every image; filtering decides from the tables alone. They are
uncompressed .npz files of a column each, and say which predictions they are of.
"""

import contextlib
import io
import os
import typing
import zipfile

import numpy as np

from data_prep import files, hashing

COLUMNS = ("label", "confidence", "hash")

_SALT = b"image"
_LARGEST_SMALL_LABEL = np.iinfo(np.uint16).max
_ORIGIN = "origin"
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Origin(typing.NamedTuple):
    """Which predictions a table is of.

    Attributes:
        num_classes: int, the length of all their distributions.
        num_bytes: int, the size of their file.
        digest: int that tells their file and that of the images from others; 0
            in tables of labelling, which come before the file is complete.
    """

    num_classes: int
    num_bytes: int
    digest: int = 0


def path_beside(prediction_path):
    """Returns where the table of a prediction shard lies.

    Args:
        prediction_path: `<split>-info-%05d-of-%05d-%05d`.
    """
    folder, name = os.path.split(os.fspath(prediction_path))
    split, ending = name.rsplit("-info-", 1)
    return os.path.join(folder, f"{split}-table-{ending}.npz")


def hash_of(key):
    """Returns the hash of an image's key, as tables hold it."""
    return hashing.hash64(key, salt=_SALT)


def write(path, *, label, confidence, hash, origin=None):  # noqa: A002
    """Writes a table, atomically; the same columns give the same bytes.

    Args:
        path: Its file.
        label: int [images], the predicted class of each, 0-based.
        confidence: float32 [images], its probability.
        hash: uint64 [images], `hash_of` each image's key.
        origin: `Origin`; a table without it decides nothing.

    Raises:
        ValueError: The columns differ in length.
    """
    label = np.asarray(label)
    small = label.size == 0 or label.max() <= _LARGEST_SMALL_LABEL
    columns = {
        "label": label.astype("<u2" if small else "<u4"),
        "confidence": np.asarray(confidence, "<f4"),
        "hash": np.asarray(hash, "<u8"),
    }
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"Columns must have a value for each image. Received: {lengths}."
        )
    if origin is not None:
        columns[_ORIGIN] = np.array(origin, "<u8")
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    files.write_bytes(path, buffer.getvalue())


def read(path, columns=COLUMNS):
    """Returns columns of a table, a tuple of arrays [images].

    Args:
        path: Its file.
        columns: Names out of `COLUMNS`; others are not read.

    Raises:
        ValueError: The file is damaged or no table; names it.
    """
    with (
        _explaining(path),
        files.open_file(path, "rb") as file,
        np.load(file) as table,
    ):
        return tuple(table[name] for name in columns)


def describe(path):
    """Returns what a table says of itself; its columns are not read.

    Args:
        path: Its file.

    Returns:
        (dict column -> int, its rows; `Origin`, None where an older version
        wrote the table).

    Raises:
        ValueError: The file is damaged or no table; names it.
    """
    with _explaining(path), files.open_file(path, "rb") as file:
        with zipfile.ZipFile(file) as archive:
            rows = {name: _num_rows(archive, name) for name in COLUMNS}
        file.seek(0)
        with np.load(file) as table:
            if _ORIGIN not in table:
                return rows, None
            return rows, Origin(*table[_ORIGIN].tolist())


def _num_rows(archive, column):
    with archive.open(f"{column}.npy") as member:
        read_header = _READ_HEADER[np.lib.format.read_magic(member)]
        ((num_rows,), _, _) = read_header(member)
    return num_rows


@contextlib.contextmanager
def _explaining(path):
    """Turns what a file that is no table leads to into an error naming it."""
    try:
        yield
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"{path!r} is no table: {error}") from error
