"""Images that the tests of augmentation share."""

import numpy as np

# Square, upright, flat; sizes without an inside; sizes of one pixel.
SHAPES = [(33, 47), (8, 3), (2, 2), (1, 7), (7, 1), (1, 1)]


def random_image(height, width, seed=0):
    """Returns uint8 [height, width, 3], smooth with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(a * x + b * y + c) for a, b, c in rng.uniform(0, 0.5, (3, 3))
    ]
    noise = rng.normal(0, 0.1, (height, width, 3))
    values = 127 + 110 * (np.stack(waves, axis=-1) + noise)
    return np.clip(values, 0, 255).astype(np.uint8)


def noise_image(height, width, seed=0):
    """Returns uint8 [height, width, 3], every value drawn by itself."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def grey_row(*values):
    """Returns uint8 [1, len(values), 3], all channels alike."""
    return np.repeat(np.array(values, np.uint8)[None, :, None], 3, axis=2)
