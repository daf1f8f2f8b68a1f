"""The benchmark of filtering measures what it says."""

import re

import numpy as np
import pytest

from benchmarks import filter as benchmark
from data_prep import balancing, counting

ROWS = 6000


@pytest.fixture(name="tables")
def _tables(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "_SHARD_ROWS", ROWS // 3)
    benchmark.make_corpus(str(tmp_path), ROWS, workers=1)
    return counting.Tables(benchmark.shard_paths(str(tmp_path), ROWS))


def test_the_corpus_has_a_long_tail(tables):
    labels = np.concatenate([tables.read(shard).label for shard in range(3)])
    assert len(labels) == ROWS
    counts = np.bincount(labels, minlength=1000)
    # Class c has 1 / (c + 10) of the images.
    assert counts[:100].sum() > 3 * counts[500:].sum() > 0


def test_both_ways_to_filter_keep_as_many(tables):
    rule = balancing.BalanceConfig("binned", num_image=20, min_threshold=0.3)
    bins = rule.bins(1000)
    plan = balancing.choose(
        rule, counting.histogram(tables, 1000, bins), tables.map
    )
    ours = sum(copies.sum() for copies in tables.map(plan.copies))
    theirs = benchmark.filter_by_dictionaries(rule, tables)
    assert ours == pytest.approx(theirs, rel=0.02)


def test_every_stage_is_printed(tables, capsys):
    benchmark.measure_scale(tables.paths, 1)
    found = re.findall(r"6000 rows: ([a-z ]+) \d", capsys.readouterr().out)
    assert found == [
        "check tables",
        "count",
        "choose",
        "count and choose",
        "report",
        "duplicate keys",
    ]
