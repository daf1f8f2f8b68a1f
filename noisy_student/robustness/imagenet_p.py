"""Evaluates a network on ImageNet-P: how often its answer flips.

Prints the flip probability of each perturbation, and of all ten mFR, which is
100 for AlexNet, and where the folders tell classes, accuracy on all frames. For
example:

    python -m noisy_student.robustness.imagenet_p --output_dir=runs/p
        --label_data_dir=imagenet-p --checkpoint=noisy_student_b7.tar.gz

`--label_data_dir` is the released folder
(`imagenet-p/<perturbation>/<synset>/<video>.mp4`; the archives' own folders,
`noise/<perturbation>` and so on, may stand between), one with folders of frames
in the place of the videos, or with shards. The frames are 224x224, or 299x299,
and resized to the size at which the network looks. Frames of noise are compared
with the first one, those of other perturbations with the one before; names that
are numbers have leading zeros. Each perturbation must have the same sequences.
What is finished is kept in `--output_dir`, by perturbation.

Other classes than ImageNet's are taken, too: one's own images, perturbed by
`noisy_student.robustness.corruptions`.

Source: Hendrycks and Dietterich, ICLR 2019; paper, Table 5.
"""

import numbers

import numpy as np
from absl import logging

from data_prep import command_line, files
from noisy_student.robustness import alexnet, benchmark, perturbation_sets
from noisy_student.robustness import network as network_lib

PERTURBATIONS = tuple(alexnet.FLIP_RATES)
_KIND = "imagenet_p"


def is_noise(perturbation):
    """Returns whether the frames of a perturbation are independent noise."""
    return "noise" in perturbation


def flip_probability(predictions, noise):
    """Returns how often the answer is another one, a fraction.

    Args:
        predictions: int [sequences, frames], the class each frame was given;
            sequences may differ in length.
        noise: Whether every frame is compared with the first one, not with the
            one before.

    Raises:
        ValueError: If there is no sequence, or one has a single frame.
    """
    return _mean_over_sequences(
        predictions, noise, lambda now, before: np.not_equal(now, before)
    )


def mean_flip_rate(flip_probabilities):
    """Returns mFR: the flip probabilities over AlexNet's, mean, in percent.

    Args:
        flip_probabilities: {perturbation: fraction}, all ten.

    Raises:
        ValueError: If one is missing or no fraction, or a name is unknown.
    """
    for name, value in flip_probabilities.items():
        if not 0 <= value <= 1:
            raise ValueError(
                f"The flip probability of {name} must be in 0..1. Received: "
                f"{value!r}."
            )
    rates = {name: rate / 100 for name, rate in alexnet.FLIP_RATES.items()}
    return _mean_ratio(flip_probabilities, rates)


def top_5_distance(top_5, noise):
    """Returns T5D: how far the five best answers move, mean over pairs.

    The distance of two frames is the sum, over the five best classes of the
    first, of how many places each moved; all places beyond the fifth are one.

    Args:
        top_5: int [sequences, frames, 5], the five best classes of each frame,
            the best first; fewer where there are not so many.
        noise: As in `flip_probability`.

    Raises:
        ValueError: As `flip_probability`.
    """
    return _mean_over_sequences(top_5, noise, _distance)


def _distance(now, before):
    """Returns int [pairs], from int [pairs, 5] and int [pairs or 1, 5]."""
    is_same = before[..., :, np.newaxis] == now[..., np.newaxis, :]
    num_places = now.shape[-1]
    place = np.where(is_same.any(-1), is_same.argmax(-1), num_places)
    return np.abs(place - np.arange(num_places)).sum(-1)


def mean_top_5_distance(distances, reference):
    """Returns mT5D: the distances over those of a reference, in percent.

    Args:
        distances: {perturbation: T5D}, all ten.
        reference: The same of the network that counts as 100, which the
            authors take to be AlexNet.

    Raises:
        ValueError: If one is missing, a name is unknown, or a distance of the
            reference is not above 0.
    """
    _check_reference(reference)
    return _mean_ratio(distances, reference)


def _mean_over_sequences(values, noise, compare):
    means = []
    for sequence in values:
        sequence = np.asarray(sequence)
        if len(sequence) < 2:
            raise ValueError(
                "A sequence must have at least two frames. Received: "
                f"{len(sequence)}."
            )
        before = sequence[:1] if noise else sequence[:-1]
        means.append(np.mean(compare(sequence[1:], before)))
    if not means:
        raise ValueError("There is no sequence.")
    return float(np.mean(means))


def _mean_ratio(values, reference):
    _check_names(values)
    return float(
        100
        * np.mean([values[name] / reference[name] for name in PERTURBATIONS])
    )


def _check_reference(distances):
    """Raises ValueError unless all ten are there, finite and above 0."""
    if not isinstance(distances, dict):
        raise ValueError(
            "Distances of a reference must be given by perturbation. Received: "
            f"{distances!r}."
        )
    _check_names(distances)
    for name, distance in distances.items():
        is_number = isinstance(distance, numbers.Real) and not isinstance(
            distance, bool
        )
        if not is_number or not 0 < distance < float("inf"):
            raise ValueError(
                f"The distance of {name} must be a finite number above 0. "
                f"Received: {distance!r}."
            )


def _check_names(values):
    if unknown := [name for name in values if name not in PERTURBATIONS]:
        raise ValueError(
            f"A perturbation must be one of {', '.join(PERTURBATIONS)}. "
            f"Received: {unknown[0]!r}."
        )
    if missing := [name for name in PERTURBATIONS if name not in values]:
        raise ValueError(
            f"The mean is of {len(PERTURBATIONS)} perturbations. Missing: "
            f"{', '.join(missing)}."
        )


def define_flags(flag_values):
    """Declares the flags of this command."""
    benchmark.define_flags(
        flag_values,
        eval_split="validation",
        resize=network_lib.WHOLE,
        by_parts=True,
    )
    group = command_line.FlagGroup("What to count", flag_values)
    group.list(
        "perturbations",
        list(PERTURBATIONS),
        "Perturbations to look at; mFR and top-1 need all ten.",
    )
    group.string(
        "reference_distances",
        None,
        "JSON file of AlexNet's T5D, or another network's, by perturbation: "
        "what mT5D is in percent of. The report's details hold those of the "
        "network that is measured.",
    )


def main(flag_values):
    """Evaluates the network that the flags name."""
    reference = None
    if flag_values.reference_distances is not None:
        path = flag_values.reference_distances
        with files.naming(f"--reference_distances={path}"):
            reference = files.read_json(path)
            _check_reference(reference)
    evaluate(
        benchmark.config_from_flags(flag_values),
        tuple(dict.fromkeys(flag_values.perturbations)),
        reference,
    )


def evaluate(config, perturbations, reference=None):
    """Evaluates a network on perturbed sequences, and reports.

    Args:
        config: `benchmark.BenchmarkConfig`.
        perturbations: Which to look at.
        reference: {perturbation: T5D} of the network that mT5D is in percent
            of; None leaves mT5D out.

    Returns:
        The report's `figures`.

    Raises:
        FileNotFoundError: If sequences or the checkpoint are not there.
        ValueError: If they do not fit.
    """
    perturbation_sets.check(config.label_data_dir, perturbations, PERTURBATIONS)
    network = network_lib.open_network(config.network)
    report = benchmark.Report(_KIND, config, network)
    perturbations = report.with_earlier("perturbations", perturbations)
    reference = report.or_earlier("reference_distances", reference)
    measured, stored_size = perturbation_sets.measure_all(
        _KIND, config, network, perturbations, _measure
    )
    figures = {
        "num_sequences": sum(v["num_sequences"] for v in measured.values()),
    }
    if set(measured) == set(PERTURBATIONS):
        if all("top_1" in values for values in measured.values()):
            figures["top_1"] = _accuracy(measured.values())
        flips = {name: v["flip_probability"] for name, v in measured.items()}
        distances = {name: v["top_5_distance"] for name, v in measured.items()}
        figures["mean_flip_rate"] = mean_flip_rate(flips)
        if reference is not None:
            figures["mean_top_5_distance"] = mean_top_5_distance(
                distances, reference
            )
    else:
        logging.info("No means: they need all of the ten perturbations.")
    report.write(
        figures,
        stored_size=stored_size,
        reference_distances=reference,
        perturbations=measured,
    )
    return figures


def _accuracy(measured):
    """Returns the accuracy on all frames of perturbations."""
    return float(
        np.average(
            [values["top_1"] for values in measured],
            weights=[values["num_frames"] for values in measured],
        )
    )


def _measure(name, top_5, labels):
    """Returns the figures of a perturbation.

    Args:
        name: Its name.
        top_5: List of int [frames, 5], one for each sequence.
        labels: List of int, the class of each sequence, None if unknown.
    """
    noise = is_noise(name)
    answers = [sequence[:, 0] for sequence in top_5]
    figures = {
        "flip_probability": flip_probability(answers, noise),
        "top_5_distance": top_5_distance(top_5, noise),
        "num_sequences": len(top_5),
        "num_frames": sum(map(len, top_5)),
    }
    if None not in labels:
        hits = [a == label for a, label in zip(answers, labels)]
        figures["top_1"] = float(np.mean(np.concatenate(hits)))
    return figures


if __name__ == "__main__":
    command_line.run(main, define_flags)
