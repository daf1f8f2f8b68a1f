"""Corruptions that blur, and the filters that others use.

Corruptions take float64 pixels [height, width, 3] in [0, 1] and a
`numpy.random.RandomState`, and return pixels that are still to be clipped.

Source:
    github.com/hendrycks/robustness, `make_imagenet_c.py`, whose filters are
    those of scikit-image, OpenCV and ImageMagick; here they are SciPy's.
"""

import math

import numpy as np
from scipy import ndimage

# Half the side of the square that small disks are drawn in.
_LEAST_DISK_REACH = 8


def smooth(pixels, sigma):
    """Returns float pixels under a Gaussian, as `skimage.filters.gaussian`.

    Args:
        pixels: float [height, width] or [height, width, channels].
        sigma: Standard deviation in pixels; channels are not mixed.
    """
    sigmas = (sigma, sigma) + (0,) * (pixels.ndim - 2)
    return ndimage.gaussian_filter(pixels, sigmas, mode="nearest", truncate=4)


def zoom(pixels, factor):
    """Returns the centre of an image, enlarged to the size of the whole.

    Args:
        pixels: float [height, width] or [height, width, channels].
        factor: >= 1.
    """
    sides = pixels.shape[:2]
    kept = [math.ceil(side / factor) for side in sides]
    centre = pixels[_centre(sides, kept)]
    if pixels.ndim == 2:
        enlarged = ndimage.zoom(centre, factor, order=1)
    else:
        # In half the time that all channels at once would take.
        channels = np.moveaxis(centre, -1, 0)
        enlarged = np.stack(
            [ndimage.zoom(one, factor, order=1) for one in channels], axis=-1
        )
    return enlarged[_centre(enlarged.shape, sides)]


def _centre(sides, kept):
    """Returns the slices of the middle `kept` pixels of each side."""
    starts = [(side - keep) // 2 for side, keep in zip(sides, kept)]
    return tuple(slice(s, s + keep) for s, keep in zip(starts, kept))


def move(pixels, radius, sigma, angle):
    """Returns pixels blurred in one direction, on 8 bits.

    The weights are those of one half of a Gaussian, on `2 * radius + 1` pixels
    from the pixel itself onward; beyond an edge its pixels go on.

    Quirk:
        ImageMagick, which the published sets were made with, has the same
        number of pixels, weights and rounded positions; its own rounding of
        values is not reproduced.

    Args:
        pixels: float [height, width] or [height, width, channels] in [0, 1].
        radius: Whole number of pixels.
        sigma: Standard deviation in pixels.
        angle: Direction in degrees, clockwise from the right.
    """
    length = 2 * radius + 1
    weights = np.exp(-0.5 * (np.arange(length) / sigma) ** 2)
    weights /= weights.sum()
    height, width = pixels.shape[:2]
    margins = [(length, length)] * 2 + [(0, 0)] * (pixels.ndim - 2)
    padded = np.pad(pixels, margins, mode="edge")
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    blurred = np.zeros_like(pixels)
    for step, weight in enumerate(weights):
        top = length + math.ceil(step * down - 0.5)
        left = length + math.ceil(step * right - 0.5)
        blurred += weight * padded[top : top + height, left : left + width]
    return np.rint(blurred * 255) / 255


def gaussian_blur(pixels, random, sigma):
    """Blurs with a Gaussian."""
    del random  # Nothing is left to chance.
    return smooth(pixels, sigma)


def defocus_blur(pixels, random, radius, edge_sigma):
    """Spreads each pixel over a disk."""
    del random  # Nothing is left to chance.
    disk = _disk(radius, edge_sigma)[..., np.newaxis]
    return ndimage.correlate(pixels, disk, mode="mirror")


def _disk(radius, edge_sigma):
    """Returns the weights of a disk whose edge is smoothed, float [n, n]."""
    reach = _LEAST_DISK_REACH if radius <= _LEAST_DISK_REACH else radius
    taps = 1 if radius <= _LEAST_DISK_REACH else 2
    squares = np.arange(-reach, reach + 1) ** 2
    inside = squares[:, np.newaxis] + squares <= radius**2
    disk = inside / inside.sum()
    weights = np.exp(-0.5 * (np.arange(-taps, taps + 1) / edge_sigma) ** 2)
    for axis in (0, 1):
        disk = ndimage.correlate1d(
            disk, weights / weights.sum(), axis, mode="mirror"
        )
    return disk


def glass_blur(pixels, random, sigma, farthest, repetitions):
    """Blurs, lets neighbours take each other's place, and blurs again.

    Quirk:
        The published code exchanges two pixels through views of one array, so
        that it copies the neighbour and leaves that as it was. It goes from
        the last pixel to the first, so that copies are copied on, and shifts
        are in `[-farthest, farthest)`. All three are kept.
    """
    # Whole levels, as there.
    pixels = np.floor(smooth(pixels, sigma) * 255 + 1e-6) / 255
    for _ in range(repetitions):
        pixels = _shuffle(pixels, random, farthest)
    return smooth(pixels, sigma)


def _shuffle(pixels, random, farthest):
    """Returns pixels each of which was copied from a near one, last first."""
    height, width = pixels.shape[:2]
    rows = np.arange(farthest + 1, height - farthest + 1)
    columns = np.arange(farthest + 1, width - farthest + 1)
    # Columns and rows, from the last pixel to the first.
    shifts = random.randint(
        -farthest, farthest, size=(len(rows), len(columns), 2)
    )[::-1, ::-1]
    numbers = np.arange(height * width).reshape(height, width)
    here = numbers[np.ix_(rows, columns)]
    source = numbers.copy()
    source[np.ix_(rows, columns)] = here + shifts @ [1, width]
    source = source.ravel()
    copied = np.zeros(height * width, bool)
    copied[here] = True
    # A source that has been copied to before hands on what it got itself:
    # chains are followed to their ends, each round doubling the strides.
    follows = copied & copied[source] & (source > numbers.ravel())
    link = np.where(follows, source, numbers.ravel())
    while not np.array_equal(link[link], link):
        link = link[link]
    flat = pixels.reshape(height * width, -1)
    return flat[source[link]].reshape(pixels.shape)


def motion_blur(pixels, random, radius, sigma):
    """Blurs in a direction between -45 and 45 degrees."""
    return move(pixels, radius, sigma, random.uniform(-45, 45))


def zoom_blur(pixels, random, end, step):
    """Averages the image and itself at growing zoom factors."""
    del random  # Nothing is left to chance.
    factors = np.arange(1, end, step)
    total = pixels.copy()
    for factor in factors:
        total += zoom(pixels, factor)
    return total / (len(factors) + 1)
