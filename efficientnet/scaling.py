"""From a configuration to the blocks of the network and their noise."""

import dataclasses
import math

from efficientnet import config as config_lib

_FILTER_MULTIPLE = 8
# Stages 2 and 3, counted from 1, keep the resolution of small images.
_STAGES_WITHOUT_STRIDE = (1, 2)


def round_filters(filters, width_coefficient):
    """Scales a number of filters and rounds it to a multiple of 8.

    Rounds to the nearest multiple, at least 8, and one multiple further up
    where that loses more than a tenth.

    Args:
        filters: Number of filters before scaling.
        width_coefficient: Factor, > 0.

    Returns:
        An int.

    Source:
        efficientnet `efficientnet_model.py:round_filters`.
    """
    scaled = filters * width_coefficient
    half = _FILTER_MULTIPLE / 2
    rounded = int(scaled + half) // _FILTER_MULTIPLE * _FILTER_MULTIPLE
    rounded = max(_FILTER_MULTIPLE, rounded)
    if rounded < 0.9 * scaled:
        rounded += _FILTER_MULTIPLE
    return rounded


def round_repeats(repeats, depth_coefficient):
    """Scales a number of repeats and rounds it up."""
    return math.ceil(repeats * depth_coefficient)


def scaled_blocks(config):
    """Returns the blocks of a network from first to last.

    Args:
        config: An `EfficientNetConfig`.

    Returns:
        A list of `BlockConfig`, one per block (`num_repeats` is 1), with the
        scaled filters and the block's own stride.
    """
    blocks = []
    for index, stage in enumerate(config.stages):
        first = dataclasses.replace(
            stage,
            num_repeats=1,
            strides=_strides(config, index),
            input_filters=round_filters(
                stage.input_filters, config.width_coefficient
            ),
            output_filters=round_filters(
                stage.output_filters, config.width_coefficient
            ),
        )
        repeats = round_repeats(stage.num_repeats, config.depth_coefficient)
        other = dataclasses.replace(
            first, strides=1, input_filters=first.output_filters
        )
        blocks += [first] + [other] * (repeats - 1)
    return blocks


def _strides(config, stage_index):
    if config.small_image and stage_index in _STAGES_WITHOUT_STRIDE:
        return 1
    return config.stages[stage_index].strides


def linear_survival_probs(num_blocks, final_survival_prob):
    """Returns the survival probability of each block.

    Linear decay: block i of n is dropped at the rate
    `(1 - final_survival_prob) * i / n`, so the first block is never dropped
    and the last one has not quite the final rate, which belongs to the layer
    after it.

    Args:
        num_blocks: Number of blocks, with and without an identity skip.
        final_survival_prob: In (0, 1].

    Returns:
        A list of `num_blocks` floats in (0, 1].

    Source:
        noisystudent `efficientnet_model.py:Model.call`.
    """
    drop_rate = 1.0 - final_survival_prob
    return [
        1.0 - drop_rate * float(index) / num_blocks
        for index in range(num_blocks)
    ]


def survival_probs(name, *, survival_prob=None):
    """Returns the survival probability of each block of a model.

    Blocks without an identity skip are counted and listed, but never dropped.

    Args:
        name: One of `MODEL_NAMES`.
        survival_prob: The final layer's, in (0, 1]; None: the model's own.

    Returns:
        A list of floats, one per block.
    """
    config = config_lib.get_config(name)
    if survival_prob is not None:
        config = dataclasses.replace(config, survival_prob=survival_prob)
    return linear_survival_probs(
        len(scaled_blocks(config)), config.survival_prob
    )
