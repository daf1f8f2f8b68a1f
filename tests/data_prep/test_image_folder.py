"""Tests of turning folders of images into shards."""

import os

import pytest
from absl import flags

from data_prep import (
    files,
    image_encoding,
    image_folder,
    shards,
    source_writer,
    validation,
)
from tests.data_prep import corpus


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """Two classes, 10 images each, and files that are no images."""
    folder = tmp_path_factory.mktemp("images")
    for label, name in enumerate(("dog", "cat")):
        for i in range(10):
            data = corpus.image_bytes(20 * label + i)
            files.write_bytes(folder / name / f"{i}.jpg", data)
    png = corpus.image_bytes(99, "PNG")
    files.write_bytes(folder / "dog" / "deeper" / "a.png", png)
    files.write_bytes(folder / "cat" / "empty.jpg", b"")
    files.write_bytes(folder / "cat" / "notes.txt", b"text")
    files.write_bytes(folder / "cat" / ".hidden.jpg", png)
    files.write_bytes(folder / "outside.png", png)
    os.symlink(folder / "nowhere", folder / "cat" / "link.jpg")
    return folder


def _config(folder, output_dir, **changes):
    return image_folder.ImageFolderConfig(
        str(folder), str(output_dir), **changes
    )


def _rows(output_dir, split="train"):
    """Returns dict key -> record."""
    rows = corpus.read_features(shards.list_shards(output_dir, split))
    return {row["image/filename"][0].decode(): row for row in rows}


def test_sub_folders_are_classes_in_sorted_order(folder, tmp_path):
    manifest = image_folder.write(_config(folder, tmp_path))["train"]
    assert manifest.class_names == ("cat", "dog")
    assert (manifest.label_min, manifest.label_max) == (1, 2)
    assert files.read_json(tmp_path / "classes.json") == ["cat", "dog"]
    rows = _rows(tmp_path)
    assert len(rows) == 21
    for key, row in rows.items():
        assert row["image/class/label"] == [1 if key.startswith("cat") else 2]
    assert rows["cat/3.jpg"]["image/encoded"] == [
        files.read_bytes(folder / "cat" / "3.jpg")
    ]
    assert validation.validate(tmp_path, "labeled", 2).label_counts == {
        1: 10,
        2: 11,
    }


def test_every_file_is_counted_under_one_reason(folder, tmp_path):
    manifest = image_folder.write(_config(folder, tmp_path))["train"]
    assert manifest.counters == {
        "converted:png": 1,
        "dropped:broken_link": 1,
        "dropped:empty": 1,
        "dropped:hidden": 1,
        "dropped:not_image": 1,
        "dropped:outside_class_folders": 1,
        "kept": 20,
    }
    assert manifest.config["num_files"] == 26


def test_a_folder_without_sub_folders_gives_unlabeled_records(folder, tmp_path):
    config = _config(folder / "dog" / "deeper", tmp_path)
    manifest = image_folder.write(config)["train"]
    assert (manifest.kind, manifest.class_names) == ("unlabeled", None)
    assert list(_rows(tmp_path)) == ["a.png"]
    assert not (tmp_path / "classes.json").exists()


def test_sub_folders_can_be_ignored(folder, tmp_path):
    config = _config(folder, tmp_path, unlabeled=True)
    manifest = image_folder.write(config)["train"]
    assert (manifest.kind, manifest.total_records) == ("unlabeled", 22)
    assert "image/class/label" not in _rows(tmp_path)["dog/1.jpg"]


def test_links_to_class_folders_are_followed(folder, tmp_path):
    (tmp_path / "in").mkdir()
    os.symlink(folder / "dog", tmp_path / "in" / "wolf")
    config = _config(tmp_path / "in", tmp_path / "out")
    image_folder.write(config)
    assert "wolf/3.jpg" in _rows(tmp_path / "out")


def test_a_circle_of_links_ends(tmp_path):
    files.write_bytes(tmp_path / "in/a/1.jpg", corpus.image_bytes(0))
    os.symlink(tmp_path / "in", tmp_path / "in" / "a" / "circle")
    found = image_folder.find_sources(str(tmp_path / "in"), ("a",))
    assert sorted(source.key for source in found) == [b"a/1.jpg", b"a/circle"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("list.txt", "dog\n\nbird\ncat\n"), ("l.json", '["dog","bird","cat"]')],
)
def test_a_class_list_sets_the_labels(folder, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    config = _config(
        folder, tmp_path / "out", class_list_file=str(tmp_path / name)
    )
    manifest = image_folder.write(config)["train"]
    assert manifest.class_names == ("dog", "bird", "cat")
    rows = _rows(tmp_path / "out")
    assert rows["dog/1.jpg"]["image/class/label"] == [1]
    assert rows["cat/1.jpg"]["image/class/label"] == [3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog\n", "lacks 1 of the class folders: cat"),
        ("dog\ncat\ndog\n", "each class once. Received: 3 names, 2 different"),
    ],
)
def test_a_class_list_must_fit(folder, tmp_path, content, message):
    (tmp_path / "list").write_text(content)
    config = _config(
        folder, tmp_path / "out", class_list_file=str(tmp_path / "list")
    )
    with pytest.raises(ValueError, match=message):
        image_folder.write(config)


def test_splits_with_other_classes_do_not_mix(folder, tmp_path):
    image_folder.write(_config(folder, tmp_path / "out"))
    files.write_bytes(tmp_path / "in/bird/1.jpg", corpus.image_bytes(0))
    config = _config(tmp_path / "in", tmp_path / "out", split="validation")
    with pytest.raises(
        ValueError, match="lists other classes.*class_list_file"
    ):
        image_folder.write(config)


def test_held_out_images_are_in_one_split_only(folder, tmp_path):
    manifests = image_folder.write(
        _config(folder, tmp_path, holdout_fraction=0.4, holdout_split="dev")
    )
    train, dev = _rows(tmp_path), _rows(tmp_path, "dev")
    assert manifests.keys() == {"train", "dev"}
    assert len(train) + len(dev) == 21
    assert not train.keys() & dev.keys()
    assert 3 <= len(dev) <= 14
    # Another folder with some of the same files holds out the same ones.
    config = _config(
        folder / "dog", tmp_path / "dog", holdout_fraction=0.4, unlabeled=True
    )
    assert len(image_folder.write(config)) == 2


def test_shards_are_even_and_do_not_depend_on_the_listing(
    folder, tmp_path, monkeypatch
):
    config = _config(folder, tmp_path / "a", num_shards=4)
    manifest = image_folder.write(config)["train"]
    assert manifest.num_shards == 4
    assert max(manifest.num_records) <= 7
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path: reversed(list(scandir(path)))
    )
    image_folder.write(_config(folder, tmp_path / "b", num_shards=4))
    for name in os.listdir(tmp_path / "a"):
        assert files.read_bytes(tmp_path / "a" / name) == files.read_bytes(
            tmp_path / "b" / name
        )


def test_a_killed_run_continues_to_the_same_bytes(
    folder, tmp_path, monkeypatch
):
    image_folder.write(_config(folder, tmp_path / "whole", num_shards=4))
    to_jpeg = image_encoding.to_jpeg
    calls = []

    def failing(data, image_size):
        calls.append(data)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return to_jpeg(data, image_size)

    config = _config(folder, tmp_path / "killed", num_shards=4)
    with monkeypatch.context() as patch:
        patch.setattr(image_encoding, "to_jpeg", failing)
        with pytest.raises(KeyboardInterrupt):
            image_folder.write(config)
    done = set(os.listdir(tmp_path / "killed"))
    assert "train-00000-of-00004" in done
    assert "train-00003-of-00004" not in done
    image_folder.write(config)
    for name in os.listdir(tmp_path / "whole"):
        assert files.read_bytes(tmp_path / "whole" / name) == files.read_bytes(
            tmp_path / "killed" / name
        )
    monkeypatch.delattr(image_encoding, "to_jpeg")
    image_folder.write(config)


def test_images_shrink_on_request(folder, tmp_path):
    manifest = image_folder.write(_config(folder, tmp_path, image_size=4))
    assert manifest["train"].counters["resized"] == 20


def test_changed_files_are_noticed(tmp_path):
    files.write_bytes(tmp_path / "in/a/1.jpg", corpus.image_bytes(0))
    config = _config(tmp_path / "in", tmp_path / "out")
    image_folder.write(config)
    files.write_bytes(tmp_path / "in/a/2.jpg", corpus.image_bytes(1))
    with pytest.raises(ValueError, match="`num_files`: 1 before, 2 now"):
        image_folder.write(config)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    config = _config(tmp_path / "none", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        image_folder.write(config)
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="none: no files in it"):
        image_folder.write(config)


def test_a_folder_without_any_image_is_an_error(tmp_path):
    files.write_bytes(tmp_path / "in" / "a.txt", b"text")
    config = _config(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match="none of 1 files.*dropped:not_image"):
        image_folder.write(config)


@pytest.mark.parametrize("holdout_fraction", [0.0, 0.5])
def test_without_any_image_nothing_remains(tmp_path, holdout_fraction):
    for i in range(10):
        files.write_bytes(tmp_path / f"in/a/{i}.txt", b"text")
    config = _config(
        tmp_path / "in",
        tmp_path / "out",
        num_shards=2,
        holdout_fraction=holdout_fraction,
    )
    message = "none of 10 files .*'dropped:not_image': 10"
    with pytest.raises(ValueError, match=message):
        image_folder.write(config)
    assert not (tmp_path / "out").exists()


def test_without_any_image_other_files_remain(tmp_path):
    files.write_bytes(tmp_path / "in/a/1.txt", b"text")
    files.write_bytes(tmp_path / "right/b/1.jpg", corpus.image_bytes(0))
    files.write_bytes(tmp_path / "out/notes", b"mine")
    with pytest.raises(ValueError, match="none of 1 files"):
        image_folder.write(_config(tmp_path / "in", tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == ["notes"]
    image_folder.write(_config(tmp_path / "right", tmp_path / "out"))
    assert list(_rows(tmp_path / "out")) == ["b/1.jpg"]


def test_an_output_folder_that_is_a_file_is_named(folder, tmp_path):
    files.write_bytes(tmp_path / "out", b"")
    with pytest.raises(ValueError, match="--output_dir=.*out' is a file"):
        image_folder.write(_config(folder, tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.json", b"dog\ncat\n", "l.json' is not valid JSON: Expecting"),
        (
            "l.json",
            b'{"dog": 1, "cat": 2}',
            "l.json' must hold a list of names",
        ),
        ("l.json", b"[1, 2]", "l.json' must hold a list of names"),
        ("l.txt", b"dog\ncat\xff\n", "l.txt' is not text: 'utf-8' codec"),
        ("l.txt", b"", "l.txt' must hold a list of names"),
        ("l.txt", None, "no file .*l.txt'"),
    ],
)
def test_an_unreadable_class_list_is_named(
    folder, tmp_path, name, content, message
):
    if content is not None:
        files.write_bytes(tmp_path / name, content)
    config = _config(
        folder, tmp_path / "out", class_list_file=str(tmp_path / name)
    )
    with pytest.raises(
        (ValueError, FileNotFoundError), match=f"--class_list_file=.*{message}"
    ):
        image_folder.write(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_dir": ""}, "--input_dir is needed"),
        ({"output_dir": None}, "--output_dir is needed"),
        ({"output_dir": "in/out"}, "`output_dir` must not be inside"),
        ({"holdout_fraction": 1.0}, r"in \[0, 1\). Received: 1.0"),
        (
            {"holdout_split": "train", "holdout_fraction": 0.1},
            "must differ from `split`.*'train'",
        ),
        ({"num_shards": 0}, "`num_shards` must be >= 1. Received: 0"),
        ({"image_size": 0}, "`image_size` must be >= 1. Received: 0"),
        (
            {"unlabeled": True, "class_list_file": "a"},
            "`class_list_file` needs labels",
        ),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        image_folder.ImageFolderConfig(
            **{"input_dir": "in", "output_dir": "out", **changes}
        )


NON_DEFAULT = {
    "input_dir": "other",
    "output_dir": "other",
    "split": "other",
    "num_shards": 7,
    "unlabeled": True,
    "class_list_file": "other",
    "holdout_fraction": 0.5,
    "holdout_split": "other",
    "image_size": 7,
}


def _flags(**values):
    flag_values = flags.FlagValues()
    image_folder.define_flags(flag_values)
    given = {"input_dir": "in", "output_dir": "out", **values}
    flag_values(["program", *(f"--{k}={v}" for k, v in given.items())])
    return flag_values


def _config_of(flag_values):
    return source_writer.config_from_flags(
        image_folder.ImageFolderConfig, flag_values
    )


@pytest.mark.parametrize("name", NON_DEFAULT)
def test_no_flag_is_dead(name):
    changed = _flags(**{name: NON_DEFAULT[name]})
    default = image_folder.ImageFolderConfig("in", "out")
    assert _config_of(_flags()) == default
    assert _config_of(changed) != default


def test_every_flag_is_tried():
    assert set(_flags()) == set(NON_DEFAULT)


def test_main_writes_as_the_flags_say(folder, tmp_path):
    image_folder.main(_flags(input_dir=folder, output_dir=tmp_path))
    assert shards.read_manifest(tmp_path, "train").total_records == 21
