"""Evaluation on photographs that others than ImageNet's authors collected."""

import functools
import os

from data_prep import class_names, files
from efficientnet.messages import first_names
from noisy_student import run_dir
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
        classes: Labels that the images have; None for all 1000.

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
    _check_images(source, classes or range(class_names.NUM_IMAGENET_CLASSES))
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
    trained = run_dir.trained_class_names(network.config.checkpoint)
    if trained is not None and not _are_imagenets(trained):
        raise ValueError(
            "This benchmark is of ImageNet's 1000 classes in the order of "
            f"their synset ids. --checkpoint={network.config.checkpoint} was "
            f"trained on others, or in another order: {first_names(trained)}."
        )


def _are_imagenets(names):
    """Returns whether names are those of ImageNet's classes, or its labels."""
    numbers = class_names.numbers(class_names.NUM_IMAGENET_CLASSES)
    return tuple(names) in (tuple(class_names.imagenet_labels()), numbers)


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
    if found:
        where = f"--label_data_dir={directory}"
        _require_equal(where, found, set(classes), "class folders")


def _check_images(source, classes):
    """Checks the classes of images; reads labels, decodes no image.

    Args:
        source: `labeled_images.LabeledImages`.
        classes: Labels that they have, of ImageNet's 1000.

    Raises:
        ValueError: If their classes are others; names some.
    """
    if source.num_classes not in (None, class_names.NUM_IMAGENET_CLASSES):
        raise ValueError(
            f"{source.origin}: the labels are those of {source.num_classes} "
            "classes, not of ImageNet's 1000. Take the folder as released, or "
            "write shards with a --class_list_file of all 1000."
        )
    if source.class_names and not _are_imagenets(source.class_names):
        raise ValueError(
            f"{source.origin}: the labels are of other classes than "
            f"ImageNet's: {first_names(source.class_names)}."
        )
    found = set(source.read_labels().tolist())
    _require_equal(source.origin, found, set(classes), "classes")


def _require_equal(where, found, wanted, what):
    """Raises ValueError unless two sets of labels are equal.

    Args:
        where: Where the first are, as the message says it.
        found: Set of int.
        wanted: Set of int.
        what: What has them, in the plural.
    """
    synsets = dict(enumerate(class_names.imagenet_labels()))
    for problem, wrong in (
        ("are missing", wanted - found),
        ("are none of its classes", found - wanted),
    ):
        if wrong:
            names = [synsets.get(n, f"label {n}") for n in sorted(wrong)]
            raise ValueError(
                f"{where}: {len(found)} {what}, {len(wanted)} wanted; "
                f"{len(wrong)} {problem}: {first_names(names)}."
            )


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
