"""From a `ModelConfig` to a network, with or without its weights."""

from absl import logging

import efficientnet
from noisy_student import checkpoints


def build(model):
    """Returns the network of a `config.ModelConfig`, freshly initialised."""
    rate = model.stochastic_depth_rate
    return efficientnet.build_model(
        model.model_name,
        num_classes=model.num_classes,
        width_coefficient=model.width_coefficient,
        depth_coefficient=model.depth_coefficient,
        dropout_rate=model.dropout_rate,
        survival_prob=None if rate is None else 1.0 - rate,
        small_image=model.small_image,
        mean_rgb=model.mean_rgb,
        stddev_rgb=model.stddev_rgb,
        image_size=model.image_size,
    )


def load(model, checkpoint):
    """Returns the network of a `ModelConfig` with a run's averaged weights.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the checkpoint does not fit.
    """
    network = build(model)
    prefix = checkpoints.load_weights(network, checkpoint)
    logging.info("Loaded the averaged weights of %s.", prefix)
    return network


def load_teacher(config):
    """Returns the online teacher of a `config.TrainConfig`, or None."""
    if config.teacher is None:
        return None
    teacher = load(config.teacher, config.teacher_checkpoint)
    teacher.trainable = False
    return teacher
