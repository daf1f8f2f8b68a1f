"""Attacks a network: its accuracy on images that are changed against it.

FGSM moves every pixel once, by epsilon, along the sign of the gradient of the
loss; PGD takes several smaller steps. Epsilon is in units of pixels, of which
images have values in [0, 255]; the gradient goes through the network's own
normalisation, with batch norm in inference mode. For example:

    python -m noisy_student.robustness.adversarial --label_data_dir=imagenet/val
        --checkpoint=noisy_student_l2.tar.gz --output_dir=runs/adversarial

Source: Goodfellow et al., ICLR 2015; Madry et al., ICLR 2018; paper, Section
4.4, Figure 4.
"""

import dataclasses
from typing import Optional

from absl import logging

from data_prep import command_line
from noisy_student.robustness import benchmark
from noisy_student.robustness import network as network_lib

_KIND = "adversarial"


@dataclasses.dataclass(frozen=True)
class AttackConfig:
    """How images are changed.

    Attributes:
        fgsm_epsilons: Tuple of float, in pixel units: most that FGSM changes.
        pgd_epsilons: The same for PGD.
        pgd_steps: Steps of PGD.
        pgd_step_size: In pixel units; None is 2.5 epsilon / steps, so that a
            pixel can reach any value within epsilon.
        pgd_random_start: Whether PGD starts at random within epsilon.
        seed: Of the random start.
    """

    fgsm_epsilons: tuple
    pgd_epsilons: tuple = ()
    pgd_steps: int = 10
    pgd_step_size: Optional[float] = None
    pgd_random_start: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in ("fgsm_epsilons", "pgd_epsilons"):
            values = getattr(self, name)
            if any(not 0 <= value <= 255 for value in values):
                raise ValueError(
                    f"--{name} must be in [0, 255], in units of pixels. "
                    f"Received: {', '.join(map(str, values))}."
                )
        if not self.fgsm_epsilons and not self.pgd_epsilons:
            raise ValueError(
                "--fgsm_epsilons and --pgd_epsilons are both empty: nothing "
                "to do."
            )
        if self.pgd_steps < 1:
            raise ValueError(
                f"--pgd_steps must be >= 1. Received: {self.pgd_steps}."
            )
        if self.pgd_step_size is not None and self.pgd_step_size <= 0:
            raise ValueError(
                f"--pgd_step_size must be > 0. Received: {self.pgd_step_size}."
            )


def define_flags(flag_values):
    """Declares the flags of this command."""
    benchmark.define_flags(flag_values, eval_split="validation")
    group = command_line.FlagGroup("How images are attacked", flag_values)
    group.list(
        "fgsm_epsilons",
        ["0", "1", "2", "3", "4", "6", "8", "10", "12", "14", "16"],
        "Most that FGSM changes a pixel, of 255.",
    )
    group.list("pgd_epsilons", ["16"], "Most that PGD changes a pixel, of 255.")
    group.integer("pgd_steps", 10, "Steps of PGD.")
    group.float(
        "pgd_step_size",
        None,
        "What a step of PGD changes, of 255; none takes 2.5 epsilon / steps.",
    )
    group.boolean(
        "pgd_random_start", False, "Start PGD at random within epsilon."
    )
    group.integer("seed", 0, "Seed of the random start.")
    group.integer(
        "num_images",
        None,
        "Images to attack, evenly spread over all; none takes all.",
        lower_bound=1,
    )


def main(flag_values):
    """Attacks the network that the flags name."""
    attack = AttackConfig(
        fgsm_epsilons=_numbers("fgsm_epsilons", flag_values.fgsm_epsilons),
        pgd_epsilons=_numbers("pgd_epsilons", flag_values.pgd_epsilons),
        pgd_steps=flag_values.pgd_steps,
        pgd_step_size=flag_values.pgd_step_size,
        pgd_random_start=flag_values.pgd_random_start,
        seed=flag_values.seed,
    )
    config = benchmark.config_from_flags(flag_values)
    evaluate(config, attack, flag_values.num_images)


def _numbers(flag, texts):
    try:
        return tuple(float(text) for text in texts if text)
    except ValueError as error:
        raise ValueError(
            f"--{flag} must be numbers, of 255: {error}."
        ) from error


def evaluate(config, attack, num_images=None):
    """Attacks a network, and reports its accuracy by epsilon.

    Args:
        config: `benchmark.BenchmarkConfig`.
        attack: `AttackConfig`.
        num_images: Images to attack, evenly spread over all; None takes all.

    Returns:
        List of dicts `attack`, `epsilon` and `top_1`.

    Raises:
        FileNotFoundError: If images or the checkpoint are not there.
        ValueError: If they do not fit.
    """
    network = network_lib.open_network(config.network)
    # Imports TensorFlow, which a wrong flag must not wait for.
    from noisy_student import evaluate as evaluate_lib
    from noisy_student.robustness import attacks, look

    source = look.open_images(
        network, config.label_data_dir, split=config.eval_split
    )
    source.check()
    source = evaluate_lib.sample(source, num_images)
    report = benchmark.Report(
        _KIND,
        config,
        network,
        attack=dataclasses.asdict(attack),
        num_images=source.num_images,
    )
    most = max(attack.fgsm_epsilons + attack.pgd_epsilons, default=0)
    if 0 < most < 1:
        logging.warning(
            "No epsilon is above %g; they are of pixels from 0 to 255.", most
        )
    logging.info(
        "Attacking %d images at %dx%d pixels.",
        source.num_images,
        network.model_config.image_size,
        network.model_config.image_size,
    )
    look_at = look.Look(network, lambda model: attacks.measure(model, attack))
    figures = look_at(source)
    curve = _curve(attack, figures)
    report.write(figures, curve=curve)
    return curve


def _curve(attack, figures):
    """Takes the accuracies out of figures; returns them by epsilon, a list."""
    curve = [
        {"attack": name, "epsilon": epsilon, "top_1": float(top_1)}
        for name, epsilons in (
            ("fgsm", attack.fgsm_epsilons),
            ("pgd", attack.pgd_epsilons),
        )
        for epsilon, top_1 in zip(epsilons, figures.pop(name, ()))
    ]
    for point in curve:
        logging.info(
            "%s, epsilon %g: top-1 %.2f %%.",
            point["attack"].upper(),
            point["epsilon"],
            100 * point["top_1"],
        )
    return curve


if __name__ == "__main__":
    command_line.run(main, define_flags)
