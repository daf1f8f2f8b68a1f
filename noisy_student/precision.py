"""In which precision networks compute."""

import tensorflow as tf
from absl import logging

import efficientnet

efficientnet.require_keras_2()


def is_bfloat16():
    """Returns whether networks that are built now compute in bfloat16."""
    return tf.keras.mixed_precision.global_policy().name == "mixed_bfloat16"


def set_policy(hardware, strategy):
    """Sets Keras' precision policy for the networks that are built later.

    Weights, their averages, batch statistics, logits and losses are float32
    under both policies.

    Args:
        hardware: `hardware_config.HardwareConfig`; without a choice there, a
            TPU computes in bfloat16 and everything else in float32.
        strategy: The `tf.distribute` strategy of the devices found.
    """
    use_bfloat16 = hardware.use_bfloat16
    if use_bfloat16 is None:
        use_bfloat16 = isinstance(strategy, tf.distribute.TPUStrategy)
    if use_bfloat16:
        logging.info("Computing in bfloat16.")
    tf.keras.mixed_precision.set_global_policy(
        "mixed_bfloat16" if use_bfloat16 else "float32"
    )
