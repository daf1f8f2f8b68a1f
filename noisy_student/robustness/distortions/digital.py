"""Corruptions of colours, of positions, and by coding.

All take float64 pixels [height, width, 3] in [0, 1] and a
`numpy.random.RandomState`, and return pixels that are still to be clipped.

Source:
    github.com/hendrycks/robustness, `make_imagenet_c.py`.
"""

import io

import numpy as np
from PIL import Image
from scipy import ndimage


def brightness(pixels, random, added):
    """Adds to the value of HSV; hue and saturation stay."""
    del random  # Nothing is left to chance.
    value = pixels.max(axis=-1, keepdims=True)
    brighter = np.clip(value + added, 0, 1)
    # Colours are multiples of the value; black has none and becomes grey.
    shades = np.divide(pixels, value, out=np.ones_like(pixels), where=value > 0)
    return shades * brighter


def contrast(pixels, random, factor):
    """Moves all values towards the mean of their channel."""
    del random  # Nothing is left to chance.
    means = pixels.mean(axis=(0, 1), keepdims=True)
    return (pixels - means) * factor + means


def saturate(pixels, random, factor, added):
    """Multiplies the saturation of HSV and adds to it; the hue stays.

    Quirk:
        Grey has the hue 0, which is red: what is added makes it reddish.
    """
    del random  # Nothing is left to chance.
    value = pixels.max(axis=-1, keepdims=True)
    range_ = value - pixels.min(axis=-1, keepdims=True)
    saturation = np.divide(
        range_, value, out=np.zeros_like(value), where=value > 0
    )
    # How far each channel lies below the value, as a part of the range.
    red = np.broadcast_to([0.0, 1.0, 1.0], pixels.shape).copy()
    depths = np.divide(value - pixels, range_, out=red, where=range_ > 0)
    return value * (1 - depths * np.clip(saturation * factor + added, 0, 1))


def elastic_transform(pixels, random, strength, sigma, farthest):
    """Moves three points of the image, then each pixel a little.

    Quirk:
        OpenCV, which moved the points for the published sets, rounds positions
        to a 32nd of a pixel; here they are exact.
    """
    height, width = pixels.shape[:2]
    moved = _move_points(pixels, random, farthest)
    shifts = [
        strength
        * ndimage.gaussian_filter(
            random.uniform(-1, 1, size=(height, width)),
            sigma,
            mode="reflect",
            truncate=3,
        )
        for _ in range(2)
    ]
    rows, columns = np.mgrid[:height, :width]
    # The first is that of the columns.
    return sample(moved, rows + shifts[1], columns + shifts[0], mode="reflect")


def _move_points(pixels, random, farthest):
    """Returns pixels under the affine map that moves three points at random."""
    height, width = pixels.shape[:2]
    reach = min(height, width) // 3
    # As (column, row), 1 behind them for the shift of the map.
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * reach
    points = np.array([width // 2, height // 2]) + corners
    moved = points + random.uniform(-farthest, farthest, size=points.shape)
    # From where a pixel goes to where it comes from.
    matrix = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points)
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ matrix
    return sample(pixels, places[..., 1], places[..., 0], mode="mirror")


def sample(pixels, rows, columns, mode):
    """Returns pixels at real positions, between which it is linear.

    Args:
        pixels: float [height, width, channels].
        rows: float [new height, new width].
        columns: float [new height, new width].
        mode: What lies beyond the edges, as `scipy.ndimage` calls it.

    Returns:
        float [new height, new width, channels].
    """
    channels = [
        ndimage.map_coordinates(
            pixels[..., channel], [rows, columns], order=1, mode=mode
        )
        for channel in range(pixels.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def pixelate(pixels, random, part):
    """Shrinks the image and enlarges it again, by the means of boxes."""
    del random  # Nothing is left to chance.
    image = _to_image(pixels)
    small = [int(side * part) for side in image.size]
    shrunk = image.resize(small, Image.BOX)
    return _to_pixels(shrunk.resize(image.size, Image.BOX))


def jpeg_compression(pixels, random, quality):
    """Stores the image as JPEG."""
    del random  # Nothing is left to chance.
    file = io.BytesIO()
    _to_image(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return _to_pixels(image)


def _to_image(pixels):
    return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))


def _to_pixels(image):
    return np.asarray(image, np.float64) / 255
