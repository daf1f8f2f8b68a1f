"""Where the members of uncompressed tar files lie, so that any can be read.

Only headers are read. Tar files inside tar files, as ImageNet's classes come,
are entered: their members, too, lie at a known byte of the outer file.
"""

import os
import tarfile

from data_prep import files, source_writer

SUFFIX = ".tar"


def is_tar(path):
    """Returns whether a file is called like an uncompressed tar file."""
    return os.fspath(path).endswith(SUFFIX)


def list_members(path):
    """Yields the files in a tar file, in order.

    Args:
        path: Local or remote uncompressed tar file.

    Yields:
        `source_writer.Source`, keys being names in the archive; those of a tar
        file inside begin with its name and a slash. What is neither file nor
        folder is "dropped:no_file".

    Raises:
        ValueError: The file is truncated, compressed, or no tar file.
    """
    with files.open_file(path, "rb") as file:
        yield from _list(file, path, "", files.size(path))


def _list(file, path, prefix, end):
    # Opened where `file` stands; offsets then count from its beginning.
    start = position = file.tell()
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                # An inner archive may lack the blocks that mark its end.
                if member.offset >= end:
                    break
                yield from _sources(file, path, prefix, member, end)
                blocks = -(-member.size // tarfile.BLOCKSIZE)
                position = member.offset_data + blocks * tarfile.BLOCKSIZE
                # What is yielded is not needed again; a list of it would grow.
                tar.members = []
        _check_end(file, position, end)
    except tarfile.TarError as error:
        where = f"{prefix.rstrip('/')!r} in " if prefix else ""
        raise ValueError(
            f"{where}{path!r} (from byte {start}) is truncated, or no "
            f"uncompressed tar file: {error}."
        ) from error


def _check_end(file, position, end):
    """Checks what follows the last member: nothing, or a block of zeros.

    `tarfile` takes anything else for the end, too, even half a header.
    """
    file.seek(position)
    tail = file.read(min(tarfile.BLOCKSIZE, max(0, end - position)))
    if tail and tail != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no header at byte {position}")


def _sources(file, path, prefix, member, end):
    name = prefix + member.name
    member_end = member.offset_data + member.size
    if member_end > end:
        raise tarfile.ReadError(f"it ends inside {name!r}")
    if member.isdir():
        return
    if member.isreg() and is_tar(name):
        position = file.tell()
        file.seek(member.offset_data)
        yield from _list(file, path, f"{name}/", member_end)
        file.seek(position)
        return
    yield source_writer.Source(
        os.fsencode(name),
        path,
        member.size,
        dropped=None if member.isreg() else "dropped:no_file",
        offset=member.offset_data,
    )
