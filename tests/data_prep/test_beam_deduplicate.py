"""Deduplication on Apache Beam, held to deduplication in one process."""

import dataclasses
import pathlib

import pytest

from data_prep import deduplicate, records, shard_writer
from tests.data_prep import corpus

pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")

from data_prep import beam_deduplicate  # noqa: E402

pytestmark = pytest.mark.slow

# Seeds of the images of each shard; equal ones are equal to the bytes.
SHARDS = ([0, 1, 2, 2, 3], [], [4, 2, 0, 5], [6, 100, 5, 101])
EVALUATION = [100, 101, 102]


def _write(folder, split, seeds_of_shards):
    writer = shard_writer.ShardedWriter(
        folder, split, len(seeds_of_shards), kind="unlabeled", config={}
    )
    for index, seeds in enumerate(seeds_of_shards):
        with writer.open_shard(index) as shard:
            for place, seed in enumerate(seeds):
                image = corpus.image_bytes(seed, size=(64, 48))
                key = f"{split}/{index}/{place}"
                shard.write(records.unlabeled_example(image, key))
    writer.finish()


@pytest.fixture(name="config", scope="module")
def _config(tmp_path_factory):
    """Returns a deduplication that is done in one process."""
    folder = tmp_path_factory.mktemp("deduplicate")
    _write(folder / "corpus", "train", SHARDS)
    _write(folder / "evaluation", "validation", [EVALUATION])
    config = deduplicate.DeduplicateConfig(
        input_dir=str(folder / "corpus"),
        eval_dir=str(folder / "evaluation"),
        output_dir=str(folder / "local"),
        within_corpus=True,
    )
    deduplicate.run(config)
    return config


def _to(config, folder):
    """Returns the same deduplication, with another output folder."""
    return dataclasses.replace(
        config, output_dir=str(folder), fingerprint_dir=None
    )


def _content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in pathlib.Path(folder).rglob("*")
        if path.is_file()
    }


def test_beam_writes_the_same_bytes(config, tmp_path):
    report = beam_deduplicate.run(_to(config, tmp_path), [])
    assert report["counters"] == {
        "dropped:same_bytes": 2,
        "dropped:same_bytes_in_corpus": 4,
        "kept": 7,
    }
    assert _content(tmp_path) == _content(config.output_dir)


def test_a_killed_run_does_what_is_left(config, tmp_path, monkeypatch):
    on_beam = _to(config, tmp_path)
    open_shard = shard_writer.ShardedWriter.open_shard

    def dying(writer, index, *args, **kwargs):
        if index == 2:
            raise RuntimeError("killed")
        return open_shard(writer, index, *args, **kwargs)

    monkeypatch.setattr(shard_writer.ShardedWriter, "open_shard", dying)
    with pytest.raises(RuntimeError, match="killed"):
        beam_deduplicate.run(on_beam, [])
    monkeypatch.undo()
    done = {
        path: path.stat().st_mtime_ns
        for path in tmp_path.rglob("*-of-*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert tmp_path / "fingerprints" / "corpus-00000-of-00004.npz" in done
    beam_deduplicate.run(on_beam, [])
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert _content(tmp_path) == _content(config.output_dir)
