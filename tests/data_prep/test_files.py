"""Tests of files written whole or not at all."""

import os

import pytest

from data_prep import files


def test_json_comes_back_as_written(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    files.write_json(path, {"b": [1, 2.5, None], "a": "é"})
    assert files.read_json(path) == {"b": [1, 2.5, None], "a": "é"}
    assert path.read_text().endswith("}\n")


def test_no_temporary_file_remains(tmp_path):
    files.write_bytes(tmp_path / "a", b"1")
    files.write_bytes(tmp_path / "a", b"22")
    assert os.listdir(tmp_path) == ["a"]
    assert files.read_bytes(tmp_path / "a") == b"22"
    assert files.size(tmp_path / "a") == 2


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    files.write_bytes(tmp_path / "a", b"old")

    def fail(temporary, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "publish", fail)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert files.read_bytes(tmp_path / "a") == b"old"


def test_malformed_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="a.json' is not valid JSON"):
        files.read_json(tmp_path / "a.json")


def test_paths_with_a_scheme_go_through_tensorflow():
    # TensorFlow's in-memory file system stands in for gs://.
    files.write_json("ram://folder/a.json", [1])
    assert files.is_remote("ram://folder/a.json")
    assert files.read_json("ram://folder/a.json") == [1]
    assert files.exists("ram://folder/a.json")
    assert files.size("ram://folder/a.json") == 8
    assert files.list_names("ram://folder") == ["a.json"]
    assert files.glob("ram://folder/*.json") == ["ram://folder/a.json"]
    assert files.is_dir("ram://folder")
    files.remove("ram://folder/a.json")
    assert not files.exists("ram://folder/a.json")


def test_removing_what_is_not_there_is_no_error(tmp_path):
    for path in (tmp_path / "a", "ram://nowhere/a"):
        files.remove(path)
        assert not files.exists(path)


def test_names_of_a_missing_folder_are_none(tmp_path):
    assert files.list_names(tmp_path / "a") == []


def test_differences_are_shown_by_name():
    before = {"a": 1, "b": {"c": (1, 2), "d": 3}, "gone": None}
    now = {"a": 2, "b": {"c": [1, 2], "d": 4}, "new": "x"}
    assert files.describe_difference(before, now) == (
        "`a`: 1 before, 2 now; `b.d`: 3 before, 4 now; "
        "`gone`: None before, absent now; `new`: absent before, 'x' now"
    )
    assert files.describe_difference(before, before) == ""


def test_differences_are_shown_inside_lists():
    before = {"rounds": [{"step": {"weight_decay": 1, "beta": 3}}, {"a": [1]}]}
    now = {"rounds": [{"step": {"weight_decay": 2, "beta": 3}}, {"a": [5]}]}
    assert files.describe_difference(before, now) == (
        "`rounds[0].step.weight_decay`: 1 before, 2 now; "
        "`rounds[1].a[0]`: 1 before, 5 now"
    )
    assert files.describe_difference({"a": [1]}, {"a": [1, 2]}) == (
        "`a`: [1] before, [1, 2] now"
    )


def test_many_differences_are_counted():
    shown = files.describe_difference({"a": [0] * 999}, {"a": [1] * 999})
    assert shown.endswith("`a[19]`: 0 before, 1 now; and 979 more")
    shown = files.describe_difference({"a": [0] * 20}, {"a": [1] * 20})
    assert shown.endswith("`a[19]`: 0 before, 1 now")


def test_a_file_where_a_folder_is_needed_is_named_with_its_flag(tmp_path):
    files.write_bytes(tmp_path / "a", b"1")
    message = f"--output_dir={tmp_path}/a.*: '{tmp_path}/a' is a file, not"
    for path in (tmp_path / "a", tmp_path / "a" / "b" / "c"):
        with pytest.raises(ValueError, match=message):
            files.check_folder("output_dir", path)
    files.check_folder("output_dir", tmp_path)
    files.check_folder("output_dir", tmp_path / "new" / "folder")
    files.check_folder("output_dir", "new")


def test_fingerprints_without_reading_tell_files_by_their_outside(tmp_path):
    path = tmp_path / "a"

    def written(content, time, name="a"):
        path.write_bytes(content)
        os.utime(path, ns=(0, time))
        return files.fingerprint_unread([(name, path)])

    first = written(b"1", 5)
    others = written(b"11", 5), written(b"1", 6), written(b"1", 5, name="b")
    assert len({first, *others}) == 4
    assert written(b"2", 5) == first
    with pytest.raises(FileNotFoundError, match="none"):
        files.fingerprint_unread([("none", tmp_path / "none")])


def test_fingerprints_tell_ends_of_large_files_apart(tmp_path):
    large = bytes(300_000)
    paths = []
    for name, content in (
        ("a", large),
        ("b", large[:-1] + b"1"),
        ("c", b"1" + large[1:]),
        ("d", large + b"0"),
    ):
        folder = tmp_path / name
        files.write_bytes(folder / "same_name", content)
        paths.append(folder / "same_name")
    assert len({files.fingerprint([path]) for path in paths}) == 4
    assert files.fingerprint(paths[:1]) == files.fingerprint(paths[:1])
