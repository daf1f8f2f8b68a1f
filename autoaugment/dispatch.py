"""The operations by name, and one of several applied by a drawn index."""

import functools
import types

import tensorflow as tf

from autoaugment import geometry, image_ops, magnitudes

# Each takes a uint8 image [height, width, 3] and returns one; the arguments
# after the image stand in the original's order.
OPS = types.MappingProxyType(
    {
        "AutoContrast": image_ops.autocontrast,
        "Equalize": image_ops.equalize,
        "Invert": image_ops.invert,
        "Rotate": geometry.rotate,
        "Posterize": image_ops.posterize,
        "Solarize": image_ops.solarize,
        "Color": image_ops.color,
        "Contrast": image_ops.contrast,
        "Brightness": image_ops.brightness,
        "Sharpness": image_ops.sharpness,
        "ShearX": geometry.shear_x,
        "ShearY": geometry.shear_y,
        "TranslateX": geometry.translate_x,
        "TranslateY": geometry.translate_y,
        "SolarizeAdd": image_ops.solarize_add,
        "Cutout": geometry.cutout,
    }
)

IDENTITY = ("Identity", ())

_FILL = 128


def apply_op(image, name, args, centre):
    """Applies one operation with the fill value of the published models, 128.

    Args:
        image: uint8 [height, width, 3].
        name: Key of `OPS`, or "Identity".
        args: Its arguments between the image and the fill value, signed.
        centre: float32 [2] in [0, 1): the centre of Cutout's square as a
            fraction of height and width. Others ignore it.

    Returns:
        uint8 [height, width, 3].
    """
    if name == "Identity":
        return image
    if name == "Cutout":
        pixel = geometry.centre_at(image, centre)
        return geometry.cutout_at(image, *args, pixel, _FILL)
    if name in magnitudes.FILLED_OPS:
        return OPS[name](image, *args, _FILL)
    return OPS[name](image, *args)


def apply_one_of(image, choices, index, centre):
    """Applies the choice at a drawn index; no other is executed.

    Args:
        image: uint8 [height, width, 3].
        choices: Sequence of (name, args), as `apply_op` takes them.
        index: int32 scalar, an index of `choices`.
        centre: As `apply_op` takes it.

    Returns:
        uint8 [height, width, 3].
    """
    if tf.executing_eagerly():
        return apply_op(image, *choices[int(index)], centre)
    signature = (
        tf.TensorSpec(image.shape, tf.uint8),
        tf.TensorSpec([2], tf.float32),
    )
    # tf.switch_case would spread the nodes of every branch over the graph, and
    # the executor walks over all of them for each image: at 32x32 that takes
    # twice the time of the operations. This calls one function.
    (result,) = tf.raw_ops.StatelessCase(
        branch_index=index,
        input=[image, centre],
        Tout=[tf.uint8],
        branches=[
            _branch(*choice).get_concrete_function(*signature)
            for choice in choices
        ],
        output_shapes=[image.shape],
    )
    result.set_shape(image.shape)
    return result


@functools.cache
def _branch(name, args):
    """Returns `apply_op` as a function that is traced once for every shape."""

    def branch(image, centre):
        return apply_op(image, name, args, centre)

    return tf.function(branch, autograph=False)
