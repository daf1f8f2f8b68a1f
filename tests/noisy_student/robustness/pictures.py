"""Small pictures for the tests of this package."""

import numpy as np
from PIL import Image
from scipy import ndimage


def smooth(height=96, width=96, seed=0):
    """Returns a picture without details, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(
        rng.uniform(size=(height, width, 3)), (8, 8, 0), mode="wrap"
    )
    values -= values.min()
    return (values / values.max() * 255).astype(np.uint8)


def textured(height=96, width=96, seed=0):
    """Returns a picture full of details, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(60, 40, size=(height, width, 3))
    picture = smooth(height, width, seed) * 0.5 + noise
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_folder(folder, *, size=(40, 30), num_images=3, suffix=".png"):
    """Writes class folders `cat` and `dog` of numbered pictures.

    Args:
        folder: `pathlib.Path`.
        size: (width, height).
        num_images: Of each class.
        suffix: Of the files, which tells their format.
    """
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for index in range(num_images):
            pixels = textured(size[1], size[0], 10 * number + index)
            image = Image.fromarray(pixels)
            image.save(folder / name / f"{index}{suffix}")
