"""Corruptions by weather: snow, frost and fog.

All take float64 pixels [height, width, 3] in [0, 1] and a
`numpy.random.RandomState`, and return pixels that are still to be clipped.

Source:
    github.com/hendrycks/robustness, `make_imagenet_c.py`.
"""

import numpy as np

from noisy_student.robustness.distortions import blurs, frost_textures

_GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])
_FIRST_WIBBLE = 100


def snow(pixels, random, mean, scale, zoom, threshold, radius, sigma, kept):
    """Whitens the image and lets flakes fall over it.

    Args:
        pixels: float [height, width, 3] in [0, 1].
        random: `numpy.random.RandomState`.
        mean: Of the flakes, as `draw_flakes` takes it, and the next three.
        scale: See there.
        zoom: See there.
        threshold: See there.
        radius: Of the flakes' motion, in pixels.
        sigma: Its standard deviation.
        kept: How much of the picture is not whitened, in [0, 1].
    """
    flakes = draw_flakes(random, pixels.shape[:2], mean, scale, zoom, threshold)
    angle = random.uniform(-135, -45)
    return add_snow(pixels, blurs.move(flakes, radius, sigma, angle), kept)


def draw_flakes(random, sides, mean, scale, zoom, threshold):
    """Returns flakes that do not move yet, float [height, width] in [0, 1].

    Args:
        random: `numpy.random.RandomState`.
        sides: (height, width).
        mean: Of the normal noise they begin as.
        scale: Its standard deviation.
        zoom: How much it is enlarged.
        threshold: Below it there is no snow.
    """
    noise = random.normal(loc=mean, scale=scale, size=sides)
    flakes = blurs.zoom(noise, zoom)
    flakes[flakes < threshold] = 0
    return np.floor(np.clip(flakes, 0, 1) * 255) / 255


def add_snow(pixels, flakes, kept):
    """Returns an image in the snow.

    Args:
        pixels: float [height, width, 3] in [0, 1].
        flakes: float [height, width] in [0, 1]; they fall a second time,
            turned by half a circle.
        kept: How much of the picture is not whitened, in [0, 1].
    """
    grey = (pixels @ _GREY_WEIGHTS)[..., np.newaxis]
    white = np.maximum(pixels, grey * 1.5 + 0.5)
    layer = (flakes + np.rot90(flakes, k=2))[..., np.newaxis]
    return kept * pixels + (1 - kept) * white + layer


def frost(pixels, random, kept, added, scale, textures=()):
    """Adds a texture of ice to the darkened image.

    Quirk:
        The published sets add photographs of ice, which are not ours to hand
        on. Without `textures` one is drawn, with about their mean colour and
        deviation.

    Args:
        pixels: float [height, width, 3] in [0, 1].
        random: `numpy.random.RandomState`.
        kept: Weight of the image.
        added: Weight of the texture.
        scale: By which textures are shrunk.
        textures: Sequence of uint8 [height, width, 3]; one is chosen, and a
            part of it.
    """
    sides = pixels.shape[:2]
    if textures:
        texture = textures[random.randint(len(textures))]
    else:
        texture = frost_textures.draw(random, [int(s / scale) for s in sides])
    return kept * pixels + added * frost_textures.cut(
        texture, random, sides, scale
    )


def fog(pixels, random, thickness, decay):
    """Adds fog, and darkens so that the brightest value stays what it was."""
    brightest = pixels.max()
    side = 1 << (max(pixels.shape[:2]) - 1).bit_length()
    height, width = pixels.shape[:2]
    layer = draw_plasma(random, side, decay)[:height, :width]
    foggy = pixels + thickness * layer[..., np.newaxis]
    return foggy * brightest / (brightest + thickness)


def draw_plasma(random, side, decay):
    """Returns a cloud by the diamond-square algorithm.

    Quirk:
        The deviation of a new point is up to the square of a number that is
        divided by `decay` at each halving, which smooths twice as fast as the
        name says. The cloud goes on beyond its edges on the other side.

    Args:
        random: `numpy.random.RandomState`.
        side: A power of two.
        decay: > 1.

    Returns:
        float [side, side], from 0 to 1.
    """
    cloud = np.zeros((side, side))
    wibble = _FIRST_WIBBLE

    def mean_of(four):
        return four / 4 + wibble * random.uniform(-wibble, wibble, four.shape)

    step = side
    while step >= 2:
        half = step // 2
        corners = cloud[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        cloud[half::step, half::step] = mean_of(
            pairs + np.roll(pairs, -1, axis=1)
        )
        middles = cloud[half::step, half::step]
        # Between two corners of a row lie a middle above and one below.
        cloud[::step, half::step] = mean_of(
            middles
            + np.roll(middles, 1, axis=0)
            + corners
            + np.roll(corners, -1, axis=1)
        )
        cloud[half::step, ::step] = mean_of(
            middles
            + np.roll(middles, 1, axis=1)
            + corners
            + np.roll(corners, -1, axis=0)
        )
        step = half
        wibble /= decay
    cloud -= cloud.min()
    return cloud / cloud.max()
