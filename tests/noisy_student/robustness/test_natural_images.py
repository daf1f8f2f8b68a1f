"""Tests of ImageNet-A, -R, -V2 and ReaL."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_prep import class_names, image_folder, records
from noisy_student import run_dir
from noisy_student.robustness import (
    imagenet_a,
    imagenet_r,
    imagenet_real,
    imagenet_v2,
    measures,
    natural_images,
)
from tests.data_prep import tfds_sets
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
    values = measures.accuracy_among(
        subset, tf.constant(logits), tf.constant(labels)
    )
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


@pytest.mark.parametrize("subset", [None, (1, 3, 4, 7, 8, 9)])
def test_calibration_equals_a_count_by_hand(subset):
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(200, 10)).astype(np.float32)
    labels = rng.choice(subset or 10, 200)
    if subset is None:
        values = measures.accuracy(tf.constant(logits), tf.constant(labels))
    else:
        values = measures.accuracy_among(
            subset, tf.constant(logits), tf.constant(labels)
        )
    figures = measures.calibration_error(
        {name: np.mean(value, axis=0) for name, value in values.items()}
    )
    probs = np.exp(logits)
    # The others may not be answered, and have no share of the confidence.
    probs[:, sorted(set(range(10)) - set(subset or range(10)))] = 0
    probs /= probs.sum(-1, keepdims=True)
    confidence, hits = probs.max(-1), probs.argmax(-1) == labels
    expected = 0
    for low in range(15):
        inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        if inside.any():
            gap = hits[inside].mean() - confidence[inside].mean()
            expected += inside.mean() * abs(gap)
    assert figures["calibration_error"] == pytest.approx(expected, abs=1e-6)
    assert figures["top_1"] == pytest.approx(hits.mean())
    assert not {"confidence_bins", "hit_bins"} & set(figures)


def test_full_confidence_belongs_to_the_last_bin():
    values = measures.calibrated(
        tf.constant([[100.0, 0.0]]), {"top_1": tf.ones(1)}
    )
    assert values["confidence_bins"].numpy()[0, -1] == 1


class SureNetwork:
    """Says the class of its grey to an image, class 0 and then 988 to white."""

    def __call__(self, pixels, training):
        grey = tf.cast(tf.round(pixels[:, 0, 0, 0]), tf.int32)
        best = 5 * tf.one_hot(tf.where(grey > 250, 0, grey), 1000)
        return best + 3 * tf.one_hot(tf.fill(tf.shape(grey), 988), 1000)


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


def rows_of(kind):
    """(grey, label) of each class: white, but for those below 200."""
    return [
        (label if label < 200 else 255, label)
        for label in natural_images.subset(kind)
    ]


def write_subset(root, kind):
    for grey, label in rows_of(kind):
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
    # White gets class 0, which is wrong; among the subset, which is without it,
    # 988, which is right for one that is white.
    assert figures["top_1_1000_way"] == pytest.approx(seen / 200)
    assert figures["top_1"] == pytest.approx((seen + 1) / 200)
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
        (
            lambda root: (root / "n01498041/image.png").unlink(),
            "199 classes, 200 wanted; 1 are missing: n01498041",
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


def test_a_missing_folder_of_images_is_named(tmp_path):
    labels = tmp_path / "real.json"
    labels.write_text("[[3]]")
    with pytest.raises(
        FileNotFoundError, match="--label_data_dir=none: no such folder"
    ):
        imagenet_real.find_images("none", str(labels))


def test_real_labels_are_needed(tmp_path):
    write_validation(tmp_path, [3])
    with pytest.raises(ValueError, match="--real_labels is needed"):
        imagenet_real.find_images(str(tmp_path), None)


def test_class_folders_may_be_links(tmp_path):
    write_validation(tmp_path / "elsewhere", [3])
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / SYNSETS[1]).symlink_to(
        tmp_path / "elsewhere" / SYNSETS[1]
    )
    labels = tmp_path / "real.json"
    labels.write_text("[[3]]")
    paths, answers = imagenet_real.find_images(
        str(tmp_path / "val"), str(labels)
    )
    assert len(paths) == 1
    assert answers.tolist() == [[3]]


def write_shards(folder, split, rows, **classes):
    writer = records.ShardedWriter(
        str(folder), split, 1, kind="labeled", config={}, **classes
    )
    with writer.open_shard(0) as shard:
        for number, (grey, label) in enumerate(rows):
            image = images.grey_image(grey)
            example = records.labeled_example(image, label + 1, str(number))
            shard.write(example, label + 1)
    writer.finish()


def test_shards_of_imagenets_labels(tmp_path, use_imagenet, run):
    rows = rows_of("imagenet_a")
    write_shards(tmp_path / "set", "test", [*rows, (6, 11)])
    run(imagenet_a, **arguments_of(tmp_path, use_imagenet))
    report = json.loads((tmp_path / "out/imagenet_a.json").read_text())
    # White is taken for 988 among the subset.
    seen = sum(label < 200 for _, label in rows)
    assert report["figures"]["top_1"] == pytest.approx((seen + 1) / 201)
    assert report["figures"]["top_1_1000_way"] == pytest.approx(seen / 201)


@pytest.mark.parametrize(
    "rows, message",
    [
        (
            lambda rows: [*rows, (5, 5)],
            "201 classes, 200 wanted; 1 are none of its classes: n01496331",
        ),
        (
            lambda rows: [*rows, (5, 1003)],
            "1 are none of its classes: label 1003",
        ),
        (
            lambda rows: rows[2:],
            "198 classes, 200 wanted; 2 are missing: n01498041, n01531178",
        ),
    ],
)
def test_shards_of_other_classes_are_refused_first(
    tmp_path, use, run, rows, message
):
    checkpoint, network = use(1000)
    write_shards(tmp_path / "set", "test", rows(rows_of("imagenet_a")))
    with pytest.raises(ValueError, match=message):
        run(imagenet_a, **arguments_of(tmp_path, checkpoint))
    assert network.num_seen == 0


@pytest.mark.parametrize(
    "names, message",
    [
        (SYNSETS[:200], "those of 200 classes, not of ImageNet's 1000"),
        (SYNSETS[::-1], "another order .*: label 0 is 'n15075141', not 'n014"),
        (sorted(map(str, range(1000))), "other classes .*: 0, 1, 10, 100, 101"),
        ([f"class {n}" for n in range(1000)], "other classes .*: class 0, "),
    ],
)
def test_stored_class_names_must_be_imagenets(
    tmp_path, use, run, names, message
):
    checkpoint, network = use(1000)
    write_shards(
        tmp_path / "set",
        "test",
        rows_of("imagenet_a"),
        num_classes=len(names),
        class_names=names,
    )
    with pytest.raises(ValueError, match=message):
        run(imagenet_a, **arguments_of(tmp_path, checkpoint))
    assert network.num_seen == 0


def test_a_network_of_other_classes_is_refused(tmp_path, use, run, monkeypatch):
    checkpoint, _ = use(1000)
    write_subset(tmp_path / "set", "imagenet_a")
    for names, is_right in (
        (SYNSETS, True),
        (list(map(str, range(1000))), True),
        (SYNSETS[::-1], False),
        ([f"class {n}" for n in range(1000)], False),
    ):
        monkeypatch.setattr(
            run_dir, "trained_class_names", lambda _, names=names: tuple(names)
        )
        if is_right:
            run(imagenet_a, **arguments_of(tmp_path, checkpoint))
            continue
        with pytest.raises(ValueError, match="was trained on others, or in"):
            run(imagenet_a, **arguments_of(tmp_path, checkpoint))


def test_shards_of_numbered_folders_have_their_labels(
    tmp_path, use_imagenet, run
):
    for label in range(1000):
        grey = label if label < 200 else 255
        images.write(tmp_path / "folders" / str(label) / "image.png", grey)
    run(
        image_folder,
        input_dir=tmp_path / "folders",
        split="test",
        output_dir=tmp_path / "set",
        num_shards=1,
    )
    run(imagenet_v2, **arguments_of(tmp_path, use_imagenet))
    report = json.loads((tmp_path / "out/imagenet_v2.json").read_text())
    assert report["figures"]["top_1"] == pytest.approx(0.2)


def test_a_report_of_another_network_is_not_replaced(
    tmp_path, use_imagenet, run
):
    write_shards(tmp_path / "set", "test", rows_of("imagenet_a"))
    arguments = arguments_of(tmp_path, use_imagenet)
    run(imagenet_a, **arguments)
    path = tmp_path / "out/imagenet_a.json"
    first = path.read_bytes()
    # The same again is no other.
    run(imagenet_a, **{**arguments, "label_data_dir": f"{tmp_path}/out/../set"})
    assert path.read_bytes() == first
    (tmp_path / "set").rename(tmp_path / "other")
    for changes, message in (
        ({"resize": "whole"}, "`resize`: 'crop' before, 'whole' now"),
        ({"label_data_dir": tmp_path / "other"}, "`label_data_dir`: .*/other"),
        ({"eval_split": "validation"}, "`eval_split`: 'test' before"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Use another"):
            run(imagenet_a, **{**arguments, **changes})
    (tmp_path / "trained/model.ckpt-1.index").write_bytes(b"other weights")
    with pytest.raises(ValueError, match="`weights`"):
        run(imagenet_a, **arguments)
    assert path.read_bytes() == first
    # Of a report that does not tell, nothing is known.
    path.write_text("{}")
    with pytest.raises(ValueError, match="`checkpoint`: absent before"):
        run(imagenet_a, **arguments)


def test_a_background_class_is_explained(tmp_path, run, use):
    checkpoint, _ = use(1001)
    write_subset(tmp_path / "set", "imagenet_a")
    with pytest.raises(ValueError, match="--checkpoint_head=drop_background"):
        run(imagenet_a, **arguments_of(tmp_path, checkpoint))


class TinyNatural(tfds.core.GeneratorBasedBuilder):
    """An image of each class of ImageNet-A, labels as in `imagenet_a`."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=SYNSETS),
                    "file_name": tfds.features.Text(),
                }
            )
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for grey, label in rows_of("imagenet_a"):
            image, synset = np.full((8, 8, 3), grey, np.uint8), SYNSETS[label]
            yield synset, {"image": image, "label": synset, "file_name": synset}


def test_a_prepared_tfds_set(tmp_path, use_imagenet, run):
    with tfds_sets.prepared(tmp_path / "tfds", TinyNatural):
        run(
            imagenet_a,
            **{
                **arguments_of(tmp_path, use_imagenet),
                "label_data_dir": "tfds:tiny_natural",
            },
        )
    report = json.loads((tmp_path / "out/imagenet_a.json").read_text())
    seen = sum(label < 200 for _, label in rows_of("imagenet_a"))
    assert report["figures"]["num_images"] == 200
    assert report["figures"]["top_1"] == pytest.approx((seen + 1) / 200)
    assert report["figures"]["top_1_1000_way"] == pytest.approx(seen / 200)
