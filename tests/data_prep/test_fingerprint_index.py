"""Tests of `data_prep.fingerprint_index`."""

import pickle

import numpy as np
import pytest

from data_prep import fingerprint_index, image_fingerprints
from data_prep.fingerprint_index import KINDS, FingerprintIndex
from data_prep.image_fingerprints import PLAIN, STRUCTURED, UNDECODABLE


def random_hashes(rng, number):
    return rng.integers(0, 2**64, number, np.uint64, endpoint=False)


def rows(rng, perceptual, state=STRUCTURED):
    table = np.zeros(len(perceptual), image_fingerprints.DTYPE)
    table["perceptual"] = perceptual
    for name in ("encoded", "pixels", "mirrored"):
        table[name] = random_hashes(rng, len(table))
    table["state"] = state
    return table


def near(rng, hashes, bits):
    """Returns hashes with so many of their bits, drawn at random, changed."""
    changed = []
    for value, number in zip(hashes.tolist(), bits):
        for bit in rng.choice(64, number, replace=False).tolist():
            value ^= 1 << bit
        changed.append(value)
    return np.array(changed, np.uint64)


def brute_force(evaluation, queries, max_distance):
    """Returns {row: (distance, evaluation image)} of the nearest in reach."""
    found = {}
    for row, query in enumerate(queries.tolist()):
        distance, index = min(
            (bin(query ^ value).count("1"), index)
            for index, value in enumerate(evaluation.tolist())
        )
        if distance <= max_distance:
            found[row] = (distance, index)
    return found


def as_dict(matches):
    return {
        int(m["row"]): (int(m["distance"]), int(m["evaluation"]))
        for m in matches
    }


@pytest.mark.parametrize("max_distance", range(12))
def test_the_nearest_is_found_as_by_brute_force(max_distance, monkeypatch):
    # Few pairs at once, so that there are many parts.
    monkeypatch.setattr(fingerprint_index, "_MOST_PAIRS", 50)
    rng = np.random.default_rng(max_distance)
    evaluation = random_hashes(rng, 60)
    # Images that look alike, whose hashes many others share.
    evaluation[40:50] = near(rng, evaluation[:10], [1] * 10)
    evaluation[50:] = evaluation[0]
    picked = rng.integers(0, 60, 200)
    queries = near(rng, evaluation[picked], np.arange(200) % 16)
    queries = np.concatenate([queries, random_hashes(rng, 50)])
    index = FingerprintIndex(rows(rng, evaluation), max_distance=max_distance)
    found = as_dict(index.match(rows(rng, queries)))
    assert found == brute_force(evaluation, queries, max_distance)
    assert len(found) >= 10 * (max_distance + 1)


def test_batches_of_any_size_find_the_same():
    rng = np.random.default_rng(0)
    evaluation = random_hashes(rng, 30)
    queries = rows(rng, near(rng, evaluation, np.arange(30) % 12))
    index = FingerprintIndex(rows(rng, evaluation), max_distance=8)
    # As a copy in another process.
    index = pickle.loads(pickle.dumps(index))
    whole = as_dict(index.match(queries))
    single = {}
    for row in range(30):
        for found in as_dict(index.match(queries[row : row + 1])).values():
            single[row] = found
    assert whole == single
    assert len(index.match(queries[:0])) == 0


def kinds(index, table):
    return {int(m["row"]): KINDS[m["kind"]] for m in index.match(table)}


def test_the_first_kind_that_applies_is_reported():
    rng = np.random.default_rng(0)
    evaluation = rows(rng, random_hashes(rng, 5))
    table = rows(rng, random_hashes(rng, 5))
    table[0] = evaluation[3]
    table["pixels"][1] = evaluation["pixels"][2]
    table["perceptual"][1] = evaluation["perceptual"][4]
    table["perceptual"][2] = evaluation["perceptual"][4]
    table["perceptual"][3] = evaluation["mirrored"][1]
    index = FingerprintIndex(evaluation, max_distance=4, mirrored=True)
    assert kinds(index, table) == {
        0: "same_bytes",
        1: "same_pixels",
        2: "near",
        3: "near_mirrored",
    }
    assert index.match(table)["evaluation"].tolist() == [3, 2, 4, 1]
    assert set(kinds(FingerprintIndex(evaluation, max_distance=4), table)) == {
        0,
        1,
        2,
    }
    exact = FingerprintIndex(evaluation, max_distance=None)
    assert set(kinds(exact, table)) == {0, 1}


@pytest.mark.parametrize("state", [PLAIN, UNDECODABLE])
def test_images_without_structure_are_never_near(state):
    rng = np.random.default_rng(0)
    evaluation = rows(rng, np.zeros(3, np.uint64), state)
    evaluation["pixels"] = [7, 7, 9]
    table = rows(rng, np.zeros(3, np.uint64), state)
    table["encoded"][0] = evaluation["encoded"][1]
    table["pixels"] = [1, 7, 2]
    index = FingerprintIndex(evaluation, max_distance=11)
    expected = {0: "same_bytes", 1: "same_pixels"}
    if state == UNDECODABLE:
        # Its pixels are unknown, the same number says nothing.
        del expected[1]
    assert kinds(index, table) == expected
    assert kinds(index, rows(rng, np.zeros(3, np.uint64))) == {}


@pytest.mark.parametrize("max_distance", [-1, 12])
def test_a_distance_out_of_range_is_refused(max_distance):
    evaluation = np.zeros(1, image_fingerprints.DTYPE)
    with pytest.raises(ValueError, match=r"`max_distance` .* 0\.\.11"):
        FingerprintIndex(evaluation, max_distance=max_distance)


def test_no_evaluation_image_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        FingerprintIndex(np.zeros(0, image_fingerprints.DTYPE), max_distance=8)
