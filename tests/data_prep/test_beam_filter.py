"""Filtering on Apache Beam, held to filtering in one process."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest

from data_prep import (
    balancing,
    filter_unlabel,
    rank_search,
    shard_writer,
    shards,
)
from tests.data_prep import corpus, filter_corpus
from tests.data_prep.filter_corpus import RULE

pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")

from data_prep import beam_filter  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    return filter_corpus.make(tmp_path_factory)


def _config(folder, output_dir, **changes):
    changes = {"num_output_shards": 3, **changes}
    return filter_corpus.config(folder, output_dir, **changes)


def _content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in pathlib.Path(folder).rglob("*")
        if path.is_file()
    }


@pytest.fixture(name="local", scope="module")
def _local(folder, tmp_path_factory):
    """Returns {selection: (output folder, report)} of one process."""
    found = {}
    for selection in balancing.SELECTIONS:
        output_dir = tmp_path_factory.mktemp(selection)
        rule = dataclasses.replace(RULE, selection=selection)
        config = _config(folder, output_dir, balance=rule)
        found[selection] = output_dir, filter_unlabel.run(config)
    return found


@pytest.mark.parametrize("selection", balancing.SELECTIONS)
def test_beam_writes_the_same_bytes(
    folder, local, tmp_path, selection, monkeypatch
):
    # So few candidates that several passes are needed to come down to them.
    monkeypatch.setattr(rank_search, "MOST_CANDIDATES", 20)
    rule = dataclasses.replace(RULE, selection=selection)
    expected, report = local[selection]
    found = beam_filter.run(_config(folder, tmp_path, balance=rule), [])
    assert found == report
    assert report.num_records > 0
    assert _content(tmp_path) == _content(expected)


def test_a_killed_run_writes_what_is_left(folder, local, tmp_path, monkeypatch):
    config = _config(folder, tmp_path)
    open_shard = shard_writer.ShardedWriter.open_shard

    def dying(writer, index, *args):
        if index == 2:
            raise RuntimeError("killed")
        return open_shard(writer, index, *args)

    monkeypatch.setattr(shard_writer.ShardedWriter, "open_shard", dying)
    with pytest.raises(RuntimeError, match="killed"):
        beam_filter.run(config, [])
    monkeypatch.undo()
    data = tmp_path / "data"
    left = data / f".{shards.shard_name('train', 2, 3)}.123.tmp"
    left.write_bytes(b"half a record")
    done = {
        path: path.stat().st_mtime_ns
        for path in data.iterdir()
        if path.name.startswith("train")
    }
    assert done
    beam_filter.run(config, [])
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert _content(tmp_path) == _content(local["exact"][0])
    report = beam_filter.run(config, ["--runner=nobody"])  # Nothing to run.
    assert report == local["exact"][1]


@pytest.mark.parametrize(
    ("keys", "probs", "message"),
    [
        ([b"a", b"b", b"a"], np.eye(3, 5), "keys belong to several.*b'a'"),
        ([b"a", b"b", b"c"], np.eye(3, 4), "distributions over 4 classes"),
    ],
)
def test_bad_input_is_named_before_images_are_written(
    tmp_path, keys, probs, message
):
    corpus.write_corpus(tmp_path, probs.astype(np.float32), keys, [0, 2, 3])
    with pytest.raises(ValueError, match=message):
        beam_filter.run(_config(tmp_path, tmp_path / "out"), [])
    assert not (tmp_path / "out" / "data").exists()


def test_other_output_shards_are_refused(folder, local, tmp_path):
    shutil.copytree(local["exact"][0], tmp_path / "out")
    config = _config(folder, tmp_path / "out", num_output_shards=4)
    with pytest.raises(ValueError, match="`num_output_shards`: 3 before, 4"):
        beam_filter.run(config, [])


def test_one_shard_is_not_for_beam(tmp_path):
    config = _config(tmp_path, tmp_path / "out", shard_id=1)
    with pytest.raises(ValueError, match="--shard_id is for .*Received: 1"):
        beam_filter.run(config, [])
