"""Evaluators: functions (model, batches) -> dict of floats."""

import dataclasses

import numpy as np
import tensorflow as tf

from noisy_student import (
    input_pipeline,
    labeled_images,
    preprocessing,
    steps_ahead,
)

_TOP_K = 5


class LabelError(ValueError):
    """A label is none of the model's classes."""


def evaluate(model, batches, *, strategy=None, count=None):
    """Measures accuracy, counting each unmasked image exactly once.

    Args:
        model: A `tf.keras.Model`: float [b, h, w, 3] -> logits [b, classes].
        batches: Iterable of dicts `images` (pixels in [0, 255]), `labels`
            (int64, 0-based) and `mask` (float32, 0 for padding); distributed
            if `strategy` is given.
        strategy: The `tf.distribute` strategy the model was built under;
            None runs on one replica.
        count: What `counter` returned for them, where several sets of images
            are measured, or something else than accuracy; None makes one.

    Returns:
        The means of what is measured, floats or float64 arrays, and
        `num_images`. Without `count` that is `top_1` and `top_5` (fractions;
        top_5 only with more than five classes) and `loss` (mean cross
        entropy).

    Raises:
        LabelError: If a label is not below the number of classes.
        ValueError: If there is no image, or the first batch's pixels are
            scaled to [0, 1] (`preprocessing.check_pixel_range`).
    """
    strategy = strategy or tf.distribute.get_strategy()
    count = count or counter(model, strategy=strategy)
    totals = {}
    alone = strategy.num_replicas_in_sync == 1
    threads = steps_ahead.num_threads(strategy) if alone else 0
    ahead = steps_ahead.StepsAhead(count, threads)
    for _, sums in ahead.run(_with_checked_pixels(batches, strategy)):
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + value.numpy().astype(float)
        if totals["bad_labels"]:
            raise LabelError("A label is none of the model's classes.")
    totals.pop("bad_labels", None)
    num_images = totals.pop("num_images", 0.0)
    if not num_images:
        raise ValueError("There is no image to evaluate.")
    figures = {name: total / num_images for name, total in totals.items()}
    figures["num_images"] = int(num_images)
    return figures


def _with_checked_pixels(batches, strategy):
    """Yields pairs of None and each batch; checks the pixels of the first."""
    for number, batch in enumerate(batches):
        if number == 0:
            parts = strategy.experimental_local_results(batch["images"])
            preprocessing.check_pixel_range(np.concatenate(parts))
        yield None, batch


def counter(model, *, strategy=None, measure=None):
    """Returns a compiled function that measures batches, for `evaluate`.

    Args:
        model: As in `evaluate`.
        strategy: As in `evaluate`.
        measure: Function of logits (float32 [b, classes]) and the batch, with
            labels in range, that returns a dict of float32 [b, ...], what each
            image counts; None is `accuracy` of the batch's labels.

    Returns:
        batch -> dict of the sums over its unmasked images, with `num_images`
        and `bad_labels`.
    """
    strategy = strategy or tf.distribute.get_strategy()
    measure = measure or (
        lambda logits, batch: accuracy(logits, batch["labels"])
    )

    def count(batch):
        logits = tf.cast(model(batch["images"], training=False), tf.float32)
        return _sums(logits, batch, measure)

    @tf.function(autograph=False)
    def count_all(batch):
        per_replica = strategy.run(count, args=(batch,))
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in per_replica.items()
        }

    return count_all


def evaluate_split(model, model_config, data, *, strategy, batch_size):
    """Evaluates a model on the labeled images of a `DataConfig`.

    Args:
        model: The network, built under `strategy`.
        model_config: Its `config.ModelConfig`.
        data: `config.DataConfig`; see `open_split`.
        strategy: `tf.distribute` strategy.
        batch_size: Images per step over all replicas; rounded up to a
            multiple of the replicas.

    Returns:
        What `evaluate` returns.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If some of them cannot be evaluated; it names them.
    """
    return evaluate_source(
        model,
        model_config,
        open_split(model_config, data),
        strategy=strategy,
        batch_size=batch_size,
    )


def open_split(model_config, data, *, class_names=None):
    """Opens the labeled images of a `DataConfig` for an evaluation.

    Args:
        model_config: `config.ModelConfig` of the network that will look.
        data: `config.DataConfig`; `label_data_dir` and `eval_split` are read,
            as `labeled_images.open_source` says, and `num_eval_images`.
        class_names: Names of the class folders of an image folder in label
            order; None takes those the folder implies.

    Returns:
        `labeled_images.LabeledImages`, checked.

    Raises:
        As `evaluate_split`.
    """
    source = labeled_images.open_source(
        data.label_data_dir,
        split=data.eval_split,
        num_classes=model_config.num_classes,
        class_names=class_names,
    )
    source.check()
    return _first_images(source, data.num_eval_images)


def _first_images(source, count):
    if count is None:
        return source
    if count > source.num_images:
        raise ValueError(
            f"{source.origin}: {source.num_images} images, {count} are to be "
            "evaluated by --num_eval_images or --num_test_images."
        )
    return dataclasses.replace(
        source, num_images=count, elements=lambda: source.elements().take(count)
    )


def sample(source, count):
    """Returns some of the images of a source, evenly spread over all of them.

    Args:
        source: `labeled_images.LabeledImages`.
        count: How many; None takes all.

    Raises:
        ValueError: If there are not so many.
    """
    total = source.num_images
    if count is None:
        return source
    if not 1 <= count <= total:
        raise ValueError(
            f"{source.origin}: --num_images must be in 1..{total}. Received: "
            f"{count}."
        )

    def elements():
        chosen = source.elements().enumerate()
        chosen = chosen.filter(
            lambda i, _: (i + 1) * count // total > i * count // total
        )
        return chosen.map(lambda _, element: element)

    return dataclasses.replace(
        source,
        num_images=count,
        elements=elements,
        # The last of each of `count` parts.
        describe=lambda i: source.describe(-(-(i + 1) * total // count) - 1),
    )


def evaluate_source(
    model,
    model_config,
    source,
    *,
    strategy,
    batch_size,
    view=None,
    count=None,
):
    """Evaluates a model on a `labeled_images.LabeledImages`.

    Args:
        model: As in `evaluate_split`.
        model_config: As in `evaluate_split`.
        source: What `open_split` opened.
        strategy: As in `evaluate_split`.
        batch_size: As in `evaluate_split`.
        view: image_bytes -> pixels; None is `preprocessing.eval_view`.
        count: As in `evaluate`.

    Returns:
        What `evaluate` returns.

    Raises:
        ValueError: As `evaluate_split`.
    """
    view = view or preprocessing.eval_view(model_config)
    batches = input_pipeline.distribute_elements(
        strategy,
        source.elements,
        view,
        parse=source.parse,
        num_images=source.num_images,
        batch_size=batch_size,
    )
    try:
        return evaluate(model, batches, strategy=strategy, count=count)
    except (LabelError, tf.errors.InvalidArgumentError):
        source.explain_failure(view, model_config.num_classes)
        raise


def accuracy(logits, labels):
    """Measures what `evaluate` does by default: top-1, top-5 and loss.

    Args:
        logits: float32 [b, classes].
        labels: int64 [b], in [0, classes).

    Returns:
        dict of float32 [b].
    """
    hits = tf.equal(tf.argmax(logits, axis=-1), labels)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
    )
    values = {"top_1": tf.cast(hits, tf.float32), "loss": losses}
    if logits.shape[-1] > _TOP_K:
        in_top = tf.math.in_top_k(labels, logits, _TOP_K)
        values["top_5"] = tf.cast(in_top, tf.float32)
    return values


def _sums(logits, batch, measure):
    mask, labels = batch["mask"], batch["labels"]
    # What is made of a label out of range depends on the device.
    in_range = tf.clip_by_value(labels, 0, logits.shape[-1] - 1)
    is_bad = tf.not_equal(labels, in_range)
    is_bad = tf.reduce_any(tf.reshape(is_bad, [tf.size(mask), -1]), axis=1)
    sums = {
        "num_images": tf.reduce_sum(mask),
        "bad_labels": tf.reduce_sum(mask * tf.cast(is_bad, tf.float32)),
    }
    batch = {**batch, "labels": in_range}
    for name, values in measure(logits, batch).items():
        weights = tf.reshape(mask, [-1] + [1] * (values.shape.rank - 1))
        sums[name] = tf.reduce_sum(weights * values, axis=0)
    return sums
