"""The exponential moving average of all weights."""

import contextlib

import tensorflow as tf


def weight_name(variable):
    """Returns the name a weight has in a model: without the `:0` suffix."""
    return variable.name.split(":")[0]


class MovingAverage(tf.Module):
    """Shadows of every weight of a model, batch norm statistics included.

    Each shadow moves towards its weight by `1 - d` per update, with
    `d = min(decay, (1 + step) / (10 + step))`. Under a distribution strategy
    each replica updates its own copy and a read averages them: the average is
    linear in the weights, so no communication is needed.

    Args:
        model: A built `tf.keras.Model` whose weights have unique names.
        decay: Upper bound of the decay, in [0, 1).

    Raises:
        ValueError: If `decay` is out of range or two weights share a name.

    Source:
        noisystudent `main.py:model_fn`; `tf.train.ExponentialMovingAverage`
        with `num_updates`.
    """

    def __init__(self, model, decay=0.9999):
        super().__init__(name="moving_average")
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must be in [0, 1). Received: {decay}.")
        self.decay = decay
        self.shadows = {
            name: tf.Variable(
                weight,
                trainable=False,
                dtype=weight.dtype,
                name=f"{name}/ExponentialMovingAverage",
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            for name, weight in named_weights(model).items()
        }

    def update(self, model, step):
        """Moves every shadow towards its weight.

        Args:
            model: The model the shadows were made for.
            step: int scalar, the number of finished steps, this one included
                (the first update sees 1).

        Returns:
            List of the operations that do it; of None outside of graphs.
        """
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        rate = 1.0 - decay
        updates = []
        for name, weight in named_weights(model).items():
            shadow = self.shadows[name]
            difference = shadow - tf.cast(weight, shadow.dtype)
            updates.append(
                shadow.assign_sub(
                    tf.cast(rate, shadow.dtype) * difference, read_value=False
                )
            )
        return updates

    def reset(self, model):
        """Sets every shadow to its weight."""
        for name, weight in named_weights(model).items():
            self.shadows[name].assign(weight.read_value())

    @contextlib.contextmanager
    def swapped_into(self, model):
        """Lets the model compute with the averages inside the block.

        Needs a copy of one weight at a time. The weights are put back when
        the block ends, also by an error.
        """
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    def _swap(self, model):
        for name, weight in named_weights(model).items():
            shadow = self.shadows[name]
            held = weight.numpy()
            weight.assign(shadow.read_value())
            shadow.assign(held)


def named_weights(model):
    """Returns {name: variable} of all weights of a model.

    Raises:
        ValueError: If two weights share a name.
    """
    weights = {weight_name(w): w for w in model.weights}
    if len(weights) != len(model.weights):
        raise ValueError(
            "Weights need unique names. Received: "
            f"{len(model.weights)} weights with {len(weights)} names."
        )
    return weights
