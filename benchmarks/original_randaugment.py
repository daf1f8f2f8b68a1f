"""RandAugment as the original program computes it, for comparison only.

Written anew from what the operations do: geometry through projective
transforms of tensorflow-addons, a fourth channel that marks what comes from
outside the image, histograms with `tf.histogram_fixed_width`, and for each
layer one `tf.cond` per operation. Needs tensorflow-addons.
"""

import math

import tensorflow as tf
from tensorflow_addons import image as tfa_image

from autoaugment import magnitudes

_FILL = 128


def randaugment(image, num_layers, magnitude, **constants):
    """Applies operations drawn uniformly, each behind a `tf.cond` of its own.

    Args:
        image: uint8 [height, width, 3].
        num_layers: How many operations are applied.
        magnitude: Level of all of them.
        **constants: As `magnitudes.level_to_args` takes them.

    Returns:
        uint8 [height, width, 3].
    """
    for _ in range(num_layers):
        drawn = tf.random.uniform([], maxval=len(OPS), dtype=tf.int32)
        for index, (name, operation) in enumerate(OPS.items()):
            args = magnitudes.level_to_args(name, magnitude, **constants)
            if name in magnitudes.SIGNED_OPS:
                args = [_negated_at_random(arg) for arg in args]
            image = tf.cond(
                tf.equal(drawn, index),
                lambda image=image, operation=operation, args=args: operation(
                    image, *args
                ),
                lambda image=image: image,
            )
    return image


def _negated_at_random(value):
    negated = tf.random.uniform([]) < 0.5
    return tf.cond(negated, lambda: -value, lambda: tf.constant(value))


def autocontrast(image):
    """Stretches each channel to 0 to 255."""

    def stretch(channel):
        low = tf.cast(tf.reduce_min(channel), tf.float32)
        high = tf.cast(tf.reduce_max(channel), tf.float32)

        def stretched():
            scale = 255.0 / (high - low)
            values = tf.cast(channel, tf.float32) * scale - low * scale
            return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)

        return tf.cond(high > low, stretched, lambda: channel)

    return tf.stack([stretch(image[..., i]) for i in range(3)], axis=2)


def equalize(image):
    """Flattens each channel's histogram."""

    def flatten(channel):
        channel = tf.cast(channel, tf.int32)
        counts = tf.histogram_fixed_width(channel, [0, 255], nbins=256)
        occupied = tf.boolean_mask(counts, counts > 0)
        step = tf.reduce_sum(occupied[:-1]) // 255

        def flattened():
            table = (tf.cumsum(counts) + step // 2) // step
            table = tf.concat([[0], table[:-1]], axis=0)
            return tf.gather(tf.clip_by_value(table, 0, 255), channel)

        same = tf.equal(step, 0)
        return tf.cast(tf.cond(same, lambda: channel, flattened), tf.uint8)

    return tf.stack([flatten(image[..., i]) for i in range(3)], axis=2)


def invert(image):
    """Replaces every value v by 255 - v."""
    return 255 - image


def rotate(image, degrees):
    """Rotates about the centre."""
    marked = tfa_image.rotate(_mark(image), degrees * (math.pi / 180))
    return _fill_unmarked(marked)


def posterize(image, bits):
    """Keeps the highest bits."""
    shift = tf.constant((8 - bits) % 256, tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def solarize(image, threshold):
    """Inverts what is at or above the threshold."""
    threshold = tf.constant(threshold % 256, tf.uint8)
    return tf.where(image < threshold, image, 255 - image)


def solarize_add(image, addition):
    """Adds to what is below 128."""
    sums = tf.cast(image, tf.int64) + addition
    sums = tf.cast(tf.clip_by_value(sums, 0, 255), tf.uint8)
    return tf.where(image < 128, sums, image)


def color(image, factor):
    """Mixes with the image in grey."""
    grey = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
    return _blend(grey, image, factor)


def contrast(image, factor):
    """Mixes with one grey level, the histogram's total over 256."""
    grey = tf.cast(tf.image.rgb_to_grayscale(image), tf.int32)
    counts = tf.histogram_fixed_width(grey, [0, 255], nbins=256)
    level = tf.reduce_sum(tf.cast(counts, tf.float32)) / 256.0
    level = tf.clip_by_value(level, 0.0, 255.0)
    grey = tf.ones_like(grey, tf.float32) * level
    grey = tf.image.grayscale_to_rgb(tf.cast(grey, tf.uint8))
    return _blend(grey, image, factor)


def brightness(image, factor):
    """Mixes with black."""
    return _blend(tf.zeros_like(image), image, factor)


def sharpness(image, factor):
    """Mixes with a smoothed image, by a depthwise convolution."""
    kernel = tf.constant([1, 1, 1, 1, 5, 1, 1, 1, 1], tf.float32) / 13.0
    kernel = tf.tile(tf.reshape(kernel, [3, 3, 1, 1]), [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(
        tf.cast(image, tf.float32)[tf.newaxis], kernel, [1, 1, 1, 1], "VALID"
    )
    smooth = tf.cast(tf.clip_by_value(smooth, 0.0, 255.0), tf.uint8)[0]
    border = [[1, 1], [1, 1], [0, 0]]
    inside = tf.pad(tf.ones_like(smooth), border)
    smooth = tf.where(tf.equal(inside, 1), tf.pad(smooth, border), image)
    return _blend(smooth, image, factor)


def shear_x(image, level):
    """Shifts rows in proportion to their place."""
    return _transform(image, [1.0, level, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def shear_y(image, level):
    """Shifts columns in proportion to their place."""
    return _transform(image, [1.0, 0.0, 0.0, level, 1.0, 0.0, 0.0, 0.0])


def translate_x(image, pixels):
    """Shifts the content to the left."""
    return _fill_unmarked(tfa_image.translate(_mark(image), [-pixels, 0]))


def translate_y(image, pixels):
    """Shifts the content up."""
    return _fill_unmarked(tfa_image.translate(_mark(image), [0, -pixels]))


def cutout(image, pad_size):
    """Covers a square around a random pixel, by a mask of the whole image."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    y = tf.random.uniform([], maxval=height, dtype=tf.int32)
    x = tf.random.uniform([], maxval=width, dtype=tf.int32)
    top, bottom = tf.maximum(0, y - pad_size), height - y - pad_size
    left, right = tf.maximum(0, x - pad_size), width - x - pad_size
    bottom, right = tf.maximum(0, bottom), tf.maximum(0, right)
    covered = tf.zeros([height - top - bottom, width - left - right], tf.uint8)
    kept = tf.pad(covered, [[top, bottom], [left, right]], constant_values=1)
    kept = tf.tile(kept[..., tf.newaxis], [1, 1, 3])
    return tf.where(tf.equal(kept, 0), tf.ones_like(image) * _FILL, image)


OPS = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "Posterize": posterize,
    "Solarize": solarize,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "SolarizeAdd": solarize_add,
    "Cutout": cutout,
}


def _transform(image, matrix):
    return _fill_unmarked(tfa_image.transform(_mark(image), matrix))


def _mark(image):
    """Returns the image with a fourth channel of ones."""
    return tf.concat([image, tf.ones_like(image[..., :1])], axis=2)


def _fill_unmarked(marked):
    """Returns three channels; pixels without a mark take the fill value."""
    image = marked[..., :3]
    outside = tf.equal(marked[..., 3:], 0)
    return tf.where(outside, tf.ones_like(image) * _FILL, image)


def _blend(degenerate, image, factor):
    if factor == 0.0:
        return degenerate
    if factor == 1.0:
        return image
    degenerate = tf.cast(degenerate, tf.float32)
    difference = tf.cast(image, tf.float32) - degenerate
    mixed = degenerate + factor * difference
    if not 0.0 < factor < 1.0:
        mixed = tf.clip_by_value(mixed, 0.0, 255.0)
    return tf.cast(mixed, tf.uint8)
