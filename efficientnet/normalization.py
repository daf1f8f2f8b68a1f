"""Batch normalization as the TPU layer of the original computes it.

Replicas may share their statistics in groups. A replica outside any strategy,
or alone in its group, takes TensorFlow's fused kernel.
"""

import tensorflow as tf

from efficientnet import recompute
from efficientnet.keras_version import require_keras_2

require_keras_2()

GROUP_BY_RULE = -1
ONE_GROUP = -2


def replicas_per_group(num_shards_per_group, num_replicas):
    """Returns how many replicas share the statistics of a batch.

    Args:
        num_shards_per_group: -1 for the original's rule (up to 8 replicas each
            on its own, then groups of an eighth of them, at least 8), -2 for
            one group of all replicas, k >= 1 for groups of k.
        num_replicas: Number of replicas, >= 1.

    Raises:
        ValueError: If the replicas do not divide into such groups.

    Source:
        efficientnet `utils.py:TpuBatchNormalization._moments`.
    """
    if num_shards_per_group == ONE_GROUP:
        return num_replicas
    size = num_shards_per_group
    if num_shards_per_group == GROUP_BY_RULE:
        size = max(8, num_replicas // 8) if num_replicas > 8 else 1
    if num_replicas % size:
        raise ValueError(
            "`num_shards_per_group` must divide the number of replicas. "
            f"Received: {num_shards_per_group}, which makes groups of {size} "
            f"of {num_replicas} replicas."
        )
    return size


@tf.keras.utils.register_keras_serializable(package="efficientnet")
class BatchNorm(tf.keras.layers.Layer):
    """Batch normalization over all axes but the last.

    Normalizes by the batch in training and by the moving statistics at
    inference and when frozen (`trainable = False`). The arithmetic is float32
    in any precision policy.

    Under a `tf.distribute` strategy the statistics are those of a group of
    consecutive replicas: the mean of the replicas' means, and the mean of their
    mean squares less the square of that. The gradient flows through them.

    Quirk:
        The moving variance follows the *biased* variance of the batch, where
        Keras' fused layer takes the unbiased one: so did the layer that
        trained the released checkpoints.

    Args:
        momentum: Share of the moving statistics that a step keeps, in [0, 1).
        epsilon: Added to the variance, > 0.
        num_shards_per_group: Which replicas make up a group; see
            `replicas_per_group`. Whether they divide into such groups is
            checked at the first training call.

    Call arguments:
        inputs: float [batch, height, width, channels].
        training: Python bool; None is False.

    Source:
        efficientnet `utils.py:TpuBatchNormalization`.
    """

    def __init__(
        self,
        momentum=0.99,
        epsilon=1e-3,
        num_shards_per_group=GROUP_BY_RULE,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(
                f"`momentum` must be in [0, 1). Received: {momentum}."
            )
        if epsilon <= 0:
            raise ValueError(f"`epsilon` must be > 0. Received: {epsilon}.")
        if num_shards_per_group < 1 and num_shards_per_group not in (
            GROUP_BY_RULE,
            ONE_GROUP,
        ):
            raise ValueError(
                "`num_shards_per_group` must be -2, -1 or >= 1. "
                f"Received: {num_shards_per_group}."
            )
        self.momentum = momentum
        self.epsilon = epsilon
        self.num_shards_per_group = num_shards_per_group

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
        group_size = self._group_size()
        if group_size == 1:
            outputs, mean, variance = self._normalize_by_batch(inputs)
        else:
            outputs, mean, variance = self._normalize_by_group(
                inputs, group_size
            )
        if not recompute.is_recomputing():
            _move(self.moving_mean, mean, self.momentum)
            _move(self.moving_variance, variance, self.momentum)
        return outputs

    def _group_size(self):
        if tf.distribute.in_cross_replica_context():
            return 1
        replica = tf.distribute.get_replica_context()
        return replicas_per_group(
            self.num_shards_per_group, replica.num_replicas_in_sync
        )

    def _normalize_by_batch(self, inputs):
        """Returns the outputs and the batch's mean and biased variance."""
        outputs, mean, unbiased_variance = self._fused(
            inputs, [], [], training=True
        )
        # The kernel multiplies the variance by n / max(n - 1, 1).
        count = _samples_per_channel(inputs)
        return outputs, mean, unbiased_variance * ((count - 1) / count)

    def _normalize_by_group(self, inputs, group_size):
        """Returns the outputs and the group's mean and biased variance."""
        pixels = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(pixels, [0, 1, 2])
        mean, mean_square = tf.unstack(
            group_mean(tf.stack([mean, variance + mean**2]), group_size)
        )
        variance = mean_square - mean**2
        outputs = tf.nn.batch_normalization(
            pixels, mean, variance, self.beta, self.gamma, self.epsilon
        )
        return tf.cast(outputs, inputs.dtype), mean, variance

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
            "num_shards_per_group": self.num_shards_per_group,
        }


def group_mean(value, group_size):
    """Returns the mean of a value over this replica's group.

    Differentiable. Called in a replica context.

    Args:
        value: float tensor, of one shape on all replicas.
        group_size: Number of replicas in each group, a divisor of their number.
    """
    replica = tf.distribute.get_replica_context()
    num_groups = replica.num_replicas_in_sync // group_size
    if isinstance(replica.strategy, tf.distribute.TPUStrategy):
        return sum_over_tpu_group(value, num_groups, group_size) / group_size
    # Other strategies reduce over all replicas only: each adds its value to the
    # row of its group.
    row = tf.one_hot(
        replica.replica_id_in_sync_group // group_size,
        num_groups,
        dtype=value.dtype,
    )
    rows = replica.all_reduce(
        tf.distribute.ReduceOp.SUM, tf.tensordot(row, value, axes=0)
    )
    return tf.tensordot(row, rows, axes=1) / group_size


def sum_over_tpu_group(value, num_groups, group_size):
    """Returns the sum of a value over the group of this core of a TPU.

    Args:
        value: float tensor.
        num_groups: Number of groups.
        group_size: Number of consecutive replicas in each group.
    """
    replicas = range(num_groups * group_size)
    groups = [
        list(replicas[start : start + group_size])
        for start in replicas[::group_size]
    ]
    return tf.compat.v1.tpu.cross_replica_sum(value, groups)


def _move(statistic, value, momentum):
    statistic.assign_sub((statistic - value) * (1 - momentum))


def _samples_per_channel(inputs):
    """Returns batch * height * width, a Python float where it is static."""
    if inputs.shape.is_fully_defined():
        return float(inputs.shape[:-1].num_elements())
    return tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
