import re

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from noisy_student import (
    config,
    losses,
    moving_average,
    optimizers,
    schedules,
    train,
)
from tests import golden_data
from tests import replicas as replicas_lib
from tests.noisy_student import networks

GOLDEN = np.load(golden_data.path("train_steps_tiny.npz"))
METRICS = {
    "lab/acc": "labeled_accuracy",
    "lab/loss": "labeled_loss",
    "lab/pred_prob": "labeled_confidence",
    "ext/loss": "unlabeled_loss",
    "unl/acc_to_dump": "unlabeled_agreement",
    "unl/pred_prob": "unlabeled_confidence",
    "unl/target_prob": "pseudo_label_confidence",
    "train/data_loss": "data_loss",
    "train/loss": "loss",
    "train/lr": "learning_rate",
}
TOLERANCE = {"rtol": 1e-3, "atol": 2e-4}
STEP_CONFIG = config.StepConfig(
    num_classes=10,
    weight_decay=1e-3,
    pseudo_labels=config.PseudoLabelConfig(
        unlabeled_ratio=2, label_type="soft"
    ),
)


def tiny_model(**overrides):
    return efficientnet.build_model(
        "efficientnet-b0",
        10,
        width_coefficient=0.25,
        depth_coefficient=0.1,
        **{"survival_prob": 1.0, "dropout_rate": 0.0, **overrides},
    )


def golden_state():
    model = tiny_model()
    for name, weight in moving_average.named_weights(model).items():
        weight.assign(GOLDEN[f"initial/{name}"])
    optimizer = optimizers.RMSprop(
        schedules.WarmupExponentialDecay(0.1 * 4 / 256, steps_per_epoch=2)
    )
    return train.create_state(model, optimizer)


def golden_batch():
    images = tf.cast(GOLDEN["images_uint8"], tf.float32)
    return {
        "labeled_images": images[:4],
        "labeled_labels": tf.constant(GOLDEN["labels"][:4]),
        "unlabeled_images": images[4:],
        "unlabeled_probs": tf.constant(GOLDEN["unl_probs"]),
        # Random, not the distribution's.
        "unlabeled_labels": tf.constant(GOLDEN["labels"][4:]),
    }


def test_six_steps_equal_the_original_in_every_metric_weight_and_slot():
    state, batch = golden_state(), golden_batch()
    step = tf.function(lambda: train.train_step(state, batch, STEP_CONFIG))
    names = list(GOLDEN["metric_names"])
    for expected in GOLDEN["metrics_per_step"]:
        metrics = step()
        for theirs, ours in METRICS.items():
            np.testing.assert_allclose(
                metrics[ours],
                expected[names.index(theirs)],
                err_msg=theirs,
                **TOLERANCE,
            )
    assert int(state.step) == 6
    assert_equals_golden_after_six_steps(state)


def assert_equals_golden_after_six_steps(state):
    compared = 0
    for name, weight in moving_average.named_weights(state.model).items():
        ours = {
            name: weight,
            f"{name}/ExponentialMovingAverage": state.moving_average.shadows[
                name
            ],
        }
        if weight.trainable and "moving_" not in name:
            slots = state.optimizer.slots(weight)
            ours[f"{name}/RMSProp"], ours[f"{name}/RMSProp_1"] = slots
        for key, value in ours.items():
            np.testing.assert_allclose(
                np.ravel(value.numpy())[::7],
                GOLDEN[f"after_step6/{key}"],
                err_msg=key,
                **TOLERANCE,
            )
            compared += 1
    stored = [name for name in GOLDEN.files if name.startswith("after_step6/")]
    assert compared == len(stored)


def test_metric_names_are_known_before_the_step_is_traced():
    state = golden_state()
    metrics = train.train_step(state, golden_batch(), STEP_CONFIG)
    assert sorted(metrics) == sorted(train.metric_names(STEP_CONFIG))


@pytest.mark.slow
def test_images_of_uint8_are_trained_on_as_those_of_floats():
    batch = golden_batch()
    expected = train.train_step(golden_state(), batch, STEP_CONFIG)
    for name in ("labeled_images", "unlabeled_images"):
        batch[name] = tf.cast(batch[name], tf.uint8)
    metrics = train.train_step(golden_state(), batch, STEP_CONFIG)
    for name in expected:
        np.testing.assert_array_equal(metrics[name], expected[name])


def noisy_step(seed):
    """Returns the state after a step with all of the model's noise on."""
    tf.keras.utils.set_random_seed(0)
    state = train.create_state(
        tiny_model(survival_prob=0.5, dropout_rate=0.5, small_image=True),
        optimizers.RMSprop(0.01),
    )
    noisy = config.StepConfig(num_classes=10, seed=seed)
    batch = {
        "labeled_images": tf.random.stateless_uniform(
            [4, 16, 16, 3], [0, 0], maxval=255.0
        ),
        "labeled_labels": tf.constant([0, 1, 2, 3]),
    }
    train.train_step(state, batch, noisy)
    return state


@pytest.mark.slow
def test_noise_depends_on_the_seed_and_the_step_alone():
    first, again, other = (
        np.concatenate([w.numpy().ravel() for w in s.model.weights])
        for s in (noisy_step(1), noisy_step(1), noisy_step(2))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def small_state(seed=0, **overrides):
    """Returns the state of a network of two blocks, without noise."""
    tf.keras.utils.set_random_seed(seed)
    return train.create_state(
        networks.two_blocks(**overrides), optimizers.RMSprop(0.01)
    )


@pytest.mark.slow
def test_the_labeled_images_that_count_depend_on_seed_and_step_alone():
    def losses_of_two_steps(prob, seed):
        settings = config.StepConfig(
            num_classes=4, label_data_sample_prob=prob, seed=seed
        )
        state, batch = small_state(), networks.batch(16)
        # At a rate of zero both steps see the same weights.
        state.optimizer.learning_rate.assign(0.0)
        return [
            float(train.train_step(state, batch, settings)["labeled_loss"])
            for _ in range(2)
        ]

    (all_count, _), masked = (
        losses_of_two_steps(1, 1),
        losses_of_two_steps(0.5, 1),
    )
    assert masked == losses_of_two_steps(0.5, 1)
    assert masked != losses_of_two_steps(0.5, 2)
    assert masked[0] != masked[1]
    assert 0 < max(masked) < all_count


def noisy_logits(monkeypatch, **switches):
    """Returns the training logits of a step with all noise, [12, classes].

    Frozen batch norm keeps the rows of a batch apart.
    """
    seen = []
    real = losses.noisy_student_loss

    def loss(logits, *args, **kwargs):
        seen.append(logits.numpy())
        return real(logits, *args, **kwargs)

    monkeypatch.setattr(losses, "noisy_student_loss", loss)
    state = small_state(survival_prob=0.5, dropout_rate=0.5)
    efficientnet.freeze_batch_norm(state.model)
    pseudo = config.PseudoLabelConfig(
        unlabeled_ratio=2, label_type="soft", **switches
    )
    settings = config.StepConfig(num_classes=4, pseudo_labels=pseudo)
    batch = networks.batch(4, 8)
    images = tf.concat(
        [batch["labeled_images"], batch["unlabeled_images"]], axis=0
    )
    clean = state.model(images, training=False).numpy()
    train.train_step(state, batch, settings)
    monkeypatch.undo()
    return seen[0], clean


@pytest.mark.slow
def test_noise_is_removed_for_unlabeled_images_alone(monkeypatch):
    logits, clean = noisy_logits(monkeypatch)
    assert np.any(np.abs(logits[4:] - clean[4:]) > 1e-3)
    for off, still_on in (
        ({"dropout": False, "stochastic_depth": False}, ()),
        ({"dropout": False}, ("depth",)),
        ({"stochastic_depth": False}, ("dropout",)),
    ):
        fewer, _ = noisy_logits(monkeypatch, **off)
        np.testing.assert_allclose(fewer[:4], logits[:4], atol=1e-5)
        equal = np.allclose(fewer[4:], clean[4:], atol=1e-5)
        assert equal == (not still_on)
        assert np.any(np.abs(fewer[4:] - logits[4:]) > 1e-3)


@pytest.mark.slow
def test_a_noised_teacher_labels_with_its_noise_but_fixed_statistics():
    teacher = networks.two_blocks(survival_prob=0.5, dropout_rate=0.5)
    teacher.trainable = False
    before = teacher.get_weights()
    batch = networks.batch(4, 8, teacher_size=networks.IMAGE_SIZE)

    def target_confidence(noised, seed=0):
        pseudo = config.PseudoLabelConfig(
            unlabeled_ratio=2,
            label_type="soft",
            online=True,
            noise_teacher=noised,
        )
        settings = config.StepConfig(
            num_classes=4, pseudo_labels=pseudo, seed=seed
        )
        metrics = train.train_step(small_state(), batch, settings, teacher)
        return float(metrics["pseudo_label_confidence"])

    noised = target_confidence(True)
    assert noised == target_confidence(True)
    assert noised != target_confidence(True, seed=1)
    assert noised != target_confidence(False)
    assert target_confidence(False) == target_confidence(False, seed=1)
    for old, new in zip(before, teacher.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_the_training_logits_of_the_first_step_equal_the_original():
    images = tf.cast(GOLDEN["images_uint8"], tf.float32)
    np.testing.assert_allclose(
        golden_state().model(images, training=True),
        GOLDEN["logits_step0_train_mode"],
        **TOLERANCE,
    )


@pytest.mark.slow
def test_online_teacher_equals_its_stored_labels():
    teacher, batch = tiny_model(small_image=True), golden_batch()
    clean = tf.random.stateless_uniform([8, 16, 16, 3], [1, 2], maxval=255.0)
    stored = {
        **batch,
        "unlabeled_probs": tf.nn.softmax(teacher(clean, training=False)),
    }
    online = {**batch, "unlabeled_teacher_images": clean}
    del online["unlabeled_probs"]
    expected = train.train_step(golden_state(), stored, STEP_CONFIG)
    metrics = train.train_step(
        golden_state(), online, STEP_CONFIG, teacher=teacher
    )
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5)


@pytest.mark.slow
def test_hard_labels_of_the_online_teacher_are_its_argmax():
    teacher, batch = tiny_model(small_image=True), golden_batch()
    clean = tf.random.stateless_uniform([8, 16, 16, 3], [1, 2], maxval=255.0)
    hard = config.StepConfig(
        num_classes=10,
        pseudo_labels=config.PseudoLabelConfig(
            unlabeled_ratio=2, label_type="hard"
        ),
    )
    labels = tf.argmax(teacher(clean, training=False), -1)
    expected = train.train_step(
        golden_state(), {**batch, "unlabeled_labels": labels}, hard
    )
    metrics = train.train_step(
        golden_state(),
        {**batch, "unlabeled_teacher_images": clean},
        hard,
        teacher=teacher,
    )
    np.testing.assert_allclose(
        metrics["unlabeled_loss"], expected["unlabeled_loss"], rtol=1e-5
    )


@pytest.mark.slow
def test_replicas_share_the_batch_and_sum_their_gradients():
    strategy = replicas_lib.two_replicas()
    batch = golden_batch()
    with strategy.scope():
        state = golden_state()
    # Every replica gets the same images, so batch norm sees what one replica
    # would and the mean gradient is its gradient.
    per_replica = strategy.experimental_distribute_values_from_function(
        lambda _: batch
    )
    step = tf.function(
        lambda: train.train_step(state, per_replica, STEP_CONFIG)
    )
    for _ in range(6):
        step()
    assert_equals_golden_after_six_steps(state)


@pytest.mark.slow
def test_loop_averages_the_metrics_of_its_steps():
    state, batch = golden_state(), golden_batch()
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
    run_steps = train.make_train_loop(state, STEP_CONFIG)
    metrics = run_steps(iterator, tf.constant(6, tf.int64))
    names = list(GOLDEN["metric_names"])
    for theirs, ours in METRICS.items():
        column = GOLDEN["metrics_per_step"][:, names.index(theirs)]
        np.testing.assert_allclose(metrics[ours], column.mean(), **TOLERANCE)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_step_in_mixed_precision_is_near_the_originals(policy):
    batch = golden_batch()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        state = golden_state()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    metrics = train.train_step(state, batch, STEP_CONFIG)
    names = list(GOLDEN["metric_names"])
    for theirs in ("train/loss", "lab/loss", "ext/loss"):
        ours = metrics[METRICS[theirs]]
        expected = GOLDEN["metrics_per_step"][0, names.index(theirs)]
        assert ours.dtype == tf.float32
        np.testing.assert_allclose(ours, expected, rtol=0.05)
    logits = state.model(batch["labeled_images"], training=False)
    assert logits.dtype == tf.float32
    for value in (logits, *state.model.weights):
        assert value.dtype == tf.float32
        assert np.all(np.isfinite(value))


@pytest.mark.slow
def test_nothing_visits_the_host_between_the_steps_of_a_loop():
    strategy = replicas_lib.two_replicas()
    with strategy.scope():
        state = golden_state()
    batch = {name: value[:2] for name, value in golden_batch().items()}
    batches = strategy.distribute_datasets_from_function(
        lambda context: tf.data.Dataset.from_tensors(batch).repeat()
    )
    step_config = config.StepConfig(num_classes=10, weight_decay=1e-3)
    graph = (
        train.make_train_loop(state, step_config)
        .get_concrete_function(iter(batches), tf.constant(2, tf.int64))
        .graph.as_graph_def()
    )
    ops = {node.op for node in graph.node}
    for function in graph.library.function:
        ops.update(node.op for node in function.node_def)
    assert {"While", "StatelessWhile"} & ops
    assert "IteratorGetNext" in ops
    visits = re.compile("PyFunc|Host|Send|Recv|Print|Summary|ReadFile")
    assert not [op for op in ops if visits.search(op)]
