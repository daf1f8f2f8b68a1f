"""Which weights training leaves alone."""

from efficientnet.layers import MBConv
from efficientnet.normalization import BatchNorm


def freeze_layers(model, num_blocks, *, head=False):
    """Freezes the stem and the first blocks of a model.

    A frozen layer computes as at inference: its batch normalization takes the
    moving statistics and its stochastic depth keeps every example.

    Args:
        model: An `EfficientNet`.
        num_blocks: Number of blocks to freeze.
        head: Whether to freeze the last convolution too, which leaves nothing
            to train but the classifier.

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
        frozen.append(model.get_layer("head"))
    for layer in frozen:
        layer.trainable = False


def freeze_batch_norm(model):
    """Freezes every batch normalization: statistics, scale and offset.

    For training on few images, whose statistics are worse than those of the
    images the model was trained on.
    """
    for module in model.submodules:
        if isinstance(module, BatchNorm):
            module.trainable = False
