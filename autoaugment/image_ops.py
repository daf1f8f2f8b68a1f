"""Operations that change the values of pixels and leave them in place.

All of them take and return one image, uint8 [height, width, 3], and keep its
static shape. Numbers are Python values, fixed when a graph is traced.

Most work on rows, [height, width * 3]: broadcasting along three channels is
several times slower than along a whole row. Where the rounding of a sum of
floats decides about a pixel, the sum is written with subtractions: TensorFlow
merges chains of additions in graphs, and then adds in another order.
"""

import operator

import tensorflow as tf


def as_image(image):
    """Returns `image` as a tensor.

    Raises:
        ValueError: If it is not uint8 [height, width, 3]. Height and width may
            be unknown while tracing.
    """
    image = tf.convert_to_tensor(image)
    if image.dtype != tf.uint8:
        raise ValueError(f"`image` must be uint8. Received: {image.dtype!r}.")
    if image.shape.rank != 3 or image.shape[-1] != 3:
        raise ValueError(
            "`image` must have the shape [height, width, 3]. "
            f"Received: {image.shape}."
        )
    return image


def height_and_width(image):
    """Returns the two sizes: ints where known while tracing, else tensors."""
    dynamic = None
    sizes = []
    for axis in (0, 1):
        size = image.shape[axis]
        if size is None:
            dynamic = tf.shape(image) if dynamic is None else dynamic
            size = dynamic[axis]
        sizes.append(size)
    return tuple(sizes)


def clip(values):
    """Returns float32 values cut off at 0 and 255."""
    # In one pass, where tf.clip_by_value takes two.
    return tf.raw_ops.ClipByValue(
        t=values, clip_value_min=0.0, clip_value_max=255.0
    )


def autocontrast(image):
    """Stretches each channel to the full range of 0 to 255.

    A channel of a single value stays as it is.

    Quirk:
        The float32 result is truncated, so that the brightest value may become
        254. Kept, like every truncation in this module: the published models
        were trained so.

    Source:
        noisystudent `randaugment.py:autocontrast`.
    """
    image = as_image(image)
    rows = _to_float_rows(image)
    low = _reduce_channels(tf.reduce_min, rows)
    high = _reduce_channels(tf.reduce_max, rows)
    stretchable = high > low
    scale = tf.where(stretchable, 255.0 / (high - low), 1.0)
    offset = tf.where(stretchable, -low * scale, 0.0)
    _, width = height_and_width(image)
    stretched = rows * tf.tile(scale, [width]) + tf.tile(offset, [width])
    # Rounding leaves [0, 255] by far less than 1, and needs no clipping.
    return _like(tf.cast(stretched, tf.uint8), image)


def equalize(image):
    """Flattens each channel's histogram.

    A channel with fewer than 255 pixels besides its brightest value stays as
    it is.

    Source:
        noisystudent `randaugment.py:equalize`.
    """
    image = as_image(image)
    _, width = height_and_width(image)
    channel = tf.tile(tf.constant([0, 256, 512]), [width])
    index = tf.cast(_to_rows(image), tf.int32) + channel
    counts = tf.raw_ops.DenseBincount(
        input=tf.reshape(index, [-1]),
        size=768,
        weights=tf.constant([], tf.int32),
        binary_output=False,
    )
    counts = tf.reshape(counts, [3, 256])
    darker = tf.cumsum(counts, axis=1, exclusive=True)
    besides_brightest = tf.reduce_max(
        tf.where(counts > 0, darker, 0), axis=1, keepdims=True
    )
    step = besides_brightest // 255
    table = (darker + step // 2) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
    table = tf.reshape(tf.cast(table, tf.uint8), [-1])
    # gather_nd looks single elements up 1.5 times as fast as gather does.
    equalized = tf.gather_nd(table, index[..., tf.newaxis])
    return _like(equalized, image)


def invert(image):
    """Replaces every value v by 255 - v.

    Source:
        noisystudent `randaugment.py:invert`.
    """
    return tf.bitwise.invert(as_image(image))


def posterize(image, bits):
    """Keeps the `bits` highest bits of every value and clears the others.

    Quirk:
        The shift `8 - bits` is a uint8 and at most 7: 0 bits keep one bit, 8
        keep all, and from 9 on (magnitude 24 of RandAugment) the shift wraps
        and one bit is left, an image of {0, 128}. Kept: the published models
        were trained so.

    Source:
        noisystudent `randaugment.py:posterize`.
    """
    shift = min((8 - operator.index(bits)) % 256, 7)
    mask = tf.constant(256 - (1 << shift), tf.uint8)
    return tf.bitwise.bitwise_and(as_image(image), mask)


def solarize(image, threshold=128):
    """Inverts the values that are at or above the threshold.

    Quirk:
        The threshold wraps at 256, as a uint8 does: 256 inverts everything,
        and 691 (magnitude 27 of RandAugment) acts as 179. Kept: the published
        models were trained so.

    Source:
        noisystudent `randaugment.py:solarize`.
    """
    image = as_image(image)
    above = image >= tf.constant(operator.index(threshold) % 256, tf.uint8)
    words = tf.bitwise.bitwise_xor(_to_words(image), _mask(above))
    return _from_words(words, image)


def solarize_add(image, addition=0, threshold=128):
    """Adds to the values below the threshold; sums end at 0 and 255.

    Quirk:
        An addition of 255 or more (RandAugment from magnitude 23.2 on) turns
        all values below the threshold into 255. Kept: the published models
        were trained so.

    Source:
        noisystudent `randaugment.py:solarize_add`.
    """
    image = as_image(image)
    addition = operator.index(addition)
    below = image < tf.constant(operator.index(threshold) % 256, tf.uint8)
    amount = min(abs(addition), 255)
    # No byte overflows, so that whole words can be added.
    amounts = int.from_bytes(bytes([amount] * 4), "little", signed=True)
    if addition >= 0:
        changed = _to_words(tf.minimum(image, 255 - amount)) + amounts
    else:
        changed = _to_words(tf.maximum(image, amount)) - amounts
    words = _to_words(image)
    difference = tf.bitwise.bitwise_xor(words, changed)
    difference = tf.bitwise.bitwise_and(difference, _mask(below))
    return _from_words(tf.bitwise.bitwise_xor(words, difference), image)


def color(image, factor):
    """Mixes with the image in grey: 0 is grey, 1 the image, 2 more colour.

    Source:
        noisystudent `randaugment.py:color`.
    """
    image = as_image(image)
    pixels = tf.cast(tf.reshape(image, [-1, 3]), tf.float32)
    red, green, blue = tf.unstack(pixels * (1 / 255), axis=1)
    # Bit by bit what tf.image.rgb_to_grayscale computes, for every colour: the
    # order of the sum and the 255.5 decide the truncation. The minus keeps
    # that order in graphs, as the module explains.
    weighted = red * 0.2989 + green * 0.587 - blue * -0.114
    grey = tf.cast(weighted * 255.5, tf.int32)
    # Looking rows of three equal values up is faster than broadcasting.
    greys = tf.tile(tf.range(256.0)[:, tf.newaxis], [1, 3])
    grey = tf.gather_nd(greys, grey[:, tf.newaxis])
    return _like(tf.cast(_blend(grey, pixels, factor), tf.uint8), image)


def contrast(image, factor):
    """Mixes with one grey level: 0 is that level, 1 the image, 2 more contrast.

    Quirk:
        The grey level is `height * width / 256` (truncated, at most 255), not
        the mean intensity: the original divides the histogram's total by 256.
        Kept, because the released checkpoints were trained with it.

    Source:
        noisystudent `randaugment.py:contrast`.
    """
    image = as_image(image)
    height, width = height_and_width(image)
    level = tf.minimum(height * width // 256, 255)
    mixed = _blend(tf.cast(level, tf.float32), _to_float_rows(image), factor)
    return _to_image(mixed, image)


def brightness(image, factor):
    """Multiplies every value: 0 is black, 1 the image, 2 twice as bright.

    Source:
        noisystudent `randaugment.py:brightness`.
    """
    image = as_image(image)
    return _to_image(_to_float_rows(image) * float(factor), image)


def sharpness(image, factor):
    """Mixes with a smoothed image: 0 is smooth, 1 the image, 2 sharper.

    Smoothing weighs the 3x3 neighbourhood by 1/13 and the centre by 5/13. The
    outermost pixels stay as they are; an image without others does, too.

    Source:
        noisystudent `randaugment.py:sharpness`.
    """
    image = as_image(image)
    height, width = height_and_width(image)
    # Pixels as one run of values: a neighbour's run only starts elsewhere.
    # Where a run passes the end of a row it mixes unrelated pixels; that is
    # the border, which is replaced.
    row = width * 3
    padding = [[row + 3, row + 3]]
    pixels = tf.cast(tf.pad(tf.reshape(image, [-1]), padding), tf.float32)
    smooth = _smooth(pixels, row, height * row)
    centre = pixels[row + 3 : row + 3 + height * row]
    mixed = tf.cast(_blend(smooth, centre, factor), tf.uint8)
    return _with_border(_like(mixed, image), image)


def _smooth(pixels, row, length):
    """Returns the means of 3x3 neighbourhoods, float32 [length], truncated.

    The order of the sum is that of the original's convolution, row by row: a
    sum of float32 products may lie just below a whole number and is then
    truncated. Negative products are subtracted, as the module explains.

    Args:
        pixels: float32, `length + 2 * row + 6` values.
        row: Number of values in a row of the image.
        length: Number of values in the image.
    """
    faint = pixels * (-1 / 13)
    strong = pixels[row + 3 : row + 3 + length] * (-5 / 13)
    # Shifted once by a pixel and by two; whole rows are then sliced off, which
    # copies nothing where rows are aligned.
    shifted = [faint[start : start + 2 * row + length] for start in (0, 3, 6)]
    neighbours = [
        shifted[right][down * row : down * row + length]
        for down in range(3)
        for right in range(3)
    ]
    neighbours[4] = strong
    total = 0.0
    for neighbour in neighbours:
        total = total - neighbour
    return tf.floor(tf.minimum(total, 255.0))


def _with_border(inner, image):
    """Returns `inner` with the outermost pixels of `image`."""
    height, width = height_and_width(image)
    # max: the first row of an image one pixel high is not also its last.
    right = image[:, tf.maximum(width - 1, 1) :]
    bottom = image[tf.maximum(height - 1, 1) :]
    rows = tf.concat([image[:, :1], inner[:, 1:-1], right], axis=1)
    return _like(tf.concat([image[:1], rows[1:-1], bottom], axis=0), image)


def _blend(degenerate, image, factor):
    """Returns `degenerate + factor * (image - degenerate)`, 0 to 255.

    Args:
        degenerate: float32, whole numbers from 0 to 255.
        image: float32, whole numbers from 0 to 255, of a shape that the other
            broadcasts to.
        factor: 0 gives the first, 1 the second; others extrapolate.

    Returns:
        float32, not yet truncated.

    Source:
        noisystudent `randaugment.py:blend`.
    """
    mixed = degenerate + float(factor) * (image - degenerate)
    return clip(mixed)


def _to_words(image):
    """Returns an image's bytes, four to an int32 and up to three zeros.

    An operation on bytes whose result takes the place of its argument, which
    is what TensorFlow makes of a chain of them, takes three times as long as
    one that does not; one on words takes a quarter of the time.
    """
    size = image.shape.num_elements()
    padding = -(tf.size(image) if size is None else size) % 4
    padded = tf.pad(tf.reshape(image, [-1]), [[0, padding]])
    return tf.bitcast(tf.reshape(padded, [-1, 4]), tf.int32)


def _from_words(words, image):
    """Returns the bytes of `_to_words` as an image like `image`."""
    size = image.shape.num_elements()
    padded = tf.reshape(tf.bitcast(words, tf.uint8), [-1])
    return _like(padded[: tf.size(image) if size is None else size], image)


def _mask(condition):
    """Returns words with 255 where a bool of the image's shape is true."""
    return _to_words(tf.cast(condition, tf.uint8)) * 255


def _to_rows(image):
    height, _ = height_and_width(image)
    return tf.reshape(image, [height, -1])


def _to_float_rows(image):
    return tf.cast(_to_rows(image), tf.float32)


def _to_image(rows, image):
    """Returns float rows clipped, truncated and in the image's shape."""
    return _like(tf.cast(clip(rows), tf.uint8), image)


def _like(result, image):
    """Returns `result` in the shape of `image`, its static shape included."""
    height, width = height_and_width(image)
    result = tf.reshape(result, [height, width, 3])
    result.set_shape(image.shape)
    return result


def _reduce_channels(reduce, rows):
    """Returns the minimum or maximum of each channel, float32 [3]."""
    return reduce(tf.reshape(reduce(rows, axis=0), [-1, 3]), axis=0)
