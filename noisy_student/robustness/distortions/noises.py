"""Corruptions that add noise to each value.

All take float64 pixels [height, width, 3] in [0, 1] and a
`numpy.random.RandomState`, and return pixels that are still to be clipped.

Source:
    github.com/hendrycks/robustness, `make_imagenet_c.py`.
"""

import numpy as np


def gaussian_noise(pixels, random, scale):
    """Adds normal noise of a standard deviation."""
    return pixels + random.normal(scale=scale, size=pixels.shape)


def shot_noise(pixels, random, photons):
    """Counts photons, of which a white pixel has so many on average."""
    return random.poisson(pixels * photons) / photons


def impulse_noise(pixels, random, amount):
    """Makes a share of the values black or white, each channel for itself."""
    struck = random.uniform(size=pixels.shape) <= amount
    white = random.uniform(size=pixels.shape) <= 0.5
    return np.where(struck, white, pixels)


def speckle_noise(pixels, random, scale):
    """Adds normal noise of a standard deviation that is relative to values."""
    return pixels + pixels * random.normal(scale=scale, size=pixels.shape)
