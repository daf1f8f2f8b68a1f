"""Training with a network of one convolution, also as a process to kill.

python -m tests.noisy_student.tiny_run --data_dir=DATA --model_dir=RUN
"""

import dataclasses
import os
import signal

import efficientnet

efficientnet.require_keras_2()

import tensorflow as tf  # noqa: E402

from data_prep import command_line  # noqa: E402
from noisy_student import models, train_loop, workers  # noqa: E402
from tests.noisy_student import fixtures  # noqa: E402


def build(config):
    """Returns the network, whatever `config` names; traced in no time."""
    layers = tf.keras.layers
    size = config.image_size
    return tf.keras.Sequential(
        [
            layers.InputLayer((size, size, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(64, 3, strides=2, use_bias=False, name="stem"),
            layers.BatchNormalization(name="batch_normalization"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(config.num_classes, name="head"),
        ]
    )


def train_config(data_dir, **changes):
    """Returns a `TrainConfig` of a dozen steps with many stops."""
    config = fixtures.train_config(
        data_dir,
        train_steps=12,
        iterations_per_loop=2,
        save_checkpoints_steps=4,
        steps_per_eval=6,
    )
    return dataclasses.replace(config, **changes)


def run(config, model_dir, *, evaluate=True):
    """Claims a directory and trains in it."""
    strategy = tf.distribute.get_strategy()
    directory, made = str(model_dir), train_loop.settings(config)
    with workers.claimed(strategy, directory, made):
        return train_loop.run(config, strategy, directory, evaluate=evaluate)


def main(flag_values):
    """Trains, bit for bit the same each time."""
    tf.config.experimental.enable_op_determinism()
    models.build = build
    if flag_values.kill_in_save:
        _kill_in_save(flag_values.kill_in_save)
    config = train_config(
        flag_values.data_dir, train_steps=flag_values.train_steps
    )
    run(config, flag_values.model_dir)


def _kill_in_save(number):
    """Kills the process when a checkpoint is written, but not yet named."""
    record_state = tf.train.CheckpointManager._record_state
    calls = []

    def record_or_die(manager):
        calls.append(manager)
        # Called twice: before and after old checkpoints are deleted.
        if len(calls) == 2 * number - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        record_state(manager)

    tf.train.CheckpointManager._record_state = record_or_die


def _define_flags(flag_values):
    group = command_line.FlagGroup("Run", flag_values)
    group.string("data_dir", None, "Directory of the labeled shards.")
    group.string("model_dir", None, "The run directory.")
    group.integer("train_steps", 12, "Steps of the run.")
    group.integer("kill_in_save", 0, "Save in which it kills itself.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
