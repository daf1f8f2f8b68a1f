"""Filtering by `exact` is brute force, whatever it is disturbed by.

Random corpora in random order, sharding and storage of keys, filtered by
several workers, killed at a random place and started again.
"""

import collections
import contextlib
import dataclasses
import random

import numpy as np
import pytest

from data_prep import (
    balancing,
    counting,
    files,
    filter_unlabel,
    prediction_table,
    rank_search,
    records,
    shards,
)
from tests.data_prep import corpus
from tests.data_prep.test_balancing import brute_force

pytestmark = pytest.mark.slow

# What a run does again and again, in all of its stages.
CALLS = [
    (files, "write_bytes"),
    (files, "publish"),
    (files, "write_json"),
    (files, "remove"),
    (files, "remove_folder"),
    (records, "labeled_by_prediction"),
    (counting, "read_columns"),
]


class Killed(BaseException):
    pass


@dataclasses.dataclass(frozen=True)
class Case:
    """A random corpus and the rule to filter it by."""

    rule: balancing.BalanceConfig
    probs: np.ndarray
    keys: list

    def expected(self):
        """Returns Counter key -> records, found by brute force."""
        hashes = [prediction_table.hash_of(key) for key in self.keys]
        table = balancing.Table(
            self.probs.argmax(axis=1),
            self.probs.max(axis=1),
            np.array(hashes, np.uint64),
        )
        copies = brute_force(self.rule, table, self.probs.shape[1])
        return collections.Counter(
            {key: int(n) for key, n in zip(self.keys, copies) if n}
        )


def random_case(rng):
    num_images, num_classes = rng.randint(1, 100), rng.randint(1, 5)
    probs = np.ones((num_images, 1), np.float32)
    if num_classes > 1:
        step = rng.choice([None, 1 / 4, 1 / 64])
        probs = corpus.random_probs(
            num_images, num_classes, rng.randrange(1 << 30), step
        ).clip(0, 1)
    rule = balancing.BalanceConfig(
        num_image=rng.randint(1, 60),
        min_threshold=rng.choice([0.0, 0.3, 0.5]),
        max_prob=rng.choice([0.9, 2.0]),
        upsample=rng.random() < 0.5,
        use_top=rng.random() < 0.8,
        use_all=rng.random() < 0.1,
        seed=rng.randrange(3),
    )
    return Case(rule, probs, [b"\xff%d" % i for i in range(num_images)])


def write_and_configure(folder, case, rng):
    """Writes a corpus in random order and shards; returns a `FilterConfig`."""
    num_images, num_classes = case.probs.shape
    order = rng.sample(range(num_images), num_images)
    cuts = sorted(rng.choices(range(num_images + 1), k=rng.randrange(4)))
    stored = [b""] * num_images if rng.random() < 0.3 else None
    corpus.write_corpus(
        folder,
        case.probs[order],
        [case.keys[i] for i in order],
        [0, *cuts, num_images],
        stored,
    )
    return filter_unlabel.FilterConfig(
        input_dir=str(folder / "images"),
        prediction_dir=str(folder / "probs"),
        output_dir=str(folder / "out"),
        num_label_classes=num_classes,
        balance=case.rule,
        num_output_shards=3,
        num_workers=rng.randint(1, 3),
    )


def kill_once(config, rng, monkeypatch):
    """Runs until a random call of a random function, if it comes so far."""
    module, name = rng.choice(CALLS)
    original, left = getattr(module, name), rng.randrange(1, 25)

    def dying(*args, **kwargs):
        nonlocal left
        left -= 1
        if not left:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, dying)
        with contextlib.suppress(Killed):
            filter_unlabel.run(config)


def content(folder):
    """Returns dict name -> bytes of all files, hidden ones, too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("seed", range(2))
def test_exact_is_brute_force_for_any_workers_and_restart(
    seed, tmp_path, monkeypatch
):
    rng = random.Random(seed)
    monkeypatch.setattr(
        rank_search, "MOST_CANDIDATES", rng.choice([0, 5, 1 << 20])
    )
    case = random_case(rng)
    expected, outputs = case.expected(), []
    for variant in ("first", "second"):
        config = write_and_configure(tmp_path / variant, case, rng)
        filter_unlabel.run(config)
        written = shards.list_shards(f"{config.output_dir}/data")
        rows = corpus.read_features(written)
        found = collections.Counter(r["image/filename"][0] for r in rows)
        assert found == expected
        outputs.append(list(map(files.read_bytes, written)))
        again = dataclasses.replace(
            config,
            output_dir=str(tmp_path / variant / "killed"),
            prelim_stats_dir=None,
            num_workers=rng.randint(1, 3),
        )
        for _ in range(2):
            kill_once(again, rng, monkeypatch)
        filter_unlabel.run(again)
        whole, killed = (
            content(tmp_path / variant / name) for name in ("out", "killed")
        )
        assert killed.keys() == whole.keys()
        assert killed == whole
    if not case.rule.use_all:
        assert outputs[0] == outputs[1]
