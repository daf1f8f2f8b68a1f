"""Steps of one batch on one, two and four replicas."""

import concurrent.futures
import multiprocessing

import numpy as np
import pytest
import tensorflow as tf

from noisy_student import config, moving_average, optimizers, train
from tests import replicas as replicas_lib
from tests.noisy_student import networks

pytestmark = pytest.mark.slow

NUM_STEPS = 10
NUM_LABELED, NUM_UNLABELED = 8, 16
SETTINGS = config.StepConfig(
    num_classes=networks.NUM_CLASSES,
    weight_decay=1e-3,
    pseudo_labels=config.PseudoLabelConfig(
        unlabeled_ratio=2, label_type="soft"
    ),
)


def shares(strategy, step):
    """Returns the batch of a step, a part of it for each replica."""
    whole = networks.batch(NUM_LABELED, NUM_UNLABELED, seed=step)
    replicas = strategy.num_replicas_in_sync

    def share(context):
        index = context.replica_id_in_sync_group
        return {
            name: tf.split(value, replicas)[index]
            for name, value in whole.items()
        }

    return strategy.experimental_distribute_values_from_function(share)


def train_on(strategy):
    """Returns the losses and all that ten steps on a strategy end with."""
    with strategy.scope():
        tf.keras.utils.set_random_seed(0)
        model = networks.two_blocks(num_shards_per_group=-2)
        # Near one the averages of ten steps would be those of the first.
        state = train.create_state(model, optimizers.RMSprop(0.005), 0.5)
    step = tf.function(lambda batch: train.train_step(state, batch, SETTINGS))
    losses = [
        {name: float(value) for name, value in metrics.items()}
        for metrics in (step(shares(strategy, i)) for i in range(NUM_STEPS))
    ]
    ends = {
        name: weight.numpy()
        for name, weight in moving_average.named_weights(model).items()
    }
    for shadow in state.moving_average.shadows.values():
        ends[shadow.name] = shadow.numpy()
    for variable in model.trainable_variables:
        for slot in state.optimizer.slots(variable):
            ends[slot.name] = slot.numpy()
    return losses, ends


def train_on_four_replicas():
    """In a process of its own: returns what `train_on` does."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 4,
    )
    return train_on(
        tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(4)])
    )


@pytest.fixture(scope="module")
def by_replicas():
    """Returns {number of replicas: result of `train_on`}."""
    # Two strategies of several replicas abort each other in one process.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        four = executor.submit(train_on_four_replicas)
        one = train_on(tf.distribute.OneDeviceStrategy("/cpu:0"))
        two = train_on(replicas_lib.two_replicas())
        return {1: one, 2: two, 4: four.result()}


def test_replicas_are_given_the_means_that_a_checkpoint_holds():
    strategy = replicas_lib.two_replicas()
    with strategy.scope():
        model = networks.two_blocks(num_shards_per_group=1)
        state = train.create_state(model, optimizers.RMSprop(0.005), 0.5)
    step = tf.function(lambda batch: train.train_step(state, batch, SETTINGS))
    step(shares(strategy, 0))
    own = {
        variable.name: variable
        for variable in (
            *model.non_trainable_variables,
            *state.moving_average.shadows.values(),
        )
    }

    def parts(variable):
        return [
            part.numpy()
            for part in strategy.experimental_local_results(variable)
        ]

    before = {name: parts(variable) for name, variable in own.items()}
    differ = {n for n, (a, b) in before.items() if not np.array_equal(a, b)}
    assert any("moving_mean" in name for name in differ)
    assert any("ExponentialMovingAverage" in name for name in differ)
    train.make_unify(state)()
    for name, variable in own.items():
        first, second = parts(variable)
        np.testing.assert_array_equal(first, second, err_msg=name)
        np.testing.assert_allclose(
            first, np.mean(before[name], axis=0), rtol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("number", [2, 4])
def test_replicas_train_ten_steps_as_one_does(by_replicas, number):
    (losses, ends), (expected, expected_ends) = (
        by_replicas[number],
        by_replicas[1],
    )
    assert len(losses) == NUM_STEPS
    # They learn: other batches are compared with other weights.
    assert abs(expected[0]["loss"] - expected[-1]["loss"]) > 0.01
    for step, expected_step in zip(losses, expected):
        for name, value in expected_step.items():
            assert step[name] == pytest.approx(value, abs=1e-4), name
    assert list(ends) == list(expected_ends)
    for name, value in expected_ends.items():
        np.testing.assert_allclose(ends[name], value, atol=1e-4, err_msg=name)
