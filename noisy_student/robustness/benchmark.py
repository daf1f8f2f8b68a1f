"""What the benchmarks share: images, a network, and a report of figures."""

import dataclasses
import os
from typing import Optional

from absl import logging

from data_prep import command_line, files
from noisy_student import run_dir
from noisy_student.robustness import network as network_lib


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """One network on one set of images, or on a family of them.

    Attributes:
        network: `network.NetworkConfig`.
        label_data_dir: Where the images are, as `labeled_images.open_source`
            or the layout of a benchmark takes it.
        eval_split: Prefix of shards, or the split of a tfds data set; None
            where neither is taken.
        output_dir: Folder of the report and of what is known of it; None
            writes none.
    """

    network: network_lib.NetworkConfig
    label_data_dir: Optional[str]
    eval_split: Optional[str]
    output_dir: Optional[str] = None

    def __post_init__(self):
        if not self.label_data_dir:
            raise ValueError(
                "--label_data_dir is needed: the images of the benchmark."
            )
        if self.output_dir is not None:
            files.check_folder("output_dir", self.output_dir)


def define_flags(
    flag_values, *, eval_split, resize=network_lib.CROP, by_parts=False
):
    """Declares the flags of `BenchmarkConfig`.

    Args:
        flag_values: The `absl.flags.FlagValues` they are declared in.
        eval_split: Default of `--eval_split`; None declares none.
        resize: Default of `--resize`.
        by_parts: Whether a run that was stopped goes on.
    """
    group = command_line.FlagGroup("What to look at", flag_values)
    group.string(
        "label_data_dir",
        None,
        "The images: the folder as released, shards, or tfds:NAME.",
    )
    if eval_split is not None:
        group.string(
            "eval_split",
            eval_split,
            "Prefix of shards, or the split of a data set of "
            "tensorflow_datasets.",
        )
    goes_on = "; a run that was stopped goes on there" if by_parts else ""
    group.string("output_dir", None, f"Folder of the report{goes_on}.")
    network_lib.define_flags(flag_values, resize)


def config_from_flags(values):
    """Returns the `BenchmarkConfig` of parsed flags."""
    has_split = "eval_split" in values
    return BenchmarkConfig(
        network=network_lib.config_from_flags(values),
        label_data_dir=values.label_data_dir,
        eval_split=values.eval_split if has_split else None,
        output_dir=values.output_dir,
    )


def report(kind, config, network, figures, **more):
    """Logs the figures of a benchmark, and writes `<output_dir>/<kind>.json`.

    Args:
        kind: Name of the benchmark.
        config: `BenchmarkConfig`.
        network: `network.Network`.
        figures: {name: float}.
        **more: What the report says besides.
    """
    for name, value in figures.items():
        logging.info("%s/%s: %s", kind, name, value)
    if config.output_dir is None:
        return
    path = os.path.join(config.output_dir, f"{kind}.json")
    values = {
        "kind": kind,
        "label_data_dir": config.label_data_dir,
        **network.describe(),
        "figures": figures,
        **more,
    }
    files.write_json(path, run_dir.add_versions(values))
    logging.info("Wrote %s.", path)
