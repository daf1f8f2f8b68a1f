"""What the benchmarks measure of each image, for `evaluate.counter`."""

import numpy as np
import tensorflow as tf

from noisy_student import evaluate

_NUM_BINS = 15


def calibrated(logits, values):
    """Adds to what is measured what `calibration_error` needs.

    Args:
        logits: float32 [b, classes], of the classes that may be answered.
        values: dict of float32 [b], with `top_1`.

    Returns:
        `values` and, `confidence_bins` and `hit_bins`, float32 [b, bins]:
        confidence and `top_1`, in the image's bin of confidence.
    """
    confidence = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
    # A confidence of 1 belongs to the last bin.
    bins = tf.cast(confidence * _NUM_BINS, tf.int32)
    bins = tf.one_hot(tf.minimum(bins, _NUM_BINS - 1), _NUM_BINS)
    return {
        **values,
        "confidence_bins": bins * confidence[:, tf.newaxis],
        "hit_bins": bins * values["top_1"][:, tf.newaxis],
    }


def calibration_error(figures):
    """Replaces the bins of `calibrated` by the expected calibration error.

    Args:
        figures: What `evaluate.evaluate` returned for `calibrated`.

    Returns:
        dict of float, with `calibration_error`: the distance between accuracy
        and confidence, a fraction, mean over the images in 15 bins of equal
        width.

    Source:
        Guo et al., ICML 2017.
    """
    figures = dict(figures)
    gap = figures.pop("confidence_bins") - figures.pop("hit_bins")
    return {**figures, "calibration_error": float(np.abs(gap).sum())}


def accuracy(logits, labels):
    """Measures accuracy and loss as `evaluate.accuracy`, `calibrated`."""
    return calibrated(logits, evaluate.accuracy(logits, labels))


def accuracy_among(classes, logits, labels):
    """Measures accuracy among a subset of the classes and among all.

    Args:
        classes: Sequence of int, the subset that labels are of.
        logits: float32 [b, all classes].
        labels: int64 [b].

    Returns:
        dict of float32 [b]: `top_1`, `top_5` and `loss` where the network may
        answer with the subset only, `calibrated`, and `top_1_1000_way` and
        `top_5_1000_way`, of all classes of ImageNet.
    """
    everything = evaluate.accuracy(logits, labels)
    is_member = np.zeros(logits.shape[-1], bool)
    is_member[list(classes)] = True
    logits = tf.where(is_member, logits, logits.dtype.min)
    return {
        **accuracy(logits, labels),
        "top_1_1000_way": everything["top_1"],
        "top_5_1000_way": everything["top_5"],
    }


def accuracy_of_answers(logits, labels):
    """Measures `top_1` where an image has several right answers, `calibrated`.

    Args:
        logits: float32 [b, classes].
        labels: int64 [b, answers].
    """
    answers = tf.argmax(logits, axis=-1)[:, tf.newaxis]
    hits = tf.reduce_any(tf.equal(answers, labels), axis=-1)
    return calibrated(logits, {"top_1": tf.cast(hits, tf.float32)})
