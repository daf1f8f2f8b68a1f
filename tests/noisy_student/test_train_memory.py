"""Gradient accumulation and recomputation: less memory, the same step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from noisy_student import config, optimizers, train, train_loop
from tests import replicas as replicas_lib
from tests.noisy_student import fixtures, networks

pytestmark = pytest.mark.slow

SETTINGS = config.StepConfig(
    num_classes=networks.NUM_CLASSES,
    weight_decay=1e-3,
    pseudo_labels=config.PseudoLabelConfig(
        unlabeled_ratio=2, label_type="soft"
    ),
)
NOISE = {"survival_prob": 0.5, "dropout_rate": 0.5}


def stepped(batch, *, freeze=False, settings=SETTINGS, **noise):
    """Returns (metrics, weights and slots by name) after two steps."""
    tf.keras.utils.set_random_seed(0)
    model = networks.two_blocks(**noise)
    if freeze:
        efficientnet.freeze_batch_norm(model)
    state = train.create_state(model, optimizers.RMSprop(0.01), 0.5)
    step = tf.function(
        lambda: train.train_step(state, batch, settings), autograph=False
    )
    metrics = [step() for _ in range(2)]
    weights = {w.name: w.numpy() for w in model.weights}
    for variable in model.trainable_variables:
        for slot in state.optimizer.slots(variable):
            weights[slot.name] = slot.numpy()
    return metrics, weights


def assert_close(actual, expected, atol, leave_out=()):
    (all_metrics, weights), (expected_metrics, expected_weights) = (
        actual,
        expected,
    )
    for metrics, step in zip(all_metrics, expected_metrics):
        for name, value in step.items():
            np.testing.assert_allclose(
                metrics[name], value, rtol=1e-5, atol=atol, err_msg=name
            )
    assert list(weights) == list(expected_weights)
    for name, value in expected_weights.items():
        if not any(part in name for part in leave_out):
            np.testing.assert_allclose(
                weights[name], value, rtol=1e-5, atol=atol, err_msg=name
            )


def accumulating(num_parts, **changes):
    return dataclasses.replace(SETTINGS, accumulate_steps=num_parts, **changes)


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    batch = networks.batch(4, 8)
    whole = stepped(batch, freeze=True)
    parts = stepped(batch, freeze=True, settings=accumulating(4))
    assert_close(parts, whole, atol=1e-6)


def test_each_micro_batch_has_its_own_statistics_and_moves_the_moving_ones():
    half = networks.batch(2, 4)
    # Two equal halves have the statistics of the whole.
    batch = {name: tf.concat([v, v], axis=0) for name, v in half.items()}
    _, once = whole = stepped(batch)
    _, twice = parts = stepped(batch, settings=accumulating(2))
    assert_close(parts, whole, atol=1e-5, leave_out=("moving_",))
    name = "stem/tpu_batch_normalization/moving_mean:0"
    # The first convolution moves little in two steps of training.
    np.testing.assert_allclose(
        twice[name] / once[name], (1 - 0.99**4) / (1 - 0.99**2), rtol=0.05
    )
    # Other halves have other statistics.
    other = networks.batch(4, 8)
    with pytest.raises(AssertionError):
        assert_close(
            stepped(other, settings=accumulating(2)),
            stepped(other),
            atol=1e-5,
            leave_out=("moving_",),
        )


def test_micro_batches_draw_noise_of_their_own():
    half = networks.batch(2, 4)
    batch = {name: tf.concat([v, v], axis=0) for name, v in half.items()}
    (first, _), _ = stepped(half, freeze=True, **NOISE)
    (both, _), _ = stepped(
        batch, freeze=True, settings=accumulating(2), **NOISE
    )
    # The first part has the noise of a batch of its own, the second another.
    assert abs(float(first["loss"]) - float(both["loss"])) > 1e-3


def test_the_teacher_labels_each_micro_batch():
    batch = networks.batch(4, 8, teacher_size=networks.IMAGE_SIZE)
    teacher = networks.two_blocks()
    pseudo = dataclasses.replace(SETTINGS.pseudo_labels, online=True)

    def loss(num_parts):
        tf.keras.utils.set_random_seed(0)
        model = networks.two_blocks()
        efficientnet.freeze_batch_norm(model)
        state = train.create_state(model, optimizers.RMSprop(0.01))
        settings = accumulating(num_parts, pseudo_labels=pseudo)
        return train.train_step(state, batch, settings, teacher)["loss"]

    np.testing.assert_allclose(loss(2), loss(1), rtol=1e-5)


def test_micro_batches_must_divide_the_batch_of_a_replica():
    with pytest.raises(ValueError, match="4 and 8. Received: 3"):
        stepped(networks.batch(4, 8), settings=accumulating(3))
    sampled = accumulating(4, label_data_sample_prob=0.25)
    with pytest.raises(ValueError, match="4 and 2. Received: 4"):
        train.check_micro_batches(sampled, 4)


def test_a_run_checks_its_micro_batches_before_it_starts(tmp_path):
    run = fixtures.train_config(tmp_path, unlabel_data_dir=tmp_path)
    settings = dataclasses.replace(run.step, accumulate_steps=2)
    run = dataclasses.replace(run, step=settings)
    train_loop.check(run, tf.distribute.get_strategy())
    train_loop.check(run, replicas_lib.two_replicas())
    odd = dataclasses.replace(run, batch_size=2)
    with pytest.raises(ValueError, match="--accumulate_steps.*1 and 2"):
        train_loop.check(odd, replicas_lib.two_replicas())
    model = dataclasses.replace(run.model, num_shards_per_group=-2)
    grouped = dataclasses.replace(run, model=model)
    train_loop.check(grouped, tf.distribute.get_strategy())
    with pytest.raises(ValueError, match="--accumulate_steps=2 needs a TPU"):
        train_loop.check(grouped, replicas_lib.two_replicas())


@pytest.mark.parametrize("num_parts", [1, 2])
def test_recomputation_changes_neither_losses_nor_weights(num_parts):
    batch = networks.batch(4, 8)
    kept, recomputed = (
        stepped(
            batch,
            settings=accumulating(num_parts, recompute_activations=recompute),
            **NOISE,
        )
        for recompute in (False, True)
    )
    assert_close(recomputed, kept, atol=1e-6)


def test_recomputation_runs_the_blocks_twice():
    model = networks.two_blocks(**NOISE)
    images = networks.batch(4)["labeled_images"]

    def count(recompute):
        @tf.function(autograph=False)
        def gradients():
            with (
                tf.GradientTape() as tape,
                efficientnet.noise_seed([1, 2]),
                efficientnet.recompute_activations(recompute),
            ):
                loss = tf.reduce_sum(model(images, training=True))
            return tape.gradient(loss, model.trainable_variables)

        operations = gradients.get_concrete_function().graph.get_operations()
        types = [operation.type for operation in operations]
        return types.count("DepthwiseConv2dNative"), types.count(
            "AssignSubVariableOp"
        )

    (once, moves), (twice, moves_2) = count(False), count(True)
    assert (once, twice) == (2, 4)
    # The moving statistics move once all the same.
    assert moves == moves_2 > 0


def test_recomputation_without_a_seed_of_the_noise_is_refused():
    model = networks.two_blocks(**NOISE)
    with (
        pytest.raises(ValueError, match="needs `noise_seed`"),
        efficientnet.recompute_activations(),
    ):
        model(networks.batch(4)["labeled_images"], training=True)
