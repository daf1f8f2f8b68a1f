"""Tests of filtering from prediction shards to pseudo-labeled shards."""

import collections
import dataclasses
import json
import os

import numpy as np
import pytest
from absl import flags

from data_prep import (
    balancing,
    counting,
    filter_report,
    filter_unlabel,
    prediction_checks,
    records,
    shards,
    spill,
    validation,
)
from tests.data_prep import corpus, filter_corpus
from tests.data_prep.filter_corpus import (
    KEYS,
    NUM_CLASSES,
    NUM_IMAGES,
    PROBS,
    RULE,
)

pytestmark = pytest.mark.slow


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    return filter_corpus.make(tmp_path_factory)


def _config(folder, output_dir, **changes):
    changes = {"num_workers": 1, **changes}
    return filter_corpus.config(folder, output_dir, **changes)


def _content(folder):
    return {
        os.path.relpath(os.path.join(root, name), folder): open(
            os.path.join(root, name), "rb"
        ).read()
        for root, _, names in os.walk(folder)
        for name in names
    }


def _written(output_dir):
    return corpus.read_features(
        shards.list_shards(os.path.join(output_dir, "data"), "train")
    )


def test_written_records_are_what_the_report_says(folder, tmp_path):
    report = filter_unlabel.run(_config(folder, tmp_path))
    written = _written(tmp_path)
    assert len(written) == report.num_records == RULE.num_image * NUM_CLASSES
    assert report.num_input == NUM_IMAGES == sum(report.counters.values())
    assert len({row["image/filename"][0] for row in written}) == (
        report.num_unique
    )
    labels = collections.Counter(row["label"][0] for row in written)
    for label, row in enumerate(report.classes):
        assert row.copies == labels[label] == RULE.num_image
        assert row.available >= row.kept > 0
    found = validation.validate(
        tmp_path / "data", "pseudo_labeled", NUM_CLASSES
    )
    assert found.num_records == report.num_records


def test_written_records_hold_image_and_prediction(folder, tmp_path):
    filter_unlabel.run(_config(folder, tmp_path))
    for row in _written(tmp_path):
        key = row["image/filename"][0]
        index = int(key.split(b"/")[1])
        assert row["image/encoded"] == [corpus.JPEG + key]
        assert row["label"] == [np.argmax(PROBS[index])]
        assert row["prob"] == [PROBS[index].max()]
        np.testing.assert_array_equal(row["probabilities"], PROBS[index])


@pytest.mark.parametrize("selection", balancing.SELECTIONS)
def test_the_choice_depends_on_neither_order_nor_sharding(
    folder, tmp_path, selection
):
    order = np.random.default_rng(0).permutation(NUM_IMAGES)
    keys = [KEYS[i] for i in order]
    corpus.write_corpus(tmp_path, PROBS[order], keys, [0, 17, 300])
    rule = dataclasses.replace(RULE, selection=selection)
    reports, chosen = [], []
    for source, name in ((folder, "a"), (tmp_path, "b")):
        output_dir = tmp_path / name
        config = _config(source, output_dir, balance=rule)
        reports.append(filter_unlabel.run(config))
        chosen.append(
            collections.Counter(
                row["image/filename"][0] for row in _written(output_dir)
            )
        )
    assert reports[0] == reports[1]
    assert chosen[0] == chosen[1]


def test_records_are_shuffled_over_all_shards(folder, tmp_path):
    filter_unlabel.run(_config(folder, tmp_path, num_output_shards=3))
    paths = shards.list_shards(tmp_path / "data")
    assert len(paths) == 3
    for path in paths:
        rows = corpus.read_features([path])
        assert len(rows) == pytest.approx(200 / 3, abs=25)
        indices = [int(row["image/filename"][0].split(b"/")[1]) for row in rows]
        # Uniform over the 300 images, so from all of the input shards.
        assert np.mean(np.array(indices) < 100) == pytest.approx(1 / 3, abs=0.2)
        assert 0.3 < np.mean(np.diff(indices) >= 0) < 0.7


def _seeded(seed):
    return dataclasses.replace(RULE, seed=seed)


def test_the_seed_changes_choices_but_not_numbers(folder, tmp_path):
    reports = [
        filter_unlabel.run(
            _config(folder, tmp_path / str(seed), balance=_seeded(seed))
        )
        for seed in (0, 1)
    ]
    assert reports[0] == reports[1]
    assert _written(tmp_path / "0") != _written(tmp_path / "1")


def _fail_in_shard(monkeypatch, module, name, number):
    """Makes a function of a module raise at its `number`-th call."""
    function = getattr(module, name)
    calls = []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize(
    ("module", "name", "number"),
    [
        (counting, "read_columns", 3),
        (balancing, "choose", 1),
        (filter_report, "write_thresholds", 1),
        (records, "labeled_by_prediction", 100),
        (spill.Spills, "write", 3),
        (filter_report, "write_shard_stats", 2),
        (shards, "write_manifest", 1),
        (filter_report, "write_final_stats", 1),
        (spill.Spills, "remove", 1),
    ],
)
def test_a_killed_run_continues_to_the_same_bytes(
    folder, tmp_path, monkeypatch, module, name, number
):
    filter_unlabel.run(_config(folder, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        _fail_in_shard(patch, module, name, number)
        with pytest.raises(KeyboardInterrupt):
            filter_unlabel.run(_config(folder, tmp_path / "killed"))
    read = []
    read_columns = counting.read_columns
    monkeypatch.setattr(
        counting,
        "read_columns",
        lambda *args: read.append(args) or read_columns(*args),
    )
    filter_unlabel.run(_config(folder, tmp_path / "killed"))
    assert len(read) == (2 if name == "read_columns" else 0)
    assert _content(tmp_path / "killed") == _content(tmp_path / "whole")


def test_a_finished_run_returns_its_report_without_work(
    folder, tmp_path, monkeypatch
):
    config = _config(folder, tmp_path)
    report = filter_unlabel.run(config)
    before = _content(tmp_path)
    monkeypatch.delattr(prediction_checks, "check_inputs")
    assert filter_unlabel.run(config) == report
    assert _content(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"balance": dataclasses.replace(RULE, num_image=7)},
            "`num_image`: 40 before, 7 now",
        ),
        ({"balance": _seeded(1)}, "`seed`: 0 before, 1 now"),
        (
            {"balance": dataclasses.replace(RULE, selection="binned")},
            "`selection`: 'exact' before, 'binned' now",
        ),
    ],
)
def test_another_config_is_refused(folder, tmp_path, changes, message):
    filter_unlabel.run(_config(folder, tmp_path))
    with pytest.raises(ValueError, match=message):
        filter_unlabel.run(_config(folder, tmp_path, **changes))


def test_a_killed_run_does_not_go_on_with_other_output_shards(
    folder, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        _fail_in_shard(patch, filter_report, "write_shard_stats", 2)
        with pytest.raises(KeyboardInterrupt):
            filter_unlabel.run(_config(folder, tmp_path, num_output_shards=3))
    before = _content(tmp_path)
    with pytest.raises(ValueError, match="`num_output_shards`: 3 before, 4"):
        filter_unlabel.run(_config(folder, tmp_path))
    assert _content(tmp_path) == before


def test_other_predictions_are_refused(folder, tmp_path):
    filter_unlabel.run(_config(folder, tmp_path / "out"))
    corpus.write_corpus(tmp_path, PROBS[::-1], KEYS, [0, 100, 100, 180, 300])
    with pytest.raises(ValueError, match="`prediction_shards`: '.*' before"):
        filter_unlabel.run(_config(tmp_path, tmp_path / "out"))


def test_rules_and_seeds_can_share_the_tables_of_the_first_stage(
    folder, tmp_path, monkeypatch
):
    tables = str(tmp_path / "tables")
    config = _config(folder, tmp_path / "a", prelim_stats_dir=tables)
    filter_unlabel.run(config)
    monkeypatch.delattr(counting, "read_columns")
    other = dataclasses.replace(
        config,
        output_dir=str(tmp_path / "b"),
        balance=dataclasses.replace(RULE, num_image=7, seed=3),
    )
    assert filter_unlabel.run(other).num_records == 7 * NUM_CLASSES
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 300])
    with pytest.raises(ValueError, match="tables' holds a run.*`image_shards`"):
        filter_unlabel.run(
            _config(tmp_path, tmp_path / "c", prelim_stats_dir=tables)
        )


def test_only_get_stats_writes_no_images(folder, tmp_path):
    config = _config(folder, tmp_path)
    report = filter_unlabel.run(config, only_get_stats=True)
    assert not (tmp_path / "data").exists()
    assert (tmp_path / "threshold.json").exists()
    assert filter_unlabel.run(config) == report
    assert len(_written(tmp_path)) == report.num_records


def test_an_empty_class_is_reported(folder, tmp_path):
    rule = dataclasses.replace(RULE, min_threshold=0.99, max_prob=1.5)
    report = filter_unlabel.run(_config(folder, tmp_path, balance=rule))
    assert NUM_CLASSES - 1 in report.empty_classes
    threshold = json.loads((tmp_path / "threshold.json").read_text())
    assert threshold[str(NUM_CLASSES - 1)] == [0.99, 0]


def test_every_image_is_counted_under_one_reason():
    confidence = np.array([0.1, 0.5, 0.5, 0.95], np.float32)
    table = balancing.Table(np.zeros(4, int), confidence)
    rule = balancing.BalanceConfig(min_threshold=0.3, max_prob=0.9)
    reasons = filter_report.reasons(rule, table, np.array([0, 2, 0, 0]))
    assert [filter_report.REASONS[reason] for reason in reasons] == [
        "dropped:low_confidence",
        "kept",
        "dropped:class_full",
        "dropped:above_max_prob",
    ]


def test_the_counters_of_the_manifest_add_up(folder, tmp_path):
    rule = dataclasses.replace(RULE, num_image=20, max_prob=0.9)
    config = _config(folder, tmp_path, balance=rule, num_output_shards=3)
    report = filter_unlabel.run(config)
    manifest = shards.read_manifest(tmp_path / "data", "train")
    assert manifest.counters == report.counters
    assert len(report.counters) == 4
    assert sum(manifest.counters.values()) == NUM_IMAGES
    assert manifest.total_records == report.num_records


def test_copies_in_the_input_are_one_image(tmp_path):
    index = np.repeat(np.arange(100), 3)
    index = np.random.default_rng(0).permutation(index)
    keys = [KEYS[i] for i in index]
    corpus.write_corpus(tmp_path, PROBS[index], keys, [0, 150, 300])
    rule = dataclasses.replace(RULE, min_threshold=0.0, use_all=True)
    report = filter_unlabel.run(
        _config(tmp_path, tmp_path / "out", balance=rule)
    )
    written = _written(tmp_path / "out")
    assert report.num_input == 300 == sum(report.counters.values())
    assert (report.num_unique, report.num_records) == (100, 300)
    labels = collections.Counter(row["label"][0] for row in written)
    unique = collections.Counter(np.argmax(PROBS[:100], axis=1).tolist())
    for label, row in enumerate(report.classes):
        assert (row.kept, row.copies) == (unique[label], labels[label])
    # Of 299 pairs of neighbours, 2 are equal on average.
    names = [row["image/filename"] for row in written]
    assert sum(a == b for a, b in zip(names, names[1:])) < 10


def test_predictions_of_several_workers_are_interleaved(folder, tmp_path):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 300])
    alone = filter_unlabel.run(_config(tmp_path, tmp_path / "alone"))
    probs = tmp_path / "probs"
    path = probs / "train-info-00000-of-00001-00000"
    payloads = list(records.read_records(path))
    for worker in range(2):
        name = f"0000{worker}"
        with records.tf.io.TFRecordWriter(str(path)[:-5] + name) as writer:
            for payload in payloads[worker::2]:
                writer.write(payload)
        info = probs / f"info-00000-of-00001-{name}.txt"
        info.write_text('{"image_num": 150}')
    corpus.forget_manifests(tmp_path)
    assert filter_unlabel.run(_config(tmp_path, tmp_path / "two")) == alone
    assert _written(tmp_path / "two") == _written(tmp_path / "alone")


def test_records_without_keys_are_called_by_shard_and_index(tmp_path):
    corpus.write_corpus(tmp_path, PROBS, [b""] * NUM_IMAGES, [0, 100, 300])
    filter_unlabel.run(_config(tmp_path, tmp_path / "out"))
    for row in _written(tmp_path / "out"):
        name, index = row["image/filename"][0].decode().split(":")
        first = {"train-00000-of-00002": 0, "train-00001-of-00002": 100}[name]
        np.testing.assert_array_equal(
            row["probabilities"], PROBS[first + int(index)]
        )


def test_predictions_without_keys_have_those_of_their_images(folder, tmp_path):
    bounds = [0, 100, 100, 180, 300]
    # A few have one, so that images are passed over.
    stored = [key if i % 50 < 3 else b"" for i, key in enumerate(KEYS)]
    corpus.write_corpus(tmp_path, PROBS, KEYS, bounds, stored)
    expected = filter_unlabel.run(_config(folder, tmp_path / "keyed"))
    found = filter_unlabel.run(_config(tmp_path, tmp_path / "out"))
    assert found == expected
    assert _written(tmp_path / "out") == _written(tmp_path / "keyed")


def test_main_filters_as_the_flags_say(folder, tmp_path):
    flag_values = flags.FlagValues()
    filter_unlabel.define_flags(flag_values)
    given = dict(
        input_dir=folder / "images",
        prediction_dir=folder / "probs",
        output_dir=tmp_path,
        num_label_classes=NUM_CLASSES,
        num_image=3,
        min_threshold=0.999,
        only_get_stats=1,
    )
    flag_values(["", *(f"--{name}={value}" for name, value in given.items())])
    filter_unlabel.main(flag_values)
    assert (tmp_path / "threshold.json").exists()
    assert not (tmp_path / "data").exists()
