"""What every operation keeps: type, shape, eager and in a dataset alike."""

import numpy as np
import pytest
import tensorflow as tf

from autoaugment import dispatch, magnitudes
from autoaugment.seeds import as_seed, uniform
from tests.autoaugment import images

CENTRE = (0.3, 0.7)
OPERATIONS = [
    choice
    for name in dispatch.OPS
    for choice in magnitudes.with_both_signs(
        name, magnitudes.level_to_args(name, 12, translate_const=9)
    )[: 2 if name in magnitudes.SIGNED_OPS else 1]
]


# Graphs of the last size are too large to be folded into constants.
KNOWN_SHAPES = [(33, 47), (1, 1), (160, 200)]


@pytest.fixture(params=OPERATIONS, ids=lambda c: f"{c[0]}{c[1]}")
def operation(request):
    def apply(image):
        return dispatch.apply_op(image, *request.param, tf.constant(CENTRE))

    return apply


@pytest.mark.parametrize("shape", KNOWN_SHAPES, ids=str)
def test_an_operation_gives_the_same_in_a_dataset(operation, shape):
    image = images.noise_image(*shape)
    eager = operation(image)
    assert eager.dtype == tf.uint8
    assert eager.shape == image.shape
    dataset = tf.data.Dataset.from_tensors(image).map(operation)
    assert dataset.element_spec == tf.TensorSpec(image.shape, tf.uint8)
    np.testing.assert_array_equal(next(iter(dataset)), eager)


def test_an_operation_gives_the_same_where_the_size_is_unknown(operation):
    batch = [images.noise_image(*shape) for shape in images.SHAPES]
    spec = tf.TensorSpec([None, None, 3], tf.uint8)
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(batch), output_signature=spec
    ).map(operation)
    assert dataset.element_spec == spec
    for image, mapped in zip(batch, dataset.as_numpy_iterator()):
        np.testing.assert_array_equal(mapped, operation(image))


def test_greys_are_the_same_in_a_dataset_where_the_order_of_a_sum_decides():
    colours = np.array(
        [[[5, 49, 41], [41, 208, 231], [91, 117, 157]]], np.uint8
    )
    dataset = tf.data.Dataset.from_tensors(colours).map(
        lambda image: dispatch.OPS["Color"](image, 0.0)
    )
    assert next(iter(dataset))[0, :, 0].numpy().tolist() == [34, 160, 113]


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


def test_draws_are_uniform_and_follow_from_the_seed_alone():
    draws = uniform([1000, 4], as_seed(7)).numpy()
    assert draws.dtype == np.float32
    assert draws.min() >= 0 and draws.max() < 1
    # 400 are expected in each tenth; five standard deviations are 95.
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    assert abs(counts - 400).max() < 95
    dataset = tf.data.Dataset.from_tensors(7).map(
        lambda seed: uniform([1000, 4], as_seed(seed))
    )
    np.testing.assert_array_equal(next(iter(dataset)), draws)
    assert np.any(uniform([1000, 4], as_seed(8)) != draws)
    # Seeds one after the other, as of a dataset's elements, are independent.
    first = [uniform([2], as_seed((3, i))).numpy() for i in range(800)]
    # A correlation of 800 pairs: five standard deviations are 0.18.
    for pairs in (np.array(first), np.array([first[:-1], first[1:]])[..., 0].T):
        assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.18
