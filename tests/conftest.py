"""Session-wide set-up: four logical CPU devices, quiet TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import efficientnet  # noqa: E402

efficientnet.require_keras_2()

import tensorflow as tf  # noqa: E402


def pytest_configure():
    # Must happen before TensorFlow touches a device.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 4,
    )
