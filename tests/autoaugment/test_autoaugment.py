"""AutoAugment as a whole: which sub-policies, and how often."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

import autoaugment
from autoaugment import dispatch, magnitudes, policies
from tests.autoaugment import images

IMAGE = images.random_image(32, 32)
HPARAMS = {"cutout_const": 100, "translate_const": 250}


def possible_results(sub_policy):
    """Returns the pixels of all outcomes -> how probable each is."""
    outcomes = {IMAGE.tobytes(): 1.0}
    for name, probability, level in sub_policy:
        args = magnitudes.level_to_args(name, level, **HPARAMS)
        following = {}
        for pixels, weight in outcomes.items():
            image = np.frombuffer(pixels, np.uint8).reshape(IMAGE.shape)
            results = [(pixels, 1 - probability)] + [
                (
                    dispatch.apply_op(image, *choice, (0.5, 0.5))
                    .numpy()
                    .tobytes(),
                    probability / 2,
                )
                for choice in magnitudes.with_both_signs(name, args)
            ]
            for result, share in results:
                following[result] = following.get(result, 0) + weight * share
        outcomes = following
    return {pixels: share for pixels, share in outcomes.items() if share > 0}


@pytest.fixture(scope="module")
def mapped():
    dataset = tf.data.Dataset.range(3000).map(
        lambda seed: autoaugment.autoaugment(IMAGE, seed=seed)
    )
    assert dataset.element_spec == tf.TensorSpec([32, 32, 3], tf.uint8)
    return [image.tobytes() for image in dataset.as_numpy_iterator()]


def test_outcomes_come_as_often_as_the_policy_says(mapped):
    expected = {}
    for sub_policy in policies.V0:
        for pixels, share in possible_results(sub_policy).items():
            expected[pixels] = expected.get(pixels, 0) + share / 25
    assert sum(expected.values()) == pytest.approx(1)
    assert set(mapped) <= set(expected)
    for pixels, share in expected.items():
        count = len(mapped) * share
        # Five standard deviations, and a little for the rarest outcomes.
        assert abs(mapped.count(pixels) - count) < 5 * np.sqrt(count) + 3


def test_a_seed_fixes_the_pixels_eagerly_and_in_a_dataset(mapped):
    for seed in range(30):
        image = autoaugment.autoaugment(IMAGE, seed=seed)
        assert image.numpy().tobytes() == mapped[seed]
        again = autoaugment.autoaugment(IMAGE, "v0", (seed, 0))
        assert again.numpy().tobytes() == mapped[seed]


def test_no_seed_differs_at_every_call():
    results = {
        autoaugment.autoaugment(IMAGE).numpy().tobytes() for _ in range(40)
    }
    assert len(results) > 10


@pytest.mark.parametrize("index", range(25))
def test_every_sub_policy_applies_its_operations_in_order(index, monkeypatch):
    """Draws are fixed: this sub-policy, all applied, first negative."""
    home = importlib.import_module("autoaugment.autoaugment")
    draws = [[(index + 0.5) / 25, 0, 0, 0], [0.999, 0.1, 0, 0]]
    draws.append([0.999, 0.9, 0, 0])
    monkeypatch.setattr(home, "uniform", lambda *_: tf.constant(draws))
    expected = IMAGE
    for layer, (name, probability, level) in enumerate(policies.V0[index]):
        if probability > 0:
            args = magnitudes.level_to_args(name, level, **HPARAMS)
            both = magnitudes.with_both_signs(name, args)
            choice = both[1 if layer == 0 else 0]
            expected = dispatch.apply_op(expected, *choice, (0.5, 0.5))
    result = home.autoaugment(IMAGE)
    np.testing.assert_array_equal(result, expected)


def test_an_unknown_policy_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"one of \['v0'\]. Received: 'v1'"):
        autoaugment.autoaugment(IMAGE, policy="v1")


def test_an_image_of_another_type_is_refused():
    with pytest.raises(ValueError, match="`image` must be uint8"):
        autoaugment.autoaugment(IMAGE.astype(np.float32))
