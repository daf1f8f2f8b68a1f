"""Tests of the sources of labeled images."""

import io
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_prep import class_names, records
from noisy_student import labeled_images, preprocessing
from tests.data_prep import corpus, tfds_sets
from tests.noisy_student import fixtures


def open_source(value, *, num_classes=3, split="validation", **options):
    return labeled_images.open_source(
        str(value), split=split, num_classes=num_classes, **options
    )


def rows(source):
    """Returns [(image bytes, label)] of a source, after common checks."""
    found = list(source.dataset().as_numpy_iterator())
    assert len(found) == source.num_images
    assert all(row["label"].dtype == np.int64 for row in found)
    return [(row["image_bytes"], int(row["label"])) for row in found]


def write_files(folder, contents):
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def write_class_folders(folder, names, per_class=2):
    """Writes JPEG images; returns {path below the folder: bytes}."""
    contents = {
        f"{name}/{i}.jpg": corpus.image_bytes(100 * n + i)
        for n, name in enumerate(names)
        for i in range(per_class)
    }
    write_files(folder, contents)
    return contents


def test_shards_give_their_records_in_order(tmp_path):
    fixtures.write_labeled(tmp_path, "validation", 7)
    source = open_source(tmp_path)
    # Image i has class i % 3; even ones are in the first shard.
    order = [0, 2, 4, 6, 1, 3, 5]
    assert rows(source) == [
        (fixtures.image_bytes(i % 3, i), i % 3) for i in order
    ]
    assert source.num_classes is None
    second = os.path.join(tmp_path, "validation-00001-of-00002")
    assert source.describe(3).endswith("validation-00000-of-00002: record 3")
    assert source.describe(4) == f"{second}: record 0"


def test_class_folders_are_labels_in_the_order_of_their_names(tmp_path):
    contents = write_class_folders(tmp_path, ["cat", "ant", "bee"])
    write_files(
        tmp_path,
        {
            "cat/.hidden": b"",
            "read.me": b"",
            ".git/config": b"",
            "ant/x/y": b"",
        },
    )
    (tmp_path / "ant/x/y").write_bytes(contents["bee/0.jpg"])
    source = open_source(tmp_path)
    assert source.num_classes == 3
    names = ["ant/0.jpg", "ant/1.jpg", "bee/0.jpg"]
    expected = [(contents[name], int(name[0] == "b")) for name in names]
    expected.insert(2, (contents["bee/0.jpg"], 0))
    assert rows(source)[:4] == expected
    assert [label for _, label in rows(source)][4:] == [1, 2, 2]
    assert source.describe(0) == os.path.join(tmp_path, "ant/0.jpg")


def test_a_class_list_orders_the_labels(tmp_path):
    write_class_folders(tmp_path, ["ant", "cat"], per_class=1)
    write_files(tmp_path, {"classes.json": '["dog", "cat", "ant"]'})
    assert [label for _, label in rows(open_source(tmp_path))] == [2, 1]
    given = open_source(tmp_path, class_names=("cat", "bee", "ant"))
    assert [label for _, label in rows(given)] == [2, 0]


def test_synset_folders_are_labels_of_imagenet_in_1000_classes(tmp_path):
    write_class_folders(tmp_path, ["n03126707", "n02012849"], per_class=1)
    source = open_source(tmp_path, num_classes=1000)
    assert source.num_classes == 1000
    assert [label for _, label in rows(source)] == [134, 517]
    few = open_source(tmp_path, num_classes=2)
    assert [label for _, label in rows(few)] == [0, 1]


def test_folders_that_are_numbers_are_the_labels(tmp_path):
    numbers = [str(number) for number in range(12)]
    write_class_folders(tmp_path, numbers, per_class=1)
    labels = [label for _, label in rows(open_source(tmp_path, num_classes=12))]
    # The folders are visited in the order of their names.
    assert labels == [0, 1, 10, 11, *range(2, 10)]


def test_other_thousand_folders_need_an_order(tmp_path):
    write_class_folders(tmp_path, ["cat", "dog"], per_class=1)
    with pytest.raises(ValueError, match="cat, dog.*order of the labels may"):
        open_source(tmp_path, num_classes=1000)


def test_a_list_names_images_and_labels(tmp_path):
    contents = write_class_folders(tmp_path / "my images", ["a"], per_class=2)
    other = tmp_path / "elsewhere.jpg"
    other.write_bytes(corpus.image_bytes(9))
    write_files(
        tmp_path,
        {
            "list.txt": "my images/a/1.jpg 2\n\n"
            f"my images/a/0.jpg\t0\r\n{other}  1\n"
        },
    )
    source = open_source(tmp_path / "list.txt")
    assert source.num_classes is None
    assert rows(source) == [
        (contents["a/1.jpg"], 2),
        (contents["a/0.jpg"], 0),
        (other.read_bytes(), 1),
    ]


def test_labels_of_a_list_may_be_synsets(tmp_path):
    write_files(tmp_path, {"list.txt": "a n01440764\nb n15075141\nc 5"})
    source = open_source(tmp_path / "list.txt", num_classes=1000)
    labels = [int(e["label"]) for e in source.elements()]
    assert labels == [0, 999, 5]


def test_a_tfds_set_gives_its_split(tmp_path):
    with tfds_sets.prepared(tmp_path):
        source = open_source("tfds:three_shades", split="test[:30]")
        found = rows(source)
        assert (source.num_images, source.num_classes) == (30, 3)
        shades = [tf.io.decode_png(data).numpy()[0, 0, 0] for data, _ in found]
        assert [label for _, label in found] == [s % 3 for s in shades]
        with pytest.raises(ValueError, match="=tfds:three_shades: .* 'dev'"):
            open_source("tfds:three_shades", split="dev")


def test_what_tensorflow_decodes_otherwise_is_converted(tmp_path):
    images = {
        "a/cmyk.jpg": corpus.image_bytes(1, "JPEG", "CMYK"),
        "a/grey.jpg": corpus.image_bytes(2, "JPEG", "L"),
        "a/palette.png": corpus.image_bytes(3, "PNG", "P"),
        "a/plain.png": corpus.image_bytes(4, "PNG"),
        "b/still.gif": corpus.image_bytes(5, "GIF", "P"),
        "b/x.bmp": corpus.image_bytes(6, "BMP"),
        "b/x.tif": corpus.image_bytes(7, "TIFF"),
        "b/x.webp": corpus.image_bytes(8, "WEBP"),
    }
    write_files(tmp_path, images)
    source = open_source(tmp_path, num_classes=2)
    assert source.check() is None
    found = rows(source)
    assert [label for _, label in found] == [0] * 4 + [1] * 4
    kept = [data == images[name] for name, (data, _) in zip(images, found)]
    assert kept == [False, True, False, True, False, False, False, False]
    for name, (data, _) in zip(images, found):
        expected = Image.open(io.BytesIO(images[name])).convert("RGB")
        pixels = tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE")
        difference = np.abs(pixels.numpy() - np.asarray(expected, int))
        assert difference.max() <= (1 if name.endswith("grey.jpg") else 0), name


def test_files_that_are_no_images_are_refused_before_the_first_batch(tmp_path):
    good = corpus.image_bytes(0, size=(64, 64))
    bad = {
        "a/1.jpg": b"",
        "a/2.jpg": good[:900],
        "a/3.txt": b"words",
        "a/4.jpg": b"",
        "b/5.jpg": b"",
        "b/6.jpg": b"",
    }
    write_files(tmp_path, {**bad, "a/0.jpg": good})
    (tmp_path / "b" / "0.jpg").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError) as raised:
        open_source(tmp_path, num_classes=2).check()
    message = str(raised.value)
    assert message.startswith(
        f"--label_data_dir={tmp_path}: 7 of 8 images cannot be evaluated"
    )
    assert f"{tmp_path}/a/1.jpg (an empty file), " in message
    assert f"{tmp_path}/a/2.jpg (truncated or damaged), " in message
    assert f"{tmp_path}/a/3.txt (no image), " in message
    assert message.endswith(f"{tmp_path}/b/0.jpg (no such file) and 2 more.")


def view(image_bytes):
    return preprocessing.preprocess_for_eval(image_bytes, 8)


def test_damage_inside_files_is_found_when_an_evaluation_failed(tmp_path):
    good = corpus.image_bytes(0, "PNG", size=(64, 64))
    gif = corpus.image_bytes(0, "GIF", "P", size=(64, 64))
    damaged = good[:60] + bytes(20) + good[80:]
    write_files(
        tmp_path,
        {"a/0.png": good, "a/1.png": damaged, "a/2.gif": gif[: len(gif) // 2]},
    )
    write_files(tmp_path, {"list": "a/0.png 0\na/1.png 1\na/2.gif 0\n"})
    source = open_source(tmp_path / "list", num_classes=2)
    assert source.check() is None
    with pytest.raises(ValueError) as raised:
        source.explain_failure(view, 2)
    message = str(raised.value)
    assert "2 of 3 images cannot be evaluated" in message
    assert f"{tmp_path}/a/1.png (" in message
    assert f"{tmp_path}/a/2.gif (truncated or damaged)" in message


def test_damaged_records_and_labels_are_named_by_file_and_index(tmp_path):
    image = corpus.image_bytes(0)
    writer = records.ShardedWriter(
        str(tmp_path), "validation", 1, kind="labeled", config={}
    )
    with writer.open_shard(0) as shard:
        for data, label in [(image, 0), (image, 2), (b"", 1), (image, 4)]:
            shard.write(records.labeled_example(data, label, "key"), label)
    writer.finish()
    with pytest.raises(ValueError) as raised:
        open_source(tmp_path).explain_failure(view, 3)
    message = str(raised.value)
    path = os.path.join(tmp_path, "validation-00000-of-00001")
    assert f"--label_data_dir={tmp_path}, validation-*: 3 of 4 ima" in message
    assert f"{path}: record 0 (label -1, not in 0..2)" in message
    assert re.search(rf"{path}: record 2 \([^)]+[^.)]\), ", message)
    assert f"{path}: record 3 (label 3, not in 0..2)" in message


def test_a_failure_that_no_image_explains_stays_unexplained(tmp_path):
    write_class_folders(tmp_path, ["a", "b"])
    source = open_source(tmp_path, num_classes=2)
    assert source.explain_failure(view, 2) is None


def make_shards(folder):
    fixtures.write_labeled(folder, "train", 2)


def make_flat(folder):
    write_files(folder, {"image.jpg": b"x"})


def make_folders(folder):
    write_class_folders(folder, ["ant", "bee"])


def make_unknown_synset(folder):
    write_class_folders(folder, ["n00000001", "n01440764"])


def make_lists(classes):
    def make(folder):
        write_class_folders(folder, ["ant", "bee"])
        write_files(folder, {"classes.json": classes})

    return make


@pytest.mark.parametrize(
    ("make", "num_classes", "kind", "message"),
    [
        (make_shards, 3, FileNotFoundError, "No shards match .*/validation-*"),
        (make_flat, 3, FileNotFoundError, "neither shards .* nor, .* class f"),
        (os.fspath, 3, FileNotFoundError, "neither shards .* nor, .* class f"),
        (
            lambda folder: (folder / "ant").mkdir(),
            1,
            FileNotFoundError,
            "no image in its class folders",
        ),
        (
            make_folders,
            3,
            ValueError,
            "model has 3 classes, its class folders hold 2: ant, bee. If some",
        ),
        (
            make_unknown_synset,
            1000,
            ValueError,
            "1 of 2 class folders are not among ImageNet's .*: n00000001",
        ),
        (
            make_lists('["ant", "cat"]'),
            2,
            ValueError,
            "1 of 2 class folders are not among .*classes.json: bee",
        ),
        (
            make_lists('["ant", "bee", "bee"]'),
            3,
            ValueError,
            "classes.json name a class twice",
        ),
        (
            make_lists('["ant", "bee", "cat"]'),
            2,
            ValueError,
            "2 classes, .*classes.json hold 3",
        ),
    ],
)
def test_directories_that_do_not_fit_are_refused(
    tmp_path, make, num_classes, kind, message
):
    make(tmp_path)
    with pytest.raises(kind, match=message) as raised:
        open_source(tmp_path, num_classes=num_classes)
    assert str(raised.value).startswith(f"--label_data_dir={tmp_path}: ")


@pytest.mark.parametrize(
    ("text", "num_classes", "message"),
    [
        ("a 0\nb 3", 3, "line 2: the label must be in 0..2. Received: '3'"),
        ("a 0\nb -1", 3, "line 2: the label must be in 0..2. Received: '-1'"),
        ("a cat", 3, "line 1: the label must be in 0..2. Received: 'cat'"),
        ("a n01440764", 3, "in 0..2. Received: 'n01440764'"),
        (
            "a n00000001",
            1000,
            "in 0..999 or a synset id of ImageNet. Received: 'n00000001'",
        ),
        ("a.jpg", 3, "line 1: must be `path label`. Received: 'a.jpg'"),
        ("a 0\n\na 1", 3, "line 3: 'a' is listed twice"),
        ("\n", 3, "this list of images is empty"),
        (b"\xff\xd8\xff", 3, "this file is no list of images"),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    tmp_path, text, num_classes, message
):
    write_files(tmp_path, {"list": text})
    with pytest.raises(ValueError, match=message) as raised:
        open_source(tmp_path / "list", num_classes=num_classes)
    assert f"--label_data_dir={tmp_path}/list" in str(raised.value)


def test_nothing_there_is_told_with_what_was_looked_for(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"--label_data_dir=.*nowhere: no such .* validation-\?{5}-of-",
    ):
        open_source(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="--label_data_dir is needed"):
        labeled_images.open_source(None, split="validation", num_classes=3)


def test_all_imagenet_classes_have_a_label():
    labels = class_names.imagenet_labels()
    assert sorted(labels.values()) == list(range(1000))
