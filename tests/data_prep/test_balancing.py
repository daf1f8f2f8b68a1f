"""Tests of the choice of images: by hand, by brute force, and golden."""

import dataclasses
import json

import numpy as np
import pytest

from data_prep import balancing, hashing
from tests import golden_data

BalanceConfig = balancing.BalanceConfig


def _table(rows):
    """Returns a table of (label, confidence, hash) rows."""
    return np.array(rows, balancing.TABLE_DTYPE)


def _copies(config, tables, num_classes):
    counts = sum(balancing.histogram(t, num_classes) for t in tables)
    plan = balancing.choose(config, counts, lambda: iter(tables))
    copies = [plan.copies(t, shard) for shard, t in enumerate(tables)]
    return np.concatenate(copies), plan


def test_the_most_confident_are_kept():
    rows = [(0, 0.5, 1), (0, 0.9, 2), (0, 0.7, 3), (0, 0.8, 4)]
    config = BalanceConfig(num_image=2)
    copies, plan = _copies(config, [_table(rows)], 1)
    assert copies.tolist() == [0, 1, 0, 1]
    assert plan.totals.tolist() == [2]
    assert plan.thresholds(np.array([0.8])).tolist() == [0.8]


def test_ties_go_to_the_lowest_hash():
    rows = [(0, 0.5, 7), (0, 0.5, 2**63), (0, 0.5, 3), (0, 0.9, 2**64 - 1)]
    copies, _ = _copies(BalanceConfig(num_image=2), [_table(rows)], 1)
    assert copies.tolist() == [0, 0, 1, 1]


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


def _brute_force(config, table, num_classes):
    copies = np.zeros(len(table), int)
    confidence = table["confidence"].astype(float)
    for label in range(num_classes):
        members = [
            i
            for i in np.flatnonzero(table["label"] == label)
            if config.min_threshold <= confidence[i] <= config.max_prob
        ]
        members.sort(key=lambda i: (-confidence[i], table["hash"][i]))
        if len(members) > config.num_image:
            copies[members[: config.num_image]] = 1
            continue
        copies[members] = 1
        if config.upsample and members:
            members.sort(key=lambda i: table["hash"][i])
            for n in range(config.num_image - len(members)):
                copies[members[n % len(members)]] += 1
    return copies


@pytest.mark.parametrize("seed", range(40))
def test_exact_equals_brute_force_for_any_order_and_sharding(seed):
    rng = np.random.default_rng(seed)
    num_images, num_classes = rng.integers(1, 300), rng.integers(1, 6)
    table = np.empty(num_images, balancing.TABLE_DTYPE)
    table["label"] = rng.integers(0, num_classes, num_images)
    # Few different confidences, so that the cut often falls into a tie.
    steps = rng.choice([3, 20, 10**6])
    table["confidence"] = rng.integers(0, steps + 1, num_images) / steps
    # Hashes that differ in their lower, middle or upper bits only.
    spacing = np.uint64(rng.choice([1, 2**30, 2**54]))
    hashes = np.arange(num_images, dtype=np.uint64) * spacing
    table["hash"] = rng.permutation(hashes)
    config = BalanceConfig(
        num_image=int(rng.integers(1, 120)),
        min_threshold=float(rng.choice([0.0, 0.3])),
        max_prob=float(rng.choice([0.9, 2.0])),
        upsample=bool(rng.integers(2)),
    )
    expected = _brute_force(config, table, num_classes)
    order = rng.permutation(num_images)
    bounds = np.sort(rng.integers(0, num_images + 1, rng.integers(0, 5)))
    copies, plan = _copies(config, np.split(table[order], bounds), num_classes)
    np.testing.assert_array_equal(copies, expected[order])
    unique = np.bincount(
        table["label"], expected > 0, minlength=num_classes
    ).astype(int)
    np.testing.assert_array_equal(plan.totals, unique)


def test_histogram_compares_float32_with_float64_edges():
    # float32(0.29) is below 0.29, float32(0.25) and float32(0.3) are not.
    rows = [(0, np.float32(c), 0) for c in (0.25, 0.29, 0.3, 1.0, 1.001, 0.0)]
    counts = balancing.histogram(_table(rows), 2)
    assert np.flatnonzero(counts[0]).tolist() == [0, 25, 28, 30, 100]
    assert counts[0, 100] == 2
    assert counts[1].sum() == 0


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


def _golden_table(seed=0):
    labels = GOLDEN_ARRAYS["classes"]
    table = np.empty(len(labels), balancing.TABLE_DTYPE)
    table["label"] = labels
    probs = GOLDEN_ARRAYS["probabilities"]
    table["confidence"] = np.take_along_axis(probs, labels[:, None], 1)[:, 0]
    salt = str(seed).encode()
    table["hash"] = [
        hashing.hash64(str(i).encode(), salt=salt) for i in range(len(labels))
    ]
    return table


def _golden_copies(flags, seed=0):
    rule = dataclasses.replace(GOLDEN_RULE, **flags)
    return _copies(rule, [_golden_table(seed)], 10)


@pytest.mark.parametrize(
    "name", [name for name in GOLDEN if "threshold" in GOLDEN[name]]
)
def test_binned_thresholds_are_those_of_the_original(name):
    _, plan = _golden_copies(GOLDEN[name]["flags"])
    thresholds = plan.thresholds(lowest=None)
    found = {
        str(c): [threshold, total]
        for c, (threshold, total) in enumerate(
            zip(thresholds.tolist(), plan.totals.tolist())
        )
    }
    assert found == GOLDEN[name]["threshold"]


@pytest.mark.parametrize("suffix", ["total_counts", "total_counts_sum"])
def test_counts_are_those_of_the_original(suffix):
    counts = balancing.histogram(_golden_table(), 10)
    if suffix == "total_counts_sum":
        counts = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    for label, pairs in GOLDEN["main"][suffix].items():
        edges, expected = zip(*pairs)
        np.testing.assert_array_equal(edges, balancing.BIN_EDGES)
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
