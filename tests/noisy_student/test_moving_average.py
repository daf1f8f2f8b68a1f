import numpy as np
import pytest
import tensorflow as tf

from noisy_student import moving_average
from tests import golden_data

GOLDEN = np.load(golden_data.path("optimizer.npz"))


class OneWeight:
    """Stands in for a model with one weight."""

    def __init__(self, value, name="x"):
        self.weights = [tf.Variable(value, name=name)]


@pytest.mark.parametrize(
    ("weight", "average", "decay"),
    [
        ("rmsprop/x", "rmsprop/ema_x", 0.9999),
        ("rmsprop/y", "rmsprop/ema_y", 0.9999),
        ("rmsprop/x", "rmsprop/ema_cap0.5_x", 0.5),
    ],
)
def test_averages_equal_the_original(weight, average, decay):
    model = OneWeight(GOLDEN[weight][0])
    ema = moving_average.MovingAverage(model, decay)
    for step in range(1, 31):
        model.weights[0].assign(GOLDEN[weight][step])
        ema.update(model, step)
        np.testing.assert_allclose(
            ema.shadows["x"], GOLDEN[average][step], rtol=1e-5, atol=1e-6
        )


def test_first_update_moves_by_nine_elevenths():
    model = OneWeight([0.0])
    ema = moving_average.MovingAverage(model)
    model.weights[0].assign([1.0])
    ema.update(model, 1)
    np.testing.assert_allclose(ema.shadows["x"], [9 / 11], rtol=1e-6)


def test_swap_shows_the_average_and_puts_the_weights_back_after_an_error():
    model = OneWeight([3.0])
    ema = moving_average.MovingAverage(model)
    model.weights[0].assign([5.0])
    with pytest.raises(KeyError), ema.swapped_into(model):
        np.testing.assert_array_equal(model.weights[0], [3.0])
        raise KeyError
    np.testing.assert_array_equal(model.weights[0], [5.0])
    np.testing.assert_array_equal(ema.shadows["x"], [3.0])


def test_reset_copies_the_weights():
    model = OneWeight([3.0])
    ema = moving_average.MovingAverage(model)
    model.weights[0].assign([5.0])
    ema.reset(model)
    np.testing.assert_array_equal(ema.shadows["x"], [5.0])


def test_decay_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"`decay` .* Received: 1.0\."):
        moving_average.MovingAverage(OneWeight([0.0]), 1.0)


def test_weights_that_share_a_name_are_refused():
    model = OneWeight([0.0])
    model.weights.append(tf.Variable([1.0], name="x"))
    with pytest.raises(ValueError, match="2 weights with 1 names"):
        moving_average.MovingAverage(model)
