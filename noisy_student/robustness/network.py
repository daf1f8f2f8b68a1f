"""The network that a robustness command looks with, and how it is asked for."""

import dataclasses
import functools
from typing import Any, Callable, Optional

from data_prep import class_names, command_line, files
from noisy_student import config as config_lib
from noisy_student import flag_declarations, flags, preflight
from noisy_student.hardware_config import HardwareConfig

CROP, WHOLE = "crop", "whole"


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Which network looks at images, and how.

    Attributes:
        checkpoint: A run, or a released checkpoint.
        model_name: Its network, where it does not tell by itself.
        image_size: Height and width in pixels at which the network looks;
            None takes that of its evaluation.
        use_ema: Whether the weights are the moving averages.
        head: "load", or "drop_background" for one of 1001 classes.
        advprop_preprocessing: Whether it takes pixels scaled to [-1, 1].
        resize: `CROP` takes the centre of an image, as the evaluation on
            ImageNet does; `WHOLE` resizes all of it. Networks for small images
            look at all of them in any case.
        batch_size: Images of a step over all replicas.
        hardware: Where it computes.
    """

    checkpoint: Optional[str]
    model_name: Optional[str] = None
    image_size: Optional[int] = None
    use_ema: bool = True
    head: str = "load"
    advprop_preprocessing: bool = False
    resize: str = CROP
    batch_size: int = 8
    hardware: HardwareConfig = dataclasses.field(default_factory=HardwareConfig)

    def __post_init__(self):
        preflight.require_checkpoint("checkpoint", self.checkpoint)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that is found, and built when it is needed.

    Attributes:
        config: `NetworkConfig`.
        model_config: `config.ModelConfig` of the checkpoint.
        strategy: `tf.distribute` strategy.
        view: image_bytes -> pixels float32 [h, w, 3] in [0, 255].
        load: Returns the `tf.keras.Model`.
    """

    config: NetworkConfig
    model_config: Any
    strategy: Any
    view: Callable
    load: Callable

    @functools.cached_property
    def weights(self):
        """A short digest of the checkpoint; reads all of an archive, once."""
        from efficientnet import checkpoint_archive
        from noisy_student import checkpoints

        found = checkpoint_archive.find(self.config.checkpoint)
        return checkpoints.fingerprint(found)

    def describe(self):
        """Returns what a report says of the network, a dict."""
        from noisy_student import precision

        return {
            "checkpoint": files.absolute(self.config.checkpoint),
            "weights": self.weights,
            "model_name": self.model_config.model_name,
            "num_classes": self.model_config.num_classes,
            "image_size": self.model_config.image_size,
            "resize": self.config.resize,
            "use_ema": self.config.use_ema,
            "checkpoint_head": self.config.head,
            "advprop_preprocessing": self.config.advprop_preprocessing,
            "use_bfloat16": precision.is_bfloat16(),
        }


def open_network(config):
    """Finds the devices and the network, and reads no weights yet.

    Args:
        config: `NetworkConfig`.

    Returns:
        `Network`.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it does not tell its network, or tells another one than
            what is asked for.
    """
    from noisy_student import models, precision, preprocessing, workers
    from noisy_student import strategy as strategy_lib
    from noisy_student.robustness import views

    workers.require_one("robustness")
    strategy = strategy_lib.create_strategy(config.hardware)
    precision.set_policy(config.hardware, strategy)
    rgb = config_lib.ADVPROP_RGB if config.advprop_preprocessing else None
    model = models.resolve(
        config.checkpoint,
        head=config.head,
        model_name=config.model_name,
        image_size=config.image_size,
        mean_rgb=rgb,
        stddev_rgb=rgb,
    )
    view = preprocessing.eval_view(model)
    if config.resize == WHOLE and not model.small_image:
        view = views.whole_view(model)

    def load():
        with strategy.scope():
            return models.load(
                model,
                config.checkpoint,
                use_ema=config.use_ema,
                head=config.head,
            )

    return Network(config, model, strategy, view, load)


def background_hint(num_classes):
    """Returns what to do about a network of 1001 classes, else nothing."""
    if num_classes != class_names.NUM_IMAGENET_CLASSES + 1:
        return ""
    return (
        " If the first of its classes is the background, "
        "--checkpoint_head=drop_background leaves it out."
    )


def define_flags(flag_values, resize=CROP):
    """Declares the flags of `NetworkConfig`.

    Args:
        flag_values: The `absl.flags.FlagValues` they are declared in.
        resize: Default of `--resize`.
    """
    group = command_line.FlagGroup("What to look with", flag_values)
    group.string(
        "checkpoint",
        None,
        "Run directory or released checkpoint (prefix, directory or .tar.gz).",
    )
    group.string(
        "model_name",
        None,
        "Network of the checkpoint, where it does not tell by itself.",
    )
    group.integer(
        "input_image_size",
        None,
        "Height and width in pixels at which the network looks; none takes "
        "that of its evaluation.",
        lower_bound=8,
    )
    group.enum(
        "resize",
        resize,
        (CROP, WHOLE),
        "Look at the centre of an image, as the evaluation on ImageNet does, "
        "or at all of it, resized.",
    )
    group.boolean(
        "use_ema", True, "Load the moving averages, not the raw weights."
    )
    group.enum(
        "checkpoint_head",
        "load",
        ("load", "drop_background"),
        "Load the classifier as it is, or without its first (background) "
        "class.",
    )
    group.boolean(
        "advprop_preprocessing",
        False,
        "Scale pixels to [-1, 1], as AdvProp's checkpoints need.",
    )
    group.boolean(
        "use_bfloat16",
        None,
        "Compute in bfloat16, with float32 weights and logits; none does on a "
        "TPU.",
    )
    flag_declarations.define_hardware_flags(flag_values)


def config_from_flags(values):
    """Returns the `NetworkConfig` of parsed flags."""
    return NetworkConfig(
        checkpoint=values.checkpoint,
        model_name=values.model_name,
        image_size=values.input_image_size,
        use_ema=values.use_ema,
        head=values.checkpoint_head,
        advprop_preprocessing=values.advprop_preprocessing,
        resize=values.resize,
        batch_size=values.eval_batch_size,
        hardware=flags.hardware_config(values),
    )
