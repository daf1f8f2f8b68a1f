import json

import numpy as np
import pytest
import tensorflow as tf

from noisy_student import losses
from tests import golden_data

GOLDEN = np.load(golden_data.path("loss_ns.npz"))
CASES = json.loads(golden_data.path("loss_ns.json").read_text())
METRICS = {
    "lab/acc": "labeled_accuracy",
    "lab/pred_prob": "labeled_confidence",
    "lab/loss": "labeled_loss",
    "unl/acc_to_dump": "unlabeled_agreement",
    "unl/pred_prob": "unlabeled_confidence",
    "ext/loss": "unlabeled_loss",
    "unl/target_prob": "pseudo_label_confidence",
    "train/data_loss": "data_loss",
}
NAMES = sorted(name for name in CASES if name != "_weight_decay")


def run_case(name):
    """Returns (loss, metrics, gradient) of a golden case."""
    case = CASES[name]
    array = {
        key.split("/", 1)[1]: GOLDEN[key]
        for key in GOLDEN.files
        if key.startswith(name + "/")
    }
    num_labeled = case["batch_size"]
    pseudo = {}
    if case["unlabel_ratio"]:
        if case["teacher_in_graph"]:
            teacher = tf.nn.softmax(array["teacher_logits"][num_labeled:])
            stored = tf.argmax(teacher, -1)
        else:
            teacher = array.get("unl_probs")
            stored = array["labels"][num_labeled:]
        pseudo["stored_labels"] = array["labels"][num_labeled:]
        if case["teacher_softmax_temp"] == -1:
            pseudo["hard_pseudo_labels"] = stored
        else:
            pseudo["pseudo_probs"] = teacher
            pseudo["temperature"] = case["teacher_softmax_temp"]
    mask = None
    if "random_uniform" in array:
        mask = losses.sample_mask(
            array["random_uniform"], case["label_data_sample_prob"]
        )
    logits = tf.constant(array["student_logits"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, metrics = losses.noisy_student_loss(
            logits,
            array["labels"][:num_labeled],
            num_labeled=num_labeled,
            num_classes=case["num_classes"],
            unlabeled_ratio=case["unlabel_ratio"],
            label_smoothing=case["label_smoothing"],
            labeled_mask=mask,
            **pseudo,
        )
    expected_gradient = array["grad_train_loss_wrt_student_logits"]
    return loss, metrics, tape.gradient(loss, logits), expected_gradient


@pytest.mark.parametrize("name", NAMES)
def test_loss_metrics_and_gradient_equal_the_original(name):
    loss, metrics, gradient, expected_gradient = run_case(name)
    expected = CASES[name]["metrics"]
    for theirs, ours in METRICS.items():
        if theirs in expected:
            np.testing.assert_allclose(
                metrics[ours], expected[theirs], rtol=1e-5, err_msg=theirs
            )
    np.testing.assert_allclose(loss, expected["train/data_loss"], rtol=1e-5)
    np.testing.assert_allclose(
        gradient, expected_gradient, rtol=1e-4, atol=1e-7
    )


def decay_of(part, rate):
    """Returns the decay of the golden variables of a part, all but norms."""
    prefix = f"vars/{part}/"
    variables = [
        tf.Variable(GOLDEN[key], name=key[len(prefix) :])
        for key in GOLDEN.files
        if key.startswith(prefix) and "/moving_" not in key
    ]
    return float(losses.weight_decay(variables, rate))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_with_weight_decay_equals_the_original(name):
    case = CASES[name]
    loss, *_ = run_case(name)
    expected = case["metrics"]["train/loss"]
    if case["teacher_in_graph"]:
        # The original decays the teacher's variables in the reported loss.
        expected -= decay_of("teacher", case["weight_decay"])
    np.testing.assert_allclose(
        loss + decay_of("student", case["weight_decay"]), expected, rtol=1e-5
    )


def test_all_seventeen_cases_of_the_original_are_compared():
    assert len(NAMES) == 17


def test_images_that_do_not_count_are_zeros_in_the_same_mean():
    logits = tf.constant([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.5, 0.1]])
    mask = losses.sample_mask(tf.constant([0.1, 0.74, 0.76, 0.99]), 0.25)
    np.testing.assert_array_equal(mask, [0, 0, 1, 1])
    arguments = {"num_classes": 2, "label_smoothing": 0}
    masked, _ = losses.noisy_student_loss(
        logits, [0, 1, 1, 0], num_labeled=4, labeled_mask=mask, **arguments
    )
    counted, _ = losses.noisy_student_loss(
        logits[2:], [1, 0], num_labeled=2, **arguments
    )
    np.testing.assert_allclose(masked, counted * 2 / 4, rtol=1e-6)


def test_metric_names_are_known_before_anything_is_computed():
    for name in NAMES:
        case = CASES[name]
        names = losses.metric_names(
            has_unlabeled=case["unlabel_ratio"] > 0,
            soft_labels=case["teacher_softmax_temp"] != -1,
        )
        assert sorted(names) == sorted(run_case(name)[1])


def test_weight_decay_leaves_batch_norm_out_and_takes_biases_in():
    golden = CASES["_weight_decay"]
    halves = golden["half_sum_squares_student"]
    variables = [
        # One element holds the whole norm: l2_loss is half its square.
        tf.Variable([np.sqrt(2 * value)], name=name)
        for name, value in halves.items()
    ]
    expected = sum(halves[name] for name in golden["included"])
    np.testing.assert_allclose(
        losses.weight_decay(variables, 0.5), 0.5 * expected, rtol=1e-6
    )


def test_weight_decay_of_nothing_is_zero():
    assert float(losses.weight_decay([], 1.0)) == 0.0


def test_normalization_over_all_images_divides_by_one_plus_ratio():
    logits = tf.constant(
        np.random.default_rng(0).normal(size=(8, 4)), "float32"
    )
    arguments = {
        "num_labeled": 2,
        "num_classes": 4,
        "unlabeled_ratio": 3,
        "pseudo_probs": tf.nn.softmax(logits[2:] * 2),
    }
    labeled, _ = losses.noisy_student_loss(logits, [0, 1], **arguments)
    both, _ = losses.noisy_student_loss(
        logits, [0, 1], normalization="all", **arguments
    )
    np.testing.assert_allclose(both * 4, labeled, rtol=1e-6)


def test_smoothing_moves_mass_to_all_classes():
    smoothed = losses.smooth_labels(tf.one_hot([1], 4), 0.2)
    np.testing.assert_allclose(smoothed, [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)


def test_sharpening_by_half_a_degree_squares_the_odds():
    probs = losses.sharpen(tf.constant([[0.8, 0.2]]), 0.5)
    np.testing.assert_allclose(probs, [[16 / 17, 1 / 17]], rtol=1e-6)


def test_soft_pseudo_labels_pass_no_gradient_to_the_teacher():
    teacher_logits = tf.Variable([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        loss, _ = losses.noisy_student_loss(
            tf.constant([[0.3, 0.1], [0.2, 0.9]]),
            [0],
            num_labeled=1,
            num_classes=2,
            unlabeled_ratio=1,
            pseudo_probs=tf.nn.softmax(teacher_logits),
        )
    assert tape.gradient(loss, teacher_logits) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_labeled": 0}, "`num_labeled` must be >= 1. Received: 0."),
        ({"unlabeled_ratio": -1}, "`unlabeled_ratio` must be >= 0"),
        ({"pseudo_probs": None}, "Exactly one of `pseudo_probs`"),
        ({"hard_pseudo_labels": [0]}, "Received: 2 of them"),
        ({"temperature": 0.0}, "`temperature` must be > 0. Received: 0.0."),
        ({"normalization": "mean"}, "Received: 'mean'."),
    ],
)
def test_contradicting_arguments_are_refused(change, message):
    arguments = {
        "num_labeled": 1,
        "num_classes": 2,
        "unlabeled_ratio": 1,
        "pseudo_probs": tf.constant([[0.5, 0.5]]),
        **change,
    }
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        losses.noisy_student_loss(tf.zeros([2, 2]), [0], **arguments)
