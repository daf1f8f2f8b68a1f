"""Tests of finding the members of zip files."""

import zipfile

import pytest

from data_prep import zip_index

CONTENT = {f"a/{i}.jpg": bytes(range(i, 2 * i)) * 9 for i in range(40)}


def _write(
    path, method=zipfile.ZIP_DEFLATED, before=b"", comment=b"", then=None
):
    """Writes a zip file; calls `then` before its directory is written."""
    path.write_bytes(before)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.comment = comment
        archive.writestr("a/", b"")
        for name, data in CONTENT.items():
            archive.writestr(name, data)
        if then:
            then()


def _read(path):
    return {
        member.name: zip_index.read(path, member)
        for member in zip_index.list_members(path)
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("before", [b"", b"something in front"])
@pytest.mark.parametrize("comment", [b"", b"c" * 65535])
@pytest.mark.parametrize("limit", [None, 1, 300, 3000])
def test_members_are_those_that_the_standard_library_finds(
    tmp_path, monkeypatch, method, before, comment, limit
):
    def lower_limit():
        # Sizes and offsets above it are written in 64 bits.
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)

    path = tmp_path / "a.zip"
    _write(path, method, before, comment, lower_limit if limit else None)
    with zipfile.ZipFile(path) as archive:
        expected = [
            (
                info.filename,
                info.header_offset,
                info.file_size,
                info.compress_type,
                info.compress_size,
                info.CRC,
            )
            for info in archive.infolist()
            if not info.is_dir()
        ]
    assert list(zip_index.list_members(path)) == expected
    assert _read(path) == CONTENT


def test_more_members_than_16_bits_count(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1 << 16):
            archive.writestr(f"{number}", b"")
    names = [member.name for member in zip_index.list_members(path)]
    assert names == list(map(str, range(1 << 16)))


@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.9, 0.999])
def test_truncated_files_are_named(tmp_path, kept):
    path = tmp_path / "a.zip"
    _write(path)
    data = path.read_bytes()
    size = kept if isinstance(kept, int) else int(kept * len(data))
    path.write_bytes(data[:size])
    with pytest.raises(ValueError, match="a.zip'.* truncated, or no zip"):
        list(zip_index.list_members(path))


def test_a_damaged_directory_is_named(tmp_path):
    path = tmp_path / "a.zip"
    _write(path)
    data = path.read_bytes().replace(b"PK\1\2", b"PK\1\0")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its directory is damaged"):
        list(zip_index.list_members(path))


def test_damaged_members_are_none(tmp_path):
    path = tmp_path / "a.zip"
    _write(path)
    members = list(zip_index.list_members(path))
    data = bytearray(path.read_bytes())
    # The start of a header, and the content behind another.
    data[members[5].offset] ^= 0xFF
    data[members[9].offset - 1] ^= 0xFF
    path.write_bytes(data)
    found = _read(path)
    damaged = {"a/5.jpg", "a/8.jpg"}
    assert found == {k: None if k in damaged else CONTENT[k] for k in CONTENT}


def test_other_methods_and_encryption_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    _write(path, zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match="a.zip'.* nor deflated .method 12"):
        list(zip_index.list_members(path))
    _write(path)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="39.jpg' is encrypted"):
        list(zip_index.list_members(path))
