"""Training steps on two replicas, and under XLA."""

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from tests.efficientnet import helpers


def train_step(model, images, seed, reduce=lambda gradients: gradients):
    """One step of gradient descent; returns the loss."""
    with tf.GradientTape() as tape, efficientnet.noise_seed(seed):
        loss = tf.reduce_mean(model(images, training=True) ** 2)
    gradients = reduce(tape.gradient(loss, model.trainable_variables))
    for gradient, variable in zip(gradients, model.trainable_variables):
        variable.assign_sub(0.01 * gradient)
    return loss


@pytest.fixture(scope="module")
def strategy():
    devices = [d.name for d in tf.config.list_logical_devices("CPU")]
    if len(devices) < 2:
        pytest.skip("needs two logical CPU devices")
    return tf.distribute.MirroredStrategy(devices[:2])


@pytest.fixture(scope="module")
def images():
    """Images of two replicas."""
    generator = np.random.default_rng(0)
    return generator.uniform(0, 255, [2, 4, 32, 32, 3]).astype(np.float32)


@pytest.fixture(scope="module")
def trained(strategy, images):
    """Returns a model after a step on two replicas, and its first weights."""
    with strategy.scope():
        model = helpers.build_tiny(small_image=True)
    first_weights = model.get_weights()

    def replica_step(images):
        context = tf.distribute.get_replica_context()
        train_step(
            model,
            images,
            [7, context.replica_id_in_sync_group],
            lambda gradients: context.all_reduce("mean", gradients),
        )

    @tf.function
    def step(images):
        strategy.run(replica_step, args=(images,))

    step(
        strategy.experimental_distribute_values_from_function(
            lambda context: images[context.replica_id_in_sync_group]
        )
    )
    return model, first_weights


def test_two_replicas_train_as_two_models_of_averaged_gradients(
    trained, images
):
    model, first_weights = trained
    single = helpers.build_tiny(small_image=True)
    ends = []
    for replica in range(2):
        single.set_weights(first_weights)
        train_step(single, images[replica], [7, replica])
        ends.append(single.get_weights())
    for weight, *of_replicas in zip(model.get_weights(), *ends):
        np.testing.assert_allclose(
            weight, np.mean(of_replicas, axis=0), rtol=1e-3, atol=1e-4
        )


def test_each_replica_has_moving_statistics_of_its_own(strategy, trained):
    model, _ = trained
    statistic = model.get_layer("stem").batch_norm.moving_mean
    of_replicas = [
        value.numpy()
        for value in strategy.experimental_local_results(statistic)
    ]
    assert np.any(of_replicas[0] != of_replicas[1])
    np.testing.assert_allclose(
        statistic, np.mean(of_replicas, axis=0), rtol=1e-5
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_xla_compiles_a_training_step(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = helpers.build_tiny(small_image=True, image_size=32)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    step = tf.function(
        lambda images, seed: train_step(model, images, seed), jit_compile=True
    )
    hlo = step.experimental_get_compiler_ir(
        tf.TensorSpec([8, 32, 32, 3]), tf.TensorSpec([2], tf.int32)
    )(stage="hlo")
    assert "convolution" in hlo
