"""Tests of `noisy_student.label_summary`."""

import json
import pathlib
import types

import numpy as np
import pytest

from data_prep import records, thumbnails
from noisy_student import label_summary, rounds, run_dir
from tests.data_prep import corpus
from tests.noisy_student import report_run

INDICES = range(report_run.NUM_IMAGES)


def is_wrong(index):
    return index % 10 == 0


def test_every_label_is_counted_by_its_confidence(work):
    labels = label_summary.summarize(*work)
    bins = [int(report_run.confidence(i) * 20) for i in INDICES]
    wrong = [bins[i] for i in INDICES if is_wrong(i)]
    assert labels.counts.tolist() == [bins.count(i) for i in range(20)]
    assert labels.wrong_counts.tolist() == [wrong.count(i) for i in range(20)]


def test_examples_are_the_most_and_the_least_confident(work):
    labels = label_summary.summarize(*work)
    order = sorted(INDICES, key=report_run.confidence)
    for examples, expected in (
        (labels.most_confident, order[:-33:-1]),
        (labels.least_confident, order[:32]),
    ):
        assert [
            (e.key, e.label, e.confidence, e.truth, e.is_wrong)
            for e in examples
        ] == [
            (
                report_run.key(i),
                report_run.label(i),
                report_run.confidence(i),
                report_run.label(i) + is_wrong(i),
                is_wrong(i),
            )
            for i in expected
        ]


def test_without_the_truth_nothing_is_wrong(work):
    work_dir, report = work
    report["unlabeled"]["truth"] = None
    labels = label_summary.summarize(work_dir, report)
    assert labels.counts.sum() == report_run.NUM_IMAGES
    assert labels.wrong_counts.sum() == 0
    for example in (*labels.most_confident, *labels.least_confident):
        assert example.truth is None
        assert not example.is_wrong


def test_thumbnails_are_the_images_that_were_labeled(work):
    labels = label_summary.summarize(*work)
    examples = [*labels.most_confident, *labels.least_confident]
    images = thumbnails.read((e.shard, e.index) for e in examples)
    assert len(images) == len(examples) == 64
    for example in examples:
        image = images[example.shard, example.index]
        assert image.size == (32, 32)
        is_odd_key = example.key == report_run.ODD_KEY
        index = 0 if is_odd_key else int(example.key.split("/")[1])
        # The scans hold 0 to 16; the JPEG is lossy.
        assert np.mean(image) == pytest.approx(index % 17 * 255 / 16, abs=2)


def test_copies_of_a_relabeled_image_are_shown_once(work, tmp_path):
    work_dir, report = work
    filtered = tmp_path / "work" / "filter"
    labels_dir = pathlib.Path(work_dir) / "round_1" / "labels"
    for path in labels_dir.iterdir():
        path.unlink()
    keys = ["twice", "twice", "other"]
    report_run.write_images(filtered, "train", keys)
    report_run.write_labels(labels_dir, filtered, "train", keys)
    labels = label_summary.summarize(work_dir, report)
    assert labels.counts.sum() == 3
    assert [e.key for e in labels.most_confident] == ["other", "twice"]
    assert [e.key for e in labels.least_confident] == ["twice", "other"]
    for example in (*labels.most_confident, *labels.least_confident):
        assert example.shard.startswith(str(filtered))


def test_missing_labels_are_named(work):
    work_dir, report = work
    report["rounds"][-1]["round"] = 2
    with pytest.raises(FileNotFoundError, match="No finished labels.*round_2"):
        label_summary.summarize(work_dir, report)


def test_keys_need_not_be_text(tmp_path):
    keys = [b"caf\xe9.jpg", b"b", b"c"]
    probs = corpus.random_probs(3, 3, seed=0)
    corpus.write_corpus(tmp_path, probs, keys, [0, 3])
    folder = run_dir.round_dir(str(tmp_path), 1, "labels")
    writer = records.ShardedWriter(
        folder,
        "extra",
        1,
        kind="prediction",
        config={"input_dir": str(tmp_path / "images")},
    )
    with writer.open_shard(0) as shard:
        for row, key in zip(probs, keys):
            shard.write(records.prediction_example(row, key))
    writer.finish()
    report = report_run.changed(split="extra")
    (tmp_path / "images" / "train-00000-of-00001").rename(
        tmp_path / "images" / "extra-00000-of-00001"
    )
    labels = label_summary.summarize(str(tmp_path), report)
    found = {example.key for example in labels.most_confident}
    assert found == {"caf\\xe9.jpg", "b", "c"}


def test_kept_labels_are_compared_with_a_truth_whatever_the_keys(tmp_path):
    folder = run_dir.pseudo_labeled_dir(str(tmp_path), 1)
    writer = records.ShardedWriter(
        folder, "train", 1, kind="pseudo_labeled", config={}
    )
    with writer.open_shard(0) as shard:
        for key in (b"caf\xe9.jpg", b"b"):
            example = records.pseudo_labeled_example(
                b"jpeg", 1, 0.5, [0.2, 0.5, 0.3], key
            )
            shard.write(example, 1)
    writer.finish()
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"caf\\xe9.jpg": 1, "b": 0}))
    config = types.SimpleNamespace(work_dir=str(tmp_path), truth=str(truth))
    model = types.SimpleNamespace(num_classes=3)
    assert rounds._accuracy(config, 1, model) == 0.5
