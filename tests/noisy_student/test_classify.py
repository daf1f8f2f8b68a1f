"""Tests of naming what is in images."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from data_prep import class_names, image_encoding
from noisy_student import classify, config, models
from tests.data_prep import corpus

# One filter everywhere: what it says does not matter.
SMALL = {"width_coefficient": 0.1, "depth_coefficient": 0.1}


def describe(num_classes=7, **changes):
    return config.ModelConfig(
        "efficientnet-b0", num_classes, 32, **{**SMALL, **changes}
    )


class Network:
    """Stands in for a model: logits rise with the class, and are recorded."""

    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.seen = []

    def __call__(self, images, training):
        assert training is False
        self.seen.append(images.numpy())
        return tf.range(self.num_classes, dtype=tf.float32)[tf.newaxis]


@pytest.fixture(name="use")
def _use(monkeypatch, tmp_path):
    """Returns a function that makes a model the one of any checkpoint."""
    checkpoint = tmp_path / "run"
    checkpoint.mkdir()
    (checkpoint / "model.ckpt-1.index").touch()

    def use(model):
        network = Network(model.num_classes)
        asked = {}

        def resolve(path, *, model_name=None, mean_rgb=None, stddev_rgb=None):
            asked.update(path=path, model_name=model_name)
            return model

        monkeypatch.setattr(models, "resolve", resolve)
        monkeypatch.setattr(models, "load", lambda model, path: network)
        return str(checkpoint), network, asked

    return use


def write_image(folder, name="image.jpg", data=None):
    path = folder / name
    path.write_bytes(corpus.image_bytes(0) if data is None else data)
    return str(path)


def run(checkpoint, *images, **options):
    return list(
        classify.classify(
            classify.ClassifyConfig(checkpoint, images, **options)
        )
    )


def test_the_most_probable_classes_come_first(tmp_path, use):
    checkpoint, _, asked = use(describe())
    path = write_image(tmp_path)
    [(told, guesses)] = run(checkpoint, path, top_k=3, model_name="a name")
    assert told == path
    assert asked == {"path": checkpoint, "model_name": "a name"}
    assert [guess.label for guess in guesses] == [6, 5, 4]
    assert [guess.name for guess in guesses] == [
        "class 6",
        "class 5",
        "class 4",
    ]
    exps = np.exp(np.arange(7.0))
    np.testing.assert_allclose(
        [guess.prob for guess in guesses], exps[:3:-1] / exps.sum(), rtol=1e-5
    )


def test_fewer_classes_than_asked_for_are_all_told(tmp_path, use):
    checkpoint, _, _ = use(describe(num_classes=3))
    [(_, guesses)] = run(checkpoint, write_image(tmp_path))
    assert [guess.label for guess in guesses] == [2, 1, 0]
    assert sum(guess.prob for guess in guesses) == pytest.approx(1)


def test_images_of_all_formats_and_sizes_are_seen_as_in_an_evaluation(
    tmp_path, use
):
    checkpoint, network, _ = use(describe())
    contents = {
        "a.jpg": corpus.image_bytes(1, size=(50, 40)),
        "grey.jpg": corpus.image_bytes(2, "JPEG", "L"),
        "cmyk.jpg": corpus.image_bytes(3, "JPEG", "CMYK"),
        "deep.png": tf.io.encode_png(
            np.full((9, 9, 3), 30000, np.uint16)
        ).numpy(),
        "moving.gif": corpus.image_bytes(4, "GIF", "P"),
        "one.bmp": corpus.image_bytes(5, "BMP"),
    }
    paths = [write_image(tmp_path, *item) for item in contents.items()]
    assert [path for path, _ in run(checkpoint, *paths)] == paths
    from noisy_student import preprocessing

    for seen, data in zip(network.seen, contents.values()):
        encoded, _ = image_encoding.to_lossless(data)
        expected = preprocessing.preprocess_for_eval(encoded, 32)
        np.testing.assert_array_equal(seen, expected[tf.newaxis])
    assert len(network.seen) == len(contents)
    np.testing.assert_allclose(network.seen[3], 30000 // 256)


def test_imagenet_names_are_told_with_their_synset(tmp_path, use):
    checkpoint, _, _ = use(describe(num_classes=1000))
    [(_, guesses)] = run(checkpoint, write_image(tmp_path), top_k=1)
    synset, name = class_names.imagenet_classes()[999]
    assert guesses[0].name == f"{name} ({synset})"


def test_of_1001_classes_the_first_is_the_background(tmp_path, use):
    checkpoint, _, _ = use(describe(num_classes=1001))
    [(_, guesses)] = run(checkpoint, write_image(tmp_path), top_k=1001)
    names = {guess.label: guess.name for guess in guesses}
    assert names[0] == "background"
    assert names[1] == "tench, Tinca tinca (n01440764)"


def test_names_come_from_the_data_of_the_run_unless_a_file_is_given(
    tmp_path, use
):
    checkpoint, _, _ = use(describe(num_classes=2))
    data_dir = tmp_path / "data"
    values = {
        "data": {"label_data_dir": str(data_dir)},
        "model": config.to_dict(describe(num_classes=2)),
    }
    (tmp_path / "run" / "config.json").write_text(json.dumps(values))
    image = write_image(tmp_path)

    def names(path=checkpoint, **options):
        [(_, guesses)] = run(path, image, **options)
        return [guess.name for guess in guesses]

    assert names() == ["class 1", "class 0"]
    data_dir.mkdir()
    (data_dir / "classes.json").write_text('["cat", "dog"]')
    assert names() == ["dog", "cat"]
    prefix = str(tmp_path / "run" / "model.ckpt-3")
    (tmp_path / "run" / "model.ckpt-3.index").write_text("")
    assert names(prefix) == ["dog", "cat"]
    (tmp_path / "names.txt").write_text("Katze\nHund\n")
    given = str(tmp_path / "names.txt")
    assert names(class_names_file=given) == ["Hund", "Katze"]
    (data_dir / "classes.json").write_text('["cat", "dog", "cow"]')
    assert names() == ["class 1", "class 0"]


def test_a_file_of_too_few_names_is_refused(tmp_path, use):
    checkpoint, _, _ = use(describe())
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(
        ValueError, match="--class_names_file=.*names.txt names 2 .* has 7"
    ):
        run(
            checkpoint,
            write_image(tmp_path),
            class_names_file=str(tmp_path / "names.txt"),
        )


def test_all_files_are_checked_before_the_first_is_classified(tmp_path, use):
    checkpoint, network, _ = use(describe())
    good = corpus.image_bytes(0, size=(64, 64))
    paths = [
        write_image(tmp_path),
        write_image(tmp_path, "empty.jpg", b""),
        write_image(tmp_path, "half.jpg", good[: len(good) // 2]),
        write_image(tmp_path, "words.jpg", b"words"),
        str(tmp_path / "nothing.jpg"),
        str(tmp_path),
        str(tmp_path / "nothing.png"),
    ]
    with pytest.raises(ValueError) as raised:
        run(checkpoint, *paths)
    assert str(raised.value) == (
        f"6 of 7 images cannot be read: {paths[1]} (an empty file), "
        f"{paths[2]} (truncated or damaged), {paths[3]} (no image), "
        f"{paths[4]} (no such file), {paths[5]} (a folder) and 1 more."
    )
    assert not network.seen


def test_damage_inside_a_file_names_it(tmp_path, use):
    checkpoint, _, _ = use(describe())
    gif = corpus.image_bytes(0, "GIF", "P", size=(64, 64))
    path = write_image(tmp_path, "half.gif", gif[: len(gif) // 2])
    with pytest.raises(ValueError, match="half.gif cannot be read: truncated"):
        run(checkpoint, path)
    png = corpus.image_bytes(0, "PNG", size=(64, 64))
    damaged = png[:60] + bytes(20) + png[80:]
    path = write_image(tmp_path, "bad.png", damaged)
    with pytest.raises(
        ValueError, match="bad.png cannot be classified: Invalid PNG data"
    ):
        run(checkpoint, path)


def test_a_small_image_network_takes_images_of_its_size_alone(tmp_path, use):
    checkpoint, _, _ = use(describe(small_image=True))
    small = corpus.image_bytes(0, size=(32, 32))
    assert len(run(checkpoint, write_image(tmp_path, "a.jpg", small))) == 1
    with pytest.raises(ValueError) as raised:
        run(checkpoint, path := write_image(tmp_path, "b.jpg"))
    assert str(raised.value) == (
        f"{path} cannot be classified: 8 pixels high and 12 wide, not 32x32."
    )


def test_what_is_missing_is_named_before_anything_is_read(tmp_path, use):
    checkpoint, _, _ = use(describe())
    image = write_image(tmp_path)
    with pytest.raises(ValueError, match="Name at least one file"):
        classify.ClassifyConfig(checkpoint, ())
    with pytest.raises(ValueError, match="`top_k` must be >= 1. Received: 0"):
        classify.ClassifyConfig(checkpoint, (image,), top_k=0)
    with pytest.raises(ValueError, match="--checkpoint is needed"):
        run(None, image)
    with pytest.raises(FileNotFoundError, match="--checkpoint=.*nowhere"):
        run(str(tmp_path / "nowhere"), image)
    with pytest.raises(FileNotFoundError, match="no file .*nothing.txt"):
        run(checkpoint, image, class_names_file="nothing.txt")


def test_a_block_of_text_per_image():
    guesses = [
        classify.Guess(1, "tabby, tabby cat", 0.98765),
        classify.Guess(0, "class 0", 0.0123),
    ]
    assert classify.format_guesses("a.jpg", guesses) == (
        "a.jpg\n   98.77 %  tabby, tabby cat\n    1.23 %  class 0\n"
    )


def test_the_command_writes_to_stdout(tmp_path, use, capsys):
    checkpoint, _, _ = use(describe())
    images = [write_image(tmp_path, name) for name in ("a.jpg", "b.jpg")]

    class Flags:
        class_names_file = None
        model_name = None
        advprop_preprocessing = False
        top_k = 2

    Flags.checkpoint = checkpoint
    classify.main(Flags, images)
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[3]] == images
    assert lines[1].endswith(" %  class 6")
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint=runs/x"], "Which images? Name at least one file."),
        (["a.jpg"], "--checkpoint is needed: a checkpoint"),
        (["a.jpg", "--top_k=0"], "flag --top_k=0"),
    ],
)
def test_a_wrong_command_is_answered_in_one_line(arguments, message):
    result = subprocess.run(
        [sys.executable, "-m", "noisy_student.classify", *arguments],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
