"""The model's noise, drawn afresh or from an explicit seed."""

import contextlib
import threading
import zlib
from typing import NamedTuple, Optional

import tensorflow as tf

from efficientnet.keras_version import require_keras_2

require_keras_2()


class Noise(NamedTuple):
    """How the noise layers draw; see `noise_seed` for the fields."""

    seed: Optional[tf.Tensor] = None
    dropout_rows: Optional[int] = None
    stochastic_depth_rows: Optional[int] = None
    at_inference: bool = False


# Thread-local: MirroredStrategy traces every replica in a thread of its own.
_STATE = threading.local()


def current_noise():
    """Returns the `Noise` of the innermost context of this thread."""
    return getattr(_STATE, "noise", Noise())


@contextlib.contextmanager
def noise_context(settings):
    """Lets the noise layers called inside draw as a `Noise` says."""
    previous = current_noise()
    _STATE.noise = settings
    try:
        yield
    finally:
        _STATE.noise = previous


def noise_seed(
    seed, *, dropout_rows=None, stochastic_depth_rows=None, at_inference=False
):
    """Makes the noise layers called inside draw from an explicit seed.

    The same seed gives the same draws, and each layer, told apart by its name,
    draws its own. Outside this context the layers draw from `tf.random`, so
    that a model works without it.

        with efficientnet.noise_seed([epoch, step]):
            logits = model(images, training=True)

    Enter it where the model is called: inside the `tf.function`, and inside
    the function that `strategy.run` runs. Replicas that are given the same
    seed draw the same noise: fold the replica's number into the seed.

    Args:
        seed: int32 or int64 [2], a tensor or two Python integers.
        dropout_rows: How many examples, the first of the batch, are subject
            to dropout; None for all.
        stochastic_depth_rows: The same for stochastic depth.
        at_inference: Whether the layers make noise where they would not:
            called with `training=False`, or frozen. Batch normalization then
            takes its moving statistics all the same.

    Returns:
        A context manager.

    Raises:
        ValueError: If the seed has another type or shape.
    """
    seed = tf.convert_to_tensor(seed)
    if seed.dtype not in (tf.int32, tf.int64) or seed.shape != [2]:
        raise ValueError(
            "`seed` must be int32 or int64 of shape [2]. Received: "
            f"{seed.dtype.name} of shape {seed.shape}."
        )
    return noise_context(
        Noise(seed, dropout_rows, stochastic_depth_rows, at_inference)
    )


def draw_uniform(shape, layer_name):
    """Draws float32 in [0, 1) for the layer of that name.

    Args:
        shape: Shape of the draw, a list or an int tensor.
        layer_name: Tells layers of one seed apart.

    Returns:
        float32 tensor of that shape.
    """
    seed = current_noise().seed
    if seed is None:
        return tf.random.uniform(shape)
    number = zlib.crc32(layer_name.encode()) >> 1  # fits a signed int32
    layer_seed = tf.bitwise.bitwise_xor(
        seed, tf.constant([number, 0], seed.dtype)
    )
    return tf.random.stateless_uniform(shape, layer_seed)


def drop_examples(inputs, uniform, survival_prob):
    """Sets some examples to zero and scales the others up.

    Args:
        inputs: float [batch, ...].
        uniform: float32 in [0, 1), [batch, 1, ...]: the draw of each example.
        survival_prob: Probability of an example to be kept, in (0, 1].

    Returns:
        As `inputs`: zero where the draw is below `1 - survival_prob`, else
        divided by `survival_prob`, so that the expectation stays.

    Source:
        noisystudent `utils.py:stochastic_depth`.
    """
    kept = tf.floor(survival_prob + uniform)
    return inputs * tf.cast(kept / survival_prob, inputs.dtype)


def _is_on(layer, training):
    return (training and layer.trainable) or current_noise().at_inference


def _in_rows(num_rows, noised, inputs):
    """Returns the first rows noised, the others as they were."""
    if num_rows is None:
        return noised
    is_noised = tf.range(tf.shape(inputs)[0]) < num_rows
    shape = [-1] + [1] * (inputs.shape.rank - 1)
    return tf.where(tf.reshape(is_noised, shape), noised, inputs)


@tf.keras.utils.register_keras_serializable(package="efficientnet")
class StochasticDepth(tf.keras.layers.Layer):
    """Drops the whole residual branch of single examples, in training.

    Each example is drawn on its own. The identity for a survival probability
    of 1, and at inference and when frozen unless `noise_seed` says otherwise.

    Args:
        survival_prob: Probability of an example to be kept, in (0, 1].

    Call arguments:
        inputs: float [batch, ...].
        training: Python bool; None is False.

    Reference: Deep Networks with Stochastic Depth, arXiv 1603.09382.
    """

    def __init__(self, survival_prob, **kwargs):
        super().__init__(**kwargs)
        if not 0 < survival_prob <= 1:
            raise ValueError(
                f"`survival_prob` must be in (0, 1]. Received: {survival_prob}."
            )
        self.survival_prob = survival_prob

    def call(self, inputs, training=None):
        """Returns the inputs, some examples dropped in training."""
        if not _is_on(self, training) or self.survival_prob == 1:
            return inputs
        shape = [tf.shape(inputs)[0]] + [1] * (inputs.shape.rank - 1)
        uniform = draw_uniform(shape, self.name)
        outputs = drop_examples(inputs, uniform, self.survival_prob)
        return _in_rows(current_noise().stochastic_depth_rows, outputs, inputs)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "survival_prob": self.survival_prob}


@tf.keras.utils.register_keras_serializable(package="efficientnet")
class SeededDropout(tf.keras.layers.Layer):
    """Sets single features to zero, in training.

    The identity for a rate of 0, and at inference and when frozen unless
    `noise_seed` says otherwise.

    Args:
        rate: Probability of a feature to be dropped, in [0, 1).

    Call arguments:
        inputs: float, any shape.
        training: Python bool; None is False.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: {rate}.")
        self.rate = rate

    def call(self, inputs, training=None):
        """Returns the inputs, some features dropped in training."""
        if not _is_on(self, training) or self.rate == 0:
            return inputs
        uniform = draw_uniform(tf.shape(inputs), self.name)
        kept = tf.cast(uniform >= self.rate, inputs.dtype)
        outputs = inputs * kept / (1 - self.rate)
        return _in_rows(current_noise().dropout_rows, outputs, inputs)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate}
