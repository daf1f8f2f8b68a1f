"""The losses of Noisy Student training.

Source: noisystudent `main.py:model_fn`; paper, Algorithm 1 and Section 2.
"""

import tensorflow as tf

NORMALIZATIONS = ("labeled", "all")


def metric_names(*, has_unlabeled, soft_labels):
    """Returns the names of the metrics `noisy_student_loss` computes.

    Args:
        has_unlabeled: Whether the batch has unlabeled images.
        soft_labels: Whether their pseudo labels are distributions.

    Returns:
        Tuple of str, known before anything is traced.
    """
    names = (
        "labeled_accuracy",
        "labeled_confidence",
        "labeled_loss",
        "data_loss",
    )
    if has_unlabeled:
        names += (
            "unlabeled_agreement",
            "unlabeled_confidence",
            "unlabeled_loss",
        )
        if soft_labels:
            names += ("pseudo_label_confidence",)
    return names


def smooth_labels(one_hot_labels, label_smoothing):
    """Moves `label_smoothing` of each row's mass to a uniform distribution.

    Args:
        one_hot_labels: float32 [batch, num_classes].
        label_smoothing: Mass moved, in [0, 1).

    Returns:
        float32 [batch, num_classes].
    """
    if label_smoothing == 0:
        return one_hot_labels
    num_classes = one_hot_labels.shape[-1]
    return (
        one_hot_labels * (1.0 - label_smoothing) + label_smoothing / num_classes
    )


def sharpen(probs, temperature):
    """Re-tempers stored probabilities: p^(1/T), renormalised.

    Args:
        probs: float32 [batch, num_classes], rows sum to one.
        temperature: > 0; 1 returns `probs` renormalised.

    Returns:
        float32 [batch, num_classes].
    """
    scaled = tf.pow(probs, 1.0 / temperature)
    return scaled / tf.reduce_sum(scaled, axis=-1, keepdims=True)


def sample_mask(uniform, prob):
    """Returns which labeled images count, float32 zeros and ones.

    Args:
        uniform: float32 draws in [0, 1), one of each image.
        prob: Probability of an image to count, in (0, 1].
    """
    return tf.floor(prob + uniform)


def noisy_student_loss(
    logits,
    labels,
    *,
    num_labeled,
    num_classes,
    unlabeled_ratio=0,
    label_smoothing=0.1,
    pseudo_probs=None,
    hard_pseudo_labels=None,
    stored_labels=None,
    temperature=1.0,
    normalization="labeled",
    labeled_mask=None,
):
    """Cross entropy on labeled and pseudo-labeled images.

    Args:
        logits: float [num_labeled + num_unlabeled, num_classes], labeled rows
            first.
        labels: int [num_labeled], 0-based.
        num_labeled: Number of labeled rows, a Python int >= 1.
        num_classes: Number of classes.
        unlabeled_ratio: Weight of the unlabeled loss (the nominal ratio of
            unlabeled to labeled images); 0 when there are no unlabeled rows.
        label_smoothing: Used on labeled images and on hard pseudo labels,
            never on soft ones.
        pseudo_probs: float [num_unlabeled, num_classes], the teacher's
            distribution at temperature 1; soft pseudo labels.
        hard_pseudo_labels: int [num_unlabeled], 0-based; hard pseudo labels.
            Exactly one of the two is given when there are unlabeled rows.
        stored_labels: int [num_unlabeled], 0-based; what the metric
            `unlabeled_agreement` is measured against. None takes the pseudo
            labels.
        temperature: Teacher softmax temperature of soft pseudo labels, > 0.
        normalization: `'labeled'` adds `unlabeled_ratio` times the mean
            unlabeled loss to the mean labeled loss, as the original code does;
            `'all'` averages over both parts (the paper's text), which is the
            same divided by `1 + unlabeled_ratio`.
        labeled_mask: float [num_labeled], 0 for labeled images that do not
            count (see `sample_mask`). The mean stays one over all labeled
            images, it is not rescaled. None counts all.

    Returns:
        (loss, metrics): a float32 scalar without weight decay, and a dict of
        float32 scalars with the keys of `metric_names`.

    Raises:
        ValueError: If the arguments contradict each other.

    Source:
        noisystudent `main.py:model_fn`.
    """
    _check_arguments(
        num_labeled=num_labeled,
        unlabeled_ratio=unlabeled_ratio,
        pseudo_probs=pseudo_probs,
        hard_pseudo_labels=hard_pseudo_labels,
        temperature=temperature,
        normalization=normalization,
    )
    logits = tf.cast(logits, tf.float32)
    labeled_logits = logits[:num_labeled]
    labeled_loss = _cross_entropy(
        smooth_labels(tf.one_hot(labels, num_classes), label_smoothing),
        labeled_logits,
        labeled_mask,
    )
    metrics = {
        "labeled_accuracy": _agreement(labeled_logits, labels),
        "labeled_confidence": _confidence(tf.nn.softmax(labeled_logits)),
        "labeled_loss": labeled_loss,
    }
    loss = labeled_loss
    if unlabeled_ratio:
        unlabeled_loss, unlabeled_metrics = _unlabeled_loss(
            logits[num_labeled:],
            pseudo_probs=pseudo_probs,
            hard_pseudo_labels=hard_pseudo_labels,
            stored_labels=stored_labels,
            temperature=temperature,
            label_smoothing=label_smoothing,
        )
        metrics.update(unlabeled_metrics)
        loss += unlabeled_ratio * unlabeled_loss
        if normalization == "all":
            loss /= 1.0 + unlabeled_ratio
    metrics["data_loss"] = loss
    return loss, metrics


def weight_decay(trainable_variables, rate):
    """Returns `rate` times half the squared norm of the decayed variables.

    Args:
        trainable_variables: The student's variables. Those of batch
            normalization are left out by name; biases are decayed.
        rate: Coefficient, >= 0.

    Returns:
        float32 scalar.

    Source:
        noisystudent `main.py:model_fn`.
    """
    decayed = [
        tf.nn.l2_loss(tf.cast(v, tf.float32))
        for v in trainable_variables
        if "batch_normalization" not in v.name
    ]
    return rate * tf.add_n(decayed) if decayed else tf.constant(0.0)


def _unlabeled_loss(
    logits,
    *,
    pseudo_probs,
    hard_pseudo_labels,
    stored_labels,
    temperature,
    label_smoothing,
):
    metrics = {}
    if pseudo_probs is None:
        labels = hard_pseudo_labels
        one_hot = tf.one_hot(hard_pseudo_labels, logits.shape[-1])
        targets = smooth_labels(one_hot, label_smoothing)
    else:
        targets = sharpen(tf.cast(pseudo_probs, tf.float32), temperature)
        labels = tf.argmax(targets, -1)
        metrics["pseudo_label_confidence"] = _confidence(targets)
    loss = _cross_entropy(targets, logits)
    metrics["unlabeled_agreement"] = _agreement(
        logits, labels if stored_labels is None else stored_labels
    )
    metrics["unlabeled_confidence"] = _confidence(tf.nn.softmax(logits))
    metrics["unlabeled_loss"] = loss
    return loss, metrics


def _cross_entropy(targets, logits, mask=None):
    by_image = tf.nn.softmax_cross_entropy_with_logits(
        labels=tf.stop_gradient(targets), logits=logits
    )
    return tf.reduce_mean(by_image if mask is None else by_image * mask)


def _agreement(logits, labels):
    predictions = tf.argmax(logits, axis=-1, output_type=tf.int64)
    hits = tf.equal(predictions, tf.cast(labels, tf.int64))
    return tf.reduce_mean(tf.cast(hits, tf.float32))


def _confidence(probs):
    return tf.reduce_mean(tf.reduce_max(probs, axis=-1))


def _check_arguments(
    *,
    num_labeled,
    unlabeled_ratio,
    pseudo_probs,
    hard_pseudo_labels,
    temperature,
    normalization,
):
    if num_labeled < 1:
        raise ValueError(
            f"`num_labeled` must be >= 1. Received: {num_labeled}."
        )
    if unlabeled_ratio < 0:
        raise ValueError(
            f"`unlabeled_ratio` must be >= 0. Received: {unlabeled_ratio}."
        )
    given = (pseudo_probs is not None) + (hard_pseudo_labels is not None)
    if given != (1 if unlabeled_ratio else 0):
        raise ValueError(
            "Exactly one of `pseudo_probs` and `hard_pseudo_labels` must be "
            "given when `unlabeled_ratio` > 0, and neither when it is 0. "
            f"Received: {given} of them, unlabeled_ratio={unlabeled_ratio}."
        )
    if temperature <= 0:
        raise ValueError(f"`temperature` must be > 0. Received: {temperature}.")
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"`normalization` must be one of {NORMALIZATIONS}. "
            f"Received: {normalization!r}."
        )
