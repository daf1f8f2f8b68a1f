"""Tests of shards that survive being killed."""

import os

import pytest

from data_prep import files, records, shard_writer, shards

SPLIT = "train"


def _open(folder, *, num_shards=3, kind="labeled", config=None, **kwargs):
    return shard_writer.ShardedWriter(
        folder,
        SPLIT,
        num_shards,
        kind=kind,
        config={"seed": 0} if config is None else config,
        **kwargs,
    )


def _write_shard(writer, index, fail_after=None):
    with writer.open_shard(index, num_input=5) as shard:
        for i in range(4):
            if i == fail_after:
                raise KeyboardInterrupt
            label = index + 1
            example = records.labeled_example(b"x", label, f"{index}/{i}")
            shard.write(example, label)
            shard.count("kept")
        shard.count("dropped:empty")


def _content(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


def _write_all(writer):
    for index in writer.pending:
        _write_shard(writer, index)
    return writer.finish()


def test_a_finished_set_holds_shards_and_manifest(tmp_path):
    manifest = _write_all(_open(tmp_path, num_classes=3, class_names="abc"))
    assert sorted(os.listdir(tmp_path)) == [
        "train-00000-of-00003",
        "train-00001-of-00003",
        "train-00002-of-00003",
        "train.manifest.json",
    ]
    assert manifest == shards.Manifest(
        kind="labeled",
        split="train",
        num_records=(4, 4, 4),
        num_bytes=tuple(
            path.stat().st_size for path in sorted(tmp_path.glob("*-of-*"))
        ),
        counters={"dropped:empty": 3, "kept": 12},
        label_min=1,
        label_max=3,
        num_classes=3,
        class_names=("a", "b", "c"),
        config={"num_shards": 3, "seed": 0},
    )
    assert shards.read_manifest(tmp_path, "train") == manifest


def test_a_killed_run_continues_to_the_same_bytes(tmp_path):
    _write_all(_open(tmp_path / "whole"))
    writer = _open(tmp_path / "killed")
    _write_shard(writer, 1)
    with pytest.raises(KeyboardInterrupt):
        _write_shard(writer, 0, fail_after=2)
    assert not (tmp_path / "killed" / "train-00000-of-00003").exists()
    again = _open(tmp_path / "killed")
    assert again.pending == (0, 2)
    _write_all(again)
    assert _content(tmp_path / "killed") == _content(tmp_path / "whole")


def test_leftovers_of_a_process_killed_hard_are_cleaned(tmp_path):
    leftover = tmp_path / ".train-00001-of-00003.123.tmp"
    leftover.write_bytes(b"half a shard")
    other = tmp_path / ".train-info-00001-of-00003-00000.123.tmp"
    other.write_bytes(b"of another writer")
    marker = tmp_path / "..train-00001-of-00003.done.json.7-ab.tmp"
    marker.write_bytes(b"half a marker")
    _write_all(_open(tmp_path))
    assert not leftover.exists()
    assert not marker.exists()
    assert other.exists()


def test_a_shard_that_no_run_wrote_is_not_overwritten(tmp_path):
    _write_shard(_open(tmp_path), 0)
    (tmp_path / "train-00001-of-00003").write_bytes(b"an input")
    before = _content(tmp_path)
    with pytest.raises(ValueError, match="'train-00001-of-00003', which would"):
        _open(tmp_path)
    assert _content(tmp_path) == before


@pytest.mark.parametrize("kind", ["labeled", "prediction"])
def test_a_kill_as_a_shard_gets_its_name_leaves_nothing_unclear(
    tmp_path, monkeypatch, kind
):
    def dying(temporary, path):
        publish(temporary, path)
        if path.endswith(name):
            raise KeyboardInterrupt

    publish = files.publish
    writer = _open(tmp_path, kind=kind)
    name = os.path.basename(writer.path(0))
    with monkeypatch.context() as patch:
        patch.setattr(files, "publish", dying)
        with pytest.raises(KeyboardInterrupt):
            _write_shard(writer, 0)
    assert (tmp_path / name).exists()
    again = _open(tmp_path, kind=kind)
    assert again.pending == (1, 2)
    assert _write_all(again).total_records == 12


def test_a_kill_before_a_shard_has_its_name_leaves_it_pending(
    tmp_path, monkeypatch
):
    def dying(temporary, path):
        if path.endswith("of-00003"):
            raise KeyboardInterrupt
        publish(temporary, path)

    publish = files.publish
    with monkeypatch.context() as patch:
        patch.setattr(files, "publish", dying)
        with pytest.raises(KeyboardInterrupt):
            _write_shard(_open(tmp_path), 0)
    assert (tmp_path / ".train-00000-of-00003.done.json").exists()
    assert _open(tmp_path).pending == (0, 1, 2)


def test_a_lost_shard_is_written_over_what_the_manifest_was_of(
    tmp_path, monkeypatch
):
    _write_all(_open(tmp_path))
    before = _content(tmp_path)
    os.remove(tmp_path / "train-00001-of-00003")
    (tmp_path / "train-00000-of-00003").write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        patch.setattr(files, "publish", None)
        with pytest.raises(TypeError):
            _write_shard(_open(tmp_path), 0)
    again = _open(tmp_path)
    assert 0 in again.pending
    _write_all(again)
    assert _content(tmp_path) == before


def test_predictions_of_two_splits_do_not_share_their_counts(tmp_path):
    writer = shard_writer.ShardedWriter(
        tmp_path, "extra", 3, kind="prediction", config={}
    )
    with writer.open_shard(0):
        pass
    with pytest.raises(ValueError, match="another split, such as 'extra-info"):
        _open(tmp_path, kind="prediction")
    assert _open(tmp_path, kind="prediction", num_shards=2).pending == (0, 1)


def test_a_finished_set_is_not_written_again(tmp_path):
    manifest = _write_all(_open(tmp_path))
    before = {
        n: os.stat(tmp_path / n).st_mtime_ns for n in os.listdir(tmp_path)
    }
    writer = _open(tmp_path)
    assert writer.pending == ()
    assert writer.finish() == manifest
    after = {n: os.stat(tmp_path / n).st_mtime_ns for n in os.listdir(tmp_path)}
    assert after == before


def test_a_deleted_shard_is_noticed(tmp_path):
    _write_all(_open(tmp_path))
    before = _content(tmp_path)
    os.remove(tmp_path / "train-00001-of-00003")
    writer = _open(tmp_path)
    assert 1 in writer.pending
    _write_all(writer)
    assert _content(tmp_path) == before


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": {"seed": 1}}, "`seed`: 0 before, 1 now"),
        ({"kind": "unlabeled"}, "`kind`: 'labeled' before, 'unlabeled' now"),
        ({"num_classes": 7}, "`num_classes`: None before, 7 now"),
        ({"class_names": ["a"]}, r"`class_names`: None before, \['a'\] now"),
        ({"num_shards": 2}, "already holds other shards.*would write 2"),
    ],
)
def test_another_config_is_refused(tmp_path, finished, changed, message):
    writer = _open(tmp_path)
    if finished:
        _write_all(writer)
    else:
        _write_shard(writer, 0)
    with pytest.raises(ValueError, match=message):
        _open(tmp_path, **changed)


def test_several_processes_share_a_set(tmp_path):
    first, second = _open(tmp_path), _open(tmp_path)
    _write_shard(first, 0)
    _write_shard(second, 2)
    with pytest.raises(ValueError, match="1 of 3 shards.*train-00001-of"):
        first.finish()
    _write_shard(second, 1)
    assert first.finish().total_records == 12


def test_the_second_to_finish_finds_the_manifest_of_the_first(tmp_path):
    first, second = _open(tmp_path), _open(tmp_path)
    for writer, index in ((first, 0), (second, 1), (first, 2)):
        _write_shard(writer, index)
    assert first.finish() == second.finish()


@pytest.mark.parametrize("wanted", ["pending", "unfinished", "finish"])
@pytest.mark.parametrize("name", ["list_names", "exists", "read_json"])
@pytest.mark.parametrize("call", range(4))
def test_another_process_may_finish_at_any_moment(
    tmp_path, monkeypatch, wanted, name, call
):
    writer, other = _open(tmp_path), _open(tmp_path)
    for index in range(3):
        _write_shard(other, index)
    original = getattr(shard_writer.files, name)
    calls = []

    def interrupted(path):
        calls.append(path)
        if len(calls) == call + 1:
            other.finish()
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer.files, name, interrupted)
        found = getattr(writer, wanted)
        if wanted == "finish":
            assert found().total_records == 12
        else:
            assert found == ()
    assert writer.finish() == other.finish()


def test_markers_another_process_removes_first_are_no_error(
    tmp_path, monkeypatch
):
    writer, other = _open(tmp_path), _open(tmp_path)
    for index in range(3):
        _write_shard(writer, index)
    remove = os.remove

    def slow_remove(path):
        monkeypatch.setattr(os, "remove", remove)
        other.finish()
        remove(path)

    monkeypatch.setattr(os, "remove", slow_remove)
    assert writer.finish().total_records == 12
    assert not [n for n in os.listdir(tmp_path) if n.startswith(".")]


def test_workers_write_a_file_each_and_one_manifest(tmp_path):
    both = [
        _open(
            tmp_path, num_shards=2, kind="prediction", num_workers=2, worker=i
        )
        for i in (0, 1)
    ]
    for worker, index in ((0, 0), (0, 1), (1, 1)):
        with both[worker].open_shard(index) as shard:
            for _ in range(3 - worker):
                shard.write(records.prediction_example([1.0], b"k"))
                shard.count("labeled")
    assert [writer.pending for writer in both] == [(), (0,)]
    assert both[0].unfinished == both[1].unfinished == (0,)
    with pytest.raises(ValueError, match="1 of 2 shards are not written"):
        both[0].finish()
    with both[1].open_shard(0):
        pass
    manifest = both[0].finish()
    assert manifest.num_records == (3, 5)
    assert manifest.counters == {"labeled": 8}
    assert manifest.config["num_workers"] == 2
    assert (tmp_path / shards.prediction_name(SPLIT, 1, 2, 1)).exists()
    assert (tmp_path / shards.info_name(1, 2, 1)).exists()
    assert not [n for n in os.listdir(tmp_path) if n.startswith(".")]


def test_prediction_shards_have_their_count_beside_them(tmp_path):
    writer = _open(tmp_path, num_shards=1, kind="prediction")
    with writer.open_shard(0) as shard:
        shard.write(records.prediction_example([0.25, 0.75], b"k"))
    writer.finish()
    assert sorted(os.listdir(tmp_path)) == [
        "info-00000-of-00001-00000.txt",
        "train-info-00000-of-00001-00000",
        "train-info.manifest.json",
    ]
    info = (tmp_path / "info-00000-of-00001-00000.txt").read_text()
    assert info == '{"image_num": 1}\n'


def test_counters_must_add_up_to_the_input(tmp_path):
    writer = _open(tmp_path, kind="unlabeled")
    with (
        pytest.raises(ValueError, match="add up to 2, not to the 3 inputs"),
        writer.open_shard(0, num_input=3) as shard,
    ):
        shard.count("kept", 2)
    assert os.listdir(tmp_path) == []


def test_labeled_records_need_their_label(tmp_path):
    with (
        pytest.raises(ValueError, match="`label` is needed"),
        _open(tmp_path).open_shard(0) as shard,
    ):
        shard.write(records.labeled_example(b"x", 1, b"k"))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"kind": "other"}, "`kind` must be one of.*Received: 'other'"),
        ({"num_shards": 0}, "`num_shards` must be >= 1. Received: 0"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        _open(tmp_path, **kwargs)
