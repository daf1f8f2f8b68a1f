"""Tests of ImageNet-A, -R, -V2 and ReaL."""

import json

import numpy as np
import pytest
import tensorflow as tf

from data_prep import class_names
from noisy_student.robustness import (
    imagenet_a,
    imagenet_r,
    imagenet_real,
    imagenet_v2,
    measures,
    natural_images,
)
from tests.noisy_student.robustness import images

SYNSETS = [synset for synset, _ in class_names.imagenet_classes()]


def test_the_subsets_of_imagenet():
    subset = natural_images.subset("imagenet_a")
    assert len(set(subset)) == 200
    assert sum(subset) == 102178
    # Both ends, by name.
    assert SYNSETS[subset[0]] == "n01498041"
    assert SYNSETS[subset[-1]] == "n12267677"
    subset = natural_images.subset("imagenet_r")
    assert len(set(subset)) == 200
    assert SYNSETS[subset[0]] == "n01443537"
    assert SYNSETS[subset[-1]] == "n12267677"


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_among_a_subset_equals_a_count_by_hand(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(50, 30)).astype(np.float32)
    subset = np.sort(rng.choice(30, 8, replace=False))
    labels = rng.choice(subset, 50)
    values = measures.among(subset, tf.constant(logits), tf.constant(labels))
    for row, label, *found in zip(
        logits,
        labels,
        *(
            values[name].numpy()
            for name in ("top_1", "top_5", "top_1_1000_way", "top_5_1000_way")
        ),
    ):
        few = sorted(subset, key=lambda c: -row[c])
        many = sorted(range(30), key=lambda c: -row[c])
        assert found == [
            label == few[0],
            label in few[:5],
            label == many[0],
            label in many[:5],
        ]


def test_calibration_equals_a_count_by_hand():
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(200, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 200)
    values = measures.calibrated(
        lambda logits, labels: {
            "top_1": tf.cast(tf.argmax(logits, -1) == labels, tf.float32)
        },
        tf.constant(logits),
        tf.constant(labels),
    )
    figures = measures.calibration_error(
        {name: np.mean(value, axis=0) for name, value in values.items()}
    )
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    confidence, hits = probs.max(-1), probs.argmax(-1) == labels
    expected = 0
    for low in range(15):
        inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        if inside.any():
            gap = hits[inside].mean() - confidence[inside].mean()
            expected += inside.mean() * abs(gap)
    assert figures["calibration_error"] == pytest.approx(expected, abs=1e-6)
    assert set(figures) == {"top_1", "calibration_error"}


def test_full_confidence_belongs_to_the_last_bin():
    values = measures.calibrated(
        lambda *_: {"top_1": tf.ones(1)},
        tf.constant([[100.0, 0.0]]),
        tf.constant([0]),
    )
    assert values["confidence_bins"].numpy()[0, -1] == 1


class SureNetwork:
    """Says class 0 of 1000 to white, and the class of its grey otherwise."""

    def __call__(self, pixels, training):
        grey = tf.cast(tf.round(pixels[:, 0, 0, 0]), tf.int32)
        return 5 * tf.one_hot(tf.where(grey > 250, 0, grey), 1000)


@pytest.fixture(name="use_imagenet")
def _use_imagenet(use, monkeypatch):
    from noisy_student import models

    checkpoint, _ = use(1000)
    monkeypatch.setattr(models, "load", lambda *_, **__: SureNetwork())
    return checkpoint


def arguments_of(tmp_path, checkpoint):
    return {
        "label_data_dir": tmp_path / "set",
        "checkpoint": checkpoint,
        "output_dir": tmp_path / "out",
        "eval_batch_size": 50,
    }


def write_subset(root, kind):
    """An image of each class: white, but for those with a grey below 250."""
    for label in natural_images.subset(kind):
        grey = label if label < 200 else 255
        images.write(root / SYNSETS[label] / "image.png", grey)


@pytest.mark.parametrize(
    "kind, command", [("imagenet_a", imagenet_a), ("imagenet_r", imagenet_r)]
)
def test_both_ways_on_the_released_folder(
    tmp_path, use_imagenet, run, kind, command
):
    write_subset(tmp_path / "set", kind)
    (tmp_path / "set/README.txt").write_text("about")
    run(command, **arguments_of(tmp_path, use_imagenet))
    report = json.loads((tmp_path / f"out/{kind}.json").read_text())
    figures = report["figures"]
    seen = sum(label < 200 for label in natural_images.subset(kind))
    assert figures["num_images"] == 200
    # White gets class 0: wrong; among the subset, whose logits then are equal,
    # its first class, which is wrong for all that are white.
    assert figures["top_1_1000_way"] == pytest.approx(seen / 200)
    assert figures["top_1"] == pytest.approx(seen / 200)
    assert 0 < figures["calibration_error"] < 1
    assert report["kind"] == kind


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda root: (
                (root / "n01498041/image.png").unlink()
                or (root / "n01498041").rmdir()
            ),
            "199 class folders, 200 wanted; 1 are missing: n01498041",
        ),
        (
            lambda root: (root / "n01440764").mkdir(),
            "201 class folders, 200 wanted; 1 are none .*: n01440764",
        ),
    ],
)
def test_other_folders_are_refused_first(tmp_path, run, change, message, use):
    checkpoint, network = use(1000)
    write_subset(tmp_path / "set", "imagenet_a")
    change(tmp_path / "set")
    with pytest.raises(ValueError, match=message):
        run(imagenet_a, **arguments_of(tmp_path, checkpoint))
    assert network.num_seen == 0


def test_another_number_of_classes_is_refused(tmp_path, run, use):
    checkpoint, _ = use(10)
    write_subset(tmp_path / "set", "imagenet_a")
    with pytest.raises(ValueError, match="of ImageNet's 1000 .* with 10"):
        run(imagenet_a, **arguments_of(tmp_path, checkpoint))


def test_numbered_folders_are_labels(tmp_path, use_imagenet, run):
    for label in range(1000):
        grey = label if label < 200 else 255
        images.write(tmp_path / "set" / str(label) / "image.png", grey)
    run(imagenet_v2, **arguments_of(tmp_path, use_imagenet))
    report = json.loads((tmp_path / "out/imagenet_v2.json").read_text())
    assert report["figures"]["top_1"] == pytest.approx(0.2)


def write_validation(root, greys):
    for number, grey in enumerate(greys, start=1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        images.write(root / SYNSETS[number] / name, grey)


def test_any_of_the_right_answers_counts(tmp_path, use_imagenet, run):
    write_validation(tmp_path / "set", [3, 4, 5, 6])
    labels = tmp_path / "real.json"
    # The second has no answer and does not count.
    labels.write_text(json.dumps([[9, 3, 8], [], [7], [6]]))
    run(
        imagenet_real,
        **arguments_of(tmp_path, use_imagenet),
        real_labels=labels,
    )
    report = json.loads((tmp_path / "out/imagenet_real.json").read_text())
    assert report["figures"]["num_images"] == 3
    assert report["figures"]["top_1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "answers, error, message",
    [
        ([[1], [2], [3]], ValueError, "2 validation images.*1 of those"),
        ({"a": 1}, ValueError, "a list of lists"),
        (None, FileNotFoundError, "no such file"),
    ],
)
def test_wrong_answers_are_refused(tmp_path, answers, error, message):
    write_validation(tmp_path, [3, 4])
    labels = tmp_path / "real.json"
    if answers is not None:
        labels.write_text(json.dumps(answers))
    with pytest.raises(error, match=message):
        imagenet_real.find_images(str(tmp_path), str(labels))
