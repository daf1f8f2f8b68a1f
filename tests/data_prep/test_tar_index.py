"""Tests of finding the members of tar files."""

import io
import tarfile

import pytest

from data_prep import source_writer, tar_index
from tests.data_prep import source_checks

# Sizes around the blocks of 512 bytes that tar files consist of.
MEMBERS = [(f"{n}.jpg", bytes([n % 251]) * n) for n in (0, 1, 511, 512, 513)]


def _read(path):
    return [
        (member.key.decode(), source_writer.read(member))
        for member in tar_index.list_members(str(path))
    ]


def test_members_are_read_where_they_lie(tmp_path):
    (tmp_path / "a.tar").write_bytes(source_checks.tar_bytes(MEMBERS))
    assert _read(tmp_path / "a.tar") == MEMBERS


def test_archives_in_archives_are_entered(tmp_path):
    inner = source_checks.tar_bytes(MEMBERS)
    # Without the blocks that mark the end, and inside another folder.
    cut = inner[: 512 * (5 + 5)]
    outer = [("a.tar", inner), ("b.jpg", b"b"), ("c/d.tar", cut), ("e", b"")]
    (tmp_path / "outer.tar").write_bytes(source_checks.tar_bytes(outer))
    assert _read(tmp_path / "outer.tar") == [
        *((f"a.tar/{name}", data) for name, data in MEMBERS),
        ("b.jpg", b"b"),
        *((f"c/d.tar/{name}", data) for name, data in MEMBERS),
        ("e", b""),
    ]


def test_folders_are_left_out_and_links_marked(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        link = tarfile.TarInfo("folder/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "nowhere"
        tar.addfile(folder)
        tar.addfile(link)
    (tmp_path / "a.tar").write_bytes(packed.getvalue())
    (member,) = tar_index.list_members(str(tmp_path / "a.tar"))
    assert member.key == b"folder/link.jpg"
    assert member.dropped == "dropped:no_file"


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (0, "empty file"),
        (100, "truncated header"),
        (512 * 3 + 300, "no header at byte 1536"),
        (512 * 4, "ends inside '511.jpg'"),
        (512 * 8, "ends inside '513.jpg'"),
    ],
)
def test_a_truncated_archive_is_named(tmp_path, keep, message):
    data = source_checks.tar_bytes(MEMBERS)
    (tmp_path / "a.tar").write_bytes(data[:keep])
    with pytest.raises(ValueError, match=f"a.tar' .*truncated.*({message})"):
        _read(tmp_path / "a.tar")


def test_a_truncated_archive_inside_is_named(tmp_path):
    inner = source_checks.tar_bytes(MEMBERS)[: 512 * 8]
    (tmp_path / "a.tar").write_bytes(
        source_checks.tar_bytes([("x.tar", inner), ("y", bytes(2000))])
    )
    with pytest.raises(ValueError, match="'x.tar' in .*a.tar' .*truncated"):
        _read(tmp_path / "a.tar")


def test_a_compressed_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.add(__file__)
    with pytest.raises(ValueError, match="no uncompressed tar file"):
        _read(tmp_path / "a.tar")


def test_an_archive_that_shrank_since_is_named(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(source_checks.tar_bytes(MEMBERS))
    member = list(tar_index.list_members(str(path)))[-1]
    path.write_bytes(path.read_bytes()[: member.offset + 5])
    with pytest.raises(ValueError, match="a.tar' ends inside '513.jpg'"):
        source_writer.read(member)
