"""The perturbations of ImageNet-P: an image that changes frame by frame.

Quirk:
    Rotations, scales and shifts turn around a point half a pixel right of and
    below the middle of the image, as torchvision 0.2 did for the published
    sets.

Source:
    github.com/hendrycks/robustness, `make_imagenet_p.py` for frames of 64
    pixels and more, `make_cifar_p.py` for smaller ones.
"""

import math

import numpy as np
from PIL import Image

from noisy_student.robustness.distortions import (
    blurs,
    digital,
    noises,
    severities,
    weather,
)
from noisy_student.robustness.distortions.distort import crop_middle, to_levels

_MOST_FRAMES = 31
# Kept of the picture in the snow, whatever the size.
_KEPT_IN_SNOW = 0.85
_FLAKES = {"mean": 0.05, "scale": 0.3, "threshold": 0.5}

# Constants of ImageNet-P and of CIFAR-10-P.
_LARGE = {
    "gaussian_noise": {"scale": 0.03},
    "shot_noise": {"photons": 300},
    "motion_blur": {"radius": 10, "sigma": 3, "first": -120, "step": 4},
    "zoom_blur": {"step": 0.004},
    "brightness": {"step": 0.02},
    "translate": {"first": -20, "count": 41},
    "rotate": {"step": 1},
    "tilt": {"step": 1},
    "scale": {"first": 0.4, "step": 0.025},
    "snow": {"zoom": 3, "radius": 14, "sigma": 4},
}
_SMALL = {
    "gaussian_noise": {"scale": 0.02},
    "shot_noise": {"photons": 700},
    "motion_blur": {
        "radius": 6,
        "sigma": 1.8,
        "first": -180,
        "step": 9,
        "count": 21,
    },
    "zoom_blur": {"step": 0.004},
    "brightness": {"step": 0.015},
    "translate": {"first": -7, "count": 16},
    "rotate": {"step": 1},
    "tilt": {"step": 0.75},
    "scale": {"first": 0.7, "step": 0.02},
    "snow": {"zoom": 2, "radius": 10, "sigma": 2},
}


def frames(name, image, random, crop, num_frames):
    """Returns the frames of a perturbation; see `distort.perturb`.

    Args:
        name: One of `distort.PERTURBATIONS`.
        image: uint8 [height, width, 3].
        random: `numpy.random.RandomState`.
        crop: Side of the frames, or None.
        num_frames: How many, or None.

    Returns:
        List of uint8 [height, width, 3].

    Raises:
        ValueError: There are not so many frames.
    """
    sides = image.shape[:2] if crop is None else (crop, crop)
    settings = dict((_SMALL if severities.is_small(*sides) else _LARGE)[name])
    most = settings.pop("count", _MOST_FRAMES)
    if num_frames is None:
        num_frames = most
    if not 2 <= num_frames <= most:
        raise ValueError(
            f"`num_frames` of {name} must be in 2..{most}. Received: "
            f"{num_frames}."
        )
    return _OPERATIONS[name](image, random, crop, num_frames, **settings)


def _gaussian_noise(image, random, crop, count, scale):
    clean = crop_middle(image, crop)
    return [clean] + [
        to_levels(noises.gaussian_noise(clean / 255, random, scale))
        for _ in range(1, count)
    ]


def _shot_noise(image, random, crop, count, photons):
    clean = crop_middle(image, crop)
    return [clean] + [
        to_levels(noises.shot_noise(clean / 255, random, photons))
        for _ in range(1, count)
    ]


def _motion_blur(image, random, crop, count, radius, sigma, first, step):
    del random  # Nothing is left to chance.
    clean = crop_middle(image, crop) / 255
    return [
        to_levels(blurs.move(clean, radius, sigma, first + step * number))
        for number in range(count)
    ]


def _zoom_blur(image, random, crop, count, step):
    del random  # Nothing is left to chance.
    clean = crop_middle(image, crop)
    found, total = [clean], clean / 255
    for number in range(1, count):
        total = total + _transform(image, crop, scale=1 + step * number) / 255
        found.append(to_levels(total / (number + 1)))
    return found


def _brightness(image, random, crop, count, step):
    clean = crop_middle(image, crop) / 255
    return [
        to_levels(digital.brightness(clean, random, (number - 15) * step))
        for number in range(count)
    ]


def _translate(image, random, crop, count, first):
    del random  # Nothing is left to chance.
    return [
        _transform(image, crop, shift=first + number) for number in range(count)
    ]


def _rotate(image, random, crop, count, step):
    del random  # Nothing is left to chance.
    return [
        _transform(image, crop, angle=(number - 15) * step)
        for number in range(count)
    ]


def _scale(image, random, crop, count, first, step):
    del random  # Nothing is left to chance.
    return [
        _transform(image, crop, scale=first + number * step)
        for number in range(count)
    ]


def _transform(image, crop, *, angle=0, shift=0, scale=1):
    """Turns, moves to the right and enlarges an image; black comes in.

    Args:
        image: uint8 [height, width, 3].
        crop: Side of the result, or None.
        angle: In degrees, clockwise.
        shift: In pixels.
        scale: > 0.

    Returns:
        uint8 [height, width, 3].
    """
    height, width = image.shape[:2]
    centre = width / 2 + 0.5, height / 2 + 0.5
    cosine = math.cos(math.radians(angle)) / scale
    sine = math.sin(math.radians(angle)) / scale
    right, down = -centre[0] - shift, -centre[1]
    # From where a pixel is to where it was.
    matrix = (
        cosine,
        sine,
        centre[0] + cosine * right + sine * down,
        -sine,
        cosine,
        centre[1] - sine * right + cosine * down,
    )
    moved = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.BILINEAR
    )
    return crop_middle(np.asarray(moved), crop)


def _tilt(image, random, crop, count, step):
    del random  # Nothing is left to chance.
    return [
        crop_middle(_tilt_by(image, (number - 15) * step), crop)
        for number in range(count)
    ]


def _tilt_by(image, degrees):
    """Turns an image in space around both of its axes; black comes in."""
    height, width = image.shape[:2]
    cosine = math.cos(math.radians(degrees))
    sine = math.sin(math.radians(degrees))
    distance = math.hypot(width, height)
    middle = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    about_rows = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    about_columns = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    turned = about_rows @ about_columns
    # Quirk: the image turns a pixel behind the point it turns about.
    turned[2, 2] += distance
    camera = np.array(
        [[distance, 0, width / 2], [0, distance, height / 2], [0, 0, 1]]
    )
    back = np.linalg.inv(camera @ turned @ middle)
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ back.T
    seen = digital.sample(
        image.astype(np.float64),
        places[..., 1] / places[..., 2],
        places[..., 0] / places[..., 2],
        mode="grid-constant",
    )
    return np.rint(seen).astype(np.uint8)


def _snow(image, random, crop, count, zoom, radius, sigma):
    clean = crop_middle(image, crop) / 255
    flakes = weather.draw_flakes(random, clean.shape[:2], zoom=zoom, **_FLAKES)
    return [
        to_levels(
            weather.add_snow(
                clean,
                blurs.move(flakes, radius, sigma, number * 4 - 150),
                _KEPT_IN_SNOW,
            )
        )
        for number in range(count)
    ]


_OPERATIONS = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "brightness": _brightness,
    "translate": _translate,
    "rotate": _rotate,
    "tilt": _tilt,
    "scale": _scale,
    "snow": _snow,
}
