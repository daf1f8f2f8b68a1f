"""Finds images in archives that are named by the first digits of their hashes.

Each archive is listed once, into a small SQLite file of where its members lie,
so that a shard looks up its own range of hashes and nothing else: an archive
may hold millions of members and be needed by hundreds of shards.
"""

import contextlib
import os
import re
import sqlite3

from data_prep import files, progress, source_writer, tar_index, zip_index
from data_prep import yfcc100m_metadata as metadata

_ARCHIVE = re.compile(r"^([0-9a-f]{1,3})\.(zip|tar)$")
_TAR = -1
_CREATE = (
    "CREATE TABLE members (hash TEXT, offset INTEGER, size INTEGER, "
    "method INTEGER, packed INTEGER, crc INTEGER, dropped TEXT)"
)


class Archives:
    """The archives in a folder.

    Args:
        folder: Local or remote folder of archives such as 0a1.zip or f.tar.
        index_dir: Local folder for the lists of members, which are kept for
            restarts.
    """

    def __init__(self, folder, index_dir):
        self._index_dir = index_dir
        self._covered = {}
        self._indices = {}
        for name in files.list_names(folder):
            if match := _ARCHIVE.match(name):
                width = 16 ** (metadata.PREFIX_CHARACTERS - len(match[1]))
                start = int(match[1], 16) * width
                path = os.path.join(folder, name)
                self._covered[path] = range(start, start + width)

    def __len__(self):
        return len(self._covered)

    def digest(self):
        """Returns a short digest of the archives' names and sizes."""
        return source_writer.digest(
            source_writer.Source(
                os.fsencode(os.path.basename(path)), path, files.size(path)
            )
            for path in self._covered
        )

    def list_members(self, buckets_of_shards):
        """Lists the archives that some shards need, before these need them.

        Args:
            buckets_of_shards: Iterable of ranges of first three digits of the
                hashes.

        Raises:
            ValueError: An archive is truncated, or packed in a way that cannot
                be read.
        """
        needed = {
            path: None
            for buckets in buckets_of_shards
            for path in self._paths(buckets)
        }
        meter = progress.Progress("archives listed", total=len(needed))
        for path in needed:
            self._index(path)
            meter.advance()

    def find(self, buckets):
        """Returns the members whose hashes are in a range of buckets.

        Args:
            buckets: range of first three digits of the hashes.

        Returns:
            dict hash -> function from the item to one that can be read.

        Raises:
            ValueError: As in `list_members`.
        """
        members = {}
        for path in self._paths(buckets):
            members.update(self._look_up(path, buckets))
        return members

    def _paths(self, buckets):
        for path, covered in self._covered.items():
            if covered.start < buckets.stop and buckets.start < covered.stop:
                yield path

    def _look_up(self, path, buckets):
        """Yields (hash, function) of one archive, in its order."""
        # Past the last bucket, fff, comes g.
        is_last = buckets.stop == metadata.NUM_BUCKETS
        stop = "g" if is_last else f"{buckets.stop:03x}"
        with contextlib.closing(sqlite3.connect(self._index(path))) as table:
            for name, *values in table.execute(
                "SELECT * FROM members WHERE hash >= ? AND hash < ? "
                "ORDER BY rowid",
                (f"{buckets.start:03x}", stop),
            ):
                yield name, _reader(path, *values)

    def _index(self, path):
        """Returns the path of the list of an archive; makes a missing one."""
        if path not in self._indices:
            self._indices[path] = self._list(path)
        return self._indices[path]

    def _list(self, path):
        # The name changes with the archive: an old list is never taken.
        name = f"{os.path.basename(path)}.{files.fingerprint([path])}.sqlite"
        index = os.path.join(self._index_dir, name)
        if files.exists(index):
            return index
        files.make_dirs(self._index_dir)
        temporary = files.temporary_path(index)
        try:
            _write_index(temporary, path)
            files.publish(temporary, index)
        except BaseException:
            files.remove(temporary)
            raise
        return index


def _write_index(index, path):
    files.remove(index)
    with contextlib.closing(sqlite3.connect(index)) as table:
        # The file gets its name when it is complete; a journal is no use.
        table.execute("PRAGMA journal_mode = OFF")
        table.execute("PRAGMA synchronous = OFF")
        table.execute(_CREATE)
        is_tar = tar_index.is_tar(path)
        table.executemany(
            "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?)",
            _list_tar(path) if is_tar else _list_zip(path),
        )
        table.execute("CREATE INDEX by_hash ON members (hash)")
        table.commit()


def _list_tar(path):
    for member in tar_index.list_members(path):
        name = _stem(os.fsdecode(member.key))
        yield name, member.offset, member.size, _TAR, None, None, member.dropped


def _list_zip(path):
    for member in zip_index.list_members(path):
        yield _stem(member.name), *member[1:], None


def _stem(name):
    # Names that are not UTF-8 are no hashes.
    name = os.path.basename(name).partition(".")[0]
    return name.encode("utf-8", "replace").decode()


def _reader(path, offset, size, method, packed, crc, dropped):
    if method == _TAR:
        return lambda item: source_writer.Source(
            item.key, path, size, dropped=dropped, offset=offset
        )

    def load(item):
        member = zip_index.Member("", offset, size, method, packed, crc)
        data = zip_index.read(path, member)
        dropped = "dropped:damaged_member" if data is None else None
        return source_writer.LoadedImage(item.key, data or b"", dropped=dropped)

    return load
