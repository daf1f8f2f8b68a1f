"""Tests of filtering against files that the original program wrote."""

import collections
import json
import os

import numpy as np
import pytest

from data_prep import (
    balancing,
    filter_unlabel,
    prediction_inputs,
    records,
    shards,
)
from tests import golden_data
from tests.data_prep import corpus

pytestmark = pytest.mark.slow

ARRAYS = np.load(golden_data.path("filter.npz"))
GOLDEN = json.loads(golden_data.path("filter.json").read_text())
PROBS = ARRAYS["probabilities"]
RULE = balancing.BalanceConfig("binned", num_image=100, min_threshold=0.3)
NUM_SHARDS = 4


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    bounds = [0, *ARRAYS["shard_sizes"].cumsum()]
    keys = [b"%d" % i for i in range(len(PROBS))]
    corpus.write_corpus(folder, PROBS, keys, bounds)
    return folder


def _config(folder, output_dir, **changes):
    return filter_unlabel.FilterConfig(
        **{
            "input_dir": str(folder / "images"),
            "prediction_dir": str(folder / "probs"),
            "output_dir": str(output_dir),
            "prelim_stats_dir": str(output_dir / "counts"),
            "num_label_classes": 10,
            "balance": RULE,
            "task": 0,
            **changes,
        }
    )


def _run_as_the_scripts_do(folder, output_dir, **changes):
    """Filters shard after shard, the first one last, in two rounds."""
    for only_get_stats in (True, False):
        for shard in reversed(range(NUM_SHARDS)):
            config = _config(folder, output_dir, shard_id=shard, **changes)
            report = filter_unlabel.run(config, only_get_stats=only_get_stats)
            if shard and only_get_stats:
                assert report is None
    return report


@pytest.fixture(name="output_dir", scope="module")
def _output_dir(folder, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("filtered")
    _run_as_the_scripts_do(folder, output_dir)
    return output_dir


def _read_json(path):
    return json.loads(path.read_text())


def test_thresholds_and_counts_are_those_of_the_original(output_dir):
    golden = GOLDEN["main"]
    assert _read_json(output_dir / "threshold.json") == golden["threshold"]
    assert (
        _read_json(output_dir / "num_image_across_cat.json")
        == golden["num_image_across_cat"]
    )
    for name in ("total_counts", "total_counts_sum"):
        found = _read_json(output_dir / "counts" / f"{name}.json")
        assert found == golden[name]
    for name, counts in golden["prelim_stats"].items():
        assert _read_json(output_dir / "counts" / name) == counts


def test_copies_are_the_floor_or_the_ceiling_of_the_expected(output_dir):
    paths = shards.list_shards(output_dir / "data", "train-0")
    written = collections.Counter(
        int(row["image/filename"][0]) for row in corpus.read_features(paths)
    )
    copies = np.array([written[i] for i in range(len(PROBS))])
    expected = ARRAYS["expected_copies"]
    assert (copies >= np.floor(expected)).all()
    assert (copies <= np.ceil(expected)).all()
    stats = _read_json(output_dir / "stats" / "final_stats.json")
    assert stats["total_cnt"] == copies.sum()
    assert stats["total_cnt"] == sum(stats["cat_count"].values())
    counts = [count for _, count in stats["cat_sorted_pairs"]]
    assert counts == sorted(stats["cat_count"].values(), reverse=True)
    assert dict(stats["cat_sorted_pairs"]) == stats["cat_count"]


def test_files_and_fields_are_those_of_the_original(output_dir):
    golden = GOLDEN["run_seed1"]
    data = sorted(os.listdir(output_dir / "data"))
    assert data == [*golden["data_files"], "train-0.manifest.json"]
    assert sorted(os.listdir(output_dir / "stats")) == golden["stats_files"]
    total = collections.Counter()
    for name in golden["data_files"]:
        paths = [output_dir / "data" / name]
        for row, payload in zip(
            corpus.read_features(paths), records.read_records(paths[0])
        ):
            example = records.tf.train.Example.FromString(payload)
            for field, (kind, length) in golden["record_feature_kinds"].items():
                assert (
                    example.features.feature[field].WhichOneof("kind") == kind
                )
                assert len(row[field]) == length
    for shard in range(NUM_SHARDS):
        path = output_dir / "stats" / f"stats_{shard:05d}_0.json"
        total.update(_read_json(path))
    final = _read_json(output_dir / "stats" / "final_stats.json")
    assert total == final["cat_count"]


@pytest.mark.parametrize("selection", balancing.SELECTIONS)
def test_shard_by_shard_gives_the_bytes_of_one_run(folder, tmp_path, selection):
    rule = balancing.BalanceConfig(selection, num_image=30, min_threshold=0.3)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = filter_unlabel.run(_config(folder, whole, balance=rule))
    report = _run_as_the_scripts_do(folder, parts, balance=rule)
    assert report == expected
    assert _content(parts) == _content(whole)


def _content(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_has_to_be_done_first_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="3 tables are missing, such"):
        filter_unlabel.run(_config(folder, tmp_path / "a", shard_id=0))
    with pytest.raises(FileNotFoundError, match="nothing has been chosen yet"):
        filter_unlabel.run(_config(folder, tmp_path / "b", shard_id=2))
    filter_unlabel.run(_config(folder, tmp_path / "c"), only_get_stats=True)
    with pytest.raises(FileNotFoundError, match="3 shards .* as --shard_id=1"):
        filter_unlabel.run(_config(folder, tmp_path / "c", shard_id=0))


def test_some_shards_alone_can_be_used(folder, tmp_path):
    report = filter_unlabel.run(_config(folder, tmp_path, num_used_shards=3))
    assert report.num_input == ARRAYS["shard_sizes"][:3].sum()
    paths = shards.list_shards(tmp_path / "data", "train-0")
    assert len(paths) == 3


def test_tasks_of_several_workers_count_each_their_own(folder, tmp_path):
    keys = [b"%d" % i for i in range(len(PROBS))]
    # The original's predictions have no keys.
    stored = [b""] * len(PROBS)
    corpus.write_corpus(tmp_path, PROBS, keys, [0, 700, 1600], stored)
    for shard, size in enumerate((700, 900)):
        _split_among_workers(tmp_path / "probs", shard, size)
    corpus.forget_manifests(tmp_path)
    out = tmp_path / "out"
    for only_get_stats in (True, False):
        for task in (1, 0):
            report = filter_unlabel.run(
                _config(tmp_path, out, task=task, total_replicas=2),
                only_get_stats=only_get_stats,
            )
            assert (report is None) == (task == 1)
    assert _read_json(out / "threshold.json") == GOLDEN["main"]["threshold"]
    names = [path.name for path in sorted((out / "counts").glob("prelim*"))]
    assert names == [
        f"prelim_stats_{shard:05d}_{task}.json"
        for shard in range(2)
        for task in range(2)
    ]
    assert report.num_records == len(
        corpus.read_features(shards.list_shards(out / "data", "train-0"))
    )


def _split_among_workers(folder, shard, size):
    path = folder / f"train-info-{shard:05d}-of-00002-00000"
    payloads = list(prediction_inputs.read_predictions([str(path)]))
    assert len(payloads) == size
    for worker in range(2):
        name = f"{shard:05d}-of-00002-{worker:05d}"
        target = str(folder / f"train-info-{name}")
        with records.tf.io.TFRecordWriter(target) as writer:
            for payload in payloads[worker::2]:
                writer.write(payload)
        info = folder / f"info-{name}.txt"
        info.write_text(json.dumps({"image_num": size // 2}))
