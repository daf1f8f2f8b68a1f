"""Which weights training leaves alone."""

import dataclasses

import tensorflow as tf

from efficientnet.keras_version import require_keras_2
from efficientnet.layers import MBConv
from efficientnet.normalization import BatchNorm

require_keras_2()


@dataclasses.dataclass(frozen=True)
class TrainedParts:
    """What of a model is trained, and what stays as it is.

    Attributes:
        frozen: Names of the layers that have weights and train none of them,
            from first to last; "head/conv2d" is a part of the layer "head".
        trained: Names of the layers that train some.
        norms: Number of batch normalizations.
        frozen_norms: Number of those that compute with their moving statistics
            in training too.
        layers_of_frozen_norms: Names of the layers these lie in.
        params: Number of weights, moving statistics included.
        trained_params: Number of those that are trained.
    """

    frozen: tuple
    trained: tuple
    norms: int
    frozen_norms: int
    layers_of_frozen_norms: tuple
    params: int
    trained_params: int


def freeze_layers(model, num_blocks, *, head=False, head_batch_norm=False):
    """Freezes the stem and the first blocks of a model.

    A frozen layer computes as at inference: its batch normalization takes the
    moving statistics and its stochastic depth keeps every example.

    Args:
        model: An `EfficientNet`.
        num_blocks: Number of blocks to freeze.
        head: Whether to freeze the last convolution too, which leaves nothing
            to train but the classifier.
        head_batch_norm: Whether the batch normalization of a frozen head, the
            one before the pooling, is trained all the same.

    Raises:
        ValueError: If the model has not as many blocks.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, MBConv)]
    if not 0 <= num_blocks <= len(blocks):
        raise ValueError(
            f"`num_blocks` must be in 0..{len(blocks)}, the blocks of "
            f"{model.name}. Received: {num_blocks}."
        )
    frozen = [model.get_layer("stem"), *blocks[:num_blocks]]
    if head:
        layer = model.get_layer("head")
        frozen.append(layer.conv if head_batch_norm else layer)
    for layer in frozen:
        layer.trainable = False


def freeze_batch_norm(model):
    """Freezes every batch normalization: statistics, scale and offset.

    For training on few images, whose statistics are worse than those of the
    images the model was trained on.
    """
    for norm in _norms(model):
        norm.trainable = False


def trained_parts(model):
    """Returns the `TrainedParts` of an `EfficientNet`."""
    layers = [layer for layer in model.layers if layer.weights]
    frozen_norms = {
        layer.name: sum(not norm.trainable for norm in _norms(layer))
        for layer in layers
    }
    return TrainedParts(
        frozen=tuple(name for layer in layers for name in _frozen_parts(layer)),
        trained=tuple(layer.name for layer in layers if _is_trained(layer)),
        norms=len(_norms(model)),
        frozen_norms=sum(frozen_norms.values()),
        layers_of_frozen_norms=tuple(filter(frozen_norms.get, frozen_norms)),
        params=_count(model.weights),
        trained_params=_count(model.trainable_weights),
    )


def _norms(module):
    return [m for m in module.submodules if isinstance(m, BatchNorm)]


def _frozen_parts(layer):
    """Yields the name of a frozen layer, or those of its frozen parts.

    Batch normalizations are no parts here: they are counted on their own.
    """
    if not _is_trained(layer):
        yield layer.name
        return
    for part in layer.submodules:
        if (
            isinstance(part, tf.keras.layers.Layer)
            and not isinstance(part, BatchNorm)
            and part.weights
            and not _is_trained(part)
        ):
            yield f"{layer.name}/{part.name}"


def _is_trained(layer):
    return bool(layer.trainable_weights)


def _count(weights):
    return sum(weight.shape.num_elements() for weight in weights)
