"""Tests of the sheet that shows what augmentation does."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags, logging
from PIL import Image, ImageDraw

import autoaugment
from autoaugment import magnitudes
from noisy_student import contact_sheet, inspect_augmentation, preprocessing
from tests.data_prep import corpus

pytestmark = pytest.mark.slow


def draw_scene():
    """Draws the image of `docs/images/augmentation.png`, 400 x 300 pixels."""
    scene = Image.new("RGB", (400, 300))
    pen = ImageDraw.Draw(scene)
    for y in range(0, 200, 20):
        sky = (95 + y // 2, 165 + y // 3, 245 - y // 5)
        pen.rectangle((0, y, 400, y + 20), sky)
    pen.rectangle((0, 200, 400, 300), "#5fa84c")
    pen.ellipse((255, 25, 315, 85), "#ffd84a")
    for x, y in ((65, 60), (90, 48), (117, 60)):
        pen.ellipse((x, y, x + 52, y + 30), "#f4f8fb")
    pen.polygon(((10, 200), (105, 95), (200, 200)), "#6d7f9c")
    pen.polygon(((105, 95), (79, 127), (105, 140), (131, 127)), "#f4f8fb")
    pen.polygon(((110, 200), (215, 125), (320, 200)), "#50648a")
    pen.polygon(((205, 300), (250, 300), (244, 200), (238, 200)), "#d9b382")
    pen.rectangle((190, 165, 280, 245), "#e8563f")
    pen.polygon(((178, 168), (235, 118), (292, 168)), "#5a3427")
    pen.rectangle((224, 200, 248, 245), "#4a2c20")
    for x in (199, 255):
        pen.rectangle((x, 182, x + 17, 199), "#fff2a8")
    for x, y in ((345, 235), (365, 215), (125, 225), (88, 245)):
        pen.rectangle((x - 4, y, x + 4, y + 28), "#6b4a2f")
        pen.ellipse((x - 20, y - 36, x + 20, y + 8), "#2f7d4f")
    return scene


def write_scene(folder, name="scene.png", size=(400, 300)):
    path = folder / name
    draw_scene().resize(size).save(path)
    return str(path)


def configure(**options):
    return inspect_augmentation.SheetConfig("scene.png", **options)


def strips(image, **options):
    """Returns dict title -> `Strip` of all operations."""
    found = inspect_augmentation.operation_strips(image, configure(**options))
    return {strip.title: strip for strip in found}


@pytest.fixture(name="pixels", scope="module")
def _pixels():
    scene = draw_scene().resize((40, 40))
    return np.asarray(scene)


def test_every_operation_is_shown_with_its_arguments(pixels):
    found = strips(pixels, magnitudes=(9, 27))
    assert set(found) == set(autoaugment.OPS)
    captions = {
        title: [(tile.left, tile.right) for tile in strip.tiles]
        for title, strip in found.items()
    }
    weak, strong = "M 9", "M 27"
    assert captions["Invert"] == [("", "")]
    assert captions["Posterize"] == [(weak, "3 bits"), (strong, "10 bits")]
    assert captions["Solarize"] == [(weak, "from 230"), (strong, "from 691")]
    assert captions["SolarizeAdd"] == [(weak, "+99"), (strong, "+297")]
    assert captions["Color"] == [(weak, "1.72"), (strong, "4.96")]
    assert captions["Cutout"] == [(weak, "36 px"), (strong, "108 px")]
    assert captions["Rotate"] == [
        (strong, "-81°"),
        (weak, "-27°"),
        (weak, "+27°"),
        (strong, "+81°"),
    ]
    assert [right for _, right in captions["ShearY"]] == [
        "-0.81",
        "-0.27",
        "+0.27",
        "+0.81",
    ]
    assert captions["TranslateX"][0] == (strong, "-270 px")
    counts = [len(strip.tiles) for strip in found.values()]
    assert counts == [1] * 3 + [2] * 8 + [4] * 5


def test_tiles_are_what_the_operations_return(pixels):
    found = strips(pixels, magnitudes=(4.5,), seed=3)
    ops = autoaugment.OPS
    expected = {
        "Equalize": [ops["Equalize"](pixels)],
        "Posterize": [ops["Posterize"](pixels, 1)],
        "Contrast": [ops["Contrast"](pixels, 0.45 * 1.8 + 0.1)],
        "Rotate": [ops["Rotate"](pixels, a, 128) for a in (-13.5, 13.5)],
        "TranslateY": [ops["TranslateY"](pixels, a, 128) for a in (-45, 45)],
        "Cutout": [ops["Cutout"](pixels, 18, 128, seed=3)],
    }
    for title, images in expected.items():
        for tile, image in zip(found[title].tiles, images):
            np.testing.assert_array_equal(tile.pixels, image, err_msg=title)
            assert tile.pixels.dtype == np.uint8
    assert [tile.left for tile in found["Rotate"].tiles] == ["M 4.5"] * 2


def test_both_signs_are_shown_of_what_training_negates(pixels):
    found = strips(pixels, magnitudes=(5,))
    both = {title for title, strip in found.items() if len(strip.tiles) == 2}
    assert both == magnitudes.SIGNED_OPS


def test_small_images_are_moved_and_covered_less(pixels):
    found = strips(pixels, magnitudes=(10,), small_image=True, image_size=40)
    assert [t.right for t in found["TranslateX"].tiles] == ["-5 px", "+5 px"]
    assert [t.right for t in found["Cutout"].tiles] == ["5 px"]
    np.testing.assert_array_equal(
        found["TranslateX"].tiles[1].pixels,
        autoaugment.OPS["TranslateX"](pixels, 5, 128),
    )


@pytest.mark.parametrize(
    ("augment", "about"),
    [
        ("none", "random crop, flip"),
        ("randaugment", "RandAugment (operations: 1, magnitude: 12.5)"),
        ("autoaugment", "a sub-policy of AutoAugment"),
    ],
)
def test_training_views_are_those_of_their_seeds(augment, about):
    data = corpus.image_bytes(0, size=(60, 50))
    strip = inspect_augmentation.training_strip(
        data,
        configure(
            augment=augment,
            num_layers=1,
            magnitude=12.5,
            image_size=24,
            num_samples=3,
            seed=7,
        ),
    )
    assert strip.title == "Training views"
    assert strip.about.startswith("random crop, flip")
    assert strip.about.endswith(about)
    assert [t.left for t in strip.tiles] == [
        "seed 7, 0",
        "seed 7, 1",
        "seed 7, 2",
    ]
    name = None if augment == "none" else augment
    for number, tile in enumerate(strip.tiles):
        expected = preprocessing.preprocess_for_train(
            data, 24, name, 1, 12.5, (7, number)
        )
        np.testing.assert_array_equal(
            tile.pixels, np.floor(np.clip(expected, 0, 255))
        )
    assert (strip.tiles[0].pixels != strip.tiles[1].pixels).any()


@pytest.mark.parametrize(
    ("augment", "about"),
    [
        ("none", "shift, flip"),
        (
            "randaugment",
            "RandAugment (operations: 2, magnitude: 27), cutout, shift, flip",
        ),
    ],
)
def test_training_views_of_small_images(augment, about):
    data = corpus.image_bytes(0, "PNG", size=(32, 32))
    config = configure(augment=augment, small_image=True, num_samples=2)
    strip = inspect_augmentation.training_strip(data, config)
    assert strip.about == about
    name = None if augment == "none" else augment
    for number, tile in enumerate(strip.tiles):
        expected = preprocessing.preprocess_small_for_train(
            data, 32, name, 2, 27, (0, number)
        )
        np.testing.assert_array_equal(tile.pixels, expected)
    assert (
        inspect_augmentation.training_strip(
            data, dataclasses.replace(config, num_samples=0)
        ).tiles
        == ()
    )


@pytest.mark.parametrize("small_image", [False, True])
def test_the_evaluation_view_is_clipped(small_image):
    data = corpus.image_bytes(1, "PNG", size=(32, 32))
    config = configure(small_image=small_image, image_size=32)
    view = (
        preprocessing.preprocess_small_for_eval
        if small_image
        else preprocessing.preprocess_for_eval
    )
    expected = view(data, 32).numpy()
    assert (expected.max() > 255) == (not small_image)
    shown = inspect_augmentation.evaluation_view(data, config)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, np.floor(np.clip(expected, 0, 255)))


def few(folder, image, name="sheet.png", **options):
    """Returns the config of a sheet that is drawn quickly."""
    options = {
        "magnitudes": (9,),
        "num_samples": 1,
        "image_size": 32,
        **options,
    }
    return inspect_augmentation.SheetConfig(
        image, str(folder / name), **options
    )


def test_a_sheet_is_a_png_that_knows_its_settings(tmp_path):
    config = few(tmp_path, write_scene(tmp_path))
    size = inspect_augmentation.write(config)
    with Image.open(config.output) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == size
        settings = json.loads(sheet.text["noisy_student.inspect_augmentation"])
    assert settings == {
        "image": config.image,
        "output": config.output,
        "augment": "randaugment",
        "num_layers": 2,
        "magnitude": 27,
        "image_size": 32,
        "small_image": False,
        "magnitudes": [9],
        "num_samples": 1,
        "seed": 0,
    }


def test_a_sheet_shows_all_in_order(tmp_path, monkeypatch):
    drawn = {}
    draw = contact_sheet.draw

    def record(title, paragraphs, sections, *, group):
        drawn.update(
            title=title, text=paragraphs, sections=sections, group=group
        )
        return draw(title, paragraphs, sections, group=group)

    monkeypatch.setattr(contact_sheet, "draw", record)
    name = "a_very_long_name_of_a_very_nice_scene.jpg"
    image = write_scene(tmp_path, name)
    inspect_augmentation.write(few(tmp_path, image, magnitudes=(3, 6)))
    [operations, [training]] = drawn["sections"]
    assert [strip.title for strip in operations[:4]] == [
        "Evaluation view",
        "AutoContrast",
        "Equalize",
        "Invert",
    ]
    assert len(operations) == 1 + len(autoaugment.OPS)
    encoded = pathlib.Path(image).read_bytes()
    expected = preprocessing.preprocess_for_eval(encoded, 32)
    np.testing.assert_array_equal(
        operations[0].tiles[0].pixels, np.floor(np.clip(expected, 0, 255))
    )
    assert training.title == "Training views"
    assert drawn["group"] == 2
    assert drawn["title"] == "What a model sees"
    assert drawn["text"][0] == (
        "a_very_long_name_of_a_very_..., 400 x 300 pixels, seen at 32 x 32."
    )


def test_a_sheet_is_replaced_and_equal_settings_give_equal_bytes(tmp_path):
    config = few(tmp_path, write_scene(tmp_path))
    path = pathlib.Path(config.output)
    inspect_augmentation.write(config)
    first = path.read_bytes()
    inspect_augmentation.write(dataclasses.replace(config, seed=1))
    assert path.read_bytes() != first
    inspect_augmentation.write(config)
    assert path.read_bytes() == first
    assert {entry.name for entry in tmp_path.iterdir()} == {
        "scene.png",
        "sheet.png",
    }


def test_what_is_no_sheet_is_not_replaced(tmp_path):
    image = write_scene(tmp_path)
    before = pathlib.Path(image).read_bytes()
    (tmp_path / "folder.png").mkdir()
    for name in ("scene.png", "folder.png"):
        with pytest.raises(ValueError, match=f"--output=.*{name} exists and"):
            inspect_augmentation.write(few(tmp_path, image, name))
    assert pathlib.Path(image).read_bytes() == before
    with pytest.raises(
        ValueError, match="--output=.*scene.png' is a file, not a folder"
    ):
        inspect_augmentation.write(few(tmp_path, image, "scene.png/sheet.png"))


def test_an_output_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    config = few(tmp_path, write_scene(tmp_path))

    def refuse(path, data):
        raise PermissionError(13, "Permission denied", f".{path}.tmp")

    monkeypatch.setattr(inspect_augmentation.files, "write_bytes", refuse)
    with pytest.raises(OSError) as raised:
        inspect_augmentation.write(config)
    assert str(raised.value) == (
        f"--output={config.output} cannot be written: Permission denied."
    )


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("nothing.jpg", None, "no such file"),
        ("empty.jpg", b"", "an empty file"),
        ("words.jpg", b"words", "no image"),
        (
            "half.jpg",
            corpus.image_bytes(0, size=(64, 64))[:-99],
            "truncated or",
        ),
        ("half.gif", corpus.image_bytes(0, "GIF", "P")[:-99], "truncated or"),
        (".", None, "a folder"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(tmp_path, name, data, why):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    image = str(tmp_path / name)
    with pytest.raises(ValueError) as raised:
        inspect_augmentation.write(few(tmp_path, image))
    assert str(raised.value).startswith(
        f"--image={image} cannot be read: {why}"
    )


def test_an_image_of_one_pixel_can_be_seen(tmp_path):
    image = write_scene(tmp_path, "one.png", (1, 1))
    assert min(inspect_augmentation.write(few(tmp_path, image))) > 100


def test_an_image_that_is_damaged_inside_is_named(tmp_path):
    image = write_scene(tmp_path, "damaged.png", (64, 64))
    path = tmp_path / "damaged.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(
        ValueError,
        match="--image=.*damaged.png cannot be seen at image size 32: ",
    ):
        inspect_augmentation.write(few(tmp_path, image))


def test_a_small_image_must_have_the_size_it_is_seen_at(tmp_path):
    image = write_scene(tmp_path, size=(32, 28))
    with pytest.raises(
        ValueError, match="--image=.* has 32 x 28 pixels, .* image size 32"
    ):
        inspect_augmentation.write(few(tmp_path, image, small_image=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": None}, "--image is needed"),
        ({"output": "a.jpg"}, "`output` must end in .png. Received: 'a.jpg'"),
        ({"magnitudes": ()}, r"`magnitudes` must be 1 to 8 .* Received: \(\)"),
        ({"magnitudes": (1,) * 9}, "`magnitudes` must be 1 to 8 numbers"),
        (
            {"magnitudes": (5, -1)},
            r"`magnitudes` must be in \[0, 100\]. Received: -1",
        ),
        ({"magnitudes": (float("nan"),)}, "Received: nan"),
        ({"magnitude": 101}, r"must be in \[0, 100\]. Received: 101"),
        ({"augment": "mixup"}, "`augment` must be one of .*'mixup'"),
        ({"num_layers": 0}, "`num_layers` must be >= 1. Received: 0"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        inspect_augmentation.SheetConfig(**{"image": "a.jpg", **options})


def test_the_image_size_follows_from_the_kind_of_image():
    assert configure().image_size == 224
    assert configure(small_image=True).image_size == 32
    assert configure(small_image=True, image_size=28).image_size == 28


FLAGS = {
    "image": "b.jpg",
    "output": "c.png",
    "augment_name": "autoaugment",
    "randaug_layer": 3,
    "randaug_mag": 4.5,
    "input_image_size": 28,
    "small_image_model": True,
    "magnitudes": "1,2.5",
    "num_samples": 5,
    "seed": 6,
}


def parse(*arguments):
    values = flags.FlagValues()
    inspect_augmentation.define_flags(values)
    values(["program", *arguments])
    return values


def test_every_flag_counts(monkeypatch, caplog):
    asked = []

    def write(config):
        asked.append(config)
        return 30, 20

    monkeypatch.setattr(inspect_augmentation, "write", write)
    monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
    with caplog.at_level("INFO", logger="absl"):
        inspect_augmentation.main(
            parse(*(f"--{name}={value}" for name, value in FLAGS.items()))
        )
        inspect_augmentation.main(parse("--image=a.jpg", "--augment_name=v1"))
    assert asked == [
        inspect_augmentation.SheetConfig(
            image="b.jpg",
            output="c.png",
            augment="autoaugment",
            num_layers=3,
            magnitude=4.5,
            image_size=28,
            small_image=True,
            magnitudes=(1.0, 2.5),
            num_samples=5,
            seed=6,
        ),
        inspect_augmentation.SheetConfig("a.jpg"),
    ]
    assert set(FLAGS) == set(parse())
    assert caplog.messages[0] == "c.png: 30 x 20 pixels"


def test_magnitudes_must_be_numbers():
    with pytest.raises(
        ValueError,
        match=r"--magnitudes must be numbers. Received: \['1', 'two'\]",
    ):
        inspect_augmentation.main(parse("--image=a.jpg", "--magnitudes=1,two"))


def run(folder, *arguments):
    root = pathlib.Path(__file__).parent.parent.parent
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "noisy_student.inspect_augmentation",
            *arguments,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )


def test_the_command_writes_into_the_current_folder(tmp_path):
    write_scene(tmp_path, size=(60, 50))
    result = run(tmp_path, "--image=scene.png", "--magnitudes=9")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "augmentation.png: 1124 x 1564 pixels" in result.stderr
    with Image.open(tmp_path / "augmentation.png") as sheet:
        assert sheet.size == (1124, 1564)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image=a.jpg"], "--image=a.jpg cannot be read: no such file."),
        (["--image=a.jpg", "--num_samples=-1"], "flag --num_samples=-1"),
        (["--image=a.jpg", "--magnitudes=-5"], "Received: -5.0."),
        (["a.jpg"], "Unexpected argument 'a.jpg'"),
    ],
)
def test_a_wrong_command_is_answered_in_one_line(tmp_path, arguments, message):
    result = run(tmp_path, *arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_help_and_a_wrong_path_need_no_tensorflow(tmp_path):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['inspect_augmentation', sys.argv[1]]\n"
        "name = 'noisy_student.inspect_augmentation'\n"
        "try: runpy.run_module(name, run_name='__main__')\n"
        "finally: assert 'tensorflow' not in sys.modules"
    )
    for argument, status in (("--help", 0), ("--image=nothing.jpg", 1)):
        result = subprocess.run(
            [sys.executable, "-c", code, argument],
            capture_output=True,
            text=True,
        )
        assert result.returncode == status, result.stderr
        assert "Traceback" not in result.stderr
        if status == 0:
            assert "--randaug_mag" in result.stdout
