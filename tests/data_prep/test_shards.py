"""Tests of shard names, finding shards and manifests."""

import os

import pytest

from data_prep import shards


def _touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_names():
    assert shards.shard_name("train", 7, 1024) == "train-00007-of-01024"
    assert (
        shards.prediction_name("train", 7, 1024, 2)
        == "train-info-00007-of-01024-00002"
    )
    assert shards.info_name(7, 1024) == "info-00007-of-01024-00000.txt"


def test_parse_name_splits_what_the_name_functions_join():
    parsed = shards.parse_name(shards.prediction_name("my-train", 7, 1024, 2))
    assert parsed.groupdict() == {
        "split": "my-train-info",
        "index": "00007",
        "total": "01024",
        "worker": "-00002",
    }
    assert shards.parse_name("train.manifest.json") is None
    assert shards.parse_name(".train-00000-of-00001.tmp") is None


@pytest.mark.parametrize("as_pattern", [False, True])
def test_shards_come_sorted(tmp_path, as_pattern):
    names = [shards.shard_name("train", i, 12) for i in range(12)]
    _touch(tmp_path, *reversed(names))
    _touch(tmp_path, "validation-00000-of-00001", "train.manifest.json")
    source = tmp_path / "train-*-of-*" if as_pattern else tmp_path
    found = shards.list_shards(source, "train")
    assert [os.path.basename(path) for path in found] == names


def test_split_is_not_a_prefix(tmp_path):
    _touch(tmp_path, "train-00000-of-00001", "train-info-00000-of-00001-00000")
    found = shards.list_shards(tmp_path, "train")
    assert found == [str(tmp_path / "train-00000-of-00001")]
    assert len(shards.list_shards(tmp_path)) == 2


def test_several_folders_and_splits_are_one_set(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        _touch(folder, "train-00000-of-00001")
    _touch(first, "extra-00000-of-00002", "extra-00001-of-00002")
    found = shards.list_shards(f"{first};{second}", "train;extra")
    assert [os.path.relpath(path, tmp_path) for path in found] == [
        "a/extra-00000-of-00002",
        "a/extra-00001-of-00002",
        "a/train-00000-of-00001",
        "b/train-00000-of-00001",
    ]
    with pytest.raises(FileNotFoundError, match="b/x-.*' or '.*b/y-"):
        shards.list_shards(second, "x;y")
    (first / "extra-00000-of-00002").unlink()
    with pytest.raises(ValueError, match="missing: extra-00000-of-00002"):
        shards.list_shards(first, "train;extra")


def test_a_single_file_is_taken_as_it_is(tmp_path):
    _touch(tmp_path, "train-00001-of-00004")
    path = str(tmp_path / "train-00001-of-00004")
    assert shards.list_shards(path) == [path]


def test_brackets_in_a_folder_are_no_pattern(tmp_path):
    folder = tmp_path / "run[1]"
    folder.mkdir()
    _touch(folder, "train-00000-of-00001")
    assert len(shards.list_shards(folder, "train")) == 1


@pytest.mark.parametrize("source", ["", "other-*", "missing/folder"])
def test_an_empty_search_names_the_pattern(tmp_path, source):
    path = os.path.join(tmp_path, source) if source else str(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        shards.list_shards(path, "train")
    expected = os.path.join(path, "" if source else "train-*-of-*")
    assert expected.rstrip("/") in str(error.value)


def test_missing_shards_are_named(tmp_path):
    _touch(tmp_path, "train-00000-of-00004", "train-00002-of-00004")
    with pytest.raises(ValueError) as error:
        shards.list_shards(tmp_path, "train")
    assert "2 of 4 shards" in str(error.value)
    assert "train-00001-of-00004, train-00003-of-00004" in str(error.value)


def test_a_pattern_may_ask_for_some_shards(tmp_path):
    _touch(tmp_path, *[shards.shard_name("train", i, 100) for i in range(10)])
    assert len(shards.list_shards(tmp_path / "train-0000?-of-00100")) == 10
    os.remove(tmp_path / "train-00003-of-00100")
    with pytest.raises(ValueError, match="missing: train-00003-of-00100"):
        shards.list_shards(tmp_path / "train-0000?-of-00100")


def test_mixed_sets_are_refused(tmp_path):
    _touch(tmp_path, "train-00000-of-00001", "train-00000-of-00002")
    with pytest.raises(ValueError, match=r"different sizes.*\[1, 2\]"):
        shards.list_shards(tmp_path, "train")


def test_predictions_are_listed_by_shard_and_worker(tmp_path):
    names = [
        [shards.prediction_name("train", i, 2, w) for w in range(2)]
        for i in range(2)
    ]
    _touch(tmp_path, *names[0], *names[1], "info-00000-of-00002-00000.txt")
    found = shards.list_predictions(tmp_path, "train", 2)
    assert [[os.path.basename(p) for p in row] for row in found] == names


def test_missing_predictions_are_named(tmp_path):
    _touch(tmp_path, "train-info-00000-of-00002-00000")
    with pytest.raises(
        FileNotFoundError, match="1 prediction.*: train-info-00001-of-00002-000"
    ):
        shards.list_predictions(tmp_path, "train", 2)


def test_a_missing_worker_is_named(tmp_path):
    names = [shards.prediction_name("train", i, 2, 0) for i in range(2)]
    _touch(tmp_path, *names, shards.prediction_name("train", 0, 2, 1))
    with pytest.raises(
        FileNotFoundError, match="train-info-00001-of-00002-00001"
    ):
        shards.list_predictions(tmp_path, "train", 2)


def test_manifest_comes_back_as_written(tmp_path):
    manifest = shards.Manifest(
        kind="labeled",
        split="train",
        num_records=(3, 4),
        num_bytes=(300, 400),
        counters={"kept": 7},
        label_min=1,
        label_max=2,
        num_classes=2,
        class_names=("cat", "dog"),
        config={"seed": 1},
    )
    shards.write_manifest(tmp_path, manifest)
    assert shards.read_manifest(tmp_path, "train") == manifest
    assert shards.read_manifest(tmp_path, "test") is None
    assert (manifest.num_shards, manifest.total_records) == (2, 7)


def test_another_file_is_no_manifest(tmp_path):
    (tmp_path / "train.manifest.json").write_text('{"total_records": 1}')
    with pytest.raises(ValueError, match="is not a manifest"):
        shards.read_manifest(tmp_path, "train")
