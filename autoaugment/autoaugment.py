"""AutoAugment: pairs of operations from a learned policy."""

import tensorflow as tf

from autoaugment import dispatch, magnitudes, policies
from autoaugment.image_ops import as_image
from autoaugment.seeds import as_seed, uniform

_CUTOUT_CONST = 100
_TRANSLATE_CONST = 250


# Nothing below needs AutoGraph, which would double the time of tracing.
@tf.autograph.experimental.do_not_convert
def autoaugment(image, policy="v0", seed=None):
    """Applies one sub-policy, drawn uniformly, of a learned policy.

    Each of its operations is applied with its own probability; its sign and
    the fill value are as in `randaugment`.

    Args:
        image: uint8 [height, width, 3].
        policy: Key of `policies.POLICIES`.
        seed: Integers of shape [2], or one integer, Python values or int32 or
            int64 tensors: the same seed gives the same pixels. None draws a
            fresh one at every call and, inside Dataset.map, for every element.

    Returns:
        uint8 [height, width, 3].

    Raises:
        ValueError: For an image that is not uint8 [height, width, 3], a seed of
            another shape or type, or an unknown policy.

    Source:
        EfficientNet `autoaugment.py:distort_image_with_autoaugment`.
    """
    image = as_image(image)
    if policy not in policies.POLICIES:
        raise ValueError(
            f"`policy` must be one of {sorted(policies.POLICIES)}. "
            f"Received: {policy!r}."
        )
    sub_policies = policies.POLICIES[policy]
    # The first row draws the sub-policy; each other row whether its operation
    # is applied, its sign, and the centre of Cutout.
    layers = list(zip(*sub_policies))
    draws = uniform([1 + len(layers), 4], as_seed(seed))
    drawn = tf.cast(draws[0, 0] * len(sub_policies), tf.int32)
    for operations, layer_draws in zip(layers, tf.unstack(draws[1:])):
        image = _apply_layer(image, operations, drawn, layer_draws)
    return image


def _apply_layer(image, operations, drawn, draws):
    """Applies, or leaves out, one operation of the drawn sub-policy.

    Args:
        image: uint8 [height, width, 3].
        operations: (name, probability, level) of every sub-policy.
        drawn: int32 scalar, index of the sub-policy.
        draws: float32 [4], uniform in [0, 1): applied where the draw plus the
            probability reaches 1; negated below 0.5; centre of Cutout.
    """
    choices = []
    for name, _, level in operations:
        args = magnitudes.level_to_args(
            name,
            level,
            cutout_const=_CUTOUT_CONST,
            translate_const=_TRANSLATE_CONST,
        )
        choices += magnitudes.with_both_signs(name, args)
    choices.append(dispatch.IDENTITY)
    probability = tf.gather([p for _, p, _ in operations], drawn)
    negated = tf.cast(draws[1] < 0.5, tf.int32)
    index = tf.where(
        draws[0] + probability >= 1.0, 2 * drawn + negated, len(choices) - 1
    )
    return dispatch.apply_one_of(image, choices, index, draws[2:])
