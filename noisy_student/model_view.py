"""How a trained network may be used otherwise than it was trained."""

import dataclasses

from noisy_student import config as config_lib

# What may differ between the training and the use of a network.
_VIEW = ("image_size", "crop_padding", "fused_decode")


def with_view(trained, origin, given):
    """Returns a run's network with another view of images, if one is given.

    Small images are enlarged to a size that the network was not trained at.

    Args:
        trained: `config.ModelConfig` of the run.
        origin: Whose network it is, for messages.
        given: Fields of `config.ModelConfig` that are asked for, by name.

    Raises:
        ValueError: If they ask for another network.
    """
    for name, value in given.items():
        used = getattr(trained, name)
        if name not in _VIEW and value != used:
            flag = config_lib.FLAG_OF_MODEL_FIELD.get(
                name, "advprop_preprocessing"
            )
            raise ValueError(
                f"--{flag} asks for {value}, but the network of {origin} was "
                f"trained with {used}."
            )
    view = {name: given[name] for name in _VIEW if name in given}
    resized = view.get("image_size", trained.image_size) != trained.image_size
    if resized and trained.small_image and trained.stored_size is None:
        view["stored_size"] = trained.image_size
    return dataclasses.replace(trained, **view)
