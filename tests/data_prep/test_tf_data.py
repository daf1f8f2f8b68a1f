"""Pipelines come in order and are not tuned while they run."""

import pathlib

import tensorflow as tf

from data_prep import cores, tf_data

_PACKAGES = ("data_prep", "efficientnet", "noisy_student", "autoaugment")


def test_a_fixed_dataset_comes_in_order_and_has_no_tuner():
    dataset = tf.data.Dataset.range(100).map(
        lambda x: 2 * x, num_parallel_calls=cores.count()
    )
    fixed = tf_data.fixed(dataset)
    assert list(fixed.as_numpy_iterator()) == list(range(0, 200, 2))
    assert fixed.options().deterministic
    assert fixed.options().autotune.enabled is False
    assert dataset.options().autotune.enabled is not False


def test_no_pipeline_asks_for_the_tuner():
    root = pathlib.Path(__file__).parents[2]
    for package in _PACKAGES:
        for path in (root / package).rglob("*.py"):
            assert "AUTOTUNE" not in path.read_text(), path
