"""Activations computed anew for the gradient, in place of being kept.

Memory for time: of each block only the input is kept between the forward and
the backward pass, which costs a second forward pass of the blocks.
"""

import contextlib
import itertools
import threading

import tensorflow as tf

from efficientnet import noise
from efficientnet.keras_version import require_keras_2

require_keras_2()

# Thread-local, as the noise.
_STATE = threading.local()


@contextlib.contextmanager
def recompute_activations(enabled=True):
    """Lets the blocks trained inside keep their inputs only.

    Losses and gradients are those without it: the noise is drawn from the same
    seed, and moving statistics are updated once. Enter it where the model is
    called, together with `noise_seed`.

    Args:
        enabled: Python bool; False does nothing.
    """
    with _set("enabled", enabled):
        yield


def is_recomputing():
    """Returns whether a block is being computed for the second time."""
    return getattr(_STATE, "recomputing", False)


def call_block(function, inputs):
    """Calls a block in training, as `recompute_activations` says.

    Args:
        function: inputs -> outputs, tensors; a Keras layer's transformation.
        inputs: float tensor.

    Returns:
        float tensor.

    Raises:
        ValueError: If the noise has no seed: other draws would make wrong
            gradients.
    """
    if not getattr(_STATE, "enabled", False):
        return function(inputs)
    # The gradient is computed when this context has ended.
    current_noise = noise.current_noise()
    if current_noise.seed is None:
        raise ValueError(
            "`recompute_activations` needs `noise_seed` around the model's "
            "call: the noise is drawn a second time."
        )
    calls = itertools.count()

    def run(inputs):
        is_second = next(calls) > 0
        with noise.noise_context(current_noise), _set("recomputing", is_second):
            return function(inputs)

    return tf.recompute_grad(run)(inputs)


@contextlib.contextmanager
def _set(name, value):
    previous = getattr(_STATE, name, False)
    setattr(_STATE, name, value)
    try:
        yield
    finally:
        setattr(_STATE, name, previous)
