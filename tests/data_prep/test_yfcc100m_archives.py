"""Tests of finding images in archives named by the first digits of hashes."""

import zipfile

import pytest

from data_prep import source_writer, yfcc100m_archives
from tests.data_prep import source_checks

HASHES = [f"a{i:02x}" + "0" * 28 for i in range(256)]
DATA = {name: name.encode() * 20 for name in HASHES}
FIRST = 0xA00


def _tar_bytes(names):
    members = [(f"x/{name}.jpg", DATA[name]) for name in names]
    return source_checks.tar_bytes(members)


def _write_zip(path, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x/", b"")
        archive.writestr("x/readme", b"text")
        # The last of equal names counts.
        archive.writestr(f"old/{HASHES[7]}.jpg", b"old")
        for name in HASHES:
            archive.writestr(f"x/{name}.jpg", DATA[name])


@pytest.fixture(name="folder", params=["stored", "deflated", "tar"])
def _folder(request, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    if request.param == "tar":
        (folder / "a.tar").write_bytes(_tar_bytes(HASHES))
    else:
        is_stored = request.param == "stored"
        method = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
        _write_zip(folder / "a.zip", method)
    return folder


def _open(folder):
    return yfcc100m_archives.Archives(str(folder), str(folder / "index"))


def _bytes_of(found):
    """Returns dict hash -> bytes."""
    content = {}
    for name, load in found.items():
        item = load(source_writer.Source(name.encode(), "", None))
        assert (item.key, item.dropped) == (name.encode(), None)
        is_loaded = isinstance(item, source_writer.LoadedImage)
        content[name] = item.data if is_loaded else source_writer.read(item)
    return content


@pytest.mark.parametrize("bounds", [(0, 1), (7, 40), (255, 256), (0, 256)])
def test_a_shard_gets_the_members_of_its_own_range(folder, bounds):
    buckets = range(FIRST + bounds[0], FIRST + bounds[1])
    found = _bytes_of(_open(folder).find(buckets))
    assert found == {name: DATA[name] for name in HASHES[slice(*bounds)]}


def test_the_last_bucket_is_found(tmp_path):
    name = "fff" + "1" * 28
    packed = source_checks.tar_bytes([(f"{name}.jpg", b"last")])
    (tmp_path / "f.tar").write_bytes(packed)
    found = _open(tmp_path).find(range(4095, 4096))
    assert _bytes_of(found) == {name: b"last"}
    assert _open(tmp_path).find(range(0, 3 * 256)) == {}


def test_an_archive_is_listed_once(folder, monkeypatch):
    listed = []
    for name in ("_list_tar", "_list_zip"):
        original = getattr(yfcc100m_archives, name)
        monkeypatch.setattr(
            yfcc100m_archives,
            name,
            lambda path, original=original: (
                listed.append(path) or original(path)
            ),
        )
    for archives in (_open(folder), _open(folder)):
        for start in range(FIRST, FIRST + 256, 64):
            assert len(archives.find(range(start, start + 64))) == 64
    assert len(listed) == 1


def test_a_killed_listing_begins_anew(folder, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(yfcc100m_archives.files, "publish", fail)
        with pytest.raises(KeyboardInterrupt):
            _open(folder).find(range(FIRST, FIRST + 1))
    assert list((folder / "index").iterdir()) == []
    assert len(_open(folder).find(range(FIRST, FIRST + 256))) == 256


def test_the_list_of_another_archive_is_not_taken(tmp_path):
    for half in (HASHES[:100], HASHES[100:200]):
        (tmp_path / "a.tar").write_bytes(_tar_bytes(half))
        found = _open(tmp_path).find(range(FIRST, FIRST + 256))
        assert list(found) == half


@pytest.mark.parametrize("at", [0, 70])
def test_damaged_members_are_told(tmp_path, at):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{HASHES[0]}.jpg", bytes(range(256)))
    packed = bytearray(path.read_bytes())
    packed[at] ^= 0xFF
    path.write_bytes(packed)
    (load,) = _open(tmp_path).find(range(FIRST, FIRST + 1)).values()
    item = load(source_writer.Source(b"k", "", None))
    assert (item.data, item.dropped) == (b"", "dropped:damaged_member")


def test_other_ways_of_packing_are_refused(tmp_path):
    _write_zip(tmp_path / "a.zip", zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match="a.zip': .* nor deflated .method 12"):
        _open(tmp_path).find(range(FIRST, FIRST + 1))
