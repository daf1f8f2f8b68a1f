"""Textures of ice: drawn ones, and photographs from a folder."""

import numpy as np
from PIL import Image

from data_prep import files, image_encoding
from efficientnet.messages import first_names
from noisy_student.robustness.distortions import blurs

# Needles of ice: how long, in how many directions, and how many begin where.
_NEEDLE_RADIUS = 12
_NEEDLE_SIGMA = 8
_NUM_DIRECTIONS = 5
_NEEDLE_SHARE = 0.02
# Sizes of the patches, as parts of the shorter side.
_PATCHES = (0.12, 0.03)
# What is thin and what is thick ice, red, green and blue.
_THIN = np.array([50, 85, 105])
_THICK = np.array([230, 240, 250])


def draw(random, sides):
    """Draws a texture like ice on a window: needles, denser in patches.

    Args:
        random: `numpy.random.RandomState`.
        sides: (height, width).

    Returns:
        uint8 [height, width, 3].
    """
    patches = sum(
        _to_unit(blurs.smooth(random.normal(size=sides), part * min(sides)))
        for part in _PATCHES
    ) / len(_PATCHES)
    needles = np.zeros(sides)
    for _ in range(_NUM_DIRECTIONS):
        begins = random.uniform(size=sides) < 2 * _NEEDLE_SHARE * patches
        angle = random.uniform(0, 360)
        streaks = blurs.move(
            begins.astype(np.float64), _NEEDLE_RADIUS, _NEEDLE_SIGMA, angle
        )
        needles = np.maximum(needles, streaks)
    needles = np.clip(needles / max(np.percentile(needles, 99), 1e-6), 0, 1)
    ice = np.clip(0.9 * patches + 0.6 * needles - 0.1, 0, 1)[..., np.newaxis]
    return np.rint(_THIN + ice * (_THICK - _THIN)).astype(np.uint8)


def _to_unit(values):
    """Returns values moved and stretched to lie between 0 and 1."""
    low, high = values.min(), values.max()
    return (values - low) / max(high - low, 1e-12)


def cut(texture, random, sides, scale):
    """Cuts a part of a texture at random.

    Args:
        texture: uint8 [texture height, texture width, 3].
        random: `numpy.random.RandomState`.
        sides: (height, width) of the part.
        scale: By which the texture is shrunk first; less where it would become
            smaller than the part, and a small one is enlarged.

    Returns:
        float [height, width, 3] in [0, 1].
    """
    scale = max(
        scale, *(side / full for side, full in zip(sides, texture.shape))
    )
    if scale != 1:
        size = [
            max(side, round(full * scale))
            for side, full in zip(sides, texture.shape)
        ]
        image = Image.fromarray(texture).resize(size[::-1], Image.BILINEAR)
        texture = np.asarray(image)
    top, left = (
        random.randint(full - side + 1)
        for full, side in zip(texture.shape, sides)
    )
    height, width = sides
    return texture[top : top + height, left : left + width] / 255


def read(folder):
    """Reads the textures in a folder, in the order of their names.

    Args:
        folder: Local or remote folder of image files, or None.

    Returns:
        Tuple of uint8 [height, width, 3]; without a folder there are none.

    Raises:
        ValueError: There is none, or a file is no image.
    """
    textures, bad = [], []
    for path in paths(folder) if folder else ():
        image, reason = image_encoding.decode(files.read_bytes(path))
        if image is None:
            bad.append(f"{path} ({image_encoding.describe_reason(reason)})")
        else:
            textures.append(np.asarray(image))
    if bad:
        raise ValueError(
            f"--frost_textures={folder}: {len(bad)} files are no textures: "
            f"{first_names(bad)}."
        )
    return tuple(textures)


def paths(folder):
    """Returns the paths of the files in a folder of textures.

    Raises:
        FileNotFoundError: There is none.
    """
    found = [
        path
        for path in files.glob(f"{folder.rstrip('/')}/*")
        if not files.is_dir(path)
    ]
    if not found:
        raise FileNotFoundError(
            f"--frost_textures={folder}: no such folder, or no file in it."
        )
    return found
