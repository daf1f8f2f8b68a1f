"""RandAugment as a whole: what is drawn, and what a seed fixes."""

import numpy as np
import pytest
import tensorflow as tf

import autoaugment
from autoaugment import dispatch, magnitudes
from tests.autoaugment import images

IMAGE = images.random_image(32, 32)


def as_bytes(image):
    return np.asarray(image).tobytes()


def all_results(magnitude):
    """Returns the pixels of every operation but Cutout -> (name, negated)."""
    results = {}
    for name in magnitudes.OP_NAMES[:-1]:
        args = magnitudes.level_to_args(name, magnitude, translate_const=4)
        both = magnitudes.with_both_signs(name, args)
        for negated, choice in enumerate(both):
            image = dispatch.apply_op(IMAGE, *choice, (0.5, 0.5))
            results.setdefault(as_bytes(image), (name, negated))
    assert len(results) == 15 + len(magnitudes.SIGNED_OPS)
    return results


def drawn(count, **keywords):
    """Maps one layer over `count` seeds; returns (name, negated) of each."""
    results = all_results(magnitude=9)

    def augment(seed):
        return autoaugment.randaugment(
            IMAGE, 1, 9, seed=seed, translate_const=4, **keywords
        )

    dataset = tf.data.Dataset.range(count).map(augment)
    return [
        results.get(as_bytes(image), ("Cutout", 0))
        for image in dataset.as_numpy_iterator()
    ]


@pytest.mark.slow
def test_operations_and_signs_are_uniform():
    count = 4800
    draws = drawn(count)
    names = [name for name, _ in draws]
    # 300 each are expected; five standard deviations are 84.
    for name in magnitudes.OP_NAMES:
        assert abs(names.count(name) - count / 16) < 84, name
    for name in magnitudes.SIGNED_OPS:
        negative = draws.count((name, 1))
        # 150 each are expected; five standard deviations are 61.
        assert abs(negative - count / 32) < 61, name


def test_without_cutout_the_others_are_drawn():
    names = [name for name, _ in drawn(600, cutout=False)]
    assert set(names) == set(magnitudes.OP_NAMES) - {"Cutout"}


def test_layers_are_drawn_independently(monkeypatch):
    indices = []

    def record(image, choices, index, centre):
        indices.append((int(index), *centre.numpy()))
        return image

    monkeypatch.setattr(dispatch, "apply_one_of", record)
    for seed in range(800):
        autoaugment.randaugment(IMAGE, 2, seed=seed)
    first, second = np.array(indices).reshape(-1, 2, 3).transpose(1, 2, 0)
    assert set(first[0]) == set(second[0]) == set(range(32))
    # Correlations of 800 pairs: five standard deviations are 0.18.
    for draws in first:
        for others in second:
            assert abs(np.corrcoef(draws, others)[0, 1]) < 0.18
    assert abs(np.corrcoef(first)[np.triu_indices(3, 1)]).max() < 0.18


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_a_seed_fixes_the_pixels_eagerly_and_in_a_dataset(size):
    image = images.random_image(*size)

    def augment(seed):
        return autoaugment.randaugment(
            image, 2, 15, seed=(seed, 3), cutout_const=4, translate_const=4
        )

    dataset = tf.data.Dataset.range(40).map(augment)
    assert dataset.element_spec == tf.TensorSpec([*size, 3], tf.uint8)
    first, second = (list(dataset.as_numpy_iterator()) for _ in range(2))
    eager = [augment(seed) for seed in range(40)]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, eager)
    assert len({as_bytes(image) for image in first}) > 30


def test_a_seed_means_the_same_in_either_integer_type():
    for seed in range(10):
        results = [
            autoaugment.randaugment(IMAGE, seed=given)
            for given in (
                seed,
                (seed, 0),
                tf.constant([seed, 0], tf.int32),
                tf.constant([seed, 0], tf.int64),
                np.int64(seed),
            )
        ]
        assert len({as_bytes(image) for image in results}) == 1


def test_no_seed_differs_at_every_call_and_for_every_element():
    # Without a global seed, which other tests set, and which is heeded.
    tf.random.set_seed(None)

    def augment(image):
        return autoaugment.randaugment(
            image, 3, 9, cutout_const=4, translate_const=4
        )

    eager = {as_bytes(augment(IMAGE)) for _ in range(20)}
    assert len(eager) > 10
    dataset = tf.data.Dataset.from_tensors(IMAGE).repeat(20).map(augment)
    mapped = {as_bytes(image) for image in dataset.as_numpy_iterator()}
    assert len(mapped) > 10
    again = {as_bytes(image) for image in dataset.as_numpy_iterator()}
    assert len(again - mapped) > 10


def test_no_layer_changes_nothing():
    result = autoaugment.randaugment(IMAGE, num_layers=0, seed=1)
    np.testing.assert_array_equal(result, IMAGE)


def test_constants_reach_the_operations():
    black = np.zeros((32, 32, 3), np.uint8)

    def covered(seed, cutout_const):
        image = autoaugment.randaugment(
            black, 1, 10, seed=seed, cutout_const=cutout_const
        )
        return int(np.sum(np.all(np.asarray(image) == 128, axis=-1)))

    # On black only Cutout, rotations, shears and translations give 128s.
    small = [covered(seed, 2) for seed in range(60)]
    large = [covered(seed, 8) for seed in range(60)]
    changed = [(s, b) for s, b in zip(small, large) if s != b]
    assert changed
    assert all(s <= 16 and b <= 256 and s < b for s, b in changed)


def test_a_graph_executes_the_drawn_operations_only():
    function = tf.function(
        lambda image: autoaugment.randaugment(image, num_layers=3, seed=1),
        autograph=False,
    )
    graph = function.get_concrete_function(
        tf.TensorSpec([32, 32, 3], tf.uint8)
    ).graph
    types = [operation.type for operation in graph.get_operations()]
    # The operations' own nodes lie in functions, one of which is called.
    assert types.count("StatelessCase") == 3
    assert not {"GatherNd", "BitwiseXor", "DenseBincount"} & set(types)


def test_it_traces_in_a_graph_of_the_first_tensorflow():
    with tf.Graph().as_default():
        image = tf.compat.v1.placeholder(tf.uint8, [32, 32, 3])
        augmented = autoaugment.randaugment(image, seed=4)
        with tf.compat.v1.Session() as session:
            result = session.run(augmented, {image: IMAGE})
    np.testing.assert_array_equal(
        result, autoaugment.randaugment(IMAGE, seed=4)
    )


def test_it_accepts_images_whose_size_is_unknown():
    dataset = tf.data.Dataset.from_generator(
        lambda: (images.random_image(s, 2 * s) for s in range(5, 25)),
        output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
    ).map(lambda image: autoaugment.randaugment(image, 4, seed=2))
    sizes = [image.shape for image in dataset.as_numpy_iterator()]
    assert sizes == [(s, 2 * s, 3) for s in range(5, 25)]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"magnitude": -1}, "`magnitude` must be a finite number >= 0.*: -1"),
        ({"magnitude": "27"}, "`magnitude` must be a finite number.*: '27'"),
        ({"num_layers": -1}, "`num_layers` must be an int >= 0.*: -1"),
        ({"num_layers": 1.5}, "`num_layers` must be an int >= 0.*: 1.5"),
        ({"cutout_const": -4}, "`cutout_const` must be a finite .*: -4"),
        ({"translate_const": -4}, "`translate_const` must be a .*: -4"),
        ({"seed": (1, 2, 3)}, "`seed` must be one integer"),
        ({"image": IMAGE.astype(np.float32)}, "`image` must be uint8"),
        ({"image": IMAGE[None]}, "`image` must have the shape"),
    ],
)
def test_bad_arguments_are_refused_by_name(keywords, message):
    with pytest.raises(ValueError, match=message):
        autoaugment.randaugment(**{"image": IMAGE, **keywords})
