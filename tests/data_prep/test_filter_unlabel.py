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
    records,
    shards,
    validation,
)
from tests import golden_data
from tests.data_prep import corpus

NUM_CLASSES = 5
NUM_IMAGES = 300
PROBS = corpus.random_probs(NUM_IMAGES, NUM_CLASSES, seed=3, step=1 / 64)
KEYS = [b"key/%d" % i for i in range(NUM_IMAGES)]
RULE = balancing.BalanceConfig(num_image=40, min_threshold=0.4)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    corpus.write_corpus(folder, PROBS, KEYS, [0, 100, 100, 180, 300])
    return folder


def _config(folder, output_dir, **changes):
    return filter_unlabel.FilterConfig(
        **{
            "input_dir": str(folder / "images"),
            "prediction_dir": str(folder / "probs"),
            "output_dir": str(output_dir),
            "num_label_classes": NUM_CLASSES,
            "balance": RULE,
            **changes,
        }
    )


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


def test_records_are_shuffled_inside_a_shard(folder, tmp_path):
    filter_unlabel.run(_config(folder, tmp_path))
    rows = corpus.read_features(shards.list_shards(tmp_path / "data")[:1])
    indices = [int(row["image/filename"][0].split(b"/")[1]) for row in rows]
    assert max(indices) < 100
    ascending = np.mean(np.diff(indices) >= 0)
    assert 0.3 < ascending < 0.7


def test_the_seed_changes_choices_but_not_numbers(folder, tmp_path):
    reports = [
        filter_unlabel.run(_config(folder, tmp_path / str(seed), seed=seed))
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
    ("module", "name"),
    [
        (counting, "count_shard"),
        (filter_report, "write_stats"),
        (records, "pseudo_labeled_example"),
        (shards, "write_manifest"),
    ],
)
def test_a_killed_run_continues_to_the_same_bytes(
    folder, tmp_path, monkeypatch, module, name
):
    filter_unlabel.run(_config(folder, tmp_path / "whole"))
    number = {"count_shard": 3, "pseudo_labeled_example": 100}.get(name, 1)
    with monkeypatch.context() as patch:
        _fail_in_shard(patch, module, name, number)
        with pytest.raises(KeyboardInterrupt):
            filter_unlabel.run(_config(folder, tmp_path / "killed"))
    read = []
    count_shard = counting.count_shard
    monkeypatch.setattr(
        counting,
        "count_shard",
        lambda *args, **kwargs: read.append(1) or count_shard(*args, **kwargs),
    )
    filter_unlabel.run(_config(folder, tmp_path / "killed"))
    assert len(read) == (2 if name == "count_shard" else 0)
    assert _content(tmp_path / "killed") == _content(tmp_path / "whole")


def test_a_finished_run_returns_its_report_without_work(
    folder, tmp_path, monkeypatch
):
    config = _config(folder, tmp_path)
    report = filter_unlabel.run(config)
    before = _content(tmp_path)
    monkeypatch.delattr(counting, "check_inputs")
    assert filter_unlabel.run(config) == report
    assert _content(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"balance": dataclasses.replace(RULE, num_image=7)},
            "`num_image`: 40 before, 7 now",
        ),
        ({"seed": 1}, "`seed`: 0 before, 1 now"),
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


def test_other_predictions_are_refused(folder, tmp_path):
    filter_unlabel.run(_config(folder, tmp_path / "out"))
    corpus.write_corpus(tmp_path, PROBS[::-1], KEYS, [0, 100, 100, 180, 300])
    with pytest.raises(ValueError, match="`prediction_shards`: '.*' before"):
        filter_unlabel.run(_config(tmp_path, tmp_path / "out"))


def test_rules_can_share_the_tables_of_the_first_stage(
    folder, tmp_path, monkeypatch
):
    tables = str(tmp_path / "tables")
    config = _config(folder, tmp_path / "a", prelim_stats_dir=tables)
    filter_unlabel.run(config)
    monkeypatch.delattr(counting, "count_shard")
    other = dataclasses.replace(
        config,
        output_dir=str(tmp_path / "b"),
        balance=dataclasses.replace(RULE, num_image=7),
    )
    assert filter_unlabel.run(other).num_records == 7 * NUM_CLASSES
    with pytest.raises(ValueError, match="tables' holds a run.*`seed`: 0"):
        filter_unlabel.run(
            dataclasses.replace(config, output_dir=str(tmp_path / "c"), seed=1)
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
    table = np.array(
        [(0, c, 0) for c in (0.1, 0.5, 0.5, 0.95)], balancing.TABLE_DTYPE
    )
    rule = balancing.BalanceConfig(min_threshold=0.3, max_prob=0.9)
    assert filter_report.count_reasons(rule, table, np.array([0, 2, 0, 0])) == {
        "kept": 1,
        "dropped:low_confidence": 1,
        "dropped:above_max_prob": 1,
        "dropped:class_full": 1,
    }


@pytest.mark.parametrize("use_all", [False, True])
def test_copies_in_the_input_are_one_image(tmp_path, use_all):
    index = np.repeat(np.arange(100), 3)
    keys = [KEYS[i] for i in index]
    corpus.write_corpus(tmp_path, PROBS[index], keys, [0, 150, 300])
    rule = dataclasses.replace(RULE, min_threshold=0.0, use_all=use_all)
    report = filter_unlabel.run(
        _config(tmp_path, tmp_path / "out", balance=rule)
    )
    written = _written(tmp_path / "out")
    assert report.num_input == 300 == sum(report.counters.values())
    assert report.num_records == len(written)
    images = {(row["label"][0], row["image/filename"][0]) for row in written}
    assert report.num_unique == len(images) <= 100
    kept = collections.Counter(label for label, _ in images)
    copies = collections.Counter(row["label"][0] for row in written)
    for label, row in enumerate(report.classes):
        assert (row.kept, row.copies) == (kept[label], copies[label])
    if use_all:
        assert (report.num_unique, report.num_records) == (100, 300)


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


def _remove(name):
    return lambda folder: os.remove(folder / name)


def _truncate(name):
    def truncate(folder):
        with open(folder / name, "r+b") as file:
            file.truncate(1000)

    return truncate


def _miscount(folder):
    info = folder / "probs" / "info-00000-of-00002-00000.txt"
    info.write_text('{"image_num": 99}')


def _mix_up_shards(folder):
    for kind, name in (("info-", ".txt"), ("train-info-", "")):
        paths = [
            folder / "probs" / f"{kind}0000{i}-of-00002-00000{name}"
            for i in range(2)
        ]
        os.rename(paths[0], folder / "other")
        os.rename(paths[1], paths[0])
        os.rename(folder / "other", paths[1])


@pytest.mark.parametrize(
    ("damage", "error_type", "message"),
    [
        (
            _remove("images/train-00001-of-00002"),
            ValueError,
            "missing: train-00001-of-00002",
        ),
        (
            _remove("probs/train-info-00001-of-00002-00000"),
            FileNotFoundError,
            "missing in .*: train-info-00001-of-00002-00000",
        ),
        (
            _remove("probs/info-00001-of-00002-00000.txt"),
            FileNotFoundError,
            "info-00001-of-00002-00000.txt' is missing: the labelling",
        ),
        (
            _truncate("images/train-00000-of-00002"),
            ValueError,
            "images/train-00000-of-00002': record .*truncated",
        ),
        (
            _truncate("probs/train-info-00000-of-00002-00000"),
            ValueError,
            "train-info-00000-of-00002-00000': record .*truncated",
        ),
        (_miscount, ValueError, "holds 100 predictions, but .*.txt' says 99"),
        (
            _mix_up_shards,
            ValueError,
            "train-00000-of-00002' holds 100 images, but there are 200",
        ),
    ],
)
def test_damaged_inputs_are_named_before_anything_is_written(
    tmp_path, damage, error_type, message
):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 100, 300])
    damage(tmp_path)
    with pytest.raises(error_type, match=message):
        filter_unlabel.run(_config(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_label_classes": 7},
            "distributions over 5 classes. Received: --num_label_classes=7",
        ),
        ({"num_shards": 3}, "--num_shards=3, but there are 4 'train' shards"),
    ],
)
def test_inputs_must_be_as_large_as_stated(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        filter_unlabel.run(_config(folder, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("input_dir", "No shards match"),
        ("prediction_dir", "4 prediction files are missing"),
        ("output_dir", "'.*no' is a file, not a folder"),
        ("prelim_stats_dir", "'.*no' is a file, not a folder"),
    ],
)
def test_wrong_folders_are_named_with_their_flags(
    folder, tmp_path, name, message
):
    path = tmp_path / "no"
    if message.endswith("not a folder"):
        path.touch()
    folders = {"output_dir": tmp_path / "out", name: str(path)}
    config = _config(folder, **folders)
    with pytest.raises(
        (ValueError, FileNotFoundError), match=f"^--{name}={path}: {message}"
    ):
        filter_unlabel.run(config)


def _replace_prediction(folder, index, serialized):
    path = folder / "probs" / "train-info-00000-of-00001-00000"
    payloads = list(records.read_records(path))
    payloads[index] = serialized
    with records.tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)


@pytest.mark.parametrize(
    ("serialized", "message"),
    [
        (
            records.prediction_example([np.nan] * NUM_CLASSES, b""),
            "predictions 256 to 299: field 'probabilities' holds a negative",
        ),
        (
            records.prediction_example([1, 0, 0, 0, 0], b"key/7"),
            "record 270 has the key b'key/270', but its prediction .*b'key/7'",
        ),
    ],
)
def test_malformed_predictions_are_named(tmp_path, serialized, message):
    corpus.write_corpus(tmp_path, PROBS, KEYS, [0, 300])
    _replace_prediction(tmp_path, 270, serialized)
    rule = dataclasses.replace(RULE, num_image=1000)
    with pytest.raises(records.RecordError, match=message):
        filter_unlabel.run(_config(tmp_path, tmp_path / "out", balance=rule))


def test_a_class_outside_the_distribution_is_named():
    label = np.array([0, NUM_CLASSES])
    with pytest.raises(records.RecordError, match=r"0..4. Received: 0..5"):
        counting._check_predictions(label, PROBS[:2], "")


def test_the_original_shards_give_the_original_thresholds(tmp_path):
    arrays = np.load(golden_data.path("filter.npz"))
    golden = json.loads(golden_data.path("filter.json").read_text())["main"]
    probs = arrays["probabilities"]
    bounds = [0, *arrays["shard_sizes"].cumsum()]
    keys = [b"%d" % i for i in range(len(probs))]
    corpus.write_corpus(tmp_path, probs, keys, bounds)
    rule = balancing.BalanceConfig("binned", num_image=100, min_threshold=0.3)
    output_dir = tmp_path / "out"
    filter_unlabel.run(
        _config(tmp_path, output_dir, num_label_classes=10, balance=rule)
    )
    for name in ("threshold", "total_counts", "total_counts_sum"):
        found = json.loads((output_dir / f"{name}.json").read_text())
        assert found == golden[name]
    written = collections.Counter(
        int(row["image/filename"][0]) for row in _written(output_dir)
    )
    copies = np.array([written[i] for i in range(len(probs))])
    expected = arrays["expected_copies"]
    assert (copies >= np.floor(expected)).all()
    assert (copies <= np.ceil(expected)).all()
    stats = json.loads((output_dir / "stats/final_stats.json").read_text())
    assert (
        stats["total_cnt"] == copies.sum() == sum(stats["cat_count"].values())
    )


NON_DEFAULT = {
    "input_dir": "other",
    "prediction_dir": "other",
    "info_dir": "other",
    "prelim_stats_dir": "other",
    "output_dir": "other",
    "num_shards": 7,
    "file_prefix": "other",
    "num_label_classes": 10,
    "selection": "binned",
    "num_image": 7,
    "min_threshold": 0.5,
    "max_prob": 0.5,
    "upsample": 0,
    "use_all": True,
    "seed": 7,
}


def _flags(**values):
    flag_values = flags.FlagValues()
    filter_unlabel.define_flags(flag_values)
    given = {"input_dir": "i", "prediction_dir": "p", "output_dir": "o"}
    given.update(values)
    arguments = [f"--{name}={value}" for name, value in given.items()]
    flag_values(["program", *arguments])
    return flag_values


@pytest.mark.parametrize("name", NON_DEFAULT)
def test_no_flag_is_dead(name):
    default = filter_unlabel.config_from_flags(_flags())
    changed = filter_unlabel.config_from_flags(
        _flags(**{name: NON_DEFAULT[name]})
    )
    assert changed != default


def test_every_flag_is_tried():
    assert set(_flags()) == {*NON_DEFAULT, "only_get_stats"}


def test_flags_have_the_defaults_of_the_config():
    assert filter_unlabel.config_from_flags(
        _flags()
    ) == filter_unlabel.FilterConfig("i", "p", "o")


def test_main_filters_as_the_flags_say(folder, tmp_path):
    flag_values = _flags(
        input_dir=folder / "images",
        prediction_dir=folder / "probs",
        output_dir=tmp_path,
        num_label_classes=NUM_CLASSES,
        num_image=3,
        min_threshold=0.999,
        only_get_stats=1,
    )
    filter_unlabel.main(flag_values)
    assert (tmp_path / "threshold.json").exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["input_dir", "prediction_dir", "output_dir"])
def test_folders_are_needed(name):
    with pytest.raises(ValueError, match=f"--{name} is needed"):
        filter_unlabel.config_from_flags(_flags(**{name: ""}))


def test_the_number_of_classes_is_checked():
    with pytest.raises(ValueError, match="`num_label_classes` must be >= 1"):
        filter_unlabel.FilterConfig("i", "p", "o", num_label_classes=0)
