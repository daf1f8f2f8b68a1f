"""Tests of the sequences of perturbed frames."""

import numpy as np
import pytest

from noisy_student.robustness.distortions import distort
from tests.noisy_student.robustness import pictures

PHOTO = pictures.textured(80, 90)
SMALL = pictures.textured(32, 32)


def perturb(image, name, **options):
    return distort.perturb(image, name, **{"seed": 0, **options})


@pytest.mark.parametrize("name", distort.PERTURBATIONS)
def test_a_sequence_has_the_published_length(name):
    large = perturb(PHOTO, name, crop=64)
    assert large.dtype == np.uint8
    assert large.shape == (41 if name == "translate" else 31, 64, 64, 3)
    small = perturb(SMALL, name)
    count = {"translate": 16, "motion_blur": 21}.get(name, 31)
    assert small.shape == (count, 32, 32, 3)
    for frames in (large, small):
        changes = [(a != b).any() for a, b in zip(frames, frames[1:])]
        # Two angles of a blur may round to the same pixels.
        assert all(changes) or name in ("motion_blur", "snow")
        assert np.mean(changes) > 0.9


@pytest.mark.parametrize("name", distort.PERTURBATIONS)
def test_fewer_frames_are_the_first_ones(name):
    few = perturb(SMALL, name, num_frames=3)
    assert np.array_equal(few, perturb(SMALL, name, num_frames=5)[:3])


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "snow"])
def test_chance_follows_from_seed_and_key(name):
    first = perturb(SMALL, name, num_frames=2, key=b"a")
    again = perturb(SMALL, name, num_frames=2, key=b"a")
    other = perturb(SMALL, name, num_frames=2, key=b"b")
    assert np.array_equal(first, again)
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "zoom_blur"])
def test_some_sequences_begin_with_the_clean_image(name):
    frames = perturb(PHOTO, name, crop=64, num_frames=2)
    assert np.array_equal(frames[0], PHOTO[8:72, 13:77])


@pytest.mark.parametrize(("image", "scale"), [(PHOTO, 0.03), (SMALL, 0.02)])
def test_noise_has_the_standard_deviation_of_its_set(image, scale):
    grey = np.full_like(image, 128)
    frames = perturb(grey, "gaussian_noise", num_frames=4)
    assert frames[1:].std() == pytest.approx(255 * scale, rel=0.05)


def test_brightness_goes_from_darker_to_brighter():
    grey = np.full((64, 64, 3), 100, np.uint8)
    frames = perturb(grey, "brightness")
    # A step is 0.02, 5.1 levels, and the clean image is frame 15.
    levels = frames[:, 0, 0, 0].tolist()
    assert levels[0] == 23  # 100 - 76.5
    assert levels[15] == 100
    assert levels[30] == 176
    assert levels == sorted(levels)


def test_translate_moves_the_image_to_the_right_a_pixel_a_frame():
    frames = perturb(PHOTO, "translate", crop=64)
    for number in (0, 7, 20, 33):
        left = 13 - (number - 20)
        expected = np.zeros((64, 64, 3), np.uint8)
        inside = PHOTO[8:72, max(left, 0) : left + 64]
        expected[:, 64 - inside.shape[1] if left < 0 else 0 :][
            :, : inside.shape[1]
        ] = inside
        assert np.array_equal(frames[number], expected), number


def test_without_a_crop_black_moves_in():
    white = np.full((32, 32, 3), 255, np.uint8)
    frames = perturb(white, "translate")
    # The first frame is 7 pixels to the left, the last 8 to the right.
    assert not frames[0][:, 25:].any()
    assert frames[0][:, :25].all()
    assert not frames[15][:, :8].any()
    assert frames[15][:, 8:].all()


def test_the_middle_of_a_rotation_is_the_clean_image():
    frames = perturb(PHOTO, "rotate")
    assert np.array_equal(frames[15], PHOTO)
    point = np.zeros((65, 65, 3), np.uint8)
    point[10:13, 31:34] = 255
    turned = perturb(point, "rotate")[30][..., 0]
    # 15 degrees clockwise around (33, 33): from (32, 11) to about (37.7, 11.5).
    rows, columns = np.mgrid[:65, :65] * turned / turned.sum()
    assert columns.sum() == pytest.approx(37.7, abs=0.3)
    assert rows.sum() == pytest.approx(11.5, abs=0.3)


def test_scale_goes_from_less_to_more_than_1():
    white = np.full((80, 80, 3), 255, np.uint8)
    shares = (perturb(white, "scale")[..., 0] > 127).mean(axis=(1, 2))
    # 0.4 of both sides, and all of it from 1 on, the frame 24.
    assert shares[0] == pytest.approx(0.16, abs=0.01)
    assert shares[24] == pytest.approx(1, abs=0.03)
    assert shares[30] == 1


def test_tilt_is_symmetric_and_nearly_nothing_in_its_middle():
    image = pictures.smooth(80, 80)
    frames = perturb(image, "tilt").astype(int)
    changes = np.abs(frames - image).mean(axis=(1, 2, 3))
    # The image lies a pixel deeper than what it turns about: it shrinks.
    assert changes.argmin() == 15
    assert changes[[0, 30]].min() > 6 * changes[15]
    # The middle stays where it is.
    assert np.abs(frames[:, 40, 40] - image[40, 40]).max() < 12
    # Tilted the other way, the frame is the same but for a half turn.
    half_turn = perturb(image[::-1, ::-1], "tilt").astype(int)[30]
    inside = np.abs(half_turn[::-1, ::-1] - frames[0])[10:-10, 10:-10]
    assert inside.mean() < 4


def test_without_a_tilt_the_image_is_a_pixel_deeper():
    ramp = np.zeros((80, 80, 3), np.uint8)
    ramp += np.arange(0, 240, 3, dtype=np.uint8)[:, np.newaxis]
    levels = perturb(ramp, "tilt")[15][40, :, 0]
    distance = np.hypot(80, 80)
    for column in (10, 40, 70):
        seen = 40 + (column - 40) * (distance + 1) / distance
        assert levels[column] == round(3 * seen)


def test_motion_blur_turns_half_a_circle_or_so():
    point = np.zeros((64, 64, 3), np.uint8)
    point[32, 32] = 255
    frames = perturb(point, "motion_blur").astype(float)[..., 0]
    rows, columns = np.mgrid[:64, :64] - 32
    weights = frames / frames.sum(axis=(1, 2), keepdims=True)
    angles = np.degrees(
        np.arctan2(
            -(weights * rows).sum(axis=(1, 2)),
            -(weights * columns).sum(axis=(1, 2)),
        )
    )
    # Positions are whole pixels, most of them close by.
    assert np.allclose(angles, np.arange(31) * 4 - 120, atol=9)
    assert angles[30] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "rain"}, "No such perturbation; choose from .*'rain'"),
        (
            {"num_frames": 32},
            "`num_frames` of tilt must be in 2..31. Received: 32.",
        ),
        ({"num_frames": 1}, "must be in 2..31. Received: 1."),
        ({"crop": 33}, "`crop` must be in 8..32 for this image. Received: 33."),
        ({"image": SMALL / 255}, "`image` must be uint8"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        perturb(**{"image": SMALL, "name": "tilt", **options})
