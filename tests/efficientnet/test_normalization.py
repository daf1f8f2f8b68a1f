"""Batch norm against the original's TPU layer."""

import numpy as np
import pytest
import tensorflow as tf

from efficientnet import normalization
from tests import golden_data

GOLDEN = np.load(golden_data.path("efficientnet_layers.npz"))
WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")
# The fourth channel has mean 100 and variance 7e-5: it shows which formula for
# the variance an implementation uses. XLA takes E[x^2] - E[x]^2, which float32
# cannot hold there, and half precision cannot hold the inputs.
WELL_CONDITIONED = slice(0, 3)


def golden_layer(dtype=None):
    """Returns a layer with the golden initial weights."""
    layer = normalization.BatchNorm(dtype=dtype)
    layer.build([None, 2, 2, 4])
    layer.set_weights([GOLDEN[f"init/{name}"] for name in WEIGHTS])
    return layer


def assert_weights_equal(layer, folder, rtol=1e-6):
    for name in WEIGHTS:
        np.testing.assert_allclose(
            getattr(layer, name), GOLDEN[f"{folder}/{name}"], rtol=rtol
        )


def test_inference_equals_the_originals():
    layer = golden_layer()
    np.testing.assert_allclose(
        layer(GOLDEN["x"], training=False),
        GOLDEN["TpuBatchNormalization/eval_before"],
        atol=1e-6,
    )
    assert_weights_equal(layer, "init")


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("jit_compile", [True, False])
def test_training_equals_the_originals(static, jit_compile):
    layer = golden_layer()
    shape = GOLDEN["x"].shape if static else [None, None, None, 4]

    @tf.function(
        jit_compile=jit_compile, input_signature=[tf.TensorSpec(shape)]
    )
    def train(inputs):
        return layer(inputs, training=True)

    channels = WELL_CONDITIONED if jit_compile else slice(0, 4)
    np.testing.assert_allclose(
        train(GOLDEN["x"])[..., channels],
        GOLDEN["TpuBatchNormalization/train_out"][..., channels],
        atol=1e-4,
    )
    # The unbiased variance would differ by 4e-4.
    assert_weights_equal(layer, "TpuBatchNormalization/after", rtol=5e-5)


def test_the_moving_variance_is_not_that_of_the_plain_fused_layer():
    layer = golden_layer()
    layer(GOLDEN["x"], training=True)
    plain = GOLDEN["plain_tf_layers_fused_default/after/moving_variance"]
    assert np.max(np.abs(layer.moving_variance - plain)) > 1e-4


def test_gradients_equal_those_of_the_formula():
    layer = golden_layer()
    inputs = tf.constant(GOLDEN["x"])
    weights = tf.random.stateless_normal(inputs.shape, [1, 2])
    variables = [layer.gamma, layer.beta]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(weights * layer(inputs, training=True))
        mean, variance = tf.nn.moments(inputs, [0, 1, 2])
        outputs = (inputs - mean) / tf.sqrt(variance + layer.epsilon)
        outputs = outputs * layer.gamma + layer.beta
        expected_loss = tf.reduce_sum(weights * outputs)
    for source in [inputs, *variables]:
        np.testing.assert_allclose(
            tape.gradient(loss, source),
            tape.gradient(expected_loss, source),
            atol=2e-5,
        )


def test_a_frozen_layer_works_in_inference_mode():
    layer = golden_layer()
    layer.trainable = False
    np.testing.assert_allclose(
        layer(GOLDEN["x"], training=True),
        GOLDEN["TpuBatchNormalization/eval_before"],
        atol=1e-6,
    )
    assert_weights_equal(layer, "init")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_float32_weights(policy):
    layer = golden_layer(tf.keras.mixed_precision.Policy(policy))
    outputs = layer(GOLDEN["x"], training=True)
    assert outputs.dtype == policy[len("mixed_") :]
    assert {weight.dtype for weight in layer.weights} == {tf.float32}
    np.testing.assert_allclose(
        tf.cast(outputs, tf.float32)[..., WELL_CONDITIONED],
        GOLDEN["TpuBatchNormalization/train_out"][..., WELL_CONDITIONED],
        atol=0.02,
    )


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"momentum": 1.0}, "`momentum` must be in .* Received: 1.0"),
        ({"epsilon": 0.0}, "`epsilon` must be > 0. Received: 0.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        normalization.BatchNorm(**arguments)
