"""Batch norm against the original's TPU layer, and its groups of replicas.

`test_distribution.py` computes with groups; here is what needs no replicas.
"""

import types

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


def golden_layer(**arguments):
    """Returns a layer with the golden initial weights."""
    layer = normalization.BatchNorm(**arguments)
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
    layer = golden_layer(dtype=policy)
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
        (
            {"num_shards_per_group": 0},
            "`num_shards_per_group` must be -2, -1 or >= 1. Received: 0",
        ),
        (
            {"num_shards_per_group": -3},
            "`num_shards_per_group` must be -2, -1 or >= 1. Received: -3",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        normalization.BatchNorm(**arguments)


@pytest.mark.parametrize(
    "num_shards_per_group,num_replicas,expected",
    [
        (-1, 1, 1),
        (-1, 8, 1),
        (-1, 16, 8),
        (-1, 64, 8),
        (-1, 128, 16),
        (-1, 2048, 256),
        (-2, 1, 1),
        (-2, 12, 12),
        (1, 12, 1),
        (4, 12, 4),
        (12, 12, 12),
    ],
)
def test_replicas_divide_into_groups(
    num_shards_per_group, num_replicas, expected
):
    size = normalization.replicas_per_group(num_shards_per_group, num_replicas)
    assert size == expected


@pytest.mark.parametrize(
    "num_shards_per_group,num_replicas,received",
    [
        (5, 12, "5, which makes groups of 5 of 12 replicas"),
        (4, 1, "4, which makes groups of 4 of 1 replicas"),
        (-1, 12, "-1, which makes groups of 8 of 12 replicas"),
    ],
)
def test_replicas_that_do_not_divide_into_groups_are_refused(
    num_shards_per_group, num_replicas, received
):
    message = f"`num_shards_per_group` must divide .* Received: {received}"
    with pytest.raises(ValueError, match=message):
        normalization.replicas_per_group(num_shards_per_group, num_replicas)


def test_a_group_that_does_not_divide_is_refused_in_training_only():
    layer = normalization.BatchNorm(num_shards_per_group=4)
    layer(GOLDEN["x"], training=False)
    with pytest.raises(ValueError, match="Received: 4, which makes groups"):
        layer(GOLDEN["x"], training=True)


def test_one_replica_is_a_group_of_its_own():
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        layer = golden_layer(num_shards_per_group=normalization.ONE_GROUP)
    alone = golden_layer(num_shards_per_group=1)
    outputs = strategy.run(
        layer, args=(GOLDEN["x"],), kwargs={"training": True}
    )
    np.testing.assert_array_equal(outputs, alone(GOLDEN["x"], training=True))
    with strategy.scope():  # across replicas
        outputs = layer(GOLDEN["x"], training=True)
    np.testing.assert_array_equal(outputs, alone(GOLDEN["x"], training=True))
    for weight, expected in zip(layer.weights, alone.weights):
        np.testing.assert_array_equal(weight, expected)


def fake_tpu_replica(num_replicas):
    """Returns what a core of a TPU sees, as far as the layer looks at it."""
    return types.SimpleNamespace(
        strategy=object.__new__(tf.distribute.TPUStrategy),
        num_replicas_in_sync=num_replicas,
    )


def assert_sums_over(tensor, groups):
    assert tensor.op.type == "CrossReplicaSum"
    assignment = tf.get_static_value(tensor.op.inputs[1])
    np.testing.assert_array_equal(assignment, groups)


def test_a_tpu_sums_over_each_group_and_so_does_the_gradient(monkeypatch):
    monkeypatch.setattr(
        tf.distribute, "get_replica_context", lambda: fake_tpu_replica(6)
    )
    groups = [[0, 1], [2, 3], [4, 5]]
    with tf.Graph().as_default():
        value = tf.ones([2, 5])
        mean = normalization.group_mean(value, group_size=2)
        assert mean.shape == [2, 5]
        assert tf.get_static_value(mean.op.inputs[1]) == 2
        assert_sums_over(mean.op.inputs[0], groups)
        assert_sums_over(tf.gradients(mean, value)[0], groups)


@pytest.mark.parametrize("num_shards_per_group", [-2, -1, 3])
def test_the_group_size_survives_serialization(num_shards_per_group):
    layer = normalization.BatchNorm(num_shards_per_group=num_shards_per_group)
    restored = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert restored.num_shards_per_group == num_shards_per_group
