"""Small models, and the weights that the golden logits were computed with."""

import json
import zlib

import numpy as np

import efficientnet
from tests import golden_data

_SHADOW = "/ExponentialMovingAverage"


def build_tiny(**overrides):
    """Returns a B0 of a quarter of the width, 7 blocks and 10 classes."""
    arguments = {
        "num_classes": 10,
        "width_coefficient": 0.25,
        "depth_coefficient": 0.1,
        **overrides,
    }
    return efficientnet.build_model("efficientnet-b0", **arguments)


def weight_names(model):
    """Returns the names of a model's weights, in the order of `weights`."""
    return [weight.name.split(":")[0] for weight in model.weights]


def assign_golden_weights(model, tag, *, shadows=False):
    """Gives each weight of a model the golden value of its name.

    Args:
        model: An `EfficientNet`.
        tag: Key of the file of batch norm scales.
        shadows: Whether to take the values of the moving averages.
    """
    scales = json.loads(
        golden_data.path("efficientnet_bn_scales.json").read_text()
    )[tag]
    scope = model.name.split("_")[0]
    suffix = _SHADOW if shadows else ""
    for name, weight in zip(weight_names(model), model.weights):
        key = f"{scope}/{name}{suffix}"
        weight.assign(_golden_value(key, name, weight.shape.as_list(), scales))


def _golden_value(key, name, shape, scales):
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    draws = generator.standard_normal(size=shape)
    layer, kind = name.rsplit("/", 1)
    is_se = "se" in layer.split("/")
    if kind == "depthwise_kernel":
        value = draws * np.sqrt(2 / (shape[0] * shape[1]))
    elif kind == "kernel" and len(shape) == 4:
        gain = 0.5 if is_se else 2
        value = draws * np.sqrt(gain / np.prod(shape[:3]))
    elif kind == "kernel":
        value = draws * np.sqrt(4 / shape[0])
    elif kind == "bias":
        value = draws * (0.5 if is_se else 0.1)
    elif kind == "gamma":
        value = 2 + 0.2 * draws
    elif kind == "beta":
        value = 0.1 * draws
    elif kind == "moving_variance":
        value = scales[layer] * np.exp(0.1 * draws)
    else:
        value = np.sqrt(scales[layer]) * 0.1 * draws
    return value.astype(np.float32)
