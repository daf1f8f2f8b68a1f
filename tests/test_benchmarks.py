"""The benchmarks run; what they measure is for a quiet machine."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import model as model_benchmark
from benchmarks import predict as predict_benchmark
from benchmarks import train_step as train_step_benchmark
from data_prep import records

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "title"),
    [
        ("inference", "B0 inference, 1 x 32x32"),
        ("batch_norm", "Batch norm, 1 x 16x16 x 96"),
    ],
)
def test_a_comparison_with_keras_prints_a_ratio(part, title):
    command = [sys.executable, "-m", "benchmarks.model", f"--part={part}"]
    sizes = ["--image_size=32", "--batch_size=1", "--runs=2"]
    result = subprocess.run(
        command + sizes, cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(
        title + r", TensorFlow 2\.\S+: ours \d+ ms, "
        r"tf\.keras\.\w+(\.\w+)? \d+ ms; ratio \d+\.\d{3} "
        r"\(middle half \d+\.\d{3} to \d+\.\d{3}, 2 runs\)\n",
        result.stdout,
    )


def test_a_training_step_moves_every_weight():
    inputs = tf.keras.Input([4])
    outputs = tf.keras.layers.Dense(3)(inputs)
    network = tf.keras.Model(inputs, outputs)
    before = network.get_weights()
    step = model_benchmark.training_function(network)
    loss = step(tf.random.uniform([2, 4]))
    assert loss.shape == []
    for old, new in zip(before, network.get_weights()):
        assert np.all(old != new)


def test_functions_take_turns():
    calls = []

    def function(name):
        def call(images):
            calls.append(name)
            return images

        return call

    times = model_benchmark.times_by_turns(
        [function("ours"), function("peer")], tf.zeros([]), runs=2
    )
    assert times.shape == (2, 2)
    assert np.all(times > 0)
    assert calls == ["ours", "peer", "peer", "ours"] * 2


def test_memory_is_given_over_the_level_after_importing_tensorflow():
    line = model_benchmark.describe(
        {
            "what": "built",
            "num_weights": 250_000_000,
            "seconds": 12.34,
            "level": 500_000_000,
            "peak": 1_900_000_000,
        }
    )
    assert line == (
        "L2: built in 12.3 s; peak 1.90 GB, 1.40 GB over the 0.50 GB "
        "after importing TensorFlow, 1.40 times its 1.00 GB of weights"
    )


def small_network(batch):
    inputs = tf.keras.Input(batch["labeled_images"].shape[1:])
    outputs = tf.keras.layers.GlobalAveragePooling2D()(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1000)(outputs))


def test_our_step_and_the_bare_one_take_the_same_steps(monkeypatch):
    monkeypatch.setattr(train_step_benchmark, "_b0", small_network)
    batch = train_step_benchmark.make_batch(8, 4)
    losses = []
    for make in (
        train_step_benchmark.our_steps,
        train_step_benchmark.bare_steps,
    ):
        tf.keras.utils.set_random_seed(0)
        run = make(batch)
        losses.append([run(1) for _ in range(3)])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0][0] != losses[0][2]


def test_a_step_is_printed_with_its_ratio(capsys):
    times = np.array([[2.0, 1.0], [2.0, 1.0]])
    train_step_benchmark.print_ratio("B0 step", "bare", times, steps=2)
    assert re.fullmatch(
        r"B0 step, TensorFlow 2\.\S+: ours 1000 ms, bare 500 ms; ratio 2\.000 "
        r"\(middle half 2\.000 to 2\.000, 2 runs\)\n",
        capsys.readouterr().out,
    )


def test_labelling_and_evaluation_are_compared_with_their_parts():
    # Ten images: 0.1 s of decoding, 0.9 s of computing, 0.5 s on two cores.
    turn = [[0.1, 0.1, 0], [0.5, 0.9, 0], [0.625, 1.25, 0], [0.5, 1.0, 0.01]]
    # Evaluating them takes 0.55 s, as the parts do on two cores.
    turn.append([0.55, 1.0, 0])
    lines = predict_benchmark.describe(np.array([turn, turn]), 10).splitlines()
    assert [line.split(":")[-1].split()[0] for line in lines] == [
        "10",
        "90",
        "16",
        "125",
        "1.6",
        "0.8",
        "0.88",
        "1.25",
        "2",
        "18.18",
        "1",
    ]


def test_labelling_is_measured_on_shards_of_all_images(tmp_path, monkeypatch):
    monkeypatch.setattr(predict_benchmark, "_IMAGES_PER_SHARD", 3)
    paths = predict_benchmark.write_shards([b"a", b"bc"], str(tmp_path), 7)
    keys = [
        records.unpack_image(serialized)[1]
        for path in paths
        for serialized in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]
    assert len(paths) == 3
    assert sorted(keys) == [b"%d" % number for number in range(7)]
