"""The optimizer of the original code."""

import tensorflow as tf

import efficientnet

efficientnet.require_keras_2()


@tf.keras.utils.register_keras_serializable(package="noisy_student")
class RMSprop(tf.keras.optimizers.Optimizer):
    """RMSprop with the semantics of TensorFlow 1.

    It differs from Keras' RMSprop in three ways: the mean square starts at
    one, epsilon is added inside the square root, and momentum accumulates
    steps that already hold the learning rate::

        mean_square = rho * mean_square + (1 - rho) * gradient**2
        momentum = momentum * momentum + lr * gradient / sqrt(mean_square + eps)
        variable -= momentum

    Args:
        learning_rate: A float or a `LearningRateSchedule`.
        rho: Decay of the mean square, in [0, 1).
        momentum: In [0, 1).
        epsilon: Added to the mean square, > 0.
        name: Name of the optimizer.
        **kwargs: Options of every Keras optimizer, such as `clipnorm`.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        noisystudent `utils.py:build_optimizer`; `tf.train.RMSPropOptimizer`.
    """

    def __init__(
        self,
        learning_rate,
        rho=0.9,
        momentum=0.9,
        epsilon=1e-3,
        name="RMSprop",
        **kwargs,
    ):
        # The loop is compiled as a whole; a second, nested compilation of the
        # update would only cost start-up time.
        super().__init__(name=name, **{"jit_compile": False, **kwargs})
        for key, value in (("rho", rho), ("momentum", momentum)):
            if not 0 <= value < 1:
                raise ValueError(
                    f"`{key}` must be in [0, 1). Received: {value}."
                )
        if epsilon <= 0:
            raise ValueError(f"`epsilon` must be > 0. Received: {epsilon}.")
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, var_list):
        """Creates the slots: mean squares of one, momenta of zero."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._mean_squares = [
            self.add_variable_from_reference(
                v, "mean_square", initial_value=tf.ones_like(v)
            )
            for v in var_list
        ]
        self._momenta = [
            self.add_variable_from_reference(v, "momentum") for v in var_list
        ]
        self._built = True

    def slots(self, variable):
        """Returns (mean square, momentum), the slot variables of `variable`."""
        index = self._index_dict[self._var_key(variable)]
        return self._mean_squares[index], self._momenta[index]

    def update_step(self, gradient, variable):
        """Applies one gradient to one variable."""
        mean_square, momentum = self.slots(variable)
        dtype = variable.dtype
        rate = tf.cast(self.learning_rate, dtype)
        gradient = tf.convert_to_tensor(gradient)
        mean_square.assign_add(
            (tf.square(gradient) - mean_square)
            * tf.constant(1.0 - self.rho, dtype)
        )
        step = (
            rate
            * gradient
            * tf.math.rsqrt(mean_square + tf.constant(self.epsilon, dtype))
        )
        momentum.assign(momentum * tf.constant(self.momentum, dtype) + step)
        variable.assign_sub(momentum)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "learning_rate": self._serialize_hyperparameter(
                    self._learning_rate
                ),
                "rho": self.rho,
                "momentum": self.momentum,
                "epsilon": self.epsilon,
            }
        )
        return config
