"""Where the members of zip files lie, so that any can be read.

The standard library's module keeps 0.6 KB for each member of an open file; here
they are yielded one by one, and read without the list of all.
"""

import struct
import typing
import zlib

from data_prep import files

STORED, DEFLATED = 0, 8

# As APPNOTE.TXT of PKWARE has them; what is not needed is skipped.
_END = struct.Struct("<4s8xIIH")
_END_START = b"PK\5\6"
_LOCATOR_SIZE = 20
_LOCATOR_START = b"PK\6\7"
_END64 = struct.Struct("<4s36xQQ")
_END64_START = b"PK\6\6"
_ENTRY = struct.Struct("<4s4xHH4xIIIHHH8xI")
_ENTRY_START = b"PK\1\2"
_LOCAL = struct.Struct("<4s22xHH")
_LOCAL_START = b"PK\3\4"
_EXTRA = struct.Struct("<HH")
_ID_64 = 1
_IN_EXTRA = 0xFFFFFFFF
_IS_ENCRYPTED = 1
_LONGEST_COMMENT = (1 << 16) - 1


class Member(typing.NamedTuple):
    """One file in a zip file.

    Attributes:
        name: Its path in the archive.
        offset: Byte at which its header begins.
        size: Its size in bytes.
        method: `STORED` or `DEFLATED`.
        packed: Its compressed size.
        crc: Its CRC-32.
    """

    name: str
    offset: int
    size: int
    method: int
    packed: int
    crc: int


def list_members(path):
    """Yields the `Member` of each file in a zip file, in order.

    Args:
        path: Local or remote file.

    Raises:
        ValueError: The file is truncated, no zip file, or holds members that
            are encrypted or packed by other methods.
    """
    with files.open_file(path, "rb") as file:
        start, end, shift = _find_directory(file, path)
        file.seek(start)
        position = start
        while position < end:
            member, size = _read_entry(file, path, shift)
            position += size
            if not member.name.endswith("/"):
                yield member


def _truncated(path, what):
    return ValueError(f"{path!r} is truncated, or no zip file: {what}.")


def _find_directory(file, path):
    """Returns (start, end of the directory, what to add to its offsets)."""
    length = files.size(path)
    most = _END.size + _LONGEST_COMMENT + _LOCATOR_SIZE + _END64.size
    first = max(0, length - most)
    file.seek(first)
    tail = file.read(length - first)
    at = tail.rfind(_END_START)
    if at < 0 or at + _END.size > len(tail):
        raise _truncated(path, "no end of its directory")
    _, size, offset, _ = _END.unpack_from(tail, at)
    locator = at - _LOCATOR_SIZE
    record = locator - _END64.size
    if record >= 0 and tail[locator:at].startswith(_LOCATOR_START):
        at = record
        start, size, offset = _END64.unpack_from(tail, at)
        if start != _END64_START:
            raise _truncated(path, "no end of its 64-bit directory")
    end = first + at
    # Not 0 where something stands before the archive.
    shift = end - size - offset
    if shift < 0:
        raise _truncated(path, "a part of its directory is missing")
    return end - size, end, shift


def _read_entry(file, path, shift):
    """Returns (`Member`, size of its entry in the directory)."""
    header = file.read(_ENTRY.size)
    if len(header) < _ENTRY.size or not header.startswith(_ENTRY_START):
        raise _truncated(path, "its directory is damaged")
    (_, flags, method, crc, packed, size, *lengths, offset) = _ENTRY.unpack(
        header
    )
    variable = file.read(sum(lengths))
    name = variable[: lengths[0]].decode("utf-8", "replace")
    extra = variable[lengths[0] : lengths[0] + lengths[1]]
    if _IN_EXTRA in (size, packed, offset):
        size, packed, offset = _from_extra(path, extra, (size, packed, offset))
    if method not in (STORED, DEFLATED) or flags & _IS_ENCRYPTED:
        raise ValueError(
            f"{path!r}: {name!r} is encrypted, or neither stored nor deflated "
            f"(method {method})."
        )
    member = Member(name, offset + shift, size, method, packed, crc)
    return member, _ENTRY.size + sum(lengths)


def _from_extra(path, extra, numbers):
    """Returns numbers with those that do not fit 32 bits put in."""
    while len(extra) >= _EXTRA.size:
        kind, length = _EXTRA.unpack_from(extra)
        field = extra[_EXTRA.size : _EXTRA.size + length]
        extra = extra[_EXTRA.size + length :]
        needed = 8 * numbers.count(_IN_EXTRA)
        if kind == _ID_64 and len(field) >= needed:
            values = (v for (v,) in struct.iter_unpack("<Q", field[:needed]))
            return [next(values) if n == _IN_EXTRA else n for n in numbers]
    raise _truncated(path, "its directory is damaged")


def read(path, member):
    """Returns the bytes of a `Member`, None where they are damaged."""
    with files.open_file(path, "rb") as file:
        file.seek(member.offset)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(_LOCAL_START):
            return None
        _, *lengths = _LOCAL.unpack(header)
        file.seek(member.offset + _LOCAL.size + sum(lengths))
        data = file.read(member.packed)
    if member.method == DEFLATED:
        try:
            data = zlib.decompress(data, -zlib.MAX_WBITS)
        except zlib.error:
            return None
    is_whole = len(data) == member.size and zlib.crc32(data) == member.crc
    return data if is_whole else None
