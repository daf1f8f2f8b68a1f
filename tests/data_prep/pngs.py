"""What is in the PNG files that charts are."""

import io

import numpy as np
from PIL import Image


def decode(png):
    """Returns uint8 [height, width, 3]."""
    assert png.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def places(png, color):
    """Returns bool [height, width], where pixels have a colour, "#rrggbb"."""
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return abs(decode(png) - rgb).max(axis=-1) <= 2
