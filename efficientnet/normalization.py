"""Batch normalization as the TPU layer of the original computes it."""

import tensorflow as tf

from efficientnet.keras_version import require_keras_2

require_keras_2()


@tf.keras.utils.register_keras_serializable(package="efficientnet")
class BatchNorm(tf.keras.layers.Layer):
    """Batch normalization over all axes but the last.

    Normalizes by the batch in training and by the moving statistics at
    inference and when frozen (`trainable = False`). The arithmetic is float32
    in any precision policy.

    Quirk:
        The moving variance follows the *biased* variance of the batch, where
        Keras' fused layer takes the unbiased one: so did the layer that
        trained the released checkpoints.

    Args:
        momentum: Share of the moving statistics that a step keeps, in [0, 1).
        epsilon: Added to the variance, > 0.

    Call arguments:
        inputs: float [batch, height, width, channels].
        training: Python bool; None is False.

    Source:
        efficientnet `utils.py:TpuBatchNormalization`.
    """

    def __init__(self, momentum=0.99, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(
                f"`momentum` must be in [0, 1). Received: {momentum}."
            )
        if epsilon <= 0:
            raise ValueError(f"`epsilon` must be > 0. Received: {epsilon}.")
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        """Creates scale, offset and the moving statistics."""
        channels = input_shape[-1]
        self.gamma = self._add_parameter("gamma", channels, "ones")
        self.beta = self._add_parameter("beta", channels, "zeros")
        self.moving_mean = self._add_statistic("moving_mean", channels, "zeros")
        self.moving_variance = self._add_statistic(
            "moving_variance", channels, "ones"
        )
        super().build(input_shape)

    def _add_parameter(self, name, channels, initializer):
        return self.add_weight(
            name=name,
            shape=[channels],
            dtype=tf.float32,
            initializer=initializer,
            experimental_autocast=False,
        )

    def _add_statistic(self, name, channels, initializer):
        # Each replica keeps its own; reading or saving takes their mean.
        return self.add_weight(
            name=name,
            shape=[channels],
            dtype=tf.float32,
            initializer=initializer,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
            experimental_autocast=False,
        )

    def call(self, inputs, training=None):
        """Returns the normalized inputs; moves the statistics in training."""
        if not (training and self.trainable):
            return self._fused(
                inputs, self.moving_mean, self.moving_variance, training=False
            )[0]
        outputs, mean, variance = self._normalize_by_batch(inputs)
        _move(self.moving_mean, mean, self.momentum)
        _move(self.moving_variance, variance, self.momentum)
        return outputs

    def _normalize_by_batch(self, inputs):
        """Returns the outputs and the batch's mean and biased variance."""
        outputs, mean, unbiased_variance = self._fused(
            inputs, [], [], training=True
        )
        # The kernel multiplies the variance by n / max(n - 1, 1).
        count = _samples_per_channel(inputs)
        return outputs, mean, unbiased_variance * ((count - 1) / count)

    def _fused(self, inputs, mean, variance, *, training):
        result = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        return result.y, result.batch_mean, result.batch_variance

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


def _move(statistic, value, momentum):
    statistic.assign_sub((statistic - value) * (1 - momentum))


def _samples_per_channel(inputs):
    """Returns batch * height * width, a Python float where it is static."""
    if inputs.shape.is_fully_defined():
        return float(inputs.shape[:-1].num_elements())
    return tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
