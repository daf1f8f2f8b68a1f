"""RandAugment: operations drawn uniformly, all at one magnitude."""

import numbers

import tensorflow as tf

from autoaugment import dispatch, magnitudes
from autoaugment.image_ops import as_image
from autoaugment.seeds import as_seed, uniform


# Nothing below needs AutoGraph, which would double the time of tracing.
@tf.autograph.experimental.do_not_convert
def randaugment(
    image,
    num_layers=2,
    magnitude=27,
    seed=None,
    cutout=True,
    cutout_const=40,
    translate_const=100,
):
    """Applies operations drawn uniformly and independently, one after another.

    Every drawn operation is applied. Rotations, shears and translations are
    negated in half of the draws; Cutout's centre is a uniform pixel. The fill
    value is 128.

    Args:
        image: uint8 [height, width, 3].
        num_layers: How many operations are applied, >= 0.
        magnitude: Level of all of them, >= 0; not limited to 10.
        seed: Integers of shape [2], or one integer, Python values or int32 or
            int64 tensors: the same seed gives the same pixels. None draws a
            fresh one at every call and, inside Dataset.map, for every element.
        cutout: Whether Cutout is among the operations.
        cutout_const: Half the side of Cutout's square at magnitude 10, in
            pixels. The original takes `image_size // 8` for small images.
        translate_const: Shift of translations at magnitude 10, in pixels.
            Likewise.

    Returns:
        uint8 [height, width, 3].

    Raises:
        ValueError: For an image that is not uint8 [height, width, 3], a seed of
            another shape or type, or a number out of its range.

    Quirk:
        The original also draws a probability for each operation, and never
        uses it; here it is not drawn.

    Source:
        noisystudent `randaugment.py:distort_image_with_randaugment`.
    """
    image = as_image(image)
    if not isinstance(num_layers, numbers.Integral) or num_layers < 0:
        raise ValueError(
            f"`num_layers` must be an int >= 0. Received: {num_layers!r}."
        )
    magnitudes.check_levels(magnitude=magnitude)
    choices = []
    for name in magnitudes.OP_NAMES:
        args = magnitudes.level_to_args(
            name,
            magnitude,
            cutout_const=cutout_const,
            translate_const=translate_const,
        )
        if cutout or name != "Cutout":
            choices += magnitudes.with_both_signs(name, args)
    # One draw decides the operation and its sign, two the centre of Cutout.
    draws = uniform([num_layers, 3], as_seed(seed))
    drawn, *centres = tf.unstack(draws, axis=1)
    indices = tf.unstack(tf.cast(drawn * len(choices), tf.int32))
    for index, centre in zip(indices, tf.unstack(tf.stack(centres, axis=1))):
        image = dispatch.apply_one_of(image, choices, index, centre)
    return image
