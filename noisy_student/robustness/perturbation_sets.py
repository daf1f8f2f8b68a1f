"""The sequences of ImageNet-P: where they lie, and what a network says."""

from absl import logging

from data_prep import class_names, files
from efficientnet.messages import first_names
from noisy_student import run_dir
from noisy_student.robustness import layout

# The released archives, and what is in each.
_GROUPS = {
    "noise": ("gaussian_noise", "shot_noise"),
    "blur": ("motion_blur", "zoom_blur"),
    "weather": ("snow", "brightness"),
    "digital": ("translate", "rotate", "tilt", "scale"),
}
# Released besides; they do not count.
_EXTRA = (
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "shear",
    "gaussian_noise_2",
    "gaussian_noise_3",
    "shot_noise_2",
    "shot_noise_3",
    "speckle_noise_2",
    "speckle_noise_3",
)


def check(directory, perturbations, known):
    """Checks that a folder holds perturbations; reads no frame.

    Args:
        directory: The value of `--label_data_dir`.
        perturbations: Names of those that are needed.
        known: Names of all.

    Raises:
        FileNotFoundError: If there is no such directory.
        ValueError: If a name is unknown, or perturbations are missing.
    """
    if unknown := [name for name in perturbations if name not in known]:
        raise ValueError(
            f"--perturbations must be of {', '.join(known)}. Received: "
            f"{unknown[0]!r}."
        )
    if not perturbations:
        raise ValueError("--perturbations must name at least one.")
    layout.check_root(directory, {**_GROUPS, "extra": _EXTRA})
    places = [layout.folder_of(directory, n, _GROUPS) for n in perturbations]
    if missing := [place for place in places if not _holds_something(place)]:
        raise ValueError(
            f"--label_data_dir={directory}: {len(missing)} of "
            f"{len(perturbations)} perturbations are missing: "
            f"{first_names(missing)}."
        )


def _holds_something(place):
    return any(not n.startswith(".") for n in files.list_names(place))


def measure_all(kind, config, network, perturbations, measure):
    """Measures perturbations one by one; finished ones are kept.

    Args:
        kind: Name of the benchmark.
        config: `benchmark.BenchmarkConfig`.
        network: `network.Network`.
        perturbations: Their names.
        measure: Function of a name, a list of int [frames, 5], the answers to
            each sequence, and a list of the sequences' labels, None where they
            are not known, that returns a dict.

    Returns:
        ({perturbation: what `measure` returned}, [height, width] of the first
        stored frame).
    """
    from noisy_student.robustness import frames, parts, sequence_answers, views

    places = {
        name: layout.folder_of(config.label_data_dir, name, _GROUPS)
        for name in perturbations
    }

    def open_sequences(name):
        return frames.open_sequences(places[name], config.eval_split)

    # Not kept open: names of millions of files are gigabytes.
    counts = {name: open_sequences(name).num_files for name in perturbations}
    labels = _labels(network)
    stored_size = views.stored_size(open_sequences(perturbations[0]).frames())
    folder = parts.PartFolder(kind, config, network, stored_size)
    measured, answers_of = {}, None
    for number, name in enumerate(perturbations, start=1):
        known = folder.read(name, num_files=counts[name])
        if known is None:
            sequences = open_sequences(name)
            answers_of = answers_of or sequence_answers.Answers(network)
            with files.naming(sequences.origin):
                paths, top_5 = zip(*answers_of(sequences))
                classes = [labels.get(path.split("/")[0]) for path in paths]
                known = measure(name, top_5, classes)
            known["num_files"] = sequences.num_files
            folder.write(name, known)
        measured[name] = known
        logging.info(
            "%s, %d of %d: flip probability %.2f %%, T5D %.3f.",
            name,
            number,
            len(perturbations),
            100 * known["flip_probability"],
            known["top_5_distance"],
        )
    return measured, stored_size


def _labels(network):
    """Returns the labels of the class folders that a network knows, a dict."""
    names = run_dir.trained_class_names(network.config.checkpoint)
    if names is not None:
        return {name: label for label, name in enumerate(names)}
    if network.model_config.num_classes == class_names.NUM_IMAGENET_CLASSES:
        return class_names.imagenet_labels()
    return {}
