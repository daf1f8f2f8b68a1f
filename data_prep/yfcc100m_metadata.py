"""Reads the metadata of YFCC100M and sorts its rows by the hash of the photo.

Three layouts are in circulation: lines of 25 columns (line number, photo, hash,
..., marker), lines of 23 columns (photo, ..., download URL, ..., marker), each
plain or as bz2, and the SQLite table `yfcc100m_dataset` with the 23 columns. A
marker of 0 is a photo, of 1 a video.
"""

import bz2
import collections
import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import sqlite3

from absl import logging

from data_prep import files

PREFIX_CHARACTERS = 3
NUM_BUCKETS = 16**PREFIX_CHARACTERS
PHOTO, VIDEO, MALFORMED = "photo", "video", "malformed"

_TABLE = "yfcc100m_dataset"
_SQLITE_START = b"SQLite format 3\0"
_MARKERS = {"0": PHOTO, "1": VIDEO}
# Columns of the hash, the URL and the marker, by the number of columns.
_COLUMNS = {25: (2, None, 24), 23: (None, 14, 22)}
_HASH = re.compile(r"^[0-9a-f]{16,32}$")
_INDEX_FILE = "index.json"
_ROWS_IN_MEMORY = 1 << 20
_LOG_EVERY = 5_000_000


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: what it is, and its photo's hash or its place in the file."""

    kind: str
    key: str


def hash_of_url(url):
    """Returns the hash that names a photo's file, from its download URL.

    Quirk:
        It is the MD5 digest in hexadecimal, but bytes below 16 are written
        with one digit, so that most hashes have fewer than 32. The names of
        the released image files are made so.
    """
    digest = hashlib.md5(url.encode(), usedforsecurity=False).digest()
    return "".join(f"{byte:x}" for byte in digest)


def bucket_of(name):
    """Returns the bucket in [0, 4096) of a hash: its first three digits."""
    return int(name[:PREFIX_CHARACTERS], 16)


def read_rows(path):
    """Yields the `Row` of each row of a metadata file.

    Args:
        path: Local or remote text file, plain or .bz2; or local SQLite file.

    Raises:
        ValueError: The file is truncated, or an SQLite file without the table.
    """
    with files.open_file(path, "rb") as file:
        is_sqlite = file.read(len(_SQLITE_START)) == _SQLITE_START
    yield from _read_table(path) if is_sqlite else _read_lines(path)


def _read_table(path):
    name = os.path.basename(path)
    # Read-only, and without a lock: the file may be on a read-only disk.
    uri = f"file:{os.path.abspath(path)}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            rows = connection.execute(
                f"SELECT downloadurl, marker FROM {_TABLE}"
            )
            for number, (url, marker) in enumerate(rows, 1):
                key = hash_of_url(url) if url else ""
                yield _row(key, str(marker), f"{name}:{number}")
    except sqlite3.Error as error:
        raise ValueError(
            f"{path!r}: reading the table {_TABLE!r} failed: {error}."
        ) from error


def _read_lines(path):
    name = os.path.basename(path)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(files.open_file(path, "rb"))
        if os.fspath(path).endswith(".bz2"):
            file = stack.enter_context(bz2.open(file))
        try:
            for number, line in enumerate(file, 1):
                columns = line.decode("utf-8", "replace").rstrip("\r\n")
                yield _parse(columns.split("\t"), f"{name}:{number}")
        except (EOFError, OSError) as error:
            raise ValueError(
                f"{path!r} is truncated or damaged: {error}."
            ) from error


def _parse(columns, place):
    if len(columns) not in _COLUMNS:
        return Row(MALFORMED, place)
    hash_column, url_column, marker = _COLUMNS[len(columns)]
    if hash_column is None:
        return _row(hash_of_url(columns[url_column]), columns[marker], place)
    return _row(columns[hash_column], columns[marker], place)


def _row(key, marker, place):
    kind = _MARKERS.get(marker)
    if kind is None or not _HASH.match(key):
        return Row(MALFORMED, place)
    return Row(kind, key)


class Index:
    """The rows of all metadata files, in one small file for each bucket.

    It is built once, by one pass over the metadata, and holds about 40 bytes
    a row. A pass that was killed begins anew.

    Args:
        paths: Metadata files.
        directory: Local folder of the index.

    Raises:
        ValueError: As `read_rows`; or the folder holds an index of other
            metadata.
    """

    def __init__(self, paths, directory):
        self._directory = directory
        done = os.path.join(directory, _INDEX_FILE)
        fingerprint = files.fingerprint(paths)
        if not files.exists(done):
            counts = self._build(paths)
            files.write_json(
                done, {"metadata": fingerprint, "rows": counts}, indent=None
            )
        content = files.read_json(done)
        if content["metadata"] != fingerprint:
            raise ValueError(
                f"{directory!r} is the index of other metadata. Delete it, or "
                "write to another folder."
            )
        self.num_rows = content["rows"]

    def _path(self, bucket):
        return os.path.join(self._directory, f"{bucket:03x}.txt")

    def _build(self, paths):
        files.make_dirs(self._directory)
        for bucket in range(NUM_BUCKETS):
            files.remove(self._path(bucket))
        counts = [0] * NUM_BUCKETS
        waiting = collections.defaultdict(list)
        rows = itertools.chain.from_iterable(map(read_rows, paths))
        for total, row in enumerate(rows, 1):
            bucket = 0 if row.kind == MALFORMED else bucket_of(row.key)
            waiting[bucket].append(f"{row.kind} {row.key}\n")
            counts[bucket] += 1
            if total % _ROWS_IN_MEMORY == 0:
                self._flush(waiting)
            if total % _LOG_EVERY == 0:
                logging.info("metadata: %d rows read", total)
        self._flush(waiting)
        return counts

    def _flush(self, waiting):
        for bucket, lines in waiting.items():
            with open(self._path(bucket), "a", encoding="utf-8") as file:
                file.writelines(lines)
        waiting.clear()

    def read(self, bucket):
        """Returns the list of `Row` of a bucket."""
        if not self.num_rows[bucket]:
            return []
        with open(self._path(bucket), encoding="utf-8") as file:
            return [Row(*line.rstrip("\n").split(" ", 1)) for line in file]
