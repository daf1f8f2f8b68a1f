"""Tests of turning ImageNet into the standard shards."""

import io

import numpy as np
import pytest
from PIL import Image

from data_prep import (
    class_names,
    files,
    imagenet,
    shards,
    source_writer,
    validation,
)
from tests.data_prep import corpus, source_checks

SYNSETS = [synset for synset, _ in class_names.imagenet_classes()]
PNG_NAME = "n02105855_2933.JPEG"
CMYK_NAME = "n01739381_1309.JPEG"


def _train_files():
    """Returns dict synset -> list of (name, bytes): one image a class."""
    images = [corpus.image_bytes(seed) for seed in range(20)]
    classes = {
        synset: [(f"{synset}_{i}.JPEG", images[i % 20])]
        for i, synset in enumerate(SYNSETS)
    }
    classes["n02105855"] = [(PNG_NAME, corpus.image_bytes(1, "PNG"))]
    classes["n01739381"] = [
        (CMYK_NAME, corpus.image_bytes(2, mode="CMYK")),
        ("n01739381_7.JPEG", b"damaged"),
        ("notes.txt", b"text"),
    ]
    return classes


TRAIN = _train_files()


def _class_archives(classes):
    """Returns the tar file of the tar files of classes."""
    return source_checks.tar_bytes(
        (f"{synset}.tar", source_checks.tar_bytes(members))
        for synset, members in classes.items()
    )


# The order of the validation images is not that of their classes.
VALIDATION = [
    (f"ILSVRC2012_val_{i + 1:08d}.JPEG", SYNSETS[(i * 7) % 1000])
    for i in range(1000)
]


@pytest.fixture(name="inputs", scope="module")
def _inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ilsvrc")
    (folder / "train.tar").write_bytes(_class_archives(TRAIN))
    image = corpus.image_bytes(5)
    (folder / "val.tar").write_bytes(
        source_checks.tar_bytes([(name, image) for name, _ in VALIDATION])
    )
    (folder / "synsets.txt").write_text(
        "".join(f"{synset}\n" for _, synset in VALIDATION)
    )
    return folder


def _config(inputs, output_dir, **changes):
    settings = {"train_shards": 8, "validation_shards": 4, **changes}
    for name in ("train", "validation", "validation_labels", "devkit_meta"):
        if name in settings:
            settings[name] = str(inputs / settings[name])
    return imagenet.ImageNetConfig(str(output_dir), **settings)


@pytest.fixture(name="written", scope="module")
def _written(inputs, tmp_path_factory):
    """The shards of the training images, from the tar file."""
    folder = tmp_path_factory.mktemp("written")
    imagenet.write(_config(inputs, folder, train="train.tar"))
    return folder


def test_every_training_image_has_its_label_or_a_reason(written):
    manifest = shards.read_manifest(written, "train")
    assert manifest.counters == {
        "converted:jpeg": 1,
        "converted:png": 1,
        "dropped:not_image": 1,
        "dropped:other_file": 1,
        "kept": 998,
    }
    assert manifest.class_names == tuple(SYNSETS)
    found = validation.validate(written, "labeled", 1000)
    assert found.label_counts == {label: 1 for label in range(1, 1001)}
    rows = source_checks.rows(written, "train")
    for key, row in rows.items():
        label = SYNSETS.index(key[:9]) + 1
        assert row["image/class/label"] == [label]
    name, data = TRAIN["n15075141"][0]
    assert rows[name]["image/encoded"] == [data]
    # Neighbours are of different classes.
    keys = list(rows)
    assert keys != sorted(keys)


@pytest.mark.parametrize("name", [PNG_NAME, CMYK_NAME])
def test_the_png_and_the_cmyk_files_become_rgb_jpeg(written, name):
    (data,) = source_checks.rows(written, "train")[name]["image/encoded"]
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    (original,) = (d for n, d in TRAIN[name[:9]] if n == name)
    expected = np.asarray(Image.open(io.BytesIO(original)).convert("RGB"))
    difference = np.asarray(image).astype(int) - expected
    assert np.abs(difference).mean() < 2


def test_folders_and_class_archives_give_the_same_shards(
    inputs, written, tmp_path
):
    classes = dict(TRAIN)
    for synset in SYNSETS[:100:3]:
        for name, data in classes.pop(synset):
            files.write_bytes(tmp_path / "in" / synset / name, data)
    for synset in SYNSETS[1:100:3]:
        packed = source_checks.tar_bytes(classes.pop(synset))
        files.write_bytes(tmp_path / "in" / f"{synset}.tar", packed)
    packed = _class_archives(classes)
    files.write_bytes(tmp_path / "in" / "rest.tar", packed)
    config = _config(inputs, tmp_path / "out", train=tmp_path / "in")
    imagenet.write(config)
    assert source_checks.content(tmp_path / "out") == source_checks.content(
        written
    )


def test_the_standard_names_are_the_default():
    config = imagenet.ImageNetConfig("out", train="a", validation="b")
    assert shards.shard_name("train", 0, config.train_shards) == (
        "train-00000-of-01024"
    )
    assert shards.shard_name("validation", 0, config.validation_shards) == (
        "validation-00000-of-00128"
    )


def test_flat_validation_images_get_the_labels_of_their_numbers(
    inputs, tmp_path
):
    config = _config(
        inputs,
        tmp_path,
        validation="val.tar",
        validation_labels="synsets.txt",
    )
    manifest = imagenet.write(config)["validation"]
    assert manifest.num_records == (250,) * 4
    rows = source_checks.rows(tmp_path, "validation")
    # In the order of their names.
    assert list(rows) == [name for name, _ in VALIDATION]
    for name, synset in VALIDATION:
        label = SYNSETS.index(synset) + 1
        assert rows[name]["image/class/label"] == [label]


def test_shards_with_other_labels_are_refused(inputs, tmp_path):
    (tmp_path / "wrong").write_text("\n".join(SYNSETS))
    given = {"validation": "val.tar", "validation_labels": tmp_path / "wrong"}
    imagenet.write(_config(inputs, tmp_path / "out", **given))
    given["validation_labels"] = "synsets.txt"
    with pytest.raises(ValueError, match="other settings: `files_digest`"):
        imagenet.write(_config(inputs, tmp_path / "out", **given))


def test_validation_images_in_class_folders_need_no_labels(inputs, tmp_path):
    config = _config(inputs, tmp_path, validation="train.tar")
    manifest = imagenet.write(config)["validation"]
    assert (manifest.label_min, manifest.label_max) == (1, 1000)


def test_the_numbers_of_the_development_kit_are_translated(inputs, tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    # Its 1,074 synsets are in another order; the last are no leaves.
    kit = [*reversed(SYNSETS), "n00001740"]
    rows = np.zeros(
        (len(kit), 1), [("ILSVRC2012_ID", object), ("WNID", object)]
    )
    for i, synset in enumerate(kit):
        rows[i, 0] = (np.array([[i + 1]]), synset)
    scipy_io.savemat(inputs / "meta.mat", {"synsets": rows})
    numbers = [kit.index(synset) + 1 for _, synset in VALIDATION]
    (inputs / "ground_truth.txt").write_text(
        "".join(f"{number}\n" for number in numbers)
    )
    config = _config(
        inputs,
        tmp_path,
        validation="val.tar",
        validation_labels="ground_truth.txt",
        devkit_meta="meta.mat",
    )
    imagenet.write(config)
    rows = source_checks.rows(tmp_path, "validation")
    for name, synset in VALIDATION:
        label = SYNSETS.index(synset) + 1
        assert rows[name]["image/class/label"] == [label]
    config = _config(
        inputs,
        tmp_path / "other",
        validation="val.tar",
        validation_labels="ground_truth.txt",
    )
    with pytest.raises(ValueError, match="is none of.*--devkit_meta"):
        imagenet.write(config)
    config = _config(
        inputs,
        tmp_path / "other",
        validation="val.tar",
        validation_labels="ground_truth.txt",
        devkit_meta="synsets.txt",
    )
    with pytest.raises(ValueError, match="--devkit_meta=.* is not the meta"):
        imagenet.write(config)


def test_training_images_can_be_unlabeled_and_smaller(inputs, tmp_path):
    config = _config(
        inputs, tmp_path, train="train.tar", unlabeled=True, image_size=4
    )
    manifest = imagenet.write(config)["train"]
    assert (manifest.kind, manifest.class_names) == ("unlabeled", None)
    assert manifest.counters["resized"] == 998
    rows = source_checks.rows(tmp_path, "train")
    assert len(rows) == 1000
    assert not any("image/class/label" in row for row in rows.values())


def test_a_killed_run_continues_to_the_same_bytes(
    inputs, tmp_path, monkeypatch
):
    config = _config(
        inputs,
        tmp_path,
        validation="val.tar",
        validation_labels="synsets.txt",
    )
    source_checks.check_restart(
        imagenet.write, config, tmp_path, monkeypatch, fail_at=400
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n99999999": [("a.JPEG", b"x")]}, "'n99999999' is none of the 1000"),
        ({"other": [("a.JPEG", b"x")]}, "'a.JPEG' is in no class folder"),
        (
            {"n01443537": [("n01440764_0.JPEG", b"x")]},
            "1 names of train images .* once, such as 'n01440764_0.JPEG'",
        ),
        (
            {"n01443537": [], "n01440764": []},
            "2 of 1000 classes have no image: n01440764, n01443537",
        ),
    ],
)
def test_wrong_classes_are_named_before_anything_is_written(
    inputs, tmp_path, changes, message
):
    (tmp_path / "train.tar").write_bytes(_class_archives({**TRAIN, **changes}))
    config = _config(inputs, tmp_path / "out", train=tmp_path / "train.tar")
    with pytest.raises(ValueError, match=message):
        imagenet.write(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (999, "999 lines, .* 1000 images; number 1000 is only in one"),
        (1001, "1001 lines, .* 1000 images; number 1001 is only in one"),
        (0, "number 1 is only in one"),
    ],
)
def test_labels_must_fit_the_validation_images(
    inputs, tmp_path, lines, message
):
    (tmp_path / "labels").write_text("n01440764\n" * lines)
    config = _config(
        inputs,
        tmp_path / "out",
        validation="val.tar",
        validation_labels=tmp_path / "labels",
    )
    with pytest.raises(ValueError, match=message):
        imagenet.write(config)


def test_labels_are_needed_or_refused(inputs, tmp_path):
    config = _config(inputs, tmp_path, validation="val.tar")
    with pytest.raises(ValueError, match="--validation_labels is needed"):
        imagenet.write(config)
    config = _config(
        inputs,
        tmp_path,
        validation="train.tar",
        validation_labels="synsets.txt",
    )
    with pytest.raises(ValueError, match="but --validation=.* has them"):
        imagenet.write(config)


def test_a_truncated_archive_is_named_before_anything_is_written(
    inputs, tmp_path
):
    data = (inputs / "train.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: len(data) // 2])
    config = _config(inputs, tmp_path / "out", train=tmp_path / "cut.tar")
    with pytest.raises(ValueError, match="cut.tar' .* truncated"):
        imagenet.write(config)
    assert not (tmp_path / "out").exists()


def test_missing_and_empty_inputs_are_named(inputs, tmp_path):
    config = _config(inputs, tmp_path / "out", train="nowhere")
    with pytest.raises(FileNotFoundError, match="--train=.*nowhere: no such"):
        imagenet.write(config)
    (tmp_path / "empty").mkdir()
    config = _config(inputs, tmp_path / "out", train=tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="empty: no images"):
        imagenet.write(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_dir": ""}, "--output_dir is needed"),
        ({}, "--train or --validation is needed"),
        (
            {"train": "a", "validation": "b", "unlabeled": True},
            "--unlabeled takes --train, and no --validation",
        ),
        ({"validation": "b", "unlabeled": True}, "--unlabeled takes --train"),
        (
            {"train": "a", "validation_labels": "b"},
            "--validation_labels needs --validation",
        ),
        (
            {"validation": "a", "devkit_meta": "b"},
            "--devkit_meta needs --validation_labels",
        ),
        ({"train": "a", "train_shards": 0}, "`train_shards` must be >= 1"),
        ({"train": "a", "image_size": 0}, "`image_size` must be >= 1"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        imagenet.ImageNetConfig(**{"output_dir": "out", **changes})


def test_no_flag_is_dead():
    labels = {"validation": "v", "validation_labels": "l"}
    source_checks.check_flags(
        imagenet,
        imagenet.ImageNetConfig,
        {
            "output_dir": {"output_dir": "other"},
            "train": {"train": "other"},
            "validation": {"validation": "other"},
            "validation_labels": labels,
            "devkit_meta": {**labels, "devkit_meta": "other"},
            "unlabeled": {"unlabeled": True},
            "image_size": {"image_size": 7},
            "train_shards": {"train_shards": 7},
            "validation_shards": {"validation_shards": 7},
        },
    )


def test_scipy_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(ValueError, match=r"pip install .*\[svhn\]"):
        source_writer.import_scipy_io("meta.mat")
