"""Evaluates a network on ImageNet's validation images with ReaL labels.

An image has any number of right answers; those without one do not count. For
example:

    python -m noisy_student.robustness.imagenet_real --real_labels=real.json
        --label_data_dir=imagenet/val --checkpoint=noisy_student_b7.tar.gz

`--label_data_dir` is a folder with the 50,000 validation images under their
names, `ILSVRC2012_val_00000001.JPEG` and so on, in class folders or not.

Source: Beyer et al., arXiv 2006.07159; google-research/reassessed-imagenet.
"""

import os
import re

import numpy as np
from absl import logging

from data_prep import command_line, files
from noisy_student.robustness import benchmark, layout, natural_images
from noisy_student.robustness import network as network_lib

_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def define_flags(flag_values):
    """Declares the flags of this command."""
    benchmark.define_flags(flag_values, eval_split=None)
    group = command_line.FlagGroup("Which answers are right", flag_values)
    group.string(
        "real_labels",
        None,
        "The released real.json: a list of labels for each validation image.",
    )


def main(flag_values):
    """Evaluates the network that the flags name."""
    config = benchmark.config_from_flags(flag_values)
    paths, labels = find_images(config.label_data_dir, flag_values.real_labels)
    network = network_lib.open_network(config.network)
    natural_images.require_imagenet(network)
    report = benchmark.Report(
        "imagenet_real",
        config,
        network,
        real_labels=files.absolute(flag_values.real_labels),
    )
    from noisy_student import labeled_images
    from noisy_student.robustness import measures

    source = labeled_images.from_paths(
        f"--label_data_dir={config.label_data_dir}", paths, labels, None
    )
    source.check()
    figures = natural_images.measure(
        network, source, measures.accuracy_of_answers
    )
    report.write(measures.calibration_error(figures))


def find_images(directory, label_file):
    """Finds the validation images that have an answer.

    Args:
        directory: Folder of the images; sub-folders are searched.
        label_file: The released JSON file.

    Returns:
        (paths, int [images, most answers of an image]); an image with fewer
        answers repeats one.

    Raises:
        FileNotFoundError: If there is no such file, folder or image.
        ValueError: If the file is no list of lists of labels, or its images
            are not there.
    """
    answers = _read_answers(label_file)
    if not files.is_dir(directory):
        raise FileNotFoundError(
            f"--label_data_dir={directory}: no such folder."
        )
    found = {}
    for path in layout.walk(directory):
        if match := _NAME.fullmatch(os.path.basename(path)):
            found[int(match[1])] = path
    if not found:
        raise FileNotFoundError(
            f"--label_data_dir={directory}: no ILSVRC2012_val_????????.JPEG."
        )
    missing = set(range(1, len(answers) + 1)) - set(found)
    if missing or len(found) != len(answers):
        raise ValueError(
            f"--label_data_dir={directory}: {len(found)} validation images, "
            f"--real_labels={label_file} has answers for {len(answers)}; "
            f"{len(missing)} of those are missing."
        )
    numbers = [n for n in sorted(found) if answers[n - 1]]
    logging.info(
        "%d of %d images have no answer and do not count.",
        len(found) - len(numbers),
        len(found),
    )
    most = max(map(len, answers))
    labels = [np.resize(answers[n - 1], most) for n in numbers]
    return [found[n] for n in numbers], np.array(labels, np.int64)


def _read_answers(path):
    if not path:
        raise ValueError(
            "--real_labels is needed: the released real.json, a list of labels "
            "for each validation image."
        )
    if not files.exists(path):
        raise FileNotFoundError(f"--real_labels={path}: no such file.")
    answers = files.read_json(path)
    if (
        not isinstance(answers, list)
        or not all(isinstance(labels, list) for labels in answers)
        or not any(answers)
    ):
        raise ValueError(
            f"--real_labels={path} must be a list of lists of labels."
        )
    return answers


if __name__ == "__main__":
    command_line.run(main, define_flags)
