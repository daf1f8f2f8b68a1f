"""What every operation keeps: type, shape, eager and in a dataset alike."""

import numpy as np
import pytest
import tensorflow as tf

from autoaugment import dispatch, magnitudes
from autoaugment.seeds import as_seed
from tests.autoaugment import images

CENTRE = (0.3, 0.7)
OPERATIONS = [
    choice
    for name in dispatch.OPS
    for choice in magnitudes.with_both_signs(
        name, magnitudes.level_to_args(name, 12, translate_const=9)
    )[: 2 if name in magnitudes.SIGNED_OPS else 1]
]


def in_a_dataset(function, batch, known_size):
    """Maps over images whose size the graph knows, or does not."""
    size = batch.shape[1:3] if known_size else (None, None)
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(batch),
        output_signature=tf.TensorSpec([*size, 3], tf.uint8),
    ).map(function)
    assert dataset.element_spec == tf.TensorSpec([*size, 3], tf.uint8)
    return np.stack(list(dataset.as_numpy_iterator()))


@pytest.mark.parametrize(
    "choice", OPERATIONS, ids=lambda c: "-".join(str(part) for part in c)
)
def test_an_operation_gives_the_same_eagerly_and_in_a_dataset(choice):
    def operation(image):
        return dispatch.apply_op(image, *choice, tf.constant(CENTRE))

    for number, (height, width) in enumerate(images.SHAPES):
        batch = images.noise_image(2 * height, width).reshape(
            2, height, width, 3
        )
        eager = [operation(image) for image in batch]
        for result in eager:
            assert result.dtype == tf.uint8
            assert result.shape == [height, width, 3]
        # Graphs are slow to build: known and unknown sizes take turns.
        mapped = in_a_dataset(operation, batch, known_size=number % 2 == 0)
        np.testing.assert_array_equal(mapped, np.stack(eager))


@pytest.mark.parametrize("name", dispatch.OPS)
def test_an_operation_leaves_its_input_alone(name):
    image = images.random_image(9, 8)
    before = image.copy()
    tensor = tf.constant(image)
    args = magnitudes.level_to_args(name, 27)
    dispatch.apply_op(tensor, name, args, tf.constant(CENTRE))
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(tensor, before)


@pytest.mark.parametrize("name", dispatch.OPS)
def test_an_operation_rejects_images_of_another_kind(name):
    args = (*magnitudes.level_to_args(name, 9),)
    if name in magnitudes.FILLED_OPS:
        args += (128,)
    operation = dispatch.OPS[name]
    with pytest.raises(ValueError, match="must be uint8. Received: tf.float32"):
        operation(tf.zeros([4, 4, 3]), *args)
    with pytest.raises(ValueError, match=r"shape \[height.*: \(2, 4, 4, 3\)"):
        operation(tf.zeros([2, 4, 4, 3], tf.uint8), *args)
    with pytest.raises(ValueError, match=r"shape \[height.*: \(4, 4, 1\)"):
        operation(tf.zeros([4, 4, 1], tf.uint8), *args)


def test_the_identity_is_a_choice():
    image = images.noise_image(3, 4)
    result = dispatch.apply_op(image, *dispatch.IDENTITY, CENTRE)
    np.testing.assert_array_equal(result, image)


def test_operations_cannot_be_replaced():
    with pytest.raises(TypeError, match="item assignment"):
        dispatch.OPS["Invert"] = None


def test_a_seed_is_a_pair_or_one_integer():
    assert as_seed(7).numpy().tolist() == [7, 0]
    assert as_seed(2**40).numpy().tolist() == [2**40, 0]
    assert as_seed((3, 4)).numpy().tolist() == [3, 4]
    assert as_seed(tf.constant([3, 4])).dtype == tf.int32
    assert as_seed(tf.constant(5, tf.int64)).numpy().tolist() == [5, 0]


def test_no_seed_draws_another_one_at_every_call():
    seeds = {tuple(as_seed(None).numpy()) for _ in range(20)}
    assert len(seeds) == 20


@pytest.mark.parametrize("seed", [1.5, (1.0, 2.0), tf.constant(3, tf.uint8)])
def test_a_seed_of_another_type_is_refused(seed):
    with pytest.raises(ValueError, match="`seed` must be int32 or int64"):
        as_seed(seed)


@pytest.mark.parametrize("seed", [(1,), (1, 2, 3), [[1, 2]]])
def test_a_seed_of_another_shape_is_refused(seed):
    with pytest.raises(ValueError, match=r"`seed` must be .* of shape \[2\]"):
        as_seed(seed)
