"""Operations that move pixels, or cover them.

All of them take and return one image, uint8 [height, width, 3], and keep its
static shape. Interpolation is nearest; what comes from outside the image takes
the fill value. Numbers are Python values, fixed when a graph is traced.
"""

import math
import numbers
import operator

import tensorflow as tf

from autoaugment.image_ops import as_image, height_and_width
from autoaugment.seeds import as_seed, uniform


def rotate(image, degrees, replace):
    """Rotates about the centre, counter-clockwise for positive degrees.

    Args:
        image: uint8 [height, width, 3].
        degrees: Angle.
        replace: Fill value: an int or three ints, 0 to 255.

    Returns:
        uint8 [height, width, 3].

    Source:
        noisystudent `randaugment.py:rotate`.
    """
    image = as_image(image)
    height, width = height_and_width(image)
    last_x = tf.cast(width - 1, tf.float32)
    last_y = tf.cast(height - 1, tf.float32)
    radians = tf.constant(degrees, tf.float32) * (math.pi / 180)
    cos, sin = tf.cos(radians), tf.sin(radians)
    # The order of float32 operations decides to which side of one half a
    # coordinate falls: it is that of the original's transform, kept in graphs
    # by subtracting the shift, as `image_ops` explains.
    shift_x = ((cos * last_x - sin * last_y) - last_x) / 2
    shift_y = ((sin * last_x + cos * last_y) - last_y) / 2
    x, y = _grid(height, width)
    return _sample(
        image,
        (cos * x - sin * y) - shift_x,
        (sin * x + cos * y) - shift_y,
        replace,
    )


def shear_x(image, level, replace):
    """Shifts row y to the left by `level * y` pixels.

    Args:
        image: uint8 [height, width, 3].
        level: Shift in pixels of a row against the one above.
        replace: Fill value: an int or three ints, 0 to 255.

    Returns:
        uint8 [height, width, 3].

    Source:
        noisystudent `randaugment.py:shear_x`.
    """
    image = as_image(image)
    x, y = _grid(*height_and_width(image))
    return _sample(image, x + float(level) * y, y, replace)


def shear_y(image, level, replace):
    """Shifts column x up by `level * x` pixels; otherwise as `shear_x`.

    Source:
        noisystudent `randaugment.py:shear_y`.
    """
    image = as_image(image)
    x, y = _grid(*height_and_width(image))
    return _sample(image, x, float(level) * x + y, replace)


def translate_x(image, pixels, replace):
    """Shifts the content to the left by `pixels`.

    Args:
        image: uint8 [height, width, 3].
        pixels: Distance; rounded. Negative moves to the right.
        replace: Fill value: an int or three ints, 0 to 255.

    Returns:
        uint8 [height, width, 3].

    Quirk:
        Positive moves to the left, as in the original.

    Source:
        noisystudent `randaugment.py:translate_x`.
    """
    return _translate(as_image(image), pixels, replace, axis=1)


def translate_y(image, pixels, replace):
    """Shifts the content up by `pixels`; otherwise as `translate_x`.

    Source:
        noisystudent `randaugment.py:translate_y`.
    """
    return _translate(as_image(image), pixels, replace, axis=0)


def cutout(image, pad_size, replace=0, seed=None):
    """Covers a square around a random pixel, cut off at the image's edges.

    Args:
        image: uint8 [height, width, 3].
        pad_size: Half the side of the square in pixels, >= 0.
        replace: Fill value: an int or three ints, 0 to 255.
        seed: Integers of shape [2], or one integer: the same seed covers the
            same square. None draws a fresh one at every call and, inside
            Dataset.map, for every element.

    Returns:
        uint8 [height, width, 3].

    Source:
        noisystudent `randaugment.py:cutout`.
    """
    image = as_image(image)
    centre = centre_at(image, uniform([2], as_seed(seed)))
    return cutout_at(image, pad_size, centre, replace)


def centre_at(image, fractions):
    """Returns the pixel (y, x), int32 [2], at fractions of the image's size.

    Args:
        image: uint8 [height, width, 3].
        fractions: float32 [2] in [0, 1): uniform draws give uniform pixels.
    """
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    return tf.cast(fractions * size, tf.int32)


def cutout_at(image, pad_size, centre, replace):
    """Covers a square around a given pixel.

    Args:
        image: uint8 [height, width, 3].
        pad_size: Half the side of the square in pixels, >= 0.
        centre: The pixel (y, x) in the middle; integers of shape [2].
        replace: Fill value: an int or three ints, 0 to 255.

    Returns:
        uint8 [height, width, 3].
    """
    image = as_image(image)
    pad_size = operator.index(pad_size)
    if pad_size < 0:
        raise ValueError(f"`pad_size` must be >= 0. Received: {pad_size}.")
    size = height_and_width(image)
    centre = tf.cast(centre, tf.int32)
    before = tf.maximum(centre - pad_size, 0)
    covered = tf.minimum(centre + pad_size, size) - before
    parts = tf.stack([before, covered, size - covered - before], axis=1)
    rows, columns = tf.unstack(parts)
    above, band, below = tf.split(image, rows, axis=0)
    left, _, right = tf.split(band, columns, axis=1)
    cover = _filled(*tf.unstack(covered), replace)
    band = tf.concat([left, cover, right], axis=1)
    result = tf.concat([above, band, below], axis=0)
    result.set_shape(image.shape)
    return result


def _grid(height, width):
    """Returns x [1, width] and y [height, 1] of the pixels, float32."""
    x = tf.range(tf.cast(width, tf.float32))
    y = tf.range(tf.cast(height, tf.float32))
    return x[tf.newaxis, :], y[:, tf.newaxis]


def _sample(image, x, y, replace):
    """Returns the pixels at given coordinates.

    Args:
        image: uint8 [height, width, 3].
        x: float32, broadcasts to [height, width]; rounded half away from zero.
        y: Likewise.
        replace: Fill value of coordinates outside the image.
    """
    height, width = height_and_width(image)
    inside = _is_inside(x, width) & _is_inside(y, height)
    index = _round(y) * width + _round(x)
    # Pixel 0 of the table is the fill value.
    table = tf.concat(
        [_filled(1, 1, replace)[0], tf.reshape(image, [-1, 3])], axis=0
    )
    index = tf.cast(inside, tf.int32) * (index + 1)
    # gather_nd is up to twice as fast as gather for such short rows.
    sampled = tf.gather_nd(table, index[..., tf.newaxis])
    sampled.set_shape(image.shape)
    return sampled


def _is_inside(coordinate, size):
    last = tf.cast(size, tf.float32) - 0.5
    return (coordinate > -0.5) & (coordinate < last)


def _round(coordinate):
    """Rounds coordinates > -0.5 half away from zero, to int32."""
    whole = tf.floor(coordinate)
    up = tf.cast(coordinate - whole >= 0.5, tf.int32)
    return tf.cast(whole, tf.int32) + up


def _translate(image, pixels, replace, axis):
    """Moves content against the axis's direction: slices and fills, no gather.

    Pixel i comes from `round(i + pixels)`, a half rounded away from zero: -2.5
    fills three pixels and goes on with the second one of the image.
    """
    sizes = list(height_and_width(image))
    before = max(math.floor(0.5 - pixels), 0)
    begin = math.floor(before + pixels + 0.5)
    count = tf.maximum(sizes[axis] - max(before, begin), 0)
    span = slice(begin, begin + count)
    kept = image[span] if axis == 0 else image[:, span]
    sizes[axis] -= count
    fill = _filled(*sizes, replace)
    moved = tf.concat([fill, kept] if before else [kept, fill], axis)
    moved.set_shape(image.shape)
    return moved


def _filled(height, width, replace):
    """Returns uint8 [height, width, 3] of the fill value."""
    red, green, blue = _fill_values(replace)
    if red == green == blue:
        # Fifty times as fast as broadcasting three values.
        return tf.fill([height, width, 3], tf.constant(red, tf.uint8))
    values = tf.constant([red, green, blue], tf.uint8)
    return tf.broadcast_to(values, [height, width, 3])


def _fill_values(replace):
    """Returns the fill value as three ints."""
    single = isinstance(replace, numbers.Integral)
    values = [int(value) for value in ([replace] * 3 if single else replace)]
    if len(values) != 3 or min(values) < 0 or max(values) > 255:
        raise ValueError(
            "`replace` must be an int or three ints, 0 to 255. "
            f"Received: {replace}."
        )
    return values
