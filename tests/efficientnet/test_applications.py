"""Logits against a second witness: the EfficientNets of Keras.

`tf.keras.applications` computes the same function of the normalized pixels by
code of its own, so ours with its weights must give its logits. Only even
resolutions agree: before a stride of 2 Keras pads by hand for those. At 64
pixels the resolutions are 64, 32, ..., 2.
"""

import numpy as np
import pytest
import tensorflow as tf

import efficientnet

IMAGE_SIZE = 64
FAST = ("b0",)
SLOW = ("b1",)
LONG = ("b2", "b3", "b4", "b5", "b6", "b7")


def random_value(generator, variable):
    """Returns a value that keeps the activations at a moderate scale."""
    draws = generator.standard_normal(variable.shape).astype(np.float32)
    kind = variable.name.split("/")[-1].split(":")[0]
    if kind == "moving_variance":
        return np.exp(0.1 * draws)
    if kind == "gamma":
        return 1 + 0.1 * draws
    if kind == "depthwise_kernel":
        return draws / np.sqrt(np.prod(variable.shape[:2]))
    if kind == "kernel":
        return draws / np.sqrt(np.prod(variable.shape[:-1]))
    return 0.1 * draws


def witness(name, generator):
    """Returns Keras' model of normalized pixels, with random weights."""
    model = getattr(tf.keras.applications, f"EfficientNet{name.upper()}")(
        weights=None,
        input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
        classifier_activation=None,
    )
    for variable in model.weights:
        if not variable.name.startswith(("normalization", "count")):
            variable.assign(random_value(generator, variable))
    return tf.keras.Model(model.get_layer("stem_conv_pad").input, model.output)


def sublayers(model):
    """Yields the layers of ours that hold weights, in the order of the net."""
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Dense):
            yield layer
        for name in (
            "conv",
            "batch_norm",
            "expand_conv",
            "expand_norm",
            "depthwise_conv",
            "depthwise_norm",
            "squeeze_excite",
            "project_conv",
            "project_norm",
        ):
            sublayer = getattr(layer, name, None)
            if name == "squeeze_excite" and sublayer is not None:
                yield from (sublayer.reduce, sublayer.expand)
            elif sublayer is not None:
                yield sublayer


def copy_weights(source, target):
    """Copies weights layer by layer; both nets list theirs in one order."""
    sources = [layer for layer in source.layers if layer.weights]
    targets = list(sublayers(target))
    assert len(sources) == len(targets)
    for layer, of_target in zip(sources, targets):
        of_target.set_weights(layer.get_weights())
    assert source.count_params() == target.count_params()


@pytest.mark.parametrize(
    "name",
    [
        *FAST,
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
        *(pytest.param(name, marks=pytest.mark.long) for name in LONG),
    ],
)
def test_logits_equal_those_of_keras(name):
    generator = np.random.default_rng(0)
    theirs = witness(name, generator)
    ours = efficientnet.build_model(
        f"efficientnet-{name}",
        mean_rgb=(0.0, 0.0, 0.0),
        stddev_rgb=(1.0, 1.0, 1.0),
    )
    copy_weights(theirs, ours)
    shape = [2, IMAGE_SIZE, IMAGE_SIZE, 3]
    images = generator.standard_normal(shape).astype(np.float32)
    expected = theirs(images, training=False).numpy()
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(
        ours(images, training=False), expected, atol=1e-4, rtol=0
    )
