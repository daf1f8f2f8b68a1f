"""Tests of turning YFCC100M's metadata and images into shards."""

import bz2
import hashlib
import os
import sqlite3
import zipfile

import pytest

from data_prep import files, yfcc100m, yfcc100m_metadata
from tests.data_prep import corpus, source_checks

COLUMNS = (
    "photoid",
    "uid",
    "unickname",
    "datetaken",
    "dateuploaded",
    "capturedevice",
    "title",
    "description",
    "usertags",
    "machinetags",
    "longitude",
    "latitude",
    "accuracy",
    "pageurl",
    "downloadurl",
    "licensename",
    "licenseurl",
    "serverid",
    "farmid",
    "secret",
    "secretoriginal",
    "ext",
    "marker",
)
NUM_PHOTOS = 60
URLS = [f"http://farm1.staticflickr.com/{i}_b.jpg" for i in range(70)]
HASHES = [yfcc100m_metadata.hash_of_url(url) for url in URLS]
PLACEHOLDER = corpus.image_bytes(98, "GIF")
HTML = b"\n<!DOCTYPE html><html>Not found</html>"
# What became of the photos that cannot be used.
BROKEN = {50: HTML, 51: b"", 52: PLACEHOLDER, 53: b"\xff\xd8\xff cut", 54: None}
VIDEOS = range(NUM_PHOTOS, 65)


def _row(number):
    """Returns the 23 columns of a row."""
    values = dict.fromkeys(COLUMNS, f"some+text+{number}")
    values["photoid"] = str(1000 + number)
    values["downloadurl"] = URLS[number]
    values["marker"] = "1" if number in VIDEOS else "0"
    return [values[name] for name in COLUMNS]


ROWS = [_row(number) for number in range(65)]


def _lines(with_hash=True):
    """Returns the metadata as text, a repeated and two odd rows included."""
    rows = [*ROWS, ROWS[3]]
    lines = []
    for number, row in enumerate(rows):
        columns = row
        if with_hash:
            key = HASHES[URLS.index(row[14])]
            columns = [str(number), row[0], key, *row[1:]]
        lines.append("\t".join(columns) + "\n")
    other = ["?" if text == "0" else text for text in ROWS[0]]
    return "".join([*lines, "only\tthree\tcolumns\n", "\t".join(other) + "\n"])


def _image(number):
    return BROKEN.get(number, corpus.image_bytes(number))


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yfcc")
    (folder / "meta.tsv").write_text(_lines())
    (folder / "meta.bz2").write_bytes(bz2.compress(_lines(False).encode()))
    with sqlite3.connect(folder / "meta.sql") as connection:
        connection.execute(
            f"CREATE TABLE yfcc100m_dataset ({', '.join(COLUMNS)})"
        )
        connection.executemany(
            f"INSERT INTO yfcc100m_dataset VALUES ({', '.join('?' * 23)})",
            ROWS,
        )
    connection.close()
    for number in range(NUM_PHOTOS):
        key, data = HASHES[number], _image(number)
        if data is not None:
            path = folder / "tree" / key[:3] / key[3:6] / f"{key}.jpg"
            files.write_bytes(path, data)
    return folder


def _config(folder, output_dir, metadata="meta.tsv", images="tree", **changes):
    settings = {
        "num_shards": 4,
        "placeholder_md5": hashlib.md5(PLACEHOLDER).hexdigest(),
        **changes,
    }
    return yfcc100m.YfccConfig(
        str(folder / metadata),
        str(folder / images),
        str(output_dir),
        **settings,
    )


COUNTERS = {
    "dropped:empty": 1,
    "dropped:html": 1,
    "dropped:malformed": 2,
    "dropped:missing": 1,
    "dropped:placeholder": 1,
    "dropped:repeated_row": 1,
    "dropped:undecodable": 1,
    "dropped:video": 5,
    "kept": 55,
}


def _counters(manifest):
    """Returns the counters; Pillow calls the cut image one or the other."""
    counters = dict(manifest.counters)
    if "dropped:not_image" in counters:
        counters["dropped:undecodable"] = counters.pop("dropped:not_image")
    return counters


def test_photos_are_written_and_every_other_row_has_a_reason(folder, tmp_path):
    manifest = yfcc100m.write(_config(folder, tmp_path))["train"]
    assert manifest.kind == "unlabeled"
    assert _counters(manifest) == COUNTERS
    rows = source_checks.rows(tmp_path, "train")
    good = [n for n in range(NUM_PHOTOS) if n not in BROKEN]
    assert set(rows) == {HASHES[n] for n in good}
    for number in good:
        assert rows[HASHES[number]]["image/encoded"] == [_image(number)]
    # Each shard holds a range of hashes.
    for shard in range(4):
        path = tmp_path / f"train-{shard:05d}-of-00004"
        for row in corpus.read_features([str(path)]):
            first = int(row["image/filename"][0][:1], 16)
            assert first // 4 == shard


@pytest.mark.parametrize("metadata", ["meta.bz2", "meta.sql"])
def test_every_layout_of_the_metadata_gives_the_same_photos(
    folder, tmp_path, metadata
):
    yfcc100m.write(_config(folder, tmp_path / "tsv"))
    config = _config(folder, tmp_path / "other", metadata)
    manifest = yfcc100m.write(config)["train"]
    odd = {"dropped:malformed", "dropped:repeated_row"}
    left_out = odd if metadata == "meta.sql" else set()
    assert _counters(manifest) == {
        reason: count
        for reason, count in COUNTERS.items()
        if reason not in left_out
    }
    for shard in range(4):
        name = f"train-{shard:05d}-of-00004"
        assert files.read_bytes(tmp_path / "other" / name) == files.read_bytes(
            tmp_path / "tsv" / name
        )


def test_metadata_in_parts_is_one(folder, tmp_path):
    text = _lines().splitlines(keepends=True)
    for part in range(2):
        (tmp_path / f"part-{part}").write_text("".join(text[part::2]))
    pattern = f"{tmp_path}/part-0;{tmp_path}/part-1*"
    config = _config(folder, tmp_path / "out", pattern)
    manifest = yfcc100m.write(config)["train"]
    assert _counters(manifest) == COUNTERS


def test_hashes_are_named_as_the_released_files():
    # The MD5 digests are 900150983cd24fb0d6963f7d28e17f72, whose second byte is
    # below 16, and 0cc175b9c0f1b6a831c399e269772661, whose first is.
    hash_of_url = yfcc100m_metadata.hash_of_url
    assert hash_of_url("abc") == "90150983cd24fb0d6963f7d28e17f72"
    assert hash_of_url("a") == "cc175b9c0f1b6a831c399e269772661"


def _zip_by_digits(folder, digits):
    groups = {}
    for number in range(NUM_PHOTOS):
        if _image(number) is not None:
            groups.setdefault(HASHES[number][:digits], []).append(number)
    for prefix, numbers in groups.items():
        with zipfile.ZipFile(folder / f"{prefix}.zip", "w") as archive:
            for number in numbers:
                archive.writestr(f"x/{HASHES[number]}.jpg", _image(number))


def _tar_by_digits(folder, digits):
    groups = {}
    for number in range(NUM_PHOTOS):
        if _image(number) is not None:
            groups.setdefault(HASHES[number][:digits], []).append(number)
    for prefix, numbers in groups.items():
        members = [(f"{HASHES[n]}.jpg", _image(n)) for n in numbers]
        (folder / f"{prefix}.tar").write_bytes(source_checks.tar_bytes(members))


def _shards(folder):
    """Returns dict name -> bytes of shards."""
    return {path.name: path.read_bytes() for path in folder.glob("*-of-*")}


@pytest.mark.parametrize(
    ("pack", "digits", "num_shards"),
    [(_zip_by_digits, 3, 4), (_zip_by_digits, 1, 9), (_tar_by_digits, 1, 4)],
)
def test_archives_by_hash_give_the_same_shards_as_the_tree(
    folder, tmp_path, pack, digits, num_shards
):
    (tmp_path / "archives").mkdir()
    pack(tmp_path / "archives", digits)
    for name in ("tree", "archives"):
        config = _config(
            folder,
            tmp_path / f"out-{name}",
            images=folder / "tree" if name == "tree" else tmp_path / name,
            num_shards=num_shards,
        )
        manifest = yfcc100m.write(config)["train"]
        assert _counters(manifest) == COUNTERS
    assert _shards(tmp_path / "out-archives") == _shards(tmp_path / "out-tree")


def test_a_truncated_archive_is_named_before_anything_is_written(
    folder, tmp_path
):
    images = tmp_path / "archives"
    images.mkdir()
    _tar_by_digits(images, 1)
    last = max(images.iterdir())
    last.write_bytes(last.read_bytes()[:700])
    config = _config(folder, tmp_path / "out", images=images, num_shards=4)
    with pytest.raises(ValueError, match=f"{last}.* is truncated"):
        yfcc100m.write(config)
    assert not _shards(tmp_path / "out")


def test_other_images_are_refused(folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    _zip_by_digits(images, 1)
    late = images / f"{HASHES[0][0]}.zip"
    late.rename(tmp_path / "late")
    config = _config(folder, tmp_path / "out", images=images)
    before = yfcc100m.write(config)["train"]
    assert yfcc100m.write(config)["train"] == before
    (tmp_path / "late").rename(late)
    with pytest.raises(ValueError, match="other settings: `images`: "):
        yfcc100m.write(config)
    config = _config(folder, tmp_path / "out", images="tree/")
    with pytest.raises(ValueError, match="`images`: .* before, 'tree' now"):
        yfcc100m.write(config)


def test_a_damaged_member_of_an_archive_is_counted(folder, tmp_path):
    path = tmp_path / "images" / f"{HASHES[0][:3]}.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{HASHES[0]}.jpg", _image(0))
        archive.writestr(f"{HASHES[1]}.jpg", _image(1))
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    text = "".join(_lines().splitlines(keepends=True)[:1])
    (tmp_path / "meta").write_text(text)
    config = _config(tmp_path, tmp_path / "out", "meta", "images")
    with pytest.raises(ValueError, match="'dropped:damaged_member': 1"):
        yfcc100m.write(config)


def test_without_digests_the_placeholder_is_an_image(folder, tmp_path):
    config = _config(folder, tmp_path, placeholder_md5=None, image_size=4)
    manifest = yfcc100m.write(config)["train"]
    assert manifest.counters["converted:gif"] == 1
    assert manifest.counters["resized"] == 55
    assert "dropped:placeholder" not in manifest.counters


def test_a_killed_run_continues_to_the_same_bytes(
    folder, tmp_path, monkeypatch
):
    source_checks.check_restart(
        yfcc100m.write,
        _config(folder, "any", "meta.bz2"),
        tmp_path,
        monkeypatch,
        fail_at=30,
    )


def test_a_killed_pass_over_the_metadata_begins_anew(
    folder, tmp_path, monkeypatch
):
    config = _config(folder, tmp_path / "out")
    monkeypatch.setattr(yfcc100m_metadata, "_ROWS_IN_MEMORY", 10)
    flush = yfcc100m_metadata.Index._flush
    calls = []

    def failing(index, waiting):
        calls.append(index)
        if len(calls) == 4:
            raise KeyboardInterrupt
        flush(index, waiting)

    with monkeypatch.context() as patch:
        patch.setattr(yfcc100m_metadata.Index, "_flush", failing)
        with pytest.raises(KeyboardInterrupt):
            yfcc100m.write(config)
    assert list((tmp_path / "out" / ".train.index").glob("*.txt"))
    assert _counters(yfcc100m.write(config)["train"]) == COUNTERS
    # Now it is complete and read no more.
    monkeypatch.delattr(yfcc100m_metadata, "read_rows")
    yfcc100m.write(config)


def test_other_metadata_are_noticed(folder, tmp_path):
    (tmp_path / "meta").write_text(_lines())
    config = _config(
        folder,
        tmp_path / "out",
        tmp_path / "meta",
        index_dir=str(tmp_path / "index"),
    )
    yfcc100m.write(config)
    assert not (tmp_path / "out" / ".train.index").exists()
    (tmp_path / "meta").write_text(_lines().replace("text", "more"))
    with pytest.raises(ValueError, match="index' is the index of other"):
        yfcc100m.write(config)


def test_the_number_of_shards_follows_the_rows(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        yfcc100m.source_writer, "IMAGES_PER_SHARD", len(ROWS) // 5
    )
    config = _config(folder, tmp_path, num_shards=None)
    assert yfcc100m.write(config)["train"].num_shards == 6


def _cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("name", ["meta.bz2", "meta.sql"])
def test_truncated_metadata_are_named_before_a_shard_is_written(
    folder, tmp_path, name
):
    data = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    config = _config(folder, tmp_path / "out", tmp_path / name)
    with pytest.raises(
        ValueError, match=f"{name}'.*(truncated or damaged|failed: )"
    ):
        yfcc100m.write(config)
    assert not list((tmp_path / "out").glob("*-of-*"))


def test_a_database_without_the_table_is_named(folder, tmp_path):
    with sqlite3.connect(tmp_path / "meta") as connection:
        connection.execute("CREATE TABLE other (a)")
    connection.close()
    config = _config(folder, tmp_path / "out", tmp_path / "meta")
    with pytest.raises(ValueError, match="'yfcc100m_dataset' failed: no such"):
        yfcc100m.write(config)


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_a_truncated_archive_is_named(folder, tmp_path, suffix):
    (tmp_path / "images").mkdir()
    pack = _zip_by_digits if suffix == "zip" else _tar_by_digits
    pack(tmp_path / "images", 1)
    name = f"{HASHES[0][0]}.{suffix}"
    _cut(tmp_path / "images" / name)
    config = _config(folder, tmp_path / "out", images=tmp_path / "images")
    with pytest.raises(ValueError, match=f"{name}'.*truncated"):
        yfcc100m.write(config)


def test_missing_inputs_are_named(folder, tmp_path):
    config = _config(folder, tmp_path, metadata="nothing*")
    with pytest.raises(FileNotFoundError, match="--metadata=.*nothing"):
        yfcc100m.write(config)
    config = _config(folder, tmp_path, images="nowhere")
    with pytest.raises(FileNotFoundError, match="--images=.*nowhere: no such"):
        yfcc100m.write(config)
    os.makedirs(tmp_path / "empty" / "images")
    config = _config(folder, tmp_path, images=tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="neither folders such as 0a1"):
        yfcc100m.write(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": ""}, "--metadata is needed"),
        ({"images": ""}, "--images is needed"),
        ({"output_dir": ""}, "--output_dir is needed"),
        ({"num_shards": 4097}, "`num_shards` must be <= 4096. Received: 4097"),
        ({"num_shards": 0}, "`num_shards` must be >= 1. Received: 0"),
        ({"image_size": 0}, "`image_size` must be >= 1. Received: 0"),
        ({"placeholder_md5": "abc"}, "32 hexadecimal .*Received: 'abc'"),
        ({"output_dir": "gs://a/b"}, "--index_dir, a local folder, is needed"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        yfcc100m.YfccConfig(
            **{"metadata": "m", "images": "i", "output_dir": "o", **changes}
        )


def test_no_flag_is_dead():
    source_checks.check_flags(
        yfcc100m,
        yfcc100m.YfccConfig,
        {
            "metadata": {"metadata": "other"},
            "images": {"images": "other"},
            "output_dir": {"output_dir": "other"},
            "split": {"split": "other"},
            "index_dir": {"index_dir": "other"},
            "num_shards": {"num_shards": 7},
            "image_size": {"image_size": 7},
            "placeholder_md5": {"placeholder_md5": "ab" * 16},
        },
    )
