"""The sequences of ImageNet-P: where they lie, and what a network says."""

import os

from absl import logging

from data_prep import class_names, files, image_folder
from efficientnet.messages import first_names
from noisy_student import image_places, run_dir
from noisy_student.robustness import layout
from noisy_student.robustness import network as network_lib

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
    if image_places.is_tfds(directory):
        raise ValueError(
            f"--label_data_dir={directory}: ImageNet-P is read from folders "
            "and shards alone."
        )
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

    Raises:
        ValueError: If perturbations have not the same sequences, or not those
            of all classes of the network, whose names tell. It is said before
            anything is computed.
    """
    from noisy_student.robustness import frames, parts, sequence_answers

    places = {
        name: layout.folder_of(config.label_data_dir, name, _GROUPS)
        for name in perturbations
    }
    labels = {name: _labels(network, place) for name, place in places.items()}

    def open_sequences(name):
        return frames.open_sequences(places[name], config.eval_split)

    names, fingerprints, sizes = _look_at_files(perturbations, open_sequences)
    _check_complete(config.label_data_dir, places, names, labels)
    stored_size = parts.one_size(sizes)
    folder = parts.PartFolder(kind, config, network, stored_size)
    measured, answers_of = {}, None
    for number, name in enumerate(perturbations, start=1):
        known = folder.read(name, fingerprint=fingerprints[name])
        if known is None:
            sequences = open_sequences(name)
            answers_of = answers_of or sequence_answers.Answers(network)
            with files.naming(sequences.origin):
                paths, top_5 = zip(*answers_of(sequences))
                classes = [labels[name].get(_folder(path)) for path in paths]
                if None in classes:
                    _log_unknown_class(paths[classes.index(None)])
                known = measure(name, top_5, classes)
            known["fingerprint"] = fingerprints[name]
            folder.write(name, known)
        measured[name] = known
        _log(f"{name}, {number} of {len(perturbations)}", known)
    return measured, stored_size


def _log_unknown_class(sequence):
    logging.info(
        "No accuracy: nothing tells of which class %s is. A %s may list the "
        "class folders in the order of the labels.",
        sequence,
        image_folder.CLASSES_FILE,
    )


def _log(place, figures):
    logging.info(
        "%s: flip probability %.2f %%, T5D %.3f.",
        place,
        100 * figures["flip_probability"],
        figures["top_5_distance"],
    )


def _look_at_files(perturbations, open_sequences):
    """Looks at the files of perturbations; reads one frame of each.

    Args:
        perturbations: Their names.
        open_sequences: Returns the `frames.Sequences` of a name.

    Returns:
        ({perturbation: frozenset of the names of its sequences},
        {perturbation: fingerprint}, {perturbation: [height, width] of the
        first stored frame}).
    """
    from noisy_student.robustness import views

    names, fingerprints, sizes, known = {}, {}, {}, {}
    for name in perturbations:
        # Not kept open: names of millions of frames are gigabytes.
        sequences = open_sequences(name)
        with files.naming(sequences.origin):
            found = sequences.names()
            # Equal ones are kept once.
            names[name] = known.setdefault(found, found)
            fingerprints[name] = sequences.fingerprint()
        sizes[name] = views.stored_size(sequences.frames())
    return names, fingerprints, sizes


def _labels(network, place):
    """Returns the labels of the class folders that a network knows, a dict.

    Raises:
        ValueError: If a list of the folders is not of the network's classes.
    """
    num_classes = network.model_config.num_classes
    names = run_dir.trained_class_names(network.config.checkpoint)
    listed = os.path.join(place, image_folder.CLASSES_FILE)
    if names is None and files.exists(listed):
        names = class_names.read_class_names(listed)
        if not len(names) == len(set(names)) == num_classes:
            raise ValueError(
                f"{listed!r} must list the {num_classes} classes of the "
                f"network, each once. Received: {len(names)}, "
                f"{len(set(names))} of them different."
                f"{network_lib.background_hint(num_classes)}"
            )
    if names is not None:
        return {name: label for label, name in enumerate(names)}
    if num_classes == class_names.NUM_IMAGENET_CLASSES:
        return class_names.imagenet_labels()
    return {}


def _check_complete(directory, places, names, labels):
    """Raises ValueError unless perturbations have the same, all sequences.

    Args:
        directory: The value of `--label_data_dir`.
        places: {perturbation: its folder}.
        names: {perturbation: frozenset of the names of its sequences}.
        labels: {perturbation: {class folder: label}}, what a network knows.
    """
    wanted = layout.most_usual(names.values())
    problems = [
        _compare(places[name], found, wanted, labels[name])
        for name, found in names.items()
    ]
    layout.require_complete(directory, list(filter(None, problems)))


def _compare(place, found, wanted, labels):
    """Returns how sequences differ from what is wanted, or None."""
    folders, wanted_folders = (
        {_folder(name) for name in names if "/" in name}
        for names in (found, wanted)
    )
    if folders & set(labels):
        wanted_folders = set(labels)
    elif deeper := {
        n for n in found if "/" in n and n.split("/")[-1] in labels
    }:
        return (
            f"{place!r} has class folders where sequences should be, as "
            f"ImageNet-C has: {first_names(sorted(deeper))}"
        )
    return layout.compare(
        place, folders, wanted_folders, "class folders"
    ) or layout.compare(place, found, wanted, "sequences")


def _folder(sequence):
    """Returns the class folder in the name of a sequence."""
    return sequence.split("/")[0]
