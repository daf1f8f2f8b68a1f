"""Evaluation on photographs that others than ImageNet's authors collected."""

import dataclasses
import functools
import os

from data_prep import class_names, files
from efficientnet.messages import first_names
from noisy_student.robustness import benchmark
from noisy_student.robustness import network as network_lib

_SUBSETS = os.path.join(os.path.dirname(__file__), "class_subsets.json")


def subset(kind):
    """Returns the labels, of ImageNet's 1000, that a benchmark's images have.

    Args:
        kind: `"imagenet_a"` or `"imagenet_r"`.

    Returns:
        Tuple of 200 int, ascending.
    """
    return tuple(files.read_json(_SUBSETS)[kind])


def evaluate(kind, config, classes=None):
    """Evaluates a network of ImageNet's classes, and reports.

    Args:
        kind: Name of the benchmark.
        config: `benchmark.BenchmarkConfig`.
        classes: Labels that the images have; None if any.

    Returns:
        The figures: those of `measures.accuracy_among` with `classes`, those
        of `measures.accuracy` without, the calibration error and `num_images`.

    Raises:
        FileNotFoundError: If there are no images or no checkpoint.
        ValueError: If the network or the images do not fit.
    """
    if classes is not None:
        check_folders(config.label_data_dir, classes)
    network = network_lib.open_network(config.network)
    require_imagenet(network)
    report = benchmark.Report(kind, config, network)
    # Imports TensorFlow, which a wrong flag must not wait for.
    from noisy_student import labeled_images
    from noisy_student.robustness import measures

    source = labeled_images.open_source(
        config.label_data_dir,
        split=config.eval_split,
        num_classes=network.model_config.num_classes,
    )
    source.check()
    accuracy = measures.accuracy
    if classes is not None:
        accuracy = functools.partial(measures.accuracy_among, classes)
        source = _refusing_others(kind, source, classes)
    figures = measure(network, source, accuracy)
    figures = measures.calibration_error(figures)
    report.write(figures)
    return figures


def require_imagenet(network):
    """Raises ValueError unless a network tells ImageNet's 1000 classes."""
    num_classes = network.model_config.num_classes
    if num_classes != class_names.NUM_IMAGENET_CLASSES:
        raise ValueError(
            "This benchmark is of ImageNet's 1000 classes. Received: "
            f"--checkpoint={network.config.checkpoint} with {num_classes}."
            f"{network_lib.background_hint(num_classes)}"
        )


def check_folders(directory, classes):
    """Checks that an image folder holds the classes of a benchmark.

    Args:
        directory: The value of `--label_data_dir`; without folders named as
            ImageNet's synsets there is nothing to check.
        classes: Labels that the images have.

    Raises:
        ValueError: If a class folder is missing or too many; names them.
    """
    labels = class_names.imagenet_labels()
    found = {
        labels[name]
        for name in files.list_names(directory)
        if name in labels and files.is_dir(os.path.join(directory, name))
    }
    if not found:
        return
    synsets = list(labels)
    for problem, wrong in (
        ("are missing", set(classes) - found),
        ("are none of its classes", found - set(classes)),
    ):
        if wrong:
            raise ValueError(
                f"--label_data_dir={directory}: {len(found)} class folders, "
                f"{len(classes)} wanted; {len(wrong)} {problem}: "
                f"{first_names([synsets[label] for label in sorted(wrong)])}."
            )


def _refusing_others(kind, source, classes):
    """Returns images of which one with a label beyond the classes is an error.

    Folders tell that before; in shards and tfds sets it shows as they stream.
    """
    import tensorflow as tf

    known = frozenset(classes)

    def check(label):
        if int(label) not in known:
            raise ValueError(
                f"label {label}, none of the {len(known)} classes of {kind}"
            )
        return label

    def parse(element):
        image = dict(source.parse(element))
        label = tf.numpy_function(check, [image["label"]], tf.int64, False)
        return {**image, "label": tf.ensure_shape(label, [])}

    return dataclasses.replace(source, parse=parse)


def measure(network, source, measure_logits):
    """Evaluates a network on one set of images.

    Args:
        network: `network.Network`.
        source: `labeled_images.LabeledImages`.
        measure_logits: Function of logits (float32 [b, classes]) and labels
            (int64 [b, ...]) that returns a dict of float32 [b, ...].

    Returns:
        What `evaluate.evaluate` returns.
    """
    from noisy_student.robustness import look

    def measure_batch(logits, batch):
        return measure_logits(logits, batch["labels"])

    return look.Look(network, lambda _: measure_batch)(source)
