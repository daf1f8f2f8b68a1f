"""The corruption `spatter`: water or mud on the lens.

Source:
    github.com/hendrycks/robustness, `make_imagenet_c.py`, and the steps of
    OpenCV that it calls: `Canny`, `distanceTransform`, `equalizeHist`.
"""

import numpy as np
from scipy import ndimage

from noisy_student.robustness.distortions import blurs

_WATER = np.array([175, 238, 238]) / 255
_MUD = np.array([63, 42, 20]) / 255
_LEAST_MUD = 0.8
_EDGE_LOW, _EDGE_HIGH = 50, 150
_FARTHEST = 20
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
_SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
_FLAT = np.tan(np.radians(22.5))
_STEEP = np.tan(np.radians(67.5))


def spatter(pixels, random, mean, scale, sigma, threshold, strength, is_mud):
    """Spills water or mud over an image.

    Quirk:
        Distances to the edges of the drops are exact; OpenCV's are within some
        percent of that. Liquid above 1 counts as 1, where the published code
        lets its bytes overflow; without any drop the image stays, where that
        divides by zero.

    Args:
        pixels: float [height, width, 3] in [0, 1].
        random: `numpy.random.RandomState`.
        mean: Of the normal noise that the liquid begins as.
        scale: Its standard deviation.
        sigma: Standard deviation of its blur, in pixels.
        threshold: Below it there is no liquid.
        strength: Of the water's light; of mud, the blur of its edges.
        is_mud: Whether it is mud.

    Returns:
        float [height, width, 3], to be clipped.
    """
    noise = random.normal(loc=mean, scale=scale, size=pixels.shape[:2])
    liquid = blurs.smooth(noise, sigma)
    liquid[liquid < threshold] = 0
    if is_mud:
        mud = blurs.smooth((liquid > threshold).astype(np.float64), strength)
        mud[mud < _LEAST_MUD] = 0
        mud = mud[..., np.newaxis]
        return pixels * (1 - mud) + _MUD * mud
    levels = np.floor(np.clip(liquid, 0, 1) * 255).astype(np.uint8)
    light = levels * _draw_relief(levels)
    if not light.any():
        return pixels
    return pixels + strength * _WATER * (light / light.max())[..., np.newaxis]


def _draw_relief(levels):
    """Returns how drops of water catch the light, float [height, width]."""
    edges = find_edges(levels, _EDGE_LOW, _EDGE_HIGH)
    distances = np.full(levels.shape, float(_FARTHEST))
    if edges.any():
        distances = np.minimum(
            ndimage.distance_transform_edt(~edges), _FARTHEST
        )
    means = ndimage.uniform_filter(distances, 3, mode="mirror")
    relief = ndimage.correlate(
        equalize(np.floor(means + 1e-6).astype(np.uint8)).astype(np.int64),
        _RELIEF,
        mode="mirror",
    )
    relief = np.clip(relief, 0, 255).astype(np.float64)
    return np.rint(ndimage.uniform_filter(relief, 3, mode="mirror"))


def equalize(levels):
    """Returns levels spread evenly over 0 to 255, as OpenCV spreads them.

    Args:
        levels: uint8 [height, width].

    Returns:
        uint8 [height, width].
    """
    counts = np.bincount(levels.ravel(), minlength=256)
    others = levels.size - counts[levels.min()]
    if not others:
        return levels
    below = np.cumsum(counts) - counts[levels.min()]
    table = np.rint(np.maximum(below, 0) * 255 / others)
    return table.astype(np.uint8)[levels]


def find_edges(levels, low, high):
    """Returns where the edges of an image are, by Canny's method.

    Args:
        levels: uint8 [height, width].
        low: What a gradient, |dx| + |dy| by Sobel's operator, must exceed to
            belong to an edge.
        high: What one gradient of an edge must exceed.

    Returns:
        bool [height, width].
    """
    values = levels.astype(np.int64)
    across = ndimage.correlate(values, _SOBEL, mode="nearest")
    down = ndimage.correlate(values, _SOBEL.T, mode="nearest")
    strength = np.abs(across) + np.abs(down)
    thin = (strength > low) & _is_ridge(strength, across, down)
    labels, _ = ndimage.label(thin, structure=np.ones((3, 3)))
    strong = np.unique(labels[thin & (strength > high)])
    return np.isin(labels, strong) & thin


def _is_ridge(strength, across, down):
    """Returns where gradients are the strongest in their own direction."""
    height, width = strength.shape
    padded = np.pad(strength, 1)

    def near(rows, columns):
        return padded[
            1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width
        ]

    is_flat = np.abs(down) < _FLAT * np.abs(across)
    is_steep = np.abs(down) > _STEEP * np.abs(across)
    # Of equal neighbours the first one is the edge, but on diagonals none.
    along_row = (strength > near(0, -1)) & (strength >= near(0, 1))
    along_column = (strength > near(-1, 0)) & (strength >= near(1, 0))
    falling = (strength > near(-1, -1)) & (strength > near(1, 1))
    rising = (strength > near(-1, 1)) & (strength > near(1, -1))
    diagonal = np.where((across < 0) != (down < 0), rising, falling)
    return np.where(
        is_flat, along_row, np.where(is_steep, along_column, diagonal)
    )
