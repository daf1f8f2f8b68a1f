import numpy as np
import pytest
import tensorflow as tf

from noisy_student import optimizers
from tests import golden_data

GOLDEN = np.load(golden_data.path("optimizer.npz"))


def test_thirty_steps_and_all_slots_equal_tensorflow_1():
    # The golden problem: 0.5 sum(A (x - B)^2) + 0.5 sum(a1 (y - b1)^2).
    x = tf.Variable(GOLDEN["rmsprop/x"][0])
    y = tf.Variable(GOLDEN["rmsprop/y"][0])
    optimizer = optimizers.RMSprop(0.0)
    optimizer.build([x, y])
    for row in range(30):
        optimizer.learning_rate.assign(GOLDEN["lr"][row])
        gradients = [
            GOLDEN["A"] * (x - GOLDEN["B"]),
            GOLDEN["a1"] * (y - GOLDEN["b1"]),
        ]
        optimizer.apply_gradients(zip(gradients, [x, y]))
        for name, variable in (("x", x), ("y", y)):
            mean_square, momentum = optimizer.slots(variable)
            for stored, ours in (
                (f"rmsprop/{name}", variable),
                (f"rmsprop/slot_rms_{name}", mean_square),
                (f"rmsprop/slot_momentum_{name}", momentum),
            ):
                np.testing.assert_allclose(
                    ours, GOLDEN[stored][row + 1], rtol=1e-6, atol=1e-7
                )


def test_slots_start_at_one_and_zero():
    variable = tf.Variable([1.0, 2.0])
    optimizer = optimizers.RMSprop(0.1)
    optimizer.build([variable])
    mean_square, momentum = optimizer.slots(variable)
    np.testing.assert_array_equal(mean_square, [1.0, 1.0])
    np.testing.assert_array_equal(momentum, [0.0, 0.0])


def test_one_step_by_hand_with_other_settings():
    variable = tf.Variable([1.0])
    optimizer = optimizers.RMSprop(0.5, rho=0.75, momentum=0.5, epsilon=0.25)
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant([2.0]), variable)])
    # mean squares 1.75, 2.3125; steps 0.5 * 2 / sqrt(. + 0.25)
    first = 1 / np.sqrt(2.0)
    second = 0.5 * first + 1 / np.sqrt(2.5625)
    np.testing.assert_allclose(variable, [1 - first - second], rtol=1e-6)


def test_optimizer_survives_serialisation():
    optimizer = optimizers.RMSprop(0.25, rho=0.8, momentum=0.7, epsilon=0.01)
    copy = tf.keras.optimizers.deserialize(
        tf.keras.optimizers.serialize(optimizer)
    )
    assert isinstance(copy, optimizers.RMSprop)
    assert copy.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "change", [{"rho": 1.0}, {"momentum": -0.1}, {"epsilon": 0.0}]
)
def test_out_of_range_arguments_are_named(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=rf"`{name}` .* Received: {value}\."):
        optimizers.RMSprop(0.1, **change)


def test_a_step_is_one_operation_for_each_variable():
    variables = [tf.Variable(tf.ones([3])) for _ in range(4)]
    optimizer = optimizers.RMSprop(0.1)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step():
        gradients = [tf.ones([3])] * len(variables)
        optimizer.apply_gradients(zip(gradients, variables))

    graph = step.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node]
    for function in graph.library.function:
        nodes += function.node_def
    operations = [node.op for node in nodes]
    assert operations.count("ResourceApplyRMSProp") == len(variables)
    # Keras would apply a weight decay of 0, too.
    assert "AssignSubVariableOp" not in operations
