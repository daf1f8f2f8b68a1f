"""Evaluators: functions (model, batches) -> dict of floats."""

import tensorflow as tf

from data_prep import records
from noisy_student import input_pipeline, preprocessing

_TOP_K = 5


def evaluate(model, batches, *, strategy=None):
    """Measures accuracy, counting each unmasked image exactly once.

    Args:
        model: A `tf.keras.Model`: float [b, h, w, 3] -> logits [b, classes].
        batches: Iterable of dicts `images`, `labels` (int64, 0-based) and
            `mask` (float32, 0 for padding); distributed if `strategy` is
            given.
        strategy: The `tf.distribute` strategy the model was built under;
            None runs on one replica.

    Returns:
        `top_1` and `top_5` (fractions; top_5 only with more than five
        classes), `loss` (mean cross entropy) and `num_images`.

    Raises:
        ValueError: If there is no image.
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
        for name, value in count_all(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    num_images = totals.pop("num_images", 0.0)
    if not num_images:
        raise ValueError("There is no image to evaluate.")
    figures = {name: total / num_images for name, total in totals.items()}
    figures["num_images"] = int(num_images)
    return figures


def evaluate_split(model, model_config, data, *, strategy, batch_size):
    """Evaluates a model on the evaluation split of a `DataConfig`.

    Args:
        model: The network, built under `strategy`.
        model_config: Its `config.ModelConfig`.
        data: `config.DataConfig`; `eval_split` is read.
        strategy: `tf.distribute` strategy.
        batch_size: Images per step over all replicas; rounded up to a
            multiple of the replicas.

    Returns:
        What `evaluate` returns.
    """

    def parse(serialized):
        record = records.parse_labeled(serialized)
        # Stored labels are 1-based.
        return {**record, "label": record["label"] - 1}

    batches = input_pipeline.distribute_eval_batches(
        strategy,
        records.list_shards(data.label_data_dir, data.eval_split),
        preprocessing.eval_view(model_config),
        parse=parse,
        batch_size=batch_size,
    )
    return evaluate(model, batches, strategy=strategy)


def _counts(logits, batch):
    logits = tf.cast(logits, tf.float32)
    labels, mask = batch["labels"], batch["mask"]
    hits = tf.equal(tf.argmax(logits, axis=-1), labels)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
    )
    counts = {
        "num_images": tf.reduce_sum(mask),
        "top_1": tf.reduce_sum(mask * tf.cast(hits, tf.float32)),
        "loss": tf.reduce_sum(mask * losses),
    }
    if logits.shape[-1] > _TOP_K:
        in_top = tf.math.in_top_k(labels, logits, _TOP_K)
        counts["top_5"] = tf.reduce_sum(mask * tf.cast(in_top, tf.float32))
    return counts
