"""Corrupted images and perturbed sequences, as pure functions.

`corrupt` makes the corruptions of ImageNet-C and CIFAR-10-C, `perturb` the
sequences of ImageNet-P and CIFAR-10-P. What differs from the published sets
is told in `docs/corruptions.md`.

Quirk:
    Values are cut to whole levels, not rounded, as the published sets were.

Source:
    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", ICLR 2019; github.com/hendrycks/robustness
    (Apache-2.0). Algorithms and constants are theirs.
"""

import importlib

import numpy as np

from data_prep import hashing
from noisy_student.robustness import alexnet
from noisy_student.robustness.distortions.severities import (
    CORRUPTIONS,
    EXTRA_CORRUPTIONS,
    NUM_SEVERITIES,
    arguments,
)

_PACKAGE = "noisy_student.robustness.distortions"
# Its modules, imported when an image is corrupted: they need SciPy, which is
# an extra.
_MODULES = {
    "gaussian_noise": "noises",
    "shot_noise": "noises",
    "impulse_noise": "noises",
    "speckle_noise": "noises",
    "defocus_blur": "blurs",
    "glass_blur": "blurs",
    "motion_blur": "blurs",
    "zoom_blur": "blurs",
    "gaussian_blur": "blurs",
    "snow": "weather",
    "frost": "weather",
    "fog": "weather",
    "spatter": "spatter",
    "brightness": "digital",
    "contrast": "digital",
    "saturate": "digital",
    "elastic_transform": "digital",
    "pixelate": "digital",
    "jpeg_compression": "digital",
}
PERTURBATIONS = tuple(alexnet.FLIP_RATES)
SMALLEST_SIDE = 8


def corrupt(image, name, severity, *, seed, key=b"", frost_textures=()):
    """Corrupts an image.

    Images whose shorter side is below 64 pixels have the constants of
    CIFAR-10-C, others those of ImageNet-C at 224 pixels, which are not scaled.

    Args:
        image: uint8 [height, width, 3], sides of at least 8 pixels.
        name: One of `CORRUPTIONS` and `EXTRA_CORRUPTIONS`.
        severity: 1 to 5.
        seed: int; with `key`, `name` and `severity` it decides all that is
            left to chance.
        key: bytes that tell this image from others.
        frost_textures: Sequence of uint8 [height, width, 3], photographs of
            ice for `frost`; without any, ice is drawn.

    Returns:
        uint8 [height, width, 3].

    Raises:
        ValueError: An argument is none of these, or SciPy is missing.
    """
    check_image(image)
    check_name(name, CORRUPTIONS + EXTRA_CORRUPTIONS, "corruption")
    check_severity(severity)
    operation = getattr(load(_MODULES[name]), name)
    options = {"textures": frost_textures} if name == "frost" else {}
    corrupted = operation(
        image / 255,
        _random_state(seed, key, name, severity),
        *arguments(name, severity, *image.shape[:2]),
        **options,
    )
    return to_levels(corrupted)


def perturb(image, name, *, num_frames=None, seed, key=b"", crop=None):
    """Makes a sequence of frames in which an image changes step by step.

    Frames whose shorter side is below 64 pixels have the constants of
    CIFAR-10-P, others those of ImageNet-P.

    Args:
        image: uint8 [height, width, 3], sides of at least 8 pixels.
        name: One of `PERTURBATIONS`.
        num_frames: How many of the frames, from the first, at least 2; None is
            all of them (31; of `translate` 41, of small frames 16 and, of
            `motion_blur`, 21).
        seed: int; with `key` and `name` it decides all that is left to chance.
        key: bytes that tell this image from others.
        crop: Side in pixels to which each frame is cropped around its middle,
            so that what moves into it is picture; None crops nothing, and what
            comes from outside the image is black.

    Returns:
        uint8 [frames, height, width, 3], or [frames, crop, crop, 3].

    Raises:
        ValueError: An argument is none of these, or SciPy is missing.
    """
    check_image(image)
    check_name(name, PERTURBATIONS, "perturbation")
    sides = image.shape[:2]
    if crop is not None and not SMALLEST_SIDE <= crop <= min(sides):
        raise ValueError(
            f"`crop` must be in {SMALLEST_SIDE}..{min(sides)} for this image. "
            f"Received: {crop}."
        )
    frames = load("perturbations").frames(
        name, image, _random_state(seed, key, name, 0), crop, num_frames
    )
    return np.stack(frames)


def check_image(image):
    """Raises ValueError if a value is no image that can be corrupted."""
    dtype, shape = getattr(image, "dtype", None), np.shape(image)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
        raise ValueError(
            "`image` must be uint8 [height, width, 3]. Received: "
            f"{dtype or type(image).__name__} {list(shape)}."
        )
    if min(shape[:2]) < SMALLEST_SIDE:
        raise ValueError(
            f"`image` must have sides of at least {SMALLEST_SIDE} pixels. "
            f"Received: {shape[0]} x {shape[1]}."
        )


def check_name(name, choices, kind):
    """Raises ValueError if a name is not among the choices of a kind."""
    if name not in choices:
        raise ValueError(
            f"No such {kind}; choose from {', '.join(choices)}. Received: "
            f"{name!r}."
        )


def check_severity(severity):
    """Raises ValueError if a value is no severity."""
    if severity not in range(1, NUM_SEVERITIES + 1):
        raise ValueError(
            f"`severity` must be in 1..{NUM_SEVERITIES}. Received: {severity}."
        )


def crop_middle(pixels, crop):
    """Returns the middle of an image, as torchvision's `CenterCrop` does.

    Args:
        pixels: [height, width, channels].
        crop: Side of the square, at most the shorter side; None is no crop.
    """
    if crop is None:
        return pixels
    top, left = (round((side - crop) / 2) for side in pixels.shape[:2])
    return pixels[top : top + crop, left : left + crop]


def to_levels(pixels):
    """Returns float pixels in [0, 1] as uint8: clipped, then cut off.

    A thousandth of a level is forgiven, so that no level is lost by the
    rounding of floats.
    """
    return np.floor(np.clip(pixels, 0, 1) * 255 + 1e-3).astype(np.uint8)


def _random_state(seed, key, name, severity):
    """Returns the generator of one corruption of one image.

    `RandomState`, since NumPy promises its numbers for all versions to come.
    """
    salt = f"{seed} {name} {severity}".encode()
    number = hashing.hash64(key, salt=salt)
    return np.random.RandomState([number >> 32, number & 0xFFFFFFFF])


def load(module):
    """Imports a module of this package that needs SciPy.

    Args:
        module: Its name.

    Raises:
        ValueError: SciPy is not installed.
    """
    try:
        return importlib.import_module(f"{_PACKAGE}.{module}")
    except ModuleNotFoundError as error:
        if error.name != "scipy":
            raise
        raise ValueError(
            "Corruptions need scipy, which is not installed: pip install "
            "'noisy-student-training[corruptions]', or scipy alone."
        ) from error
