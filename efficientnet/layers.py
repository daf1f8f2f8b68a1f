"""The parts of an EfficientNet: normalization, stem, blocks, head."""

import dataclasses
import functools
import math

import tensorflow as tf

from efficientnet import recompute
from efficientnet.config import BlockConfig
from efficientnet.keras_version import require_keras_2
from efficientnet.noise import StochasticDepth
from efficientnet.normalization import GROUP_BY_RULE, BatchNorm

require_keras_2()

_register = tf.keras.utils.register_keras_serializable(package="efficientnet")


@_register
class ConvKernelInitializer(tf.keras.initializers.Initializer):
    """Normal, mean 0, variance 2 / (height * width * last axis).

    Quirk:
        For a depthwise kernel the last axis is the channel multiplier, 1, not
        the number of channels. Kept: the released models started so.

    Args:
        seed: Python int; None draws from `tf.random`'s global seed.

    Source:
        efficientnet `efficientnet_model.py:conv_kernel_initializer`.
    """

    def __init__(self, seed=None):
        self.seed = seed

    def __call__(self, shape, dtype=None, **kwargs):
        """Returns a kernel [height, width, in, out] of that shape."""
        height, width, _, last = shape
        stddev = math.sqrt(2.0 / (height * width * last))
        return tf.random.normal(
            shape, 0.0, stddev, dtype or tf.float32, seed=self.seed
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"seed": self.seed}


@_register
class DenseKernelInitializer(tf.keras.initializers.Initializer):
    """Uniform within 1 / sqrt(number of outputs) of zero.

    Args:
        seed: Python int; None draws from `tf.random`'s global seed.

    Source:
        efficientnet `efficientnet_model.py:dense_kernel_initializer`.
    """

    def __init__(self, seed=None):
        self.seed = seed

    def __call__(self, shape, dtype=None, **kwargs):
        """Returns a kernel [in, out] of that shape."""
        limit = 1.0 / math.sqrt(shape[1])
        return tf.random.uniform(
            shape, -limit, limit, dtype or tf.float32, seed=self.seed
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"seed": self.seed}


@_register
class PixelNormalization(tf.keras.layers.Layer):
    """Subtracts the mean and divides by the standard deviation, in float32.

    Args:
        mean_rgb: Mean by channel, in [0, 255].
        stddev_rgb: Standard deviation by channel, in [0, 255] units.

    Call arguments:
        inputs: RGB in [0, 255], [batch, height, width, 3].
    """

    def __init__(self, mean_rgb, stddev_rgb, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.mean_rgb = tuple(mean_rgb)
        self.stddev_rgb = tuple(stddev_rgb)

    def call(self, inputs):
        """Returns the normalized images in the layer's compute type."""
        shape = tf.shape(inputs)
        images = tf.cast(inputs, tf.float32)
        # A row of pixels as one vector: to repeat three numbers along a last
        # axis of three takes a processor four times as long.
        images = tf.reshape(images, [shape[0], shape[1], 3 * shape[2]])
        width = shape[2:3]
        images -= tf.tile(self.mean_rgb, width)
        images /= tf.tile(self.stddev_rgb, width)
        return tf.cast(tf.reshape(images, shape), self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "mean_rgb": self.mean_rgb,
            "stddev_rgb": self.stddev_rgb,
        }


def _conv(filters, kernel_size, name, *, dtype, strides=1, use_bias=False):
    return tf.keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=ConvKernelInitializer(),
        dtype=dtype,
        name=name,
    )


@tf.custom_gradient
def swish(inputs):
    """Returns `inputs * sigmoid(inputs)`.

    As `tf.nn.silu` in value and in memory (the gradient computes the sigmoid
    anew), with fewer operations in the gradient.

    Args:
        inputs: float tensor.
    """

    def gradient(upstream):
        # Not before it is needed: all sigmoids at once would fill the memory.
        with tf.control_dependencies([upstream]):
            gate = tf.sigmoid(inputs)
        # The second term is inputs * gate * (1 - gate).
        return upstream * (gate + tf.raw_ops.SigmoidGrad(y=gate, dy=inputs))

    return tf.nn.silu(inputs), gradient


@tf.custom_gradient
def with_spatial_mean(inputs):
    """Returns the inputs, and their float32 means over height and width.

    The gradients of the two are added in one operation, where the mean's own
    would first be written out at the size of the inputs.

    Args:
        inputs: float [batch, height, width, channels].

    Returns:
        (inputs, float32 [batch, 1, 1, channels]).
    """

    def gradient(upstream, upstream_of_mean):
        num_pixels = tf.reduce_prod(tf.shape(inputs)[1:3])
        by_pixel = upstream_of_mean / tf.cast(num_pixels, tf.float32)
        return upstream + tf.cast(by_pixel, upstream.dtype)

    means = _spatial_mean(inputs, keepdims=True)
    return (tf.identity(inputs), means), gradient


def _spatial_mean(inputs, *, keepdims=False):
    # bfloat16 sums over large images lose most of their digits.
    inputs = tf.cast(inputs, tf.float32)
    return tf.reduce_mean(inputs, axis=[1, 2], keepdims=keepdims)


class _ConvolutionalLayer(tf.keras.layers.Layer):
    """A layer made of convolutions and batch normalizations.

    The sublayers carry the names that the original's variable scopes have, so
    that a weight is called as in a released checkpoint. A frozen layer
    (`trainable = False`) works in inference mode as a whole.

    Args:
        batch_norm_momentum: See `BatchNorm`.
        batch_norm_epsilon: See `BatchNorm`.
        num_shards_per_group: See `BatchNorm`.
    """

    def __init__(
        self,
        *,
        batch_norm_momentum,
        batch_norm_epsilon,
        num_shards_per_group=GROUP_BY_RULE,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.batch_norm_momentum = batch_norm_momentum
        self.batch_norm_epsilon = batch_norm_epsilon
        self.num_shards_per_group = num_shards_per_group

    def _batch_norm(self, name):
        return BatchNorm(
            momentum=self.batch_norm_momentum,
            epsilon=self.batch_norm_epsilon,
            num_shards_per_group=self.num_shards_per_group,
            dtype=self.dtype_policy,
            name=name,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "batch_norm_momentum": self.batch_norm_momentum,
            "batch_norm_epsilon": self.batch_norm_epsilon,
            "num_shards_per_group": self.num_shards_per_group,
        }


@_register
class Stem(_ConvolutionalLayer):
    """The first convolution: 3x3 with stride 2, normalized, swish.

    Args:
        filters: Output channels.
        **kwargs: See `_ConvolutionalLayer`.

    Call arguments:
        inputs: float [batch, height, width, 3].
        training: Python bool; None is False.
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = _conv(
            filters, 3, "conv2d", dtype=self.dtype_policy, strides=2
        )
        self.batch_norm = self._batch_norm("tpu_batch_normalization")

    def call(self, inputs, training=None):
        """Returns float [batch, height / 2, width / 2, filters]."""
        outputs = self.batch_norm(self.conv(inputs), training=training)
        return swish(outputs)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "filters": self.filters}


@_register
class SqueezeExcite(tf.keras.layers.Layer):
    """Scales each channel by a gate computed from the channels' means.

    The means are taken in float32 in any precision policy.

    Args:
        filters: Channels between the two convolutions.
        input_filters: Channels of the input and the output.

    Call arguments:
        inputs: float [batch, height, width, input_filters].

    Reference: Squeeze-and-Excitation Networks, arXiv 1709.01507.
    """

    def __init__(self, filters, input_filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.input_filters = input_filters
        dtype = self.dtype_policy
        self.reduce = _conv(filters, 1, "conv2d", dtype=dtype, use_bias=True)
        self.expand = _conv(
            input_filters, 1, "conv2d_1", dtype=dtype, use_bias=True
        )

    def call(self, inputs):
        """Returns the inputs, each channel scaled by a gate in (0, 1)."""
        inputs, means = with_spatial_mean(inputs)
        hidden = swish(self.reduce(means))
        return inputs * tf.sigmoid(self.expand(hidden))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "input_filters": self.input_filters,
        }


@_register
class MBConv(_ConvolutionalLayer):
    """Inverted residual block: expand, depthwise, squeeze-excite, project.

    With an identity skip (`BlockConfig.has_skip`) the input is added, and the
    branch is subject to stochastic depth.

    Args:
        block: A `BlockConfig` of one block, or the dict of its fields.
        survival_prob: Probability that an example keeps the branch in
            training, in (0, 1].
        **kwargs: See `_ConvolutionalLayer`.

    Call arguments:
        inputs: float [batch, height, width, block.input_filters].
        training: Python bool; None is False.

    Source:
        efficientnet `efficientnet_model.py:MBConvBlock`.
    """

    def __init__(self, block, survival_prob=1.0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(block, BlockConfig):
            block = BlockConfig(**block)
        if block.num_repeats != 1:
            raise ValueError(
                "`block.num_repeats` must be 1, a stage is several layers. "
                f"Received: {block.num_repeats}."
            )
        self.block = block
        self.survival_prob = survival_prob
        self._add_sublayers(block)
        if block.has_skip:
            # Its name, which selects its draws, must differ between blocks.
            self.stochastic_depth = StochasticDepth(
                survival_prob,
                dtype=self.dtype_policy,
                name=f"{self.name}_stochastic_depth",
            )

    def _add_sublayers(self, block):
        dtype = self.dtype_policy
        expanded_filters = block.input_filters * block.expand_ratio
        # The original numbers what a block has: without an expansion the
        # projection is its first convolution, called "conv2d".
        conv_names = iter(("conv2d", "conv2d_1"))
        norm_names = (
            f"tpu_batch_normalization{suffix}" for suffix in ("", "_1", "_2")
        )
        self.expand_conv = None
        if block.expand_ratio != 1:
            self.expand_conv = _conv(
                expanded_filters, 1, next(conv_names), dtype=dtype
            )
            self.expand_norm = self._batch_norm(next(norm_names))
        self.depthwise_conv = tf.keras.layers.DepthwiseConv2D(
            block.kernel_size,
            strides=block.strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=ConvKernelInitializer(),
            dtype=dtype,
            name="depthwise_conv2d",
        )
        self.depthwise_norm = self._batch_norm(next(norm_names))
        self.squeeze_excite = SqueezeExcite(
            block.se_filters, expanded_filters, dtype=dtype, name="se"
        )
        self.project_conv = _conv(
            block.output_filters, 1, next(conv_names), dtype=dtype
        )
        self.project_norm = self._batch_norm(next(norm_names))

    def call(self, inputs, training=None):
        """Returns float [batch, height, width, block.output_filters]."""
        training = bool(training) and self.trainable
        if not training:
            return self._transform(inputs, training=False)
        return recompute.call_block(
            functools.partial(self._transform, training=True), inputs
        )

    def _transform(self, inputs, *, training):
        outputs = inputs
        if self.expand_conv is not None:
            outputs = self.expand_conv(outputs)
            outputs = self.expand_norm(outputs, training=training)
            outputs = swish(outputs)
        outputs = self.depthwise_conv(outputs)
        outputs = self.depthwise_norm(outputs, training=training)
        outputs = self.squeeze_excite(swish(outputs))
        outputs = self.project_conv(outputs)
        outputs = self.project_norm(outputs, training=training)
        if self.block.has_skip:
            outputs = self.stochastic_depth(outputs, training=training)
            outputs = outputs + inputs
        return outputs

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "block": dataclasses.asdict(self.block),
            "survival_prob": self.survival_prob,
        }


@_register
class Head(_ConvolutionalLayer):
    """The last convolution: 1x1, normalized, swish; then the global mean.

    Args:
        filters: Output channels.
        **kwargs: See `_ConvolutionalLayer`.

    Call arguments:
        inputs: float [batch, height, width, channels].
        training: Python bool; None is False.
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = _conv(filters, 1, "conv2d", dtype=self.dtype_policy)
        self.batch_norm = self._batch_norm("tpu_batch_normalization")

    def call(self, inputs, training=None):
        """Returns float32 [batch, filters] in any precision policy."""
        outputs = self.batch_norm(self.conv(inputs), training=training)
        return _spatial_mean(swish(outputs))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "filters": self.filters}
