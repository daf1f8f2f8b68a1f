"""Builds an EfficientNet: pixels in, logits out."""

import dataclasses

import tensorflow as tf

from efficientnet import config as config_lib
from efficientnet import layers, scaling
from efficientnet.keras_version import require_keras_2
from efficientnet.noise import SeededDropout
from efficientnet.normalization import GROUP_BY_RULE

require_keras_2()


@tf.keras.utils.register_keras_serializable(package="efficientnet")
class EfficientNet(tf.keras.Model):
    """A functional Keras model that knows its endpoints.

    Made by `build_model` and by `tf.keras.models.load_model`.
    """

    @property
    def endpoints(self):
        """Symbolic tensors inside the model, by name.

        'reduction_1', 'reduction_2', ... are the outputs of the last blocks
        before each stride (five of them, three in a small-image model), float
        [batch, height, width, channels]; 'global_pool' is float32
        [batch, channels]. `tf.keras.Model(model.input, model.endpoints)`
        computes them all.
        """
        blocks = [
            layer for layer in self.layers if isinstance(layer, layers.MBConv)
        ]
        endpoints = {}
        for block, following in zip(blocks, [*blocks[1:], None]):
            if following is None or following.block.strides > 1:
                endpoints[f"reduction_{len(endpoints) + 1}"] = block.output
        endpoints["global_pool"] = self.get_layer("head").output
        return endpoints


# The HDF5 format stores bare names of classes, which registration in a package
# does not cover: of the model and of what lies inside Keras' own layers.
for _class in (EfficientNet, layers.DenseKernelInitializer):
    tf.keras.utils.get_custom_objects()[_class.__name__] = _class


@tf.autograph.experimental.do_not_convert
def build_model(
    name,
    num_classes=1000,
    *,
    width_coefficient=None,
    depth_coefficient=None,
    dropout_rate=None,
    survival_prob=None,
    small_image=False,
    include_top=True,
    mean_rgb=None,
    stddev_rgb=None,
    image_size=None,
    num_shards_per_group=None,
):
    """Builds a model with fresh weights.

    The model takes RGB images in [0, 255], of any number type, and normalizes
    them itself. Its outputs are float32 under any precision policy. Its layers
    are 'normalization', 'stem', 'blocks_0', 'blocks_1', ..., 'head', 'dropout'
    and 'head/dense'; freezing one of them (`trainable = False`) puts its batch
    normalization and its stochastic depth into inference mode too. For None
    the model's own value is taken (see `config.EfficientNetConfig`).

    Args:
        name: One of `MODEL_NAMES`.
        num_classes: Number of logits.
        width_coefficient: Factor on the filters, > 0.
        depth_coefficient: Factor on the repeats, > 0.
        dropout_rate: Rate of the dropout before the last layer, in [0, 1).
        survival_prob: Stochastic depth's survival probability at the final
            layer, in (0, 1].
        small_image: Whether the second and third stage keep the resolution,
            for images of about 32x32.
        include_top: Whether to end in logits; otherwise the model ends in the
            pooled features (the endpoint 'global_pool'), without dropout.
        mean_rgb: Mean of the pixels, in [0, 255], by channel.
        stddev_rgb: Standard deviation of the pixels, in [0, 255] units, by
            channel.
        image_size: Height and width of the input, in pixels, as a static
            shape. None leaves them open: images of any size may be fed, and
            the size to feed is `get_config(name).image_size`.
        num_shards_per_group: Which replicas share the statistics of batch
            normalization: -2 all, k >= 1 groups of k, -1 or None the original's
            rule (see `normalization.replicas_per_group`).

    Returns:
        An `EfficientNet`, a functional `tf.keras.Model`: float32
        [batch, num_classes] from images [batch, height, width, 3].

    Raises:
        ValueError: If there is no such model or a value is out of range.
    """
    overrides = {
        "num_classes": num_classes,
        "small_image": small_image,
        "width_coefficient": width_coefficient,
        "depth_coefficient": depth_coefficient,
        "dropout_rate": dropout_rate,
        "survival_prob": survival_prob,
        "mean_rgb": mean_rgb,
        "stddev_rgb": stddev_rgb,
        "image_size": image_size,
    }
    config = dataclasses.replace(
        config_lib.get_config(name),
        **{key: value for key, value in overrides.items() if value is not None},
    )
    images = tf.keras.Input([image_size, image_size, 3], name="images")
    if num_shards_per_group is None:
        num_shards_per_group = GROUP_BY_RULE
    outputs = _pooled_features(config, images, num_shards_per_group)
    if include_top:
        outputs = SeededDropout(
            config.dropout_rate, dtype=tf.float32, name="dropout"
        )(outputs)
        outputs = tf.keras.layers.Dense(
            config.num_classes,
            kernel_initializer=layers.DenseKernelInitializer(),
            dtype=tf.float32,
            name="head/dense",
        )(outputs)
    return EfficientNet(images, outputs, name=name)


def _pooled_features(config, images, num_shards_per_group):
    """Returns float32 [batch, channels] of symbolic images."""
    batch_norm = {
        "batch_norm_momentum": config.batch_norm_momentum,
        "batch_norm_epsilon": config.batch_norm_epsilon,
        "num_shards_per_group": num_shards_per_group,
    }
    outputs = layers.PixelNormalization(
        config.mean_rgb, config.stddev_rgb, name="normalization"
    )(images)
    stem_filters = scaling.round_filters(
        config.stem_filters, config.width_coefficient
    )
    outputs = layers.Stem(stem_filters, name="stem", **batch_norm)(outputs)
    blocks = scaling.scaled_blocks(config)
    survival_probs = scaling.linear_survival_probs(
        len(blocks), config.survival_prob
    )
    for index, (block, survival_prob) in enumerate(zip(blocks, survival_probs)):
        outputs = layers.MBConv(
            block, survival_prob, name=f"blocks_{index}", **batch_norm
        )(outputs)
    head_filters = scaling.round_filters(
        config.head_filters, config.width_coefficient
    )
    return layers.Head(head_filters, name="head", **batch_norm)(outputs)
