"""The benchmark of deduplication makes what it says, and runs."""

import re

import numpy as np
from absl import flags

from benchmarks import deduplicate
from data_prep import fingerprint_index


def test_made_duplicates_are_near_and_other_images_have_half_the_bits():
    rng = np.random.default_rng(0)
    evaluation = deduplicate.make_rows(rng, 20)
    assert {bin(h).count("1") for h in evaluation["perceptual"].tolist()} == {
        32
    }
    rows, is_duplicate = deduplicate.make_shard(rng, evaluation, 5)
    nearest = fingerprint_index.distances(
        rows["perceptual"][:, None], evaluation["perceptual"][None, :]
    ).reshape(len(rows), -1)
    nearest = nearest.min(axis=1)
    assert 100 < is_duplicate.sum() < 250
    assert set(nearest[is_duplicate].tolist()) == set(range(6))
    assert nearest[~is_duplicate].min() > 5


def test_every_part_prints_its_figures(capsys):
    flag_values = flags.FlagValues()
    deduplicate.define_flags(flag_values)
    sizes = ["--corpus=20", "--evaluation=50", "--runs=1", "--max_distance=3"]
    flag_values(["program", *sizes])
    deduplicate.main(flag_values)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for line in lines[:2]:
        found = re.search(r" (\d+) of (\d+) duplicates found, 0 others$", line)
        assert found[1] == found[2] > "100"
    assert re.match(r"JPEG of 32x32: fingerprint [\d,]+ us", lines[2])
