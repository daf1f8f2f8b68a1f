"""Stochastic depth, dropout, and where their draws come from."""

import threading

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from efficientnet import noise
from tests import golden_data
from tests.efficientnet import helpers

GOLDEN = np.load(golden_data.path("efficientnet_layers.npz"))


def layers():
    """Returns one layer of each kind."""
    return [
        noise.StochasticDepth(0.5, name="depth"),
        noise.SeededDropout(0.5, name="dropout"),
    ]


def call_seeded(layer, inputs, seed):
    """Returns the layer's training outputs under an explicit seed."""
    with efficientnet.noise_seed(seed):
        return layer(inputs, training=True).numpy()


@pytest.mark.parametrize("survival_prob", [0.8, 0.95, 0.875])
def test_dropped_examples_equal_the_originals(survival_prob):
    outputs = noise.drop_examples(
        GOLDEN["stochastic_depth/x"],
        GOLDEN["stochastic_depth/uniform"],
        survival_prob,
    )
    expected = GOLDEN[f"stochastic_depth/keep{survival_prob}/out"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)


def test_stochastic_depth_draws_once_for_each_example():
    layer = noise.StochasticDepth(0.75, name="depth")
    outputs = call_seeded(layer, tf.ones([4000, 2, 3, 2]), [1, 2])
    by_example = outputs.reshape([4000, -1])
    np.testing.assert_array_equal(
        by_example, by_example[:, :1] + 0 * by_example
    )
    kept = by_example[:, 0] > 0
    np.testing.assert_allclose(by_example[kept], 1 / 0.75, rtol=1e-6)
    # Five standard deviations of the mean of 4000 draws.
    assert np.mean(kept) == pytest.approx(0.75, abs=0.035)


def test_dropout_draws_once_for_each_feature():
    layer = noise.SeededDropout(0.25, name="dropout")
    outputs = call_seeded(layer, tf.ones([40, 100]), [1, 2])
    kept = outputs > 0
    np.testing.assert_allclose(outputs[kept], 1 / 0.75, rtol=1e-6)
    assert np.mean(kept) == pytest.approx(0.75, abs=0.035)
    assert 0 < np.mean(kept[0]) < 1


@pytest.mark.parametrize(
    "layer",
    [noise.StochasticDepth(1.0), noise.SeededDropout(0.0), *layers()],
    ids=lambda layer: layer.name,
)
@pytest.mark.parametrize("training", [False, None])
def test_the_identity_at_inference(layer, training):
    inputs = tf.random.normal([8, 2, 2, 3])
    np.testing.assert_array_equal(layer(inputs, training=training), inputs)


@pytest.mark.parametrize(
    "layer", [noise.StochasticDepth(1.0), noise.SeededDropout(0.0)]
)
def test_without_noise_training_is_exactly_the_identity(layer):
    inputs = tf.random.normal([8, 2, 2, 3])
    np.testing.assert_array_equal(layer(inputs, training=True), inputs)


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: layer.name)
def test_a_frozen_layer_draws_nothing(layer):
    layer.trainable = False
    inputs = tf.ones([64, 4])
    np.testing.assert_array_equal(layer(inputs, training=True), inputs)


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: layer.name)
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_draws_are_a_function_of_the_seed(layer, dtype):
    inputs = tf.ones([256, 4])
    first = call_seeded(layer, inputs, tf.constant([3, 4], dtype))
    again = call_seeded(layer, inputs, tf.constant([3, 4], dtype))
    np.testing.assert_array_equal(first, again)
    for seed in ([3, 5], [2, 4]):
        other = call_seeded(layer, inputs, tf.constant(seed, dtype))
        assert np.any(other != first)


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: layer.name)
def test_draws_are_the_same_eagerly_and_in_a_function(layer):
    inputs = tf.ones([256, 4])

    @tf.function
    def call(seed):
        with efficientnet.noise_seed(seed):
            return layer(inputs, training=True)

    np.testing.assert_array_equal(
        call(tf.constant([3, 4])), call_seeded(layer, inputs, [3, 4])
    )


def test_layers_of_one_seed_draw_differently():
    inputs = tf.ones([256, 4])
    outputs = [
        call_seeded(noise.StochasticDepth(0.5, name=name), inputs, [3, 4])
        for name in ("blocks_1_stochastic_depth", "blocks_2_stochastic_depth")
    ]
    assert np.any(outputs[0] != outputs[1])


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: layer.name)
def test_without_a_seed_every_call_draws_afresh(layer):
    inputs = tf.ones([256, 4])
    first = layer(inputs, training=True)
    assert np.any(first != layer(inputs, training=True))


def test_a_model_is_deterministic_under_a_seed_only():
    model = helpers.build_tiny(small_image=True)
    images = tf.random.uniform([4, 32, 32, 3], 0, 255)
    first = call_seeded(model, images, [1, 2])
    np.testing.assert_array_equal(first, call_seeded(model, images, [1, 2]))
    assert np.any(first != call_seeded(model, images, [1, 3]))
    assert np.any(first != model(images, training=True))


@pytest.mark.parametrize(
    "layer,rows",
    list(zip(layers(), ("stochastic_depth_rows", "dropout_rows"))),
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.parametrize("num_rows", [0, 100, 256])
def test_noise_can_be_left_to_the_first_examples(layer, rows, num_rows):
    inputs = tf.random.normal([256, 2, 4])
    everywhere = call_seeded(layer, inputs, [1, 2])
    assert np.any(everywhere[100:] != inputs[100:])
    with efficientnet.noise_seed([1, 2], **{rows: num_rows}):
        outputs = layer(inputs, training=True)
    np.testing.assert_array_equal(outputs[:num_rows], everywhere[:num_rows])
    np.testing.assert_array_equal(outputs[num_rows:], inputs[num_rows:])


def test_the_rows_of_dropout_are_not_those_of_stochastic_depth():
    inputs = tf.ones([256, 4])
    depth, dropout = layers()
    with efficientnet.noise_seed([1, 2], dropout_rows=0):
        assert np.any(depth(inputs, training=True) != inputs)
        assert np.all(dropout(inputs, training=True) == inputs)


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: layer.name)
@pytest.mark.parametrize("trainable", [True, False])
def test_layers_can_make_the_noise_of_training_at_inference(layer, trainable):
    inputs = tf.ones([256, 4])
    expected = call_seeded(layer, inputs, [1, 2])
    layer.trainable = trainable
    with efficientnet.noise_seed([1, 2], at_inference=True):
        outputs = layer(inputs, training=False)
    np.testing.assert_array_equal(outputs, expected)


def test_a_model_with_noise_at_inference_keeps_its_statistics():
    model = helpers.build_tiny(small_image=True)
    model.trainable = False
    before = model.get_weights()
    images = tf.random.uniform([8, 32, 32, 3], 0, 255)
    clean = model(images, training=False)
    with efficientnet.noise_seed([1, 2], at_inference=True):
        noised = model(images, training=False)
    assert np.any(noised != clean)
    np.testing.assert_array_equal(model(images, training=False), clean)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_contexts_nest_and_end():
    layer = noise.StochasticDepth(0.5, name="depth")
    inputs = tf.ones([256, 4])
    outer = call_seeded(layer, inputs, [1, 2])
    with efficientnet.noise_seed([1, 2]):
        inner = call_seeded(layer, inputs, [5, 6])
        restored = layer(inputs, training=True)
    assert np.any(inner != outer)
    np.testing.assert_array_equal(restored, outer)
    assert np.any(layer(inputs, training=True) != outer)


def test_a_seed_does_not_reach_other_threads():
    layer = noise.StochasticDepth(0.5, name="depth")
    inputs = tf.ones([256, 4])
    outputs = []
    with efficientnet.noise_seed([1, 2]):
        seeded = layer(inputs, training=True)
        thread = threading.Thread(
            target=lambda: outputs.append(layer(inputs, training=True))
        )
        thread.start()
        thread.join()
    assert np.any(outputs[0] != seeded)


@pytest.mark.parametrize(
    "seed,received",
    [
        ([1, 2, 3], r"int32 of shape \(3,\)"),
        (7, r"int32 of shape \(\)"),
        ([1.0, 2.0], r"float32 of shape \(2,\)"),
    ],
)
def test_a_seed_of_another_type_or_shape_is_refused(seed, received):
    with (
        pytest.raises(ValueError, match=f"`seed` must be .*{received}"),
        efficientnet.noise_seed(seed),
    ):
        pass


def test_probabilities_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`survival_prob` .* Received: 0"):
        noise.StochasticDepth(0)
    with pytest.raises(ValueError, match="`rate` .* Received: 1"):
        noise.SeededDropout(1)
