"""A network that tells the class of an image by its brightness."""

import pytest
import tensorflow as tf
from absl import flags

from noisy_student import config, models


class BrightnessNetwork:
    """Stands in for a model: the nearer a class's grey, the larger its logit.

    Class c of n has the grey (c + 0.5) * 256 / n.
    """

    def __init__(self, num_classes):
        step = 256 / num_classes
        self.greys = (tf.range(num_classes, dtype=tf.float32) + 0.5) * step
        self.num_seen = 0

    def __call__(self, images, training):
        assert training is False
        tf.numpy_function(self._count, [images], [])
        grey = tf.reduce_mean(images, axis=[1, 2, 3])
        return -tf.abs(grey[:, tf.newaxis] - self.greys) / 10

    def _count(self, images):
        self.num_seen += len(images)


@pytest.fixture(name="use")
def _use(monkeypatch, tmp_path):
    """Returns a function that makes a network the one of a checkpoint.

    It takes the number of classes and the image size, and returns the path of
    the checkpoint and the network.
    """
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "model.ckpt-1.index").write_bytes(b"weights")

    def use(num_classes, image_size=8):
        network = BrightnessNetwork(num_classes)
        described = config.ModelConfig(
            "efficientnet-b0", num_classes, image_size
        )
        monkeypatch.setattr(models, "resolve", lambda *_, **__: described)
        monkeypatch.setattr(models, "load", lambda *_, **__: network)
        return str(folder), network

    return use


@pytest.fixture(name="run")
def _run():
    """Returns a function that runs a command with arguments."""

    def run(command, **arguments):
        flag_values = flags.FlagValues()
        command.define_flags(flag_values)
        flag_values(
            ["command", *(f"--{name}={v}" for name, v in arguments.items())]
        )
        return command.main(flag_values)

    return run
