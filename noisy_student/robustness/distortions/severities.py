"""How strong each corruption is, at the severities 1 to 5.

Each row holds, severity by severity, the arguments that the corruption's
function takes after the pixels and the generator.

Source:
    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", ICLR 2019; github.com/hendrycks/robustness
    (Apache-2.0): `LARGE` is ImageNet-C at 224 pixels (`make_imagenet_c.py`),
    `SMALL` is CIFAR-10-C (`make_cifar_c.py`).
"""

from noisy_student.robustness import alexnet

CORRUPTIONS = tuple(alexnet.CORRUPTION_ERRORS)
EXTRA_CORRUPTIONS = tuple(alexnet.EXTRA_CORRUPTION_ERRORS)
NUM_SEVERITIES = 5

# Images whose shorter side is below this have the constants of CIFAR-10-C.
SMALLEST_LARGE_SIZE = 64

# Quirk: lengths of elastic_transform are parts of 244 pixels, where images of
# ImageNet-C have 224.
_LARGE_SIDE = 244
_SMALL_SIDE = 32


def _each(*values):
    """Returns the rows of a corruption that takes one argument."""
    return tuple((value,) for value in values)


def _parts(side, *rows):
    """Returns rows whose numbers are given as parts of a side."""
    return tuple(tuple(side * part for part in row) for row in rows)


LARGE = {
    # Standard deviation, pixels being in [0, 1].
    "gaussian_noise": _each(0.08, 0.12, 0.18, 0.26, 0.38),
    # Photons of a white pixel.
    "shot_noise": _each(60, 25, 12, 5, 3),
    # Share of values that become 0 or 1.
    "impulse_noise": _each(0.03, 0.06, 0.09, 0.17, 0.27),
    # Standard deviation, relative to the value.
    "speckle_noise": _each(0.15, 0.2, 0.35, 0.45, 0.6),
    # Radius of the disk, standard deviation that smooths its edge.
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    # Standard deviation of the blur, farthest shift, repetitions.
    "glass_blur": (
        (0.7, 1, 2),
        (0.9, 2, 1),
        (1, 2, 3),
        (1.1, 3, 2),
        (1.5, 4, 2),
    ),
    # Radius, standard deviation.
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    # End and step of the zoom factors, which begin with 1.
    "zoom_blur": (
        (1.11, 0.01),
        (1.16, 0.01),
        (1.21, 0.02),
        (1.26, 0.02),
        (1.31, 0.03),
    ),
    "gaussian_blur": _each(1, 2, 3, 4, 6),
    # Mean, standard deviation, zoom and threshold of the flakes; radius and
    # standard deviation of their motion; how much of the picture is kept.
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    # Weights of picture and texture; scale of the texture.
    "frost": (
        (1, 0.4, 1),
        (0.8, 0.6, 1),
        (0.7, 0.7, 1),
        (0.65, 0.7, 1),
        (0.6, 0.75, 1),
    ),
    # Thickness, and how fast the fog gets smoother.
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    # Mean, standard deviation, blur and threshold of the liquid; strength of
    # water or blur of mud; whether it is mud.
    "spatter": (
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
    # Added to the value of HSV.
    "brightness": _each(0.1, 0.2, 0.3, 0.4, 0.5),
    # Factor of the distance to the mean.
    "contrast": _each(0.4, 0.3, 0.2, 0.1, 0.05),
    # Factor and summand of the saturation of HSV.
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    # Strength and blur of the displacements, farthest shift of the corners.
    "elastic_transform": _parts(
        _LARGE_SIDE,
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    ),
    # Part of the width and of the height that is left.
    "pixelate": _each(0.6, 0.5, 0.4, 0.3, 0.25),
    # JPEG quality.
    "jpeg_compression": _each(25, 18, 15, 10, 7),
}

SMALL = {
    "gaussian_noise": _each(0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": _each(500, 250, 100, 75, 50),
    "impulse_noise": _each(0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle_noise": _each(0.06, 0.1, 0.12, 0.16, 0.2),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": (
        (0.05, 1, 1),
        (0.25, 1, 1),
        (0.4, 1, 1),
        (0.25, 1, 2),
        (0.4, 1, 2),
    ),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": (
        (1.06, 0.01),
        (1.11, 0.01),
        (1.16, 0.01),
        (1.21, 0.01),
        (1.26, 0.01),
    ),
    "gaussian_blur": _each(0.4, 0.6, 0.7, 0.8, 1),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": (
        (1, 0.2, 0.2),
        (1, 0.3, 0.2),
        (0.9, 0.4, 0.2),
        (0.85, 0.4, 0.2),
        (0.75, 0.45, 0.2),
    ),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "brightness": _each(0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": _each(0.75, 0.5, 0.4, 0.3, 0.15),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    "elastic_transform": _parts(
        _SMALL_SIDE,
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    "pixelate": _each(0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": _each(80, 65, 58, 50, 40),
}


def is_small(height, width):
    """Returns whether images of this size have the constants of CIFAR-10-C."""
    return min(height, width) < SMALLEST_LARGE_SIZE


def arguments(name, severity, height, width):
    """Returns the arguments of a corruption for images of a size, a tuple.

    Args:
        name: One of `CORRUPTIONS` and `EXTRA_CORRUPTIONS`.
        severity: 1 to 5.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    table = SMALL if is_small(height, width) else LARGE
    return table[name][severity - 1]
