"""Pipelines come in order and are not tuned while they run."""

import pathlib

import tensorflow as tf

from data_prep import tf_data

_PACKAGES = ("data_prep", "efficientnet", "noisy_student", "autoaugment")


def test_a_fixed_dataset_comes_in_order_and_has_no_tuner():
    dataset = tf.data.Dataset.range(100).map(
        lambda x: 2 * x, num_parallel_calls=tf_data.parallel_calls()
    )
    fixed = tf_data.fixed(dataset)
    assert list(fixed.as_numpy_iterator()) == list(range(0, 200, 2))
    assert fixed.options().deterministic
    assert fixed.options().autotune.enabled is False
    assert dataset.options().autotune.enabled is not False


def test_there_is_a_call_for_each_core(monkeypatch):
    os = tf_data.os
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda process: {3, 5, 8}, raising=False
    )
    assert tf_data.parallel_calls() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert tf_data.parallel_calls() == 7


def test_no_pipeline_asks_for_the_tuner():
    root = pathlib.Path(__file__).parents[2]
    for package in _PACKAGES:
        for path in (root / package).rglob("*.py"):
            assert "AUTOTUNE" not in path.read_text(), path
