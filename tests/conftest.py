"""Session-wide set-up: four logical CPU devices, quiet TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import efficientnet  # noqa: E402

efficientnet.require_keras_2()

import tensorflow as tf  # noqa: E402


def pytest_configure(config):
    # pytest-xdist would begin with the files of the most tests and end with
    # those of a few slow ones, one process alone.
    config.option.loadscopereorder = False
    # Must happen before TensorFlow touches a device.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 4,
    )


def pytest_collection_modifyitems(items):
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
