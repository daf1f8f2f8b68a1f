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
        # update would only cost start-up time. Keras' default decay of 0 would
        # be applied: every weight read and written once more in every step.
        defaults = {"jit_compile": False, "weight_decay": None}
        super().__init__(name=name, **{**defaults, **kwargs})
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
        """Applies one gradient to one variable, in one operation."""
        mean_square, momentum = self.slots(variable)
        dtype = variable.dtype
        # TensorFlow 1's own: a dozen operations for each variable would make
        # graphs large and accelerators wait.
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=mean_square.handle,
            mom=momentum.handle,
            lr=tf.cast(self.learning_rate, dtype),
            rho=tf.constant(self.rho, dtype),
            momentum=tf.constant(self.momentum, dtype),
            epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.convert_to_tensor(gradient),
        )

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
