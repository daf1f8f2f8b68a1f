"""Evaluates a network on ImageNet-C: 15 corruptions at 5 severities.

Prints the error of each corruption and mCE, which is 100 for AlexNet. For
example:

    python -m noisy_student.robustness.imagenet_c --output_dir=runs/c
        --label_data_dir=imagenet-c --checkpoint=noisy_student_b7.tar.gz

`--label_data_dir` is the released folder
(`imagenet-c/<corruption>/<severity>/<synset>/<image>`; the archives' own
folders, `noise/<corruption>` and so on, may stand between), one with shards in
the place of the class folders, or `tfds:imagenet2012_corrupted`. The images are
224x224, or 299x299, and resized to the size at which the network looks;
`--resize=crop` takes their centre instead. What is finished is kept in
`--output_dir`, by corruption and severity.

Other classes than ImageNet's are taken, too: one's own images, corrupted by
`noisy_student.robustness.corruptions`.

Source: Hendrycks and Dietterich, ICLR 2019; paper, Table 4.
"""

import numpy as np
from absl import logging

from data_prep import command_line
from noisy_student import image_places
from noisy_student.robustness import alexnet, benchmark, corruption_sets
from noisy_student.robustness import network as network_lib

CORRUPTIONS = tuple(alexnet.CORRUPTION_ERRORS)
EXTRA_CORRUPTIONS = tuple(alexnet.EXTRA_CORRUPTION_ERRORS)
SEVERITIES = (1, 2, 3, 4, 5)
_KIND = "imagenet_c"


def corruption_error(name, errors):
    """Returns CE: the error on a corruption in percent of AlexNet's.

    Args:
        name: Of `CORRUPTIONS` or `EXTRA_CORRUPTIONS`.
        errors: Fractions of wrong answers at severity 1 to 5.

    Raises:
        ValueError: If there is no such corruption, or not one error for each
            severity.
    """
    return 100 * _mean_error(name, errors) / _alexnet_error(name)


def mean_corruption_error(errors):
    """Returns mCE, the mean of the 15 corruption errors, in percent.

    Args:
        errors: {corruption: fractions of wrong answers at severity 1 to 5}.
            The extra corruptions do not count.

    Raises:
        ValueError: If one of the 15 is missing, or a name is unknown.
    """
    _check_names(errors)
    return float(
        np.mean([corruption_error(name, errors[name]) for name in CORRUPTIONS])
    )


def relative_mean_corruption_error(errors, clean_error):
    """Returns relative mCE: what corruptions add to the error, in percent.

    Args:
        errors: As in `mean_corruption_error`.
        clean_error: Fraction of wrong answers on images without corruption.

    Raises:
        ValueError: As `mean_corruption_error`, or if that is no fraction.
    """
    _check_names(errors)
    if not 0 <= clean_error <= 1:
        raise ValueError(
            f"`clean_error` must be a fraction. Received: {clean_error!r}."
        )
    added = [
        (_mean_error(name, errors[name]) - clean_error)
        / (_alexnet_error(name) - alexnet.CLEAN_ERROR / 100)
        for name in CORRUPTIONS
    ]
    return float(100 * np.mean(added))


def unnormalised_error(errors):
    """Returns the mean error over the 15 corruptions, in percent.

    Args:
        errors: As in `mean_corruption_error`.
    """
    _check_names(errors)
    return float(
        100 * np.mean([_mean_error(name, errors[name]) for name in CORRUPTIONS])
    )


def _alexnet_error(name):
    known = {**alexnet.CORRUPTION_ERRORS, **alexnet.EXTRA_CORRUPTION_ERRORS}
    if name not in known:
        raise ValueError(
            f"A corruption must be one of {', '.join(known)}. Received: "
            f"{name!r}."
        )
    return known[name] / 100


def _mean_error(name, errors):
    errors = np.asarray(errors, np.float64)
    if errors.shape != (len(SEVERITIES),) or not np.all(
        (errors >= 0) & (errors <= 1)
    ):
        raise ValueError(
            f"`errors` of {name} must be five fractions, at severity 1 to 5. "
            f"Received: {errors.tolist()}."
        )
    return errors.mean()


def _check_names(errors):
    for name in errors:
        _alexnet_error(name)
    if missing := [name for name in CORRUPTIONS if name not in errors]:
        raise ValueError(
            f"mCE is the mean of {len(CORRUPTIONS)} corruptions. Missing: "
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
        "corruptions",
        list(CORRUPTIONS),
        "Corruptions to look at; mCE needs all fifteen. extra stands for "
        f"{', '.join(EXTRA_CORRUPTIONS)}.",
    )
    group.string(
        "clean_data_dir",
        None,
        "The same images without corruption, for the relative mCE.",
    )


def main(flag_values):
    """Evaluates the network that the flags name."""
    config = benchmark.config_from_flags(flag_values)
    evaluate(
        config, choose(flag_values.corruptions), flag_values.clean_data_dir
    )


def choose(names):
    """Returns a tuple of corruptions, `"extra"` replaced by what it means.

    Raises:
        ValueError: If there is no such corruption, or none at all.
    """
    chosen = []
    for name in names:
        group = EXTRA_CORRUPTIONS if name == "extra" else (name,)
        for member in group:
            _alexnet_error(member)
        chosen.extend(group)
    if not chosen:
        raise ValueError("--corruptions must name at least one.")
    return tuple(dict.fromkeys(chosen))


def evaluate(config, corruptions, clean_data_dir=None):
    """Evaluates a network on corrupted images, and reports.

    Args:
        config: `benchmark.BenchmarkConfig`.
        corruptions: Which to look at.
        clean_data_dir: The images without corruption; None if not at hand.

    Returns:
        The report's `figures`.

    Raises:
        FileNotFoundError: If images or the checkpoint are not there.
        ValueError: If they do not fit.
    """
    network = network_lib.open_network(config.network)
    report = benchmark.Report(_KIND, config, network)
    corruptions = report.with_earlier("corruptions", corruptions)
    clean_data_dir = report.or_earlier(
        "clean_data_dir",
        clean_data_dir and image_places.absolute(clean_data_dir),
    )
    corruption_sets.check(
        config.label_data_dir,
        corruptions,
        SEVERITIES,
        network.model_config.num_classes,
    )
    measured, stored_size = _measure(
        config, network, corruptions, clean_data_dir
    )
    errors = {
        name: [
            1 - measured[f"{name}_{severity}"]["top_1"]
            for severity in SEVERITIES
        ]
        for name in corruptions
    }
    figures = _figures(errors, measured)
    details = {
        name: {
            "error": values,
            "corruption_error": corruption_error(name, values),
        }
        for name, values in errors.items()
    }
    _log(details)
    report.write(
        figures,
        stored_size=stored_size,
        clean_data_dir=clean_data_dir,
        corruptions=details,
    )
    return figures


def _measure(config, network, corruptions, clean_data_dir):
    """Returns what `parts.measure_all` does, of all sets."""
    # Imports TensorFlow, which a wrong flag must not wait for.
    from noisy_student import preprocessing
    from noisy_student.robustness import parts

    def part(name, place, view, flag, is_altered=True):
        images = corruption_sets.opener(config, network, place, flag)
        return parts.Part(name, place, images, view, is_altered)

    sets = [
        part(
            f"{name}_{severity}",
            corruption_sets.locate(config.label_data_dir, name, severity),
            network.view,
            "label_data_dir",
        )
        for name in corruptions
        for severity in SEVERITIES
    ]
    if clean_data_dir is not None:
        view = preprocessing.eval_view(network.model_config)
        sets.append(
            part("clean", clean_data_dir, view, "clean_data_dir", False)
        )
    return parts.measure_all(_KIND, config, network, sets)


def _figures(errors, measured):
    figures = {"num_images": next(iter(measured.values()))["num_images"]}
    if "clean" in measured:
        figures["clean_top_1"] = measured["clean"]["top_1"]
    if not set(CORRUPTIONS) <= set(errors):
        logging.info("No mCE: it needs all of the fifteen corruptions.")
        return figures
    figures["top_1"] = 1 - unnormalised_error(errors) / 100
    figures["mean_corruption_error"] = mean_corruption_error(errors)
    figures["unnormalised_error"] = unnormalised_error(errors)
    if "clean" in measured:
        figures["relative_mean_corruption_error"] = (
            relative_mean_corruption_error(
                errors, 1 - measured["clean"]["top_1"]
            )
        )
    return figures


def _log(details):
    row = "%-18s %s %8s"
    logging.info(
        row, "error in percent", " ".join(f"{s:>6d}" for s in SEVERITIES), "CE"
    )
    for name, values in details.items():
        logging.info(
            row,
            name,
            " ".join(f"{100 * error:6.2f}" for error in values["error"]),
            f"{values['corruption_error']:.2f}",
        )


if __name__ == "__main__":
    command_line.run(main, define_flags)
