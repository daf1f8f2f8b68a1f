"""What the layers of a network are made of, and what each costs."""

import dataclasses
from typing import Optional

from efficientnet import scaling

_NORM_WEIGHTS = 4  # per channel: scale, offset and two moving statistics
_NORM_TRAINABLE = 2
# The outputs of a convolution, of its normalization and of its swish.
_KEPT_BY_CONV = 3
# An activation, its gate and their product.
_LIVE_AT_ONCE = 3


@dataclasses.dataclass(frozen=True)
class LayerCard:
    """One block, or one of the layers around the blocks.

    Attributes:
        name: As the layer is called in the model.
        kernel_size: Height and width of its kernel; of blocks the depthwise.
        strides: Its stride.
        expand_ratio: Expanded filters per input filter; None but in blocks.
        input_filters: Channels of its input.
        output_filters: Channels of its output.
        se_filters: Squeeze-excite filters; None but in blocks.
        output_size: Height and width of its output; 1 once pooled.
        survival_prob: Probability to keep the branch of an example in
            training; None where nothing is dropped for want of a skip.
        params: Number of weights, moving statistics included.
        trainable_params: Number of those that are trained.
        multiply_adds: Of one image, in convolutions and matrix products;
            "same" padding counts as pixels.
        kept_values: Values of one image that the backward pass needs.
        live_values: Values of one image that are held at once at inference.
    """

    name: str
    kernel_size: int
    strides: int
    expand_ratio: Optional[int]
    input_filters: int
    output_filters: int
    se_filters: Optional[int]
    output_size: int
    survival_prob: Optional[float]
    params: int
    trainable_params: int
    multiply_adds: int
    kept_values: int
    live_values: int


def layer_cards(architecture):
    """Yields the `LayerCard` of each layer, from first to last.

    Args:
        architecture: `efficientnet.EfficientNetConfig`, taken at its
            `image_size`.
    """
    width = architecture.width_coefficient
    blocks = scaling.scaled_blocks(architecture)
    probs = scaling.linear_survival_probs(
        len(blocks), architecture.survival_prob
    )
    stem_filters = scaling.round_filters(architecture.stem_filters, width)
    head_filters = scaling.round_filters(architecture.head_filters, width)
    size = architecture.image_size
    yield _conv_card("stem", size, 3, 2, 3, stem_filters)
    size = _output_size(size, 2)
    for index, (block, prob) in enumerate(zip(blocks, probs)):
        yield _block_card(f"blocks_{index}", size, block, prob)
        size = _output_size(size, block.strides)
    last_filters = blocks[-1].output_filters
    yield _conv_card("head", size, 1, 1, last_filters, head_filters)
    yield _dense_card(head_filters, architecture.num_classes)


def _output_size(size, strides):
    return -(-size // strides)


def _conv_card(name, size, kernel_size, strides, inputs, outputs):
    """Returns the card of a convolution with normalization and swish."""
    output_size = _output_size(size, strides)
    kernel = kernel_size**2 * inputs * outputs
    values = output_size**2 * outputs
    return LayerCard(
        name=name,
        kernel_size=kernel_size,
        strides=strides,
        expand_ratio=None,
        input_filters=inputs,
        output_filters=outputs,
        se_filters=None,
        output_size=output_size,
        survival_prob=None,
        params=kernel + _NORM_WEIGHTS * outputs,
        trainable_params=kernel + _NORM_TRAINABLE * outputs,
        multiply_adds=output_size**2 * kernel,
        kept_values=size**2 * inputs + _KEPT_BY_CONV * values,
        live_values=_LIVE_AT_ONCE * values,
    )


def _block_card(name, size, block, survival_prob):
    output_size = _output_size(size, block.strides)
    inputs, outputs = block.input_filters, block.output_filters
    expanded = inputs * block.expand_ratio
    has_expansion = block.expand_ratio != 1
    expansion = inputs * expanded if has_expansion else 0
    depthwise = block.kernel_size**2 * expanded
    squeeze_excite = 2 * expanded * block.se_filters
    projection = expanded * outputs
    kernels = expansion + depthwise + squeeze_excite + projection
    biases = block.se_filters + expanded
    normed = (1 + has_expansion) * expanded + outputs

    before = size**2 * expanded if has_expansion else 0
    after = output_size**2 * expanded
    skip = size**2 * inputs if block.has_skip else 0
    return LayerCard(
        name=name,
        kernel_size=block.kernel_size,
        strides=block.strides,
        expand_ratio=block.expand_ratio,
        input_filters=inputs,
        output_filters=outputs,
        se_filters=block.se_filters,
        output_size=output_size,
        survival_prob=survival_prob if block.has_skip else None,
        params=kernels + biases + _NORM_WEIGHTS * normed,
        trainable_params=kernels + biases + _NORM_TRAINABLE * normed,
        multiply_adds=size**2 * expansion
        + output_size**2 * (depthwise + projection)
        + squeeze_excite,
        # Squeeze-excite keeps its product, the block two outputs: of the
        # projection, and its own.
        kept_values=_KEPT_BY_CONV * (before + after)
        + after
        + 2 * output_size**2 * outputs,
        live_values=skip + _LIVE_AT_ONCE * max(before, after),
    )


def _dense_card(inputs, outputs):
    return LayerCard(
        name="head/dense",
        kernel_size=1,
        strides=1,
        expand_ratio=None,
        input_filters=inputs,
        output_filters=outputs,
        se_filters=None,
        output_size=1,
        survival_prob=None,
        params=(inputs + 1) * outputs,
        trainable_params=(inputs + 1) * outputs,
        multiply_adds=inputs * outputs,
        kept_values=inputs + outputs,
        live_values=inputs + outputs,
    )
