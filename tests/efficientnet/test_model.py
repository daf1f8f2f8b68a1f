"""Whole networks: inputs and outputs, precision, freezing, arguments."""

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from tests import golden_data
from tests.efficientnet import helpers

LOGITS = np.load(golden_data.path("efficientnet_logits.npz"))


@pytest.fixture(scope="module")
def tiny():
    return helpers.build_tiny()


def test_without_an_image_size_images_of_any_size_may_be_fed(tiny):
    assert tiny.input_shape == (None, None, None, 3)
    for height, width in ((32, 32), (47, 61)):
        assert tiny(tf.zeros([2, height, width, 3])).shape == [2, 10]


def test_without_top_the_model_ends_in_pooled_features(tiny):
    model = helpers.build_tiny(include_top=False)
    assert model.output_shape == (None, 320)
    assert helpers.weight_names(model)[-1].startswith("head/tpu_batch_norm")
    shared = [
        weight
        for name, weight in zip(helpers.weight_names(tiny), tiny.weights)
        if "dense" not in name
    ]
    for weight, value in zip(model.weights, shared):
        weight.assign(value)
    images = tf.random.uniform([2, 32, 32, 3], 0, 255)
    np.testing.assert_array_equal(
        model(images),
        tf.keras.Model(tiny.input, tiny.endpoints["global_pool"])(images),
    )


def test_integer_pixels_equal_float_pixels(tiny):
    images = np.random.default_rng(0).integers(0, 256, [2, 32, 32, 3])
    np.testing.assert_array_equal(
        tiny(images.astype(np.uint8)), tiny(images.astype(np.float32))
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_float32_logits_and_finite_gradients(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = helpers.build_tiny(small_image=True, image_size=32)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert model.endpoints["reduction_1"].dtype == policy[len("mixed_") :]
    assert model.endpoints["global_pool"].dtype == tf.float32
    assert {weight.dtype for weight in model.weights} == {tf.float32}

    with tf.GradientTape() as tape:
        images = tf.random.uniform([4, 32, 32, 3], 0, 255)
        logits = model(images, training=True)
        loss = tf.reduce_mean(logits**2)
    values = tape.gradient(loss, model.trainable_variables)
    assert logits.dtype == tf.float32
    for value in (logits, *values):
        assert np.all(np.isfinite(value))


def test_bfloat16_logits_are_near_the_float32_ones():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = helpers.build_tiny()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    helpers.assign_golden_weights(model, "tiny")
    logits = model(LOGITS["image_224"][None])[0]
    # The logits reach 6.7; bfloat16 keeps 8 bits.
    np.testing.assert_allclose(logits, LOGITS["tiny/logits_raw"], atol=0.5)


def test_frozen_layers_keep_their_statistics():
    model = helpers.build_tiny(small_image=True)
    frozen = [model.get_layer("stem"), model.get_layer("blocks_0")]
    for layer in frozen:
        layer.trainable = False
    before = {w.name: w.numpy() for layer in frozen for w in layer.weights}
    head = model.get_layer("head").batch_norm.moving_mean
    head_before = head.numpy()
    model(tf.random.uniform([4, 32, 32, 3], 0, 255), training=True)
    for layer in frozen:
        for weight in layer.weights:
            np.testing.assert_array_equal(weight, before[weight.name])
    assert np.any(head != head_before)
    names = {weight.name.split("/")[0] for weight in model.trainable_weights}
    assert names == {"head"} | {f"blocks_{index}" for index in range(1, 7)}


def test_noise_arguments_reach_the_layers():
    model = helpers.build_tiny(survival_prob=0.3, dropout_rate=0.0)
    probs = [
        model.get_layer(f"blocks_{index}").survival_prob for index in range(7)
    ]
    assert probs == pytest.approx([1 - 0.7 * index / 7 for index in range(7)])
    # An explicit 0 is a value: B0's own dropout rate is 0.2.
    assert model.get_layer("dropout").rate == 0


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"num_classes": 0}, "`num_classes` must be >= 1. Received: 0"),
        ({"survival_prob": 0.0}, "`survival_prob` .* Received: 0.0"),
        ({"image_size": 0}, "`image_size` must be >= 1. Received: 0"),
        ({"mean_rgb": [1.0]}, "`mean_rgb` must have 3 values"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        helpers.build_tiny(**arguments)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="`name` must be one of .*'resnet'"):
        efficientnet.build_model("resnet")
