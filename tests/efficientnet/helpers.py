"""Small models, and the weights that the golden logits were computed with."""

import json
import zlib

import numpy as np
import tensorflow as tf

import efficientnet
from tests import golden_data

SHADOW = "/ExponentialMovingAverage"
GLOBAL_STEP = 12345


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


def assign_golden_weights(model, tag):
    """Gives each weight of a model the golden raw value of its name.

    Args:
        model: An `EfficientNet`.
        tag: Key of the file of batch norm scales.
    """
    scope, scales = _scope(model), _scales(tag)
    for name, weight in zip(weight_names(model), model.weights):
        shape = weight.shape.as_list()
        weight.assign(_golden_value(f"{scope}/{name}", name, shape, scales))


def golden_tensors(model, tag, *, slots=False):
    """Returns what a golden checkpoint of the original holds.

    Args:
        model: An `EfficientNet` of the checkpoint's architecture.
        tag: Key of the file of batch norm scales.
        slots: Whether to add what the original's optimizer stores.

    Returns:
        {name: array}: raw values, moving averages, the step, slots.
    """
    scope, scales = _scope(model), _scales(tag)
    trainable = {id(weight) for weight in model.trainable_weights}
    tensors = {"global_step": np.int64(GLOBAL_STEP)}
    for name, weight in zip(weight_names(model), model.weights):
        shape = weight.shape.as_list()
        for suffix in ("", SHADOW):
            key = f"{scope}/{name}{suffix}"
            tensors[key] = _golden_value(key, name, shape, scales)
        if slots and id(weight) in trainable:
            tensors[f"{scope}/{name}/RMSProp"] = np.ones(shape, np.float32)
            tensors[f"{scope}/{name}/RMSProp_1"] = np.zeros(shape, np.float32)
    return tensors


def write_tf1_checkpoint(prefix, tensors):
    """Writes named tensors as TF1's Saver does; returns the prefix, a str."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )
    return str(prefix)


def _scope(model):
    return model.name.split("_")[0]


def _scales(tag):
    path = golden_data.path("efficientnet_bn_scales.json")
    return json.loads(path.read_text())[tag]


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
