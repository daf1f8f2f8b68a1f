"""Stateless random draws and their seeds."""

import tensorflow as tf


def as_seed(seed):
    """Returns a seed for `tf.random.stateless_*`, int32 or int64 [2].

    Args:
        seed: Integers of shape [2]; one integer s, which stands for [s, 0]; or
            None for a fresh seed, drawn whenever this runs: at every call and,
            inside Dataset.map, for every element.

    Raises:
        ValueError: If the seed has another shape or is not int32 or int64.
    """
    if seed is None:
        return tf.random.uniform(
            [2], minval=tf.int32.min, maxval=tf.int32.max, dtype=tf.int32
        )
    seed = tf.convert_to_tensor(seed, dtype_hint=tf.int64)
    if seed.dtype not in (tf.int32, tf.int64):
        raise ValueError(
            f"`seed` must be int32 or int64. Received: {seed.dtype!r}."
        )
    if seed.shape.rank == 0:
        return tf.stack([seed, 0])
    if seed.shape != [2]:
        raise ValueError(
            f"`seed` must be one integer or of shape [2]. "
            f"Received: {seed.shape}."
        )
    return seed


def uniform(shape, seed):
    """Returns float32 draws, uniform in [0, 1).

    Args:
        shape: Of the draws, Python ints.
        seed: int32 or int64 [2]: the same seed gives the same draws.
    """
    # One node; `tf.random.stateless_uniform` spreads fifteen over the graph,
    # which takes the time of an operation on a small image.
    return tf.raw_ops.StatelessRandomUniform(shape=shape, seed=seed)
