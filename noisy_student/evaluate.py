"""Evaluators: functions (model, batches) -> dict of floats."""

import dataclasses

import numpy as np
import tensorflow as tf

from noisy_student import input_pipeline, labeled_images, preprocessing

_TOP_K = 5


class LabelError(ValueError):
    """A label is none of the model's classes."""


def evaluate(model, batches, *, strategy=None):
    """Measures accuracy, counting each unmasked image exactly once.

    Args:
        model: A `tf.keras.Model`: float [b, h, w, 3] -> logits [b, classes].
        batches: Iterable of dicts `images` (pixels in [0, 255]), `labels`
            (int64, 0-based) and `mask` (float32, 0 for padding); distributed
            if `strategy` is given.
        strategy: The `tf.distribute` strategy the model was built under;
            None runs on one replica.

    Returns:
        `top_1` and `top_5` (fractions; top_5 only with more than five
        classes), `loss` (mean cross entropy) and `num_images`.

    Raises:
        LabelError: If a label is not below the number of classes.
        ValueError: If there is no image, or the first batch's pixels are
            scaled to [0, 1] (`preprocessing.check_pixel_range`).
    """
    strategy = strategy or tf.distribute.get_strategy()

    def count(batch):
        return _counts(model(batch["images"], training=False), batch)

    @tf.function(autograph=False)
    def count_all(batch):
        per_replica = strategy.run(count, args=(batch,))
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in per_replica.items()
        }

    totals = {}
    for batch in batches:
        if not totals:
            parts = strategy.experimental_local_results(batch["images"])
            preprocessing.check_pixel_range(np.concatenate(parts))
        for name, value in count_all(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)
        if totals["bad_labels"]:
            raise LabelError("A label is none of the model's classes.")
    totals.pop("bad_labels", None)
    num_images = totals.pop("num_images", 0.0)
    if not num_images:
        raise ValueError("There is no image to evaluate.")
    figures = {name: total / num_images for name, total in totals.items()}
    figures["num_images"] = int(num_images)
    return figures


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


def evaluate_source(model, model_config, source, *, strategy, batch_size):
    """Evaluates a model on what `open_split` opened, as `evaluate_split`."""
    view = preprocessing.eval_view(model_config)
    batches = input_pipeline.distribute_elements(
        strategy,
        source.elements,
        view,
        parse=source.parse,
        num_images=source.num_images,
        batch_size=batch_size,
    )
    try:
        return evaluate(model, batches, strategy=strategy)
    except (LabelError, tf.errors.InvalidArgumentError):
        source.explain_failure(view, model_config.num_classes)
        raise


def _counts(logits, batch):
    logits = tf.cast(logits, tf.float32)
    mask, classes = batch["mask"], logits.shape[-1]
    labels = tf.clip_by_value(batch["labels"], 0, classes - 1)
    hits = tf.equal(tf.argmax(logits, axis=-1), labels)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
    )
    # The cross entropy of a label out of range is an error or NaN, depending
    # on the device.
    bad = tf.cast(tf.not_equal(labels, batch["labels"]), tf.float32)
    counts = {
        "num_images": tf.reduce_sum(mask),
        "bad_labels": tf.reduce_sum(mask * bad),
        "top_1": tf.reduce_sum(mask * tf.cast(hits, tf.float32)),
        "loss": tf.reduce_sum(mask * losses),
    }
    if classes > _TOP_K:
        in_top = tf.math.in_top_k(labels, logits, _TOP_K)
        counts["top_5"] = tf.reduce_sum(mask * tf.cast(in_top, tf.float32))
    return counts
