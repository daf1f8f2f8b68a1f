"""Initial values, squeeze-excite, and the block."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from efficientnet import layers
from tests import golden_data

BATCH_NORM = {"batch_norm_momentum": 0.99, "batch_norm_epsilon": 1e-3}
BLOCK = efficientnet.BlockConfig(1, 3, 1, 6, 8, 8)


@pytest.mark.parametrize(
    "shape,stddev",
    [
        ([3, 3, 16, 400], np.sqrt(2 / (9 * 400))),
        # Depthwise: the last axis is 1, however many channels there are.
        ([5, 5, 2000, 1], np.sqrt(2 / 25)),
    ],
)
def test_convolution_kernels_start_normal(shape, stddev):
    kernel = layers.ConvKernelInitializer(seed=1)(shape).numpy()
    assert np.mean(kernel) == pytest.approx(0, abs=0.03 * stddev)
    assert np.std(kernel) == pytest.approx(stddev, rel=0.02)
    # Not truncated at two standard deviations: 4.55 % lie beyond.
    beyond = np.mean(np.abs(kernel) > 2 * stddev)
    assert beyond == pytest.approx(0.0455, abs=0.005)


def test_dense_kernels_start_uniform_by_the_number_of_classes():
    kernel = layers.DenseKernelInitializer(seed=1)([500, 100]).numpy()
    assert -0.1 <= np.min(kernel) < -0.0999
    assert 0.0999 < np.max(kernel) <= 0.1
    assert np.std(kernel) == pytest.approx(0.1 / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    "initializer_class",
    [layers.ConvKernelInitializer, layers.DenseKernelInitializer],
)
def test_initializers_draw_afresh_and_survive_serialization(initializer_class):
    shape = [3, 3, 4, 5] if "Conv" in initializer_class.__name__ else [4, 5]
    unseeded = initializer_class()
    assert np.any(unseeded(shape) != unseeded(shape))
    restored = tf.keras.initializers.deserialize(
        tf.keras.initializers.serialize(initializer_class(seed=7))
    )
    assert isinstance(restored, initializer_class)
    assert restored.seed == 7


def test_the_kernels_of_b0_start_as_wide_as_the_originals():
    path = golden_data.path("efficientnet_initial_stddevs.json")
    stddevs = json.loads(path.read_text())
    model = efficientnet.build_model("efficientnet-b0")
    kernels = [w for w in model.weights if "kernel" in w.name]
    assert len(kernels) == len(stddevs)
    for kernel in kernels:
        expected = stddevs[kernel.name.split(":")[0]]
        # Five standard errors of the two of a normal distribution.
        tolerance = 5 / np.sqrt(np.prod(kernel.shape))
        assert np.std(kernel) == pytest.approx(expected, rel=tolerance)


def test_pixels_are_normalized_by_channel():
    layer = layers.PixelNormalization((10.0, 20.0, 30.0), (1.0, 2.0, 4.0))
    images = [[[[11, 24, 18], [10, 18, 42]], [[12, 20, 30], [8, 22, 34]]]]
    outputs = layer(tf.constant(images, tf.uint8))
    first_row = [[1.0, 2.0, -3.0], [0.0, -1.0, 3.0]]
    second_row = [[2.0, 0.0, 0.0], [-2.0, 1.0, 1.0]]
    np.testing.assert_array_equal(outputs, [[first_row, second_row]])


@pytest.mark.parametrize("dtype,tolerance", [("float32", 1e-6), ("half", 2e-3)])
def test_swish_and_its_gradient_equal_tensorflows(dtype, tolerance):
    inputs = tf.cast(
        tf.constant([-80.0, -9.0, -1.2785, -0.3, 0.0, 0.7, 4.0, 80.0]), dtype
    )
    upstream = tf.cast(tf.linspace(-2.0, 3.0, 8), dtype)
    results = []
    for function in (layers.swish, tf.nn.silu):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(inputs)
        results.append([outputs, tape.gradient(outputs, inputs, upstream)])
    for actual, expected in zip(*results):
        assert actual.dtype == inputs.dtype
        np.testing.assert_allclose(
            actual, expected, rtol=tolerance, atol=tolerance
        )


def test_the_gradient_of_a_mean_joins_that_of_its_inputs():
    inputs = tf.random.stateless_normal([2, 3, 4, 5], [1, 2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        outputs, means = layers.with_spatial_mean(inputs)
        loss = tf.reduce_sum(outputs**2 * tf.sin(means))
        expected_means = tf.reduce_mean(inputs, [1, 2], keepdims=True)
        expected_loss = tf.reduce_sum(inputs**2 * tf.sin(expected_means))
    np.testing.assert_array_equal(outputs, inputs)
    np.testing.assert_allclose(means, expected_means, rtol=1e-6)
    np.testing.assert_allclose(
        tape.gradient(loss, inputs),
        tape.gradient(expected_loss, inputs),
        atol=1e-5,
    )


def test_squeeze_excite_scales_each_channel_by_its_gate():
    layer = layers.SqueezeExcite(1, 2)
    inputs = tf.constant([[[[1.0, 10.0], [3.0, 30.0]]]])
    layer(inputs)
    # hidden = silu(2 - 1) = silu(1); gates = sigmoid(silu(1) * (1, 2)).
    values = [[[[[1.0], [0.0]]]], [-1.0], [[[[1.0, 2.0]]]], [0.0, 0.0]]
    layer.set_weights([np.array(value) for value in values])
    hidden = 1 / (1 + np.exp(-1))
    gates = 1 / (1 + np.exp(-hidden * np.array([1.0, 2.0])))
    np.testing.assert_allclose(layer(inputs), inputs * gates, rtol=1e-6)


def test_bfloat16_means_of_large_images_are_exact():
    inputs = tf.random.stateless_uniform([1, 100, 100, 4], [1, 2])
    mean = layers._spatial_mean(tf.cast(inputs, tf.bfloat16))
    assert mean.dtype == tf.float32
    np.testing.assert_allclose(mean, tf.reduce_mean(inputs, [1, 2]), rtol=1e-3)


def test_a_block_with_skip_drops_its_branch_only():
    block = layers.MBConv(BLOCK, 1e-6, **BATCH_NORM)
    inputs = tf.random.normal([4, 6, 6, 8])
    outputs = block(inputs, training=True)
    np.testing.assert_array_equal(outputs, inputs)
    assert np.any(block(inputs, training=False) != inputs)


@pytest.mark.parametrize("changes", [{"strides": 2}, {"output_filters": 16}])
def test_a_block_without_skip_is_never_dropped(changes):
    config = dataclasses.replace(BLOCK, **changes)
    block = layers.MBConv(config, 1e-6, **BATCH_NORM)
    outputs = block(tf.random.normal([4, 6, 6, 8]), training=True).numpy()
    assert np.all(np.any(outputs != 0, axis=(1, 2, 3)))


def test_a_frozen_block_works_in_inference_mode():
    block = layers.MBConv(BLOCK, 0.5, **BATCH_NORM)
    inputs = tf.random.normal([64, 6, 6, 8])
    expected = block(inputs, training=False)
    weights = block.weights
    before = [weight.numpy() for weight in weights]
    block.trainable = False
    np.testing.assert_array_equal(block(inputs, training=True), expected)
    for old, new in zip(before, weights):
        np.testing.assert_array_equal(old, new)


def test_blocks_of_one_seed_draw_differently():
    names = {
        layers.MBConv(BLOCK, 0.5, name=name, **BATCH_NORM).stochastic_depth.name
        for name in ("blocks_1", "blocks_2")
    }
    assert len(names) == 2


def test_a_stage_is_refused_where_a_block_is_wanted():
    stage = dataclasses.replace(BLOCK, num_repeats=2)
    with pytest.raises(ValueError, match="`block.num_repeats`.*Received: 2"):
        layers.MBConv(stage, **BATCH_NORM)


@pytest.mark.parametrize(
    "layer",
    [
        layers.PixelNormalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
        layers.Stem(8, **BATCH_NORM),
        layers.SqueezeExcite(2, 8),
        layers.MBConv(BLOCK, 0.7, **BATCH_NORM),
        layers.Head(16, **BATCH_NORM),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_rebuilt_from_their_config(layer):
    config = tf.keras.layers.serialize(layer)
    assert config["registered_name"].startswith("efficientnet>")
    restored = tf.keras.layers.deserialize(config)
    assert type(restored) is type(layer)
    assert restored.get_config() == layer.get_config()
