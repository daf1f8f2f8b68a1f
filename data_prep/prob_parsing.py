"""Distributions of `prob_storage.py`, read inside TensorFlow graphs."""

import tensorflow as tf

from data_prep import prob_storage

# Stands for a full distribution that is not there.
_MISSING = -1.0


def feature(num_classes):
    """Returns how to parse the field `prob_storage.PROBS`.

    Args:
        num_classes: int, length of the distributions.
    """
    return tf.io.FixedLenFeature(
        [num_classes], tf.float32, [_MISSING] * num_classes
    )


@tf.autograph.experimental.do_not_convert
def distribution(serialized, full):
    """Returns the distribution of a record or a batch, whatever the storage.

    A record that holds no distribution over so many classes fails with
    InvalidArgumentError.

    Args:
        serialized: string, scalar or [batch].
        full: float32 [num_classes] or [batch, num_classes], the field that
            `feature` says how to parse.

    Returns:
        float32, of the shape of `full`.
    """
    is_missing = tf.equal(full[..., 0], _MISSING)

    def parse():
        compact = _parse_compact(
            tf.reshape(serialized, [-1]),
            tf.reshape(is_missing, [-1]),
            full.shape[-1],
        )
        compact = tf.reshape(compact, tf.shape(full))
        return tf.where(is_missing[..., tf.newaxis], compact, full)

    return tf.cond(tf.reduce_any(is_missing), parse, lambda: full)


def _parse_compact(serialized, is_wanted, num_classes):
    """Returns the distributions in the other storages; the rest is no matter.

    Args:
        serialized: string [batch].
        is_wanted: bool [batch], which records must hold one.
        num_classes: int.
    """
    parsed = tf.io.parse_example(
        serialized,
        {
            prob_storage.HALF_PROBS: tf.io.FixedLenFeature([], tf.string, ""),
            prob_storage.TOP_PROBS: _ragged(tf.float32),
            prob_storage.TOP_CLASSES: _ragged(tf.int64),
            prob_storage.NUM_CLASSES: tf.io.FixedLenFeature([], tf.int64, -1),
        },
    )
    half = parsed[prob_storage.HALF_PROBS]
    top = parsed[prob_storage.TOP_PROBS]
    classes = parsed[prob_storage.TOP_CLASSES]
    is_half = tf.equal(tf.strings.length(half), 2 * num_classes)
    lengths = top.row_lengths()
    is_top = (
        tf.equal(parsed[prob_storage.NUM_CLASSES], num_classes)
        & tf.equal(classes.row_lengths(), lengths)
        & (lengths > 0)
        & (lengths <= num_classes)
        & tf.reduce_all((classes >= 0) & (classes < num_classes), axis=1)
    )
    check = tf.debugging.Assert(
        tf.reduce_all(is_half | is_top | ~is_wanted),
        [
            f"Key: {prob_storage.PROBS}. No distribution over {num_classes} "
            "classes in any of the storages. Bytes of "
            f"{prob_storage.HALF_PROBS}, values of {prob_storage.TOP_PROBS}:",
            tf.strings.length(half),
            lengths,
        ],
    )
    with tf.control_dependencies([check]):
        spread = _spread_top(top, classes, num_classes)
    return tf.where(
        is_half[:, tf.newaxis], _decode_half(half, num_classes), spread
    )


def _ragged(dtype):
    return tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)


def _decode_half(half, num_classes):
    # As float16 there is no kernel that pads those that are missing.
    bits = tf.io.decode_raw(half, tf.uint16, fixed_length=2 * num_classes)
    return tf.cast(tf.bitcast(bits, tf.float16), tf.float32)


def _spread_top(top, classes, num_classes):
    lengths = top.row_lengths()
    places = tf.stack([classes.value_rowids(), classes.values], axis=1)
    shape = tf.stack([tf.size(lengths, tf.int64), num_classes])
    probs = tf.scatter_nd(places, top.values, shape)
    is_stored = tf.scatter_nd(places, tf.ones_like(top.values), shape) > 0
    others = tf.cast(tf.maximum(num_classes - lengths, 1), tf.float32)
    rest = tf.maximum(1.0 - tf.reduce_sum(top, axis=1), 0.0) / others
    return tf.where(is_stored, probs, rest[:, tf.newaxis])
