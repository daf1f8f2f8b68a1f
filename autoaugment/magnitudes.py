"""Magnitude levels -> arguments of the image operations. No TensorFlow."""

import math
import numbers
import struct

MAX_LEVEL = 10.0

# The order is the original's: a drawn index means the operation at its place.
OP_NAMES = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "SolarizeAdd",
    "Cutout",
)

# Operations whose argument is negated in half of the draws.
SIGNED_OPS = frozenset(
    ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
)

# Operations whose last argument is the fill value.
FILLED_OPS = SIGNED_OPS | {"Cutout"}

_WITHOUT_ARGS = frozenset(("AutoContrast", "Equalize", "Invert"))
_ENHANCE_OPS = frozenset(("Color", "Contrast", "Brightness", "Sharpness"))


def level_to_args(name, level, *, cutout_const=40, translate_const=100):
    """Returns an operation's arguments at a level, the sign positive.

    Args:
        name: One of `OP_NAMES`.
        level: Magnitude, >= 0. Levels above 10 extrapolate, never clipped.
        cutout_const: Half the side of Cutout's square at level 10, in pixels.
        translate_const: Shift of TranslateX and TranslateY at level 10, in
            pixels.

    Returns:
        A tuple of what stands between the image and the fill value: degrees
        for Rotate, bits for Posterize, a threshold for Solarize, and so on;
        empty for AutoContrast, Equalize and Invert.

    Raises:
        ValueError: For an unknown name or a negative number.

    Quirk:
        Integer arguments leave the range of uint8 from level 10 on (Solarize's
        threshold is 691 at level 27) and wrap when applied. Signed arguments
        are rounded to float32, in which the original draws the sign. Both
        kept: the published models were trained so.

    Source:
        noisystudent `randaugment.py:level_to_arg`.
    """
    check_levels(
        level=level, cutout_const=cutout_const, translate_const=translate_const
    )
    fraction = level / MAX_LEVEL
    if name in _WITHOUT_ARGS:
        return ()
    if name in _ENHANCE_OPS:
        return (fraction * 1.8 + 0.1,)
    signed = {
        "Rotate": 30.0,
        "ShearX": 0.3,
        "ShearY": 0.3,
        "TranslateX": float(translate_const),
        "TranslateY": float(translate_const),
    }
    if name in signed:
        return (_to_float32(fraction * signed[name]),)
    whole = {
        "Posterize": 4,
        "Solarize": 256,
        "SolarizeAdd": 110,
        "Cutout": cutout_const,
    }
    if name in whole:
        return (int(fraction * whole[name]),)
    raise ValueError(f"`name` must be one of {OP_NAMES}. Received: {name!r}.")


def check_levels(**values):
    """Raises ValueError unless every value is a finite number >= 0."""
    for argument, value in values.items():
        if (
            not isinstance(value, numbers.Real)
            or not math.isfinite(value)
            or value < 0
        ):
            raise ValueError(
                f"`{argument}` must be a finite number >= 0. "
                f"Received: {value!r}."
            )


def _to_float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def with_both_signs(name, args):
    """Returns the two equally likely (name, args) of a drawn operation.

    Operations without a sign come twice as they are.
    """
    negative = tuple(-arg for arg in args) if name in SIGNED_OPS else args
    return [(name, args), (name, negative)]
