"""Tests of the choice of images: by hand, by brute force, and golden."""

import dataclasses
import json

import numpy as np
import pytest

from data_prep import (
    balancing,
    confidence_bins,
    hashing,
    prediction_table,
    rank_search,
)
from tests import golden_data

BalanceConfig = balancing.BalanceConfig


def _table(rows):
    """Returns a table of (label, confidence, hash) rows."""
    label, confidence, hashes = zip(*rows)
    return balancing.Table(
        np.array(label, np.uint16),
        np.array(confidence, np.float32),
        np.array(hashes, np.uint64),
    )


@pytest.fixture(name="chance_is_the_hash")
def _chance_is_the_hash(monkeypatch):
    """Leaves hashes as they are, so that results follow by hand."""
    monkeypatch.setattr(hashing, "mix", lambda hashes, **_: hashes)


def _copies(config, tables, num_classes):
    bins = config.bins(num_classes)
    counts = sum(balancing.histogram(t, num_classes, bins) for t in tables)
    plan = balancing.choose(
        config,
        counts,
        lambda function: (function(t, shard) for shard, t in enumerate(tables)),
    )
    copies = [plan.copies(t, shard) for shard, t in enumerate(tables)]
    return np.concatenate(copies), plan


def test_the_most_confident_are_kept():
    rows = [(0, 0.5, 1), (0, 0.9, 2), (0, 0.7, 3), (0, 0.8, 4)]
    config = BalanceConfig(num_image=2)
    copies, plan = _copies(config, [_table(rows)], 1)
    assert copies.tolist() == [0, 1, 0, 1]
    assert plan.totals.tolist() == [2]
    assert plan.thresholds().tolist() == [np.float32(0.8)]


@pytest.mark.usefixtures("chance_is_the_hash")
def test_ties_go_to_the_lowest_hash():
    rows = [(0, 0.5, 7), (0, 0.5, 2**63), (0, 0.5, 3), (0, 0.9, 2**64 - 1)]
    copies, _ = _copies(BalanceConfig(num_image=2), [_table(rows)], 1)
    assert copies.tolist() == [0, 0, 1, 1]


@pytest.mark.usefixtures("chance_is_the_hash")
def test_hashes_that_agree_in_half_their_bits_are_told_apart():
    rows = [(0, 0.5, (5 << 32) + 9), (0, 0.5, (5 << 32) + 8)]
    copies, _ = _copies(BalanceConfig(num_image=1), [_table(rows)], 1)
    assert copies.tolist() == [0, 1]


def test_records_with_one_key_are_counted_apart():
    table = _table([(0, 0.5, 7)] * 5)
    copies, _ = _copies(BalanceConfig(num_image=7), [table, table], 1)
    assert copies.tolist() == [1] * 7 + [0] * 3
    copies, _ = _copies(BalanceConfig(num_image=13), [table, table], 1)
    assert copies.tolist() == [2] * 3 + [1] * 7


@pytest.mark.usefixtures("chance_is_the_hash")
def test_classes_with_few_images_are_duplicated_to_the_number():
    rows = [(0, 0.9, 30), (0, 0.5, 10), (0, 0.7, 20), (1, 0.5, 1)]
    copies, _ = _copies(BalanceConfig(num_image=8), [_table(rows)], 2)
    assert copies.tolist() == [2, 3, 3, 8]


def test_without_upsampling_nothing_is_duplicated():
    rows = [(0, 0.9, 30), (0, 0.5, 10), (1, 0.5, 1)]
    config = BalanceConfig(num_image=8, upsample=False)
    assert _copies(config, [_table(rows)], 2)[0].tolist() == [1, 1, 1]


def test_use_all_keeps_one_copy_of_all_accepted():
    rows = [(0, 0.9, 3), (0, 0.5, 2), (0, 0.2, 1)]
    for selection in balancing.SELECTIONS:
        config = BalanceConfig(
            selection, num_image=1, min_threshold=0.5, use_all=True
        )
        assert _copies(config, [_table(rows)], 1)[0].tolist() == [1, 1, 0]


def test_a_class_without_accepted_images_stays_empty():
    rows = [(0, 0.2, 1), (1, 0.9, 2)]
    for selection in balancing.SELECTIONS:
        config = BalanceConfig(selection, num_image=3, min_threshold=0.5)
        copies, plan = _copies(config, [_table(rows)], 3)
        assert copies.tolist() == [0, 3]
        assert plan.totals.tolist() == [0, 1, 0]


def test_both_bounds_of_the_confidence_are_inclusive():
    rows = [(0, c, 0) for c in (0.25, 0.2499999, 0.75, 0.7500001)]
    config = BalanceConfig(num_image=2, min_threshold=0.25, max_prob=0.75)
    assert _copies(config, [_table(rows)], 1)[0].tolist() == [1, 0, 1, 0]


def brute_force(config, table, num_classes):
    """Returns int [images], how many records `exact` gives of each."""
    copies = np.zeros(len(table), int)
    confidence = table.confidence.astype(float)
    chance = config.chance(table.hash)
    for label in range(num_classes):
        members = [
            i
            for i in np.flatnonzero(table.label == label)
            if config.min_threshold <= confidence[i] <= config.max_prob
        ]
        members.sort(key=lambda i: (-confidence[i], chance[i]))
        if not config.use_top:
            members.sort(key=lambda i: chance[i])
        if config.use_all:
            copies[members] = 1
            continue
        copies[members[: config.num_image]] = 1
        if config.upsample and 0 < len(members) < config.num_image:
            members.sort(key=lambda i: chance[i])
            for n in range(config.num_image - len(members)):
                copies[members[n % len(members)]] += 1
    return copies


def _random_case(rng):
    """Returns (rule, table, number of classes), with many ties."""
    num_images, num_classes = rng.integers(1, 300), rng.integers(1, 6)
    # Few different confidences, so that the cut often falls into a tie; or
    # such as differ in their last bits.
    steps = rng.choice([3, 20, 10**6])
    confidence = rng.integers(0, steps + 1, num_images) / steps
    if rng.random() < 0.3:
        confidence = 0.75 + rng.integers(0, 50, num_images) * 2.0**-24
    # Hashes that differ in their lower, middle or upper bits only.
    spacing = np.uint64(rng.choice([1, 2**30, 2**54]))
    hashes = np.arange(num_images, dtype=np.uint64) * spacing
    table = balancing.Table(
        rng.integers(0, num_classes, num_images),
        confidence.astype(np.float32),
        rng.permutation(hashes),
    )
    rule = BalanceConfig(
        num_image=int(rng.integers(1, 120)),
        min_threshold=float(rng.choice([0.0, 0.3, 0.7500002])),
        max_prob=float(rng.choice([0.9, 2.0])),
        upsample=bool(rng.integers(2)),
        use_top=bool(rng.random() < 0.8),
        use_all=bool(rng.random() < 0.1),
        seed=int(rng.integers(3)),
    )
    return rule, table, num_classes


def _take(table, rows):
    return balancing.Table(
        table.label[rows], table.confidence[rows], table.hash[rows]
    )


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(
    "most_candidates", [0, 20, rank_search.MOST_CANDIDATES]
)
def test_exact_equalsbrute_force_for_any_order_and_sharding(
    seed, most_candidates, monkeypatch
):
    monkeypatch.setattr(rank_search, "MOST_CANDIDATES", most_candidates)
    rng = np.random.default_rng(seed)
    rule, table, num_classes = _random_case(rng)
    expected = brute_force(rule, table, num_classes)
    order = rng.permutation(len(table))
    bounds = np.sort(rng.integers(0, len(table) + 1, rng.integers(0, 5)))
    tables = [_take(table, rows) for rows in np.split(order, bounds)]
    copies, plan = _copies(rule, tables, num_classes)
    np.testing.assert_array_equal(copies, expected[order])
    unique = np.bincount(table.label, expected > 0, minlength=num_classes)
    np.testing.assert_array_equal(plan.totals, unique.astype(int))
    restored = balancing.restore_plan(rule, plan.arrays())
    np.testing.assert_array_equal(
        restored.copies(tables[0], 0), copies[: len(tables[0])]
    )
    _check_thresholds(rule, plan, table, expected)


def _check_thresholds(rule, plan, table, copies):
    """Checks that a cut class is cut at the confidence of its last image."""
    cut = plan.over_full if rule.use_top else np.zeros_like(plan.over_full)
    for label, threshold in enumerate(plan.thresholds()):
        kept = table.confidence[(table.label == label) & (copies > 0)]
        least = kept.min() if cut[label] else rule.min_threshold
        assert threshold == least


def _hundredths(table, num_classes):
    bins = BalanceConfig().bins(num_classes)
    return bins.hundredths(balancing.histogram(table, num_classes, bins))


def test_hundredths_compare_float32_with_float64_edges():
    # float32(0.29) is below 0.29, float32(0.25) and float32(0.3) are not.
    rows = [(0, np.float32(c), 0) for c in (0.25, 0.29, 0.3, 1.0, 1.001, 0.0)]
    counts = _hundredths(_table(rows), 2)
    assert np.flatnonzero(counts[0]).tolist() == [0, 25, 28, 30, 100]
    assert counts[0, 100] == 2
    assert counts[1].sum() == 0


@pytest.mark.parametrize("num_classes", [1, 20_000])
def test_no_edge_cuts_a_bin(num_classes):
    rng = np.random.default_rng(0)
    edges = [*confidence_bins.HUNDREDTHS, 0.305, 0.95001, 2.0**-12, 2.0]
    near = np.array(edges, np.float32).view(np.uint32)[:, None] + np.arange(
        -2, 3, dtype=np.int32
    )
    near = np.clip(near, 0, None).astype(np.uint32).view(np.float32).ravel()
    confidence = np.concatenate([near, rng.random(2000), rng.random(500) / 999])
    confidence = np.sort(confidence).astype(np.float32)
    bins = confidence_bins.ConfidenceBins(num_classes, 0.305, 0.95001)
    index = bins.index(confidence)
    starts = bins.starts.view(np.float32)
    np.testing.assert_array_equal(
        index, np.searchsorted(starts, confidence, side="right") - 1
    )
    wide = confidence.astype(np.float64)
    accepted = (wide >= 0.305) & (wide <= 0.95001)
    inside = (index >= bins.accepted.start) & (index < bins.accepted.stop)
    np.testing.assert_array_equal(inside, accepted)
    table = balancing.Table(np.zeros(len(wide), int), confidence)
    counts = bins.hundredths(balancing.histogram(table, 1, bins))[0]
    expected = np.searchsorted(confidence_bins.HUNDREDTHS, wide, side="right")
    np.testing.assert_array_equal(counts, np.bincount(expected - 1))
    last = bins.last_bits(index)
    assert (confidence.view(np.uint32) <= last).all()


@pytest.mark.usefixtures("chance_is_the_hash")
def test_binned_copies_are_the_floor_or_the_ceiling():
    # 3 images above the edge 0.5; 4 wanted: 4/3 copies each.
    rows = [(0, 0.51, 0), (0, 0.61, 2**62), (0, 0.71, 2**63), (0, 0.4, 0)]
    config = BalanceConfig("binned", num_image=4, min_threshold=0.5)
    copies, plan = _copies(config, [_table(rows)], 1)
    # Hashes are fractions 0, 1/4 and 1/2; those below 1/3 get one more.
    assert copies.tolist() == [2, 2, 1, 0]
    assert plan.expected_copies().tolist() == [4 / 3]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"selection": "best"}, "`selection` must be one of.*'best'"),
        ({"num_image": 0}, "`num_image` must be >= 1. Received: 0"),
        ({"min_threshold": 1.5}, r"in \[0, 1\]. Received: 1.5"),
        (
            {"min_threshold": 0.5, "max_prob": 0.5},
            "`max_prob` must be > `min_threshold`. Received: 0.5, 0.5",
        ),
        (
            {"selection": "binned", "min_threshold": 0.305},
            "multiple of 0.01.*Received: 0.305",
        ),
    ],
)
def test_bad_rules_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BalanceConfig(**kwargs)


# The golden files come from the original code, on 1,600 images in 4 shards.
GOLDEN = json.loads(golden_data.path("filter.json").read_text())
GOLDEN_ARRAYS = np.load(golden_data.path("filter.npz"))
GOLDEN_RULE = BalanceConfig("binned", num_image=100, min_threshold=0.3)


def _golden_table():
    labels = GOLDEN_ARRAYS["classes"]
    probs = GOLDEN_ARRAYS["probabilities"]
    return balancing.Table(
        labels,
        np.take_along_axis(probs, labels[:, None], 1)[:, 0],
        np.array(
            [prediction_table.hash_of(b"%d" % i) for i in range(len(labels))],
            np.uint64,
        ),
    )


def _golden_copies(flags, seed=0):
    rule = dataclasses.replace(GOLDEN_RULE, seed=seed, **flags)
    return _copies(rule, [_golden_table()], 10)


@pytest.mark.parametrize(
    "name", [name for name in GOLDEN if "threshold" in GOLDEN[name]]
)
def test_binned_thresholds_are_those_of_the_original(name):
    _, plan = _golden_copies(GOLDEN[name]["flags"])
    thresholds = plan.thresholds()
    found = {
        str(c): [threshold, total]
        for c, (threshold, total) in enumerate(
            zip(thresholds.tolist(), plan.totals.tolist())
        )
    }
    assert found == GOLDEN[name]["threshold"]


@pytest.mark.parametrize("suffix", ["total_counts", "total_counts_sum"])
def test_counts_are_those_of_the_original(suffix):
    counts = _hundredths(_golden_table(), 10)
    if suffix == "total_counts_sum":
        counts = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    for label, pairs in GOLDEN["main"][suffix].items():
        edges, expected = zip(*pairs)
        np.testing.assert_array_equal(edges, confidence_bins.HUNDREDTHS)
        np.testing.assert_array_equal(counts[int(label)], expected)


def test_binned_copies_round_the_expectation_of_the_original():
    expected = GOLDEN_ARRAYS["expected_copies"]
    seeds = range(60)
    copies = np.stack([_golden_copies({}, seed)[0] for seed in seeds])
    assert (copies >= np.floor(expected)).all()
    assert (copies <= np.ceil(expected)).all()
    # A Bernoulli draw's standard error is at most 0.5 / sqrt(60) = 0.065.
    assert np.abs(copies.mean(axis=0) - expected).max() < 5 * 0.065
    assert copies.mean() == pytest.approx(expected.mean(), rel=0.01)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("seed1", {}),
        ("seed1_upsample0", {"upsample": False}),
        ("seed1_num_image_1000", {"num_image": 1000}),
        ("seed1_use_all", {"use_all": True}),
        ("seed1_use_top_0", {"use_top": False}),
    ],
)
def test_binned_copies_differ_from_the_original_by_rounding_only(name, flags):
    original = GOLDEN_ARRAYS[f"copies_{name}"].astype(int)
    copies, plan = _golden_copies(flags)
    whole = plan.expected_copies() == np.floor(plan.expected_copies())
    exact = whole[GOLDEN_ARRAYS["classes"]]
    assert exact.any()
    np.testing.assert_array_equal(copies[exact], original[exact])
    assert np.abs(copies - original).max() <= 1
    assert copies.sum() == pytest.approx(original.sum(), rel=0.02)
