"""Training steps on two replicas, under XLA, and groups of replicas."""

import concurrent.futures
import multiprocessing

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from efficientnet import normalization
from tests import replicas as replicas_lib
from tests.efficientnet import helpers

pytestmark = pytest.mark.slow


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
    return replicas_lib.two_replicas()


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


@pytest.mark.long
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


GENERATOR = np.random.default_rng(2)
# The replicas' batches differ in mean and in scale.
INPUTS = np.array(
    GENERATOR.standard_normal([4, 3, 2, 5, 6])
    * np.array([1, 2, 3, 4]).reshape([4, 1, 1, 1, 1])
    + np.array([0, 3, -1, 5]).reshape([4, 1, 1, 1, 1]),
    np.float32,
)
UPSTREAM = GENERATOR.standard_normal(INPUTS.shape).astype(np.float32)
PARAMETERS = GENERATOR.uniform(0.5, 2, [4, 6]).astype(np.float32)


def make_layer(num_shards_per_group):
    layer = normalization.BatchNorm(num_shards_per_group=num_shards_per_group)
    layer.build([None, None, None, 6])
    layer.set_weights(list(PARAMETERS))
    return layer


def train_layer(layer, inputs, upstream):
    """Returns the outputs, and the gradients by inputs, scale and offset."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        loss = tf.reduce_sum(outputs * upstream)
    sources = [inputs, layer.gamma, layer.beta]
    return [outputs, *tape.gradient(loss, sources)]


def train_layer_on_replicas(num_shards_per_group, strategy):
    """Returns what `train_layer` does and the statistics, of each replica."""
    with strategy.scope():
        layer = make_layer(num_shards_per_group)

    def by_replica(values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                values[context.replica_id_in_sync_group]
            )
        )

    # Gradients flow through the reduction in a function only.
    step = tf.function(
        lambda *args: strategy.run(train_layer, args=(layer, *args))
    )
    results = step(by_replica(INPUTS), by_replica(UPSTREAM))
    results += [layer.moving_mean, layer.moving_variance]
    return [
        np.stack(strategy.experimental_local_results(result))
        for result in results
    ]


def train_layers_on_four_replicas(sizes):
    """In a process of its own: returns the results by group size."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 4,
    )
    strategy = tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(4)])
    results = {size: train_layer_on_replicas(size, strategy) for size in sizes}
    try:
        train_layer_on_replicas(3, strategy)
    except ValueError as error:
        results["error"] = str(error)
    return results


@pytest.fixture(scope="module")
def on_four_replicas():
    # Two strategies of several replicas abort each other in one process.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return executor.submit(
            train_layers_on_four_replicas, (-1, 2, 4, -2)
        ).result()


def assert_groups_equal_single_replicas(results, group_size):
    """Compares each group with one replica that has all of its batches."""
    outputs, by_inputs, by_gamma, by_beta, mean, variance = results
    for start in range(0, len(outputs), group_size):
        group = slice(start, start + group_size)
        layer = make_layer(1)
        expected = train_layer(
            layer,
            tf.constant(np.concatenate(INPUTS[group])),
            np.concatenate(UPSTREAM[group]),
        )
        actual = [
            np.concatenate(outputs[group]),
            np.concatenate(by_inputs[group]),
            np.sum(by_gamma[group], axis=0),
            np.sum(by_beta[group], axis=0),
        ]
        for one, other in zip(actual, expected):
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)
        for one, other in (
            (mean, layer.moving_mean),
            (variance, layer.moving_variance),
        ):
            for of_replica in one[group]:
                np.testing.assert_allclose(of_replica, other, rtol=1e-5)


@pytest.mark.parametrize(
    "num_shards_per_group,group_size", [(-1, 1), (2, 2), (4, 4), (-2, 4)]
)
def test_a_group_of_four_replicas_normalizes_as_one(
    num_shards_per_group, group_size, on_four_replicas
):
    results = on_four_replicas[num_shards_per_group]
    assert results[0].shape == INPUTS.shape
    assert_groups_equal_single_replicas(results, group_size)


def test_groups_that_do_not_divide_four_replicas_are_refused(on_four_replicas):
    # Keras appends the arguments of the call.
    assert (
        "`num_shards_per_group` must divide the number of replicas. "
        "Received: 3, which makes groups of 3 of 4 replicas."
    ) in on_four_replicas["error"]


def test_both_of_two_replicas_normalize_as_one(strategy):
    results = train_layer_on_replicas(-2, strategy)
    assert_groups_equal_single_replicas(results, 2)


def test_the_statistics_of_a_group_equal_those_by_hand(strategy):
    with strategy.scope():
        layer = normalization.BatchNorm(num_shards_per_group=-2, epsilon=0.25)
        layer.build([None, None, None, 1])
    # One replica sees 1 and 3, the other 5 and 7: mean 4, mean square 21.
    pixels = strategy.experimental_distribute_values_from_function(
        lambda context: tf.reshape(
            [1.0, 3.0] if context.replica_id_in_sync_group == 0 else [5.0, 7.0],
            [2, 1, 1, 1],
        )
    )
    step = tf.function(
        lambda: strategy.run(layer, (pixels,), {"training": True})
    )
    outputs = np.concatenate(strategy.experimental_local_results(step()))
    deviation = np.sqrt(21 - 4**2 + 0.25)
    np.testing.assert_allclose(
        outputs.ravel(), np.array([-3, -1, 1, 3]) / deviation, rtol=1e-6
    )
    # A hundredth of the way from 0 to 4 and from 1 to 5.
    np.testing.assert_allclose(layer.moving_mean, [0.04], rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, [1.04], rtol=1e-6)


def test_the_statistics_of_a_group_are_float32_in_mixed_precision(strategy):
    with strategy.scope():
        layer = normalization.BatchNorm(
            num_shards_per_group=2, dtype="mixed_bfloat16"
        )
        layer.build([None, None, None, 6])

    # Of 4096 pixels one is 17/16: the mean, 1 + 2^-16, is no bfloat16.
    inputs = np.ones([1, 64, 64, 6])
    inputs[:, 0, 0] = 17 / 16

    @tf.function
    def step():
        pixels = tf.constant(inputs, tf.bfloat16)
        return strategy.run(layer, args=(pixels,), kwargs={"training": True})

    outputs = strategy.experimental_local_results(step())
    assert {output.dtype for output in outputs} == {tf.bfloat16}
    # The first step goes a hundredth of the way, from zero.
    np.testing.assert_allclose(
        layer.moving_mean, 0.01 * (1 + 2.0**-16), rtol=1e-6
    )


def test_a_model_passes_its_group_size_on_and_keeps_it(tmp_path):
    model = helpers.build_tiny(num_shards_per_group=2)
    model.save(tmp_path / "model.keras")
    restored = tf.keras.models.load_model(tmp_path / "model.keras")
    for network in (model, restored):
        norms = [
            layer
            for layer in network.submodules
            if isinstance(layer, normalization.BatchNorm)
        ]
        assert len(norms) == 22
        assert {norm.num_shards_per_group for norm in norms} == {2}
