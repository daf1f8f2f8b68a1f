"""From a path to the prefix of a checkpoint: prefix, directory or archive."""

import contextlib
import gzip
import os
import re
import shutil
import tarfile
import tempfile
import zlib

import tensorflow as tf

from efficientnet.checkpoint_names import (
    ARCHIVE_SUFFIXES,
    INDEX_SUFFIX,
    STATE_FILE,
    is_archive,
    is_index,
)

_DATA = re.compile(r"[^.].*\.data-\d{5}-of-\d{5}")
_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def opened(path, *, index_only=False):
    """Yields the prefix of the checkpoint that a path names.

    An archive is unpacked into a temporary directory, which is removed at the
    end of the block.

    Args:
        path: A checkpoint prefix; a directory, whose `checkpoint` file names
            the checkpoint in it, if there are several; or a `.tar.gz` or
            `.tgz` archive of such a directory.
        index_only: Whether to leave the values in an archive: names, shapes
            and types can be read then.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If a directory holds several checkpoints and does not say
            which one is meant, or if an archive is damaged, has unsafe members
            or holds no checkpoint.
    """
    path = find(path)
    if not is_archive(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tf1_checkpoint_") as directory:
        _unpack(path, directory, index_only)
        yield _prefix_in(directory, shown=path)


def find(path):
    """Returns the archive that a path names, or the prefix of its checkpoint.

    Args:
        path: As for `opened`.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If a directory holds several checkpoints and does not say
            which one is meant.
    """
    path = os.fspath(path)
    if not is_archive(path):
        return _find_prefix(path)
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"No archive {path!r}.")
    return path


def _find_prefix(path):
    """Returns the prefix of a checkpoint that is not in an archive."""
    if tf.io.gfile.exists(path + INDEX_SUFFIX):
        return path
    if tf.io.gfile.isdir(path):
        return _prefix_in(path, shown=path)
    raise FileNotFoundError(
        f"No checkpoint {path!r}: neither a directory, nor the prefix of an "
        f"{INDEX_SUFFIX} file, nor an archive ({', '.join(ARCHIVE_SUFFIXES)})."
    )


def _prefix_in(directory, *, shown):
    """Returns the prefix in a directory, called `shown` in messages."""
    names = sorted(
        name[: -len(INDEX_SUFFIX)]
        for name in tf.io.gfile.listdir(directory)
        if is_index(name)
    )
    if not names:
        raise FileNotFoundError(
            f"No checkpoint in {shown!r}: no *{INDEX_SUFFIX} file."
        )
    named = _named_by_state_file(directory, shown)
    if named is None:
        if len(names) > 1:
            raise ValueError(
                f"{shown!r} holds several checkpoints and no "
                f"`{STATE_FILE}` file: {', '.join(names)}."
            )
        (named,) = names
    elif named not in names:
        raise FileNotFoundError(
            f"The `{STATE_FILE}` file in {shown!r} names {named!r}, which is "
            f"not there. Found: {', '.join(names)}."
        )
    return os.path.join(directory, named)


def _named_by_state_file(directory, shown):
    try:
        state = tf.train.get_checkpoint_state(directory)
    except ValueError as error:
        raise ValueError(
            f"The `{STATE_FILE}` file in {shown!r} is damaged: {error}."
        ) from error
    # The file may come from elsewhere, so only a name beside it counts.
    return state and os.path.basename(state.model_checkpoint_path)


def _unpack(path, directory, index_only):
    """Copies the files of the checkpoint into a flat directory."""
    try:
        names = set()
        for member, source in _members(path):
            name = os.path.basename(member.name)
            is_small = is_index(name) or name == STATE_FILE
            if is_small or (_DATA.fullmatch(name) and not index_only):
                if name in names:
                    raise ValueError(
                        f"The archive {path!r} holds several files {name!r}."
                    )
                names.add(name)
                with open(os.path.join(directory, name), "wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK_BYTES)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"The archive {path!r} is truncated or damaged: {error}."
        ) from error
    if not any(map(is_index, names)):
        raise ValueError(
            f"The archive {path!r} holds no checkpoint: no *{INDEX_SUFFIX} "
            "file."
        )


def _members(path):
    """Yields the files of an archive, each with a reader of its content."""
    with (
        tf.io.gfile.GFile(path, "rb") as file,
        gzip.GzipFile(fileobj=file) as stream,
    ):
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                _check_member(path, member)
                if member.isfile():
                    yield member, archive.extractfile(member)
        # The checksum stands at the very end, behind the last member.
        while stream.read(_CHUNK_BYTES):
            pass


def _check_member(path, member):
    if member.name.startswith("/") or ".." in member.name.split("/"):
        reason = "lies outside of it"
    elif not (member.isfile() or member.isdir()):
        reason = "is a link or a device"
    elif not member.name.isprintable():
        reason = "has no proper name"
    else:
        return
    raise ValueError(
        f"The archive {path!r} is refused: its member {member.name!r} {reason}."
    )
