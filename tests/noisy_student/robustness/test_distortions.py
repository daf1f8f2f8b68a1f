"""Tests of the corruptions of single images."""

import io
import math
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from noisy_student.robustness.distortions import (
    blurs,
    digital,
    distort,
    severities,
    spatter,
    weather,
)
from tests.noisy_student.robustness import pictures

NAMES = distort.CORRUPTIONS + distort.EXTRA_CORRUPTIONS
# Of the others the severities differ in more than one direction, or do not
# change every image more than the ones before.
MONOTONE = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "motion_blur",
    "brightness",
    "contrast",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
)
LEFT_TO_CHANCE = {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
    "speckle_noise",
    "spatter",
}
CLEAN = pictures.textured(70, 90)
SMALL = pictures.textured(32, 36)


def corrupt(image, name, severity=3, seed=0, **options):
    return distort.corrupt(image, name, severity, seed=seed, **options)


def generator(seed=0):
    return np.random.RandomState(seed)


@pytest.mark.parametrize("image", [CLEAN, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("name", NAMES)
def test_a_corruption_changes_an_image_but_not_its_form(name, image):
    before = image.copy()
    corrupted = corrupt(image, name)
    assert corrupted.dtype == np.uint8
    assert corrupted.shape == image.shape
    assert np.array_equal(image, before)
    assert not np.array_equal(corrupted, image)


@pytest.mark.parametrize("name", NAMES)
def test_chance_follows_from_seed_key_and_severity(name):
    image = CLEAN[:, :64]
    first = corrupt(image, name, key=b"a")
    assert np.array_equal(first, corrupt(image, name, key=b"a"))
    others = [corrupt(image, name, key=b"b"), corrupt(image, name, seed=1)]
    for other in others:
        assert np.array_equal(first, other) == (name not in LEFT_TO_CHANCE)


def test_severities_draw_independently():
    states = [
        distort._random_state(0, b"k", "fog", severity).uniform()
        for severity in range(1, 6)
    ]
    assert len(set(states)) == 5


@pytest.mark.parametrize("picture", [pictures.smooth, pictures.textured])
@pytest.mark.parametrize("name", MONOTONE)
def test_a_higher_severity_changes_more(name, picture):
    image = picture()
    changes = [
        np.mean((corrupt(image, name, severity) / 1.0 - image) ** 2)
        for severity in range(1, 6)
    ]
    assert changes == sorted(changes)
    assert changes[0] > 0
    assert changes[-1] > 1.04 * changes[0]


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("side", [120, 40])
def test_gaussian_noise_has_its_standard_deviation(side, severity):
    grey = np.full((side, side, 3), 128, np.uint8)
    noise = corrupt(grey, "gaussian_noise", severity) - 128.0
    (scale,) = severities.arguments("gaussian_noise", severity, side, side)
    # What leaves [0, 255] is clipped: compared in the middle of the bell.
    share = np.mean(np.abs(noise + 0.5) < 255 * scale)
    assert share == pytest.approx(math.erf(2**-0.5), abs=0.03)


def test_shot_noise_counts_photons():
    white = np.full((64, 64, 3), 255, np.uint8)
    noisy = corrupt(white, "shot_noise", 5)
    # Of 3 photons on average: none, one or two are seen, more are white.
    assert set(np.unique(noisy)) == {0, 85, 170, 255}
    assert np.mean(noisy == 0) == pytest.approx(math.exp(-3), abs=0.01)
    black = np.zeros((64, 64, 3), np.uint8)
    assert not corrupt(black, "shot_noise", 5).any()


def test_impulse_noise_makes_a_share_black_or_white():
    grey = np.full((100, 100, 3), 77, np.uint8)
    noisy = corrupt(grey, "impulse_noise", 5)
    assert np.mean(noisy == 0) == pytest.approx(0.135, abs=0.01)
    assert np.mean(noisy == 255) == pytest.approx(0.135, abs=0.01)
    assert np.mean(noisy == 77) == pytest.approx(0.73, abs=0.01)


def test_speckle_noise_is_relative_to_the_value():
    image = np.full((64, 64, 3), 100, np.uint8)
    image[:32] = 50
    noisy = corrupt(image, "speckle_noise", 1).astype(float)
    ratio = noisy[32:].std() / noisy[:32].std()
    assert ratio == pytest.approx(2, rel=0.05)


def test_brightness_adds_to_the_value_and_keeps_hue_and_saturation():
    image = np.zeros((64, 64, 3), np.uint8)
    image[0, 0] = 100, 50, 25
    image[0, 1] = 250, 125, 0
    brighter = corrupt(image, "brightness", 2)
    # 0.2 is 51 levels: 151 instead of 100, and 255 instead of 250.
    assert brighter[0, 0].tolist() == [151, 75, 37]
    assert brighter[0, 1].tolist() == [255, 127, 0]
    assert brighter[0, 2].tolist() == [51, 51, 51]


def test_contrast_moves_values_to_the_mean_of_the_channel():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = 200, 100, 0
    flat = corrupt(image, "contrast", 1)
    # The means are 100, 50 and 0, and 0.4 of the distance is left.
    assert flat[0, 0].tolist() == [140, 70, 0]
    assert flat[63, 0].tolist() == [60, 30, 0]


def test_saturate_scales_the_saturation_and_tints_grey_red():
    image = np.zeros((64, 64, 3), np.uint8)
    image[0, 0] = 200, 100, 150
    image[0, 1] = 100, 100, 100
    dull = corrupt(image, "saturate", 1)
    # The saturation is 0.5, and 0.15 then.
    assert dull[0, 0].tolist() == [200, 170, 185]
    assert dull[0, 1].tolist() == [100, 100, 100]
    vivid = corrupt(image, "saturate", 4)
    assert vivid[0, 0].tolist() == [200, 0, 100]
    assert vivid[0, 1].tolist() == [100, 90, 90]


def test_pixelate_leaves_squares_of_one_colour():
    blocks = corrupt(pictures.textured(64, 96), "pixelate", 5)
    squares = blocks.reshape(16, 4, 24, 4, 3)
    assert np.array_equal(
        squares, np.broadcast_to(squares[:, :1, :, :1], squares.shape)
    )
    clean = pictures.textured(64, 96).reshape(16, 4, 24, 4, 3)
    means = clean.mean(axis=(1, 3))
    assert np.abs(squares[:, 0, :, 0] - means).max() <= 1


def test_jpeg_compression_has_its_quality():
    image = pictures.textured()
    for severity, quality in enumerate((25, 18, 15, 10, 7), start=1):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        expected = np.asarray(Image.open(file))
        found = corrupt(image, "jpeg_compression", severity)
        assert np.array_equal(found, expected)


def test_no_level_is_lost_by_the_rounding_of_floats():
    levels = np.arange(256) / 255
    assert distort.to_levels(levels).tolist() == list(range(256))
    pixels = np.array([-0.1, 0.9995 / 255, 1.5 / 255, 1.1])
    assert distort.to_levels(pixels).tolist() == [0, 1, 1, 255]
    assert distort.to_levels(np.array([0.99 / 255])).tolist() == [0]


def test_glass_blur_copies_neighbours_from_the_last_pixel_on():
    image = pictures.textured(20, 30) / 255
    sigma, farthest, repetitions = 0.7, 2, 2
    found = blurs.glass_blur(image, generator(), sigma, farthest, repetitions)
    random = generator()
    pixels = np.floor(blurs.smooth(image, sigma) * 255 + 1e-6) / 255
    for _ in range(repetitions):
        for row in range(20 - farthest, farthest, -1):
            for column in range(30 - farthest, farthest, -1):
                right, down = random.randint(-farthest, farthest, size=2)
                pixels[row, column] = pixels[row + down, column + right]
    assert np.allclose(found, blurs.smooth(pixels, sigma), atol=1e-12)


def test_zoom_enlarges_the_middle_as_scipy_does():
    image = pictures.textured(20, 30) / 255
    # 10 rows and 15 columns are left of factor 2.
    middle = image[5:15, 7:22]
    expected = ndimage.zoom(middle, (2, 2, 1), order=1)
    assert np.allclose(blurs.zoom(image, 2), expected)
    assert np.array_equal(blurs.zoom(image, 1), image)
    for factor in (1.03, 1.3, 2.5, 4.5):
        assert blurs.zoom(image, factor).shape == image.shape
        assert blurs.zoom(image[..., 0], factor).shape == (20, 30)


@pytest.mark.parametrize(
    ("angle", "row", "column"), [(0, 0, 1), (90, 1, 0), (-90, -1, 0)]
)
def test_motion_spreads_a_point_along_half_a_bell(angle, row, column):
    point = np.zeros((41, 41))
    point[20, 20] = 1
    blurred = blurs.move(point, 5, 2, angle)
    weights = np.exp(-0.5 * (np.arange(11) / 2) ** 2)
    weights = np.rint(weights / weights.sum() * 255) / 255
    # Each pixel looks ahead, so that the point shows up behind itself.
    for step, weight in enumerate(weights):
        assert blurred[20 - step * row, 20 - step * column] == weight
    assert np.isclose(blurred.sum(), weights.sum())


def test_defocus_spreads_a_point_over_a_disk():
    point = np.zeros((81, 81, 3))
    point[40, 40] = 1
    spread = blurs.defocus_blur(point, None, 10, 0.5)[..., 0]
    rows, columns = np.mgrid[-40:41, -40:41]
    distances = np.hypot(rows, columns)
    # The smoothing of the edge adds a hundredth where it meets its square.
    assert np.isclose(spread.sum(), 1.01, atol=0.001)
    # 317 points of the grid lie in a circle of radius 10.
    assert np.allclose(spread[distances < 8], 1 / 317)
    assert spread[distances > 11.5].max() < 1e-5


def test_plasma_lies_between_0_and_1_and_gets_rougher_with_less_decay():
    rough, fine = (
        weather.draw_plasma(generator(), 64, decay) for decay in (1.4, 3)
    )
    for cloud in (rough, fine):
        assert cloud.shape == (64, 64)
        assert (cloud.min(), cloud.max()) == (0, 1)
    steps = [np.abs(np.diff(cloud)).mean() for cloud in (rough, fine)]
    assert steps[0] > 3 * steps[1]


def test_each_point_of_plasma_is_the_mean_of_its_four_neighbours():
    random, side, wibble, step = generator(), 8, 100, 8
    cloud = np.zeros((side, side))
    square = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    diamond = ((1, 0), (-1, 0), (0, 1), (0, -1))
    while step > 1:
        half = step // 2
        for first_row, first_column, directions in (
            (half, half, square),
            (0, half, diamond),
            (half, 0, diamond),
        ):
            for row in range(first_row, side, step):
                for column in range(first_column, side, step):
                    near = [
                        cloud[
                            (row + half * a) % side, (column + half * b) % side
                        ]
                        for a, b in directions
                    ]
                    noise = random.uniform(-wibble, wibble)
                    cloud[row, column] = np.mean(near) + wibble * noise
        step, wibble = half, wibble / 2
    cloud -= cloud.min()
    found = weather.draw_plasma(generator(), side, 2)
    assert np.allclose(found, cloud / cloud.max())


def test_fog_keeps_the_brightest_value():
    image = np.full((64, 64, 3), 128, np.uint8)
    foggy = corrupt(image, "fog", 1)
    # (x + 1.5 fog) * x / (x + 1.5): black where fog is least, x where most.
    low = 255 * (128 / 255) ** 2 / (128 / 255 + 1.5)
    assert (foggy.min(), foggy.max()) == (int(low), 128)


def test_frost_weighs_image_and_texture():
    image = np.full((64, 70, 3), 100, np.uint8)
    texture = np.full((80, 90, 3), 50, np.uint8)
    frosted = corrupt(image, "frost", 2, frost_textures=[texture])
    assert np.unique(frosted).tolist() == [110]  # 0.8 * 100 + 0.6 * 50
    small = corrupt(image[:32, :32], "frost", 3, frost_textures=[texture])
    assert np.unique(small).tolist() == [110]  # 0.9 * 100 + 0.4 * 50


def test_snow_is_white_and_falls_twice():
    black = np.zeros((64, 64, 3))
    flakes = np.zeros((64, 64))
    flakes[3, 5] = 1
    snowy = weather.add_snow(black, flakes, 0.8)
    # What is not kept becomes at least half white.
    assert np.allclose(snowy[0, 0], 0.1)
    assert np.allclose(snowy[3, 5], 1.1)
    assert np.allclose(snowy[60, 58], 1.1)


def test_water_and_mud_have_their_colours():
    black = np.zeros((96, 96, 3), np.uint8)
    wet = corrupt(black, "spatter", 2)
    brightest = wet.reshape(-1, 3)[wet[..., 1].argmax()]
    # 0.6 of pale turquoise.
    assert np.abs(brightest - [105, 142, 142.0]).max() <= 1
    white = np.full((96, 96, 3), 255, np.uint8)
    dirty = corrupt(white, "spatter", 5)
    darkest = dirty.reshape(-1, 3)[dirty[..., 1].argmin()]
    assert np.abs(darkest - [63, 42, 20.0]).max() < 15


def test_without_a_drop_the_image_stays():
    image = pictures.smooth(20, 20) / 255
    dry = spatter.spatter(image, generator(), 0, 0.1, 1, 0.7, 0.5, 0)
    assert np.array_equal(dry, image)


def test_edges_are_thin_lines_around_a_square():
    levels = np.zeros((20, 20), np.uint8)
    levels[5:15, 5:15] = 100
    edges = spatter.find_edges(levels, 50, 150)
    assert edges[10].sum() == 2
    assert edges[:, 10].sum() == 2
    faint = np.where(levels, 20, 0).astype(np.uint8)
    assert not spatter.find_edges(faint, 50, 150).any()


def test_a_slanted_edge_is_found():
    rows, columns = np.mgrid[:20, :20]
    for slope in (rows - columns, rows + columns - 19):
        levels = np.where(slope > 0, 100, 0).astype(np.uint8)
        edges = spatter.find_edges(levels, 50, 150)[3:-3, 3:-3]
        # Both sides of the step are equally steep.
        on_step = np.isin(slope, (0, 1))[3:-3, 3:-3]
        assert np.array_equal(edges, on_step)


def test_equalized_levels_reach_from_0_to_255():
    levels = np.array([[10, 10, 20, 30]], np.uint8)
    # Behind the first level lie 1 and 2 of 2 pixels.
    assert spatter.equalize(levels).tolist() == [[0, 0, 128, 255]]
    flat = np.full((2, 2), 7, np.uint8)
    assert spatter.equalize(flat).tolist() == flat.tolist()


def test_an_elastic_transform_of_no_strength_is_none():
    image = pictures.textured(30, 40) / 255
    assert np.allclose(
        digital.elastic_transform(image, generator(), 0, 0, 0), image
    )


def test_an_elastic_transform_draws_columns_then_rows():
    image = pictures.smooth(24, 30) / 255
    found = digital.elastic_transform(image, generator(), 9, 2, 0)
    random = generator()
    random.uniform(size=(3, 2))
    right, down = (
        9
        * ndimage.gaussian_filter(
            random.uniform(-1, 1, (24, 30)), 2, mode="reflect", truncate=3
        )
        for _ in range(2)
    )
    rows, columns = np.mgrid[:24, :30]
    expected = ndimage.map_coordinates(
        image[..., 1], [rows + down, columns + right], order=1, mode="reflect"
    )
    assert np.allclose(found[..., 1], expected)


def test_three_points_move_as_drawn():
    image = np.zeros((60, 60, 3))
    # The middle is (30, 30), the first point 20 right of and below it.
    image[50, 50] = 1
    shift = generator().uniform(-5, 5, size=(3, 2))[0]
    moved = digital._move_points(image, generator(), 5)[..., 0]
    rows, columns = np.mgrid[:60, :60]
    found = [(moved * axis).sum() / moved.sum() for axis in (columns, rows)]
    assert np.allclose(found, 50 + shift, atol=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (CLEAN, "rain", 1),
            "No such corruption; choose from gaussian_noise, ",
        ),
        ((CLEAN, "rain", 1), "Received: 'rain'."),
        ((CLEAN, "fog", 6), "`severity` must be in 1..5. Received: 6."),
        ((CLEAN, "fog", 0), "`severity` must be in 1..5. Received: 0."),
        (
            (CLEAN / 255, "fog", 1),
            r"must be uint8 \[height, width, 3\]. Received: float64 "
            r"\[70, 90, 3\].",
        ),
        ((CLEAN[..., 0], "fog", 1), r"Received: uint8 \[70, 90\]."),
        (
            (CLEAN[:7], "fog", 1),
            "sides of at least 8 pixels. Received: 7 x 90.",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt(*arguments)


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.delitem(
        sys.modules, "noisy_student.robustness.distortions.blurs"
    )
    with pytest.raises(ValueError, match=r"pip install .*\[corruptions\]"):
        distort.load("blurs")
