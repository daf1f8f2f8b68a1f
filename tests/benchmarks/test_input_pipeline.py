"""The contenders do what the figures say; the figures need a quiet machine."""

import io
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import autoaugment
from autoaugment import magnitudes
from benchmarks import input_pipeline, turns
from benchmarks import input_pipeline_peers as peers
from tests.autoaugment import images

ROOT = pathlib.Path(__file__).parents[2]
SIZES = ["--images=2", "--runs=1"]


@pytest.fixture(scope="module")
def jpegs():
    return input_pipeline.load_jpegs(None, width=100, height=75)[:4]


def run(part, *flags):
    """Returns the lines that a tiny run of the benchmark prints."""
    command = [sys.executable, "-m", "benchmarks.input_pipeline"]
    result = subprocess.run(
        [*command, f"--part={part}", *SIZES, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def figures(lines):
    """Returns contender -> figures, of the lines that a table has."""
    matches = (
        re.fullmatch(
            r"(\S.{25}) *(\d+) +(\d+)"
            r"(?: +(\d+\.\d\d) \((\d+\.\d\d) to (\d+\.\d\d)\)){0,2}",
            line,
        )
        for line in lines
    )
    return {m[1].strip(): [int(m[2]), int(m[3])] for m in matches if m}


@pytest.mark.long
def test_the_view_of_photos_is_compared(tmp_path, jpegs):
    (tmp_path / "deep").mkdir()
    for number, jpeg in enumerate(jpegs):
        (tmp_path / "deep" / f"{number}.JPEG").write_bytes(jpeg)
    lines = run("train", f"--data_dir={tmp_path}")
    title = next(line for line in lines if line.startswith("Train view"))
    assert re.fullmatch(
        r"Train view, 224x224, N = 2, M = 27: 4 JPEGs of \d+\.\d kB, 1 turns "
        r"of 2 images, 2 cores, TensorFlow 2\.\S+",
        title,
    )
    left_out = {
        line.split(":")[0]
        for line in lines
        if re.fullmatch(r".+: left out: .+", line)
    }
    measured = figures(lines)
    always = {
        "ours",
        "ours, as float32",
        "ours, whole decode",
        "floor",
        "Pillow in 2 processes",
    }
    elsewhere = {"the original's structure", "keras_cv"}
    assert set(measured) == (always | elsewhere) - left_out
    assert left_out <= elsewhere
    assert min(min(pair) for pair in measured.values()) > 0


@pytest.mark.long
def test_the_view_of_small_images_is_compared():
    pytest.importorskip("tensorflow_addons")
    measured = figures(run("small"))
    assert set(measured) == {"ours", "the original's structure"}
    assert min(min(pair) for pair in measured.values()) > 0


@pytest.mark.long
def test_every_operation_is_profiled_for_both_views():
    lines = run("profile")
    names = [line[2:32].strip() for line in lines if line.startswith("  ")]
    for name in [*autoaugment.OPS, "the whole view", "RandAugment"]:
        assert names.count(name) == 2
    titles = [line for line in lines if not line.startswith("  ")]
    assert [title.split(", ")[1] for title in titles] == ["224x224", "32x32"]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", sorted(set(magnitudes.OP_NAMES) - {"Cutout"}))
def test_the_original_structure_computes_the_same_pixels(name, sign):
    pytest.importorskip("tensorflow_addons")
    from benchmarks import original_randaugment

    image = images.noise_image(20, 28, seed=0)
    args = magnitudes.level_to_args(name, 7, translate_const=10)
    fill = ()
    if name in magnitudes.SIGNED_OPS:
        args, fill = [sign * arg for arg in args], [128]
    difference = np.abs(
        np.int32(original_randaugment.OPS[name](image, *args))
        - np.int32(autoaugment.OPS[name](image, *args, *fill))
    )
    # A convolution rounds sums just below whole numbers its own way.
    assert difference.max() <= (5 if name == "Sharpness" else 0)


def test_the_original_structure_covers_a_square():
    pytest.importorskip("tensorflow_addons")
    from benchmarks import original_randaugment

    covered = original_randaugment.cutout(tf.zeros([9, 9, 3], tf.uint8), 20)
    np.testing.assert_array_equal(covered, np.full([9, 9, 3], 128))
    covered = original_randaugment.cutout(tf.zeros([9, 9, 3], tf.uint8), 1)
    assert covered.dtype == tf.uint8
    # The square is cut off at the image's edges.
    assert np.sum(covered == 128) in (3, 6, 12)


def test_the_original_structure_has_the_operations_in_order():
    pytest.importorskip("tensorflow_addons")
    from benchmarks import original_randaugment

    assert tuple(original_randaugment.OPS) == magnitudes.OP_NAMES


@pytest.mark.parametrize("name", magnitudes.OP_NAMES)
def test_pillow_operations_keep_size_and_mode(name):
    image = Image.fromarray(images.noise_image(20, 28, seed=0))
    result = peers.PILLOW_OPS[name](image)
    assert (result.size, result.mode) == ((28, 20), "RGB")


def test_pillow_draws_from_all_operations():
    assert tuple(peers.PILLOW_OPS) == magnitudes.OP_NAMES


def test_views_have_the_size_asked_for(jpegs):
    pixels = peers.pillow_view(jpegs[0], 24)
    assert (pixels.shape, pixels.dtype) == ((24, 24, 3), np.uint8)
    pixels = peers.cropped_view(24)(jpegs[0], tf.constant([0, 0]))
    assert (pixels.shape, pixels.dtype) == ((24, 24, 3), tf.float32)


def test_processor_time_of_other_processes_counts():
    deadline = time.monotonic() + 30
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while peers._cpu_seconds([child.pid]) - peers._cpu_seconds([]) < 0.2:
            assert time.monotonic() < deadline
    finally:
        child.kill()
        child.wait()


def test_a_pass_leaves_out_what_comes_before_the_first_element():
    seen = []

    def elements():
        time.sleep(0.5)
        for number in range(3):
            seen.append(number)
            yield number

    seconds, cpu = turns.pass_over(elements())()
    assert seen == [0, 1, 2]
    assert 0 < seconds < 0.5
    assert 0 <= cpu < 0.5


def test_several_figures_of_a_turn_stay_together():
    calls = []

    def measurement(name, *values):
        return lambda: calls.append(name) or values

    pair = [measurement("a", 1, 2), measurement("b", 3, 4)]
    results = turns.by_turns(pair, 2)
    assert results.tolist() == [[[1, 2], [3, 4]]] * 2
    assert calls == ["b", "a", "a", "b", "b", "a"]


def test_the_middle_half_lies_between_the_quartiles():
    assert turns.median_and_middle_half([5, 1, 2, 3, 4]) == (3, 2, 4)


def test_generated_images_are_of_the_size_asked_for(jpegs):
    assert Image.open(io.BytesIO(jpegs[0])).size == (100, 75)
    assert len(set(jpegs)) == 4


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "image.png").touch()
    message = rf"^No \*\.jpg or \*\.jpeg under {re.escape(str(tmp_path))}\.$"
    with pytest.raises(FileNotFoundError, match=message):
        input_pipeline.load_jpegs(tmp_path, width=1, height=1)


def test_small_images_of_another_size_are_refused(jpegs):
    message = (
        r"^`--small_data_dir` must hold images of 32x32 pixels\. "
        r"Received: one of 100x75\.$"
    )
    with pytest.raises(ValueError, match=message):
        input_pipeline.check_small(jpegs)
