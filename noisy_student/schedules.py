"""The learning-rate schedule of the original code."""

import math

import tensorflow as tf

import efficientnet

efficientnet.require_keras_2()


def scaled_learning_rate(base_learning_rate, batch_size):
    """Scales a rate stated for 256 labeled images to the labeled batch."""
    return base_learning_rate * (batch_size / 256.0)


def decay_epochs_for_final_rate(
    base_learning_rate,
    final_base_learning_rate,
    *,
    train_epochs,
    warmup_epochs=5,
    decay_rate=0.97,
):
    """Returns the stair length that ends a run at a given rate.

    Args:
        base_learning_rate: Rate per 256 labeled images at the start, > 0.
        final_base_learning_rate: Rate per 256 labeled images at the end,
            between 0 and `base_learning_rate`.
        train_epochs: Epochs of labeled images in the whole run.
        warmup_epochs: Epochs of warm-up, less than `train_epochs`.
        decay_rate: Factor of one stair, in (0, 1).

    Returns:
        Epochs per stair, a float.

    Raises:
        ValueError: If the rates do not decrease or warm-up fills the run.

    Source:
        noisystudent `main.py:model_fn`, `final_base_lr`.
    """
    if not 0 < final_base_learning_rate < base_learning_rate:
        raise ValueError(
            "`final_base_lr` must be > 0 and below the base learning rate "
            f"{base_learning_rate}. Received: {final_base_learning_rate}."
        )
    if train_epochs <= warmup_epochs:
        raise ValueError(
            f"`final_base_lr` needs more than the {warmup_epochs} warm-up "
            f"epochs of training. Received: {train_epochs:.2f} epochs."
        )
    stairs = math.log(final_base_learning_rate / base_learning_rate) / math.log(
        decay_rate
    )
    return (train_epochs - warmup_epochs) / stairs


@tf.keras.utils.register_keras_serializable(package="noisy_student")
class WarmupExponentialDecay(
    tf.keras.optimizers.schedules.LearningRateSchedule
):
    """Linear warm-up, then a staircase of exponential decay.

    Args:
        initial_learning_rate: Rate at the end of warm-up, already scaled to
            the batch.
        steps_per_epoch: Steps per epoch of labeled images, a float > 0.
        decay_epochs: Epochs per stair; 2.4 for runs of 350 epochs.
        decay_rate: Factor of one stair.
        warmup_epochs: Epochs of linear warm-up from 0; 0 turns it off.
        start_step: Added to the step: continues the tail of a longer run.

    Raises:
        ValueError: If an argument is out of range.

    Quirk:
        Stairs are counted from step 0, not from the end of warm-up, and the
        stair's number is floored in float32, as in the original's graph.

    Source:
        noisystudent `utils.py:build_learning_rate`.
    """

    def __init__(
        self,
        initial_learning_rate,
        *,
        steps_per_epoch,
        decay_epochs=2.4,
        decay_rate=0.97,
        warmup_epochs=5,
        start_step=0,
    ):
        super().__init__()
        for name, value in (
            ("steps_per_epoch", steps_per_epoch),
            ("decay_epochs", decay_epochs),
            ("decay_rate", decay_rate),
        ):
            if value <= 0:
                raise ValueError(f"`{name}` must be > 0. Received: {value}.")
        for name, value in (
            ("warmup_epochs", warmup_epochs),
            ("start_step", start_step),
        ):
            if value < 0:
                raise ValueError(f"`{name}` must be >= 0. Received: {value}.")
        self.initial_learning_rate = initial_learning_rate
        self.steps_per_epoch = steps_per_epoch
        self.decay_epochs = decay_epochs
        self.decay_rate = decay_rate
        self.warmup_epochs = warmup_epochs
        self.start_step = start_step

    def __call__(self, step):
        """Returns the float32 rate of the step (int or float, 0-based)."""
        rate = tf.constant(self.initial_learning_rate, tf.float32)
        step = tf.cast(step, tf.float32) + tf.cast(self.start_step, tf.float32)
        decay_steps = tf.constant(
            self.steps_per_epoch * self.decay_epochs, tf.float32
        )
        stair = tf.floor(step / decay_steps)
        decayed = rate * tf.pow(tf.constant(self.decay_rate, tf.float32), stair)
        warmup_steps = int(self.warmup_epochs * self.steps_per_epoch)
        if warmup_steps == 0:
            return decayed
        warming = rate * step / tf.cast(warmup_steps, tf.float32)
        return tf.where(step < warmup_steps, warming, decayed)

    def get_config(self):
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "steps_per_epoch": self.steps_per_epoch,
            "decay_epochs": self.decay_epochs,
            "decay_rate": self.decay_rate,
            "warmup_epochs": self.warmup_epochs,
            "start_step": self.start_step,
        }
