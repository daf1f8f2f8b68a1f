"""Grey images in the folders of the benchmarks."""

import io

import numpy as np
from PIL import Image


def grey_image(grey, size=8, image_format="PNG"):
    """Returns an encoded image of one grey, 0 to 255."""
    encoded = io.BytesIO()
    pixels = np.full((size, size, 3), grey, np.uint8)
    Image.fromarray(pixels).save(encoded, image_format)
    return encoded.getvalue()


def grey_of(label, num_classes):
    """Returns the grey that `conftest.BrightnessNetwork` takes for a class."""
    return int((label + 0.5) * 256 / num_classes)


def write(path, grey, size=8):
    """Writes an image file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(grey_image(grey, size))
