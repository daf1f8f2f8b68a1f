"""Tells what is in images: the most probable classes of each.

    python -m noisy_student.classify --checkpoint=PATH image.jpg ...

PATH is a released checkpoint (a prefix, a directory or the .tar.gz file) or the
directory of a training run. Images are what Pillow reads.
"""

import dataclasses
import sys
from typing import Optional

import numpy as np

from data_prep import class_names, command_line, files, image_encoding
from efficientnet.messages import first_names
from noisy_student import config as config_lib
from noisy_student import preflight, run_dir


@dataclasses.dataclass(frozen=True)
class ClassifyConfig:
    """What to classify, and with what.

    Attributes:
        checkpoint: A checkpoint or a run directory.
        images: Paths of image files.
        model_name: The network, where the checkpoint does not tell.
        top_k: Classes to tell of each image.
        class_names_file: Names of the classes; see
            `data_prep.class_names.read_class_names`. None takes those of the
            run's data, or ImageNet's for 1000 classes and for 1001, whose
            first is the background.
        advprop_preprocessing: Whether the network takes pixels scaled to
            [-1, 1].
    """

    checkpoint: str
    images: tuple
    model_name: Optional[str] = None
    top_k: int = 5
    class_names_file: Optional[str] = None
    advprop_preprocessing: bool = False

    def __post_init__(self):
        if not self.images:
            raise ValueError("Which images? Name at least one file.")
        if self.top_k < 1:
            raise ValueError(f"`top_k` must be >= 1. Received: {self.top_k}.")


@dataclasses.dataclass(frozen=True)
class Guess:
    """One class of one image.

    Attributes:
        label: The class, 0-based.
        name: Its name, or "class <label>".
        prob: Its probability.
    """

    label: int
    name: str
    prob: float


def classify(config):
    """Looks at images one by one.

    Args:
        config: `ClassifyConfig`.

    Yields:
        (path, list of `Guess`, the most probable first), in order. Every file
        is checked before the first one is classified.

    Raises:
        FileNotFoundError: If there is no checkpoint or no file of names.
        ValueError: If some files are no images (it names them), or names,
            checkpoint and network do not fit.
    """
    preflight.require_checkpoint("checkpoint", config.checkpoint)
    _check_images(config.images)
    given = config.class_names_file
    names = None if given is None else class_names.read_class_names(given)
    # TensorFlow is imported only now: a wrong path must not wait for it.
    import tensorflow as tf

    from noisy_student import models, preprocessing

    rgb = config_lib.ADVPROP_RGB if config.advprop_preprocessing else None
    model = models.resolve(
        config.checkpoint,
        model_name=config.model_name,
        mean_rgb=rgb,
        stddev_rgb=rgb,
    )
    names = resolve_names(
        names,
        names_file=given,
        checkpoint=config.checkpoint,
        num_classes=model.num_classes,
    )
    network = models.load(model, config.checkpoint)
    view = preprocessing.eval_view(model)
    for path in config.images:
        pixels = _look(view, path)
        logits = network(pixels[tf.newaxis], training=False)
        probs = tf.nn.softmax(tf.cast(logits[0], tf.float32)).numpy()
        best = np.argsort(-probs, kind="stable")[: config.top_k]
        yield path, [Guess(int(i), names[i], float(probs[i])) for i in best]


def _check_images(paths):
    found = image_encoding.find_unreadable(paths)
    if found:
        raise ValueError(
            f"{len(found)} of {len(paths)} images cannot be read: "
            f"{first_names(found)}."
        )


def _look(view, path):
    """Returns the pixels of an image file as the network sees it."""
    import tensorflow as tf

    from noisy_student import labeled_images

    encoded, reason = image_encoding.to_lossless(files.read_bytes(path))
    if encoded is None:
        why = image_encoding.describe_reason(reason)
        raise ValueError(f"{path} cannot be read: {why}.")
    try:
        return view(encoded)
    except tf.errors.InvalidArgumentError as error:
        cause = labeled_images.first_cause(error)
        raise ValueError(f"{path} cannot be classified: {cause}.") from error


def resolve_names(
    given, *, names_file, checkpoint, num_classes, flag="checkpoint"
):
    """Returns a name for every class of a network.

    Args:
        given: Names that were asked for; None takes those of the data that
            the checkpoint was trained on, else ImageNet's, else numbers.
        names_file: Where they come from, for messages.
        checkpoint: Of the network.
        num_classes: Its number of classes.
        flag: The flag that names the checkpoint, for messages.

    Raises:
        ValueError: If the names given are not as many.
    """
    if given is not None and len(given) != num_classes:
        raise ValueError(
            f"--class_names_file={names_file} names {len(given)} classes, the "
            f"network of --{flag}={checkpoint} has {num_classes}."
        )
    if given is not None:
        return given
    trained = run_dir.trained_class_names(checkpoint)
    if trained is not None and len(trained) == num_classes:
        return trained
    imagenet = [
        f"{name} ({synset})" for synset, name in class_names.imagenet_classes()
    ]
    for names in (imagenet, ["background", *imagenet]):
        if num_classes == len(names):
            return names
    return [f"class {label}" for label in range(num_classes)]


def format_guesses(path, guesses):
    """Returns a block of text: the image, then a line per class."""
    lines = [f"{100 * guess.prob:8.2f} %  {guess.name}" for guess in guesses]
    return "\n".join([str(path), *lines]) + "\n"


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to look with", flag_values)
    group.string(
        "checkpoint",
        None,
        "Released checkpoint (prefix, directory or .tar.gz) or run directory.",
    )
    group.string(
        "model_name",
        None,
        "Network of the checkpoint, where it does not tell by itself.",
    )
    group.boolean(
        "advprop_preprocessing",
        False,
        "Scale pixels to [-1, 1], as AdvProp's checkpoints need.",
    )
    group = command_line.FlagGroup("What to tell", flag_values)
    group.integer("top_k", 5, "Classes to tell of each image.", lower_bound=1)
    group.string(
        "class_names_file",
        None,
        "Names of the classes in label order, a line each or a JSON list; "
        "none takes those of the run's data, or ImageNet's for 1000 classes.",
    )


def main(flag_values, images):
    """Classifies the images that the command line names."""
    config = ClassifyConfig(
        checkpoint=flag_values.checkpoint,
        images=tuple(images),
        model_name=flag_values.model_name,
        top_k=flag_values.top_k,
        class_names_file=flag_values.class_names_file,
        advprop_preprocessing=flag_values.advprop_preprocessing,
    )
    for path, guesses in classify(config):
        sys.stdout.write(format_guesses(path, guesses))


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=True)
