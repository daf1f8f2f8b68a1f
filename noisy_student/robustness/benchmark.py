"""What the benchmarks share: images, a network, and a report of figures."""

import dataclasses
import os
from typing import Optional

from absl import logging

from data_prep import command_line, files
from noisy_student import image_places, run_dir
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


def settings(config, network, **more):
    """Returns what figures depend on, a dict for JSON.

    Args:
        config: `BenchmarkConfig`.
        network: `network.Network`.
        **more: What they depend on besides.
    """
    return {
        **network.describe(),
        "label_data_dir": image_places.absolute(config.label_data_dir),
        "eval_split": config.eval_split,
        **more,
    }


class Report:
    """The report of a benchmark, `<output_dir>/<kind>.json`.

    It is made before anything is computed, so that a report of other settings
    is not replaced in the end.

    Args:
        kind: Name of the benchmark.
        config: `BenchmarkConfig`; without an `output_dir` figures are logged.
        network: `network.Network`.
        **more: As of `settings`.

    Attributes:
        earlier: The report that is there, of the same settings; {} if none is.

    Raises:
        ValueError: If the report that is there has other settings.
    """

    def __init__(self, kind, config, network, **more):
        self._kind = kind
        self._path = None
        self.earlier = {}
        if config.output_dir is None:
            return
        self._path = os.path.join(config.output_dir, f"{kind}.json")
        self._settings = {"kind": kind, **settings(config, network, **more)}
        if files.exists(self._path):
            self.earlier = files.read_json(self._path)
            self._check(self._settings)

    def _check(self, values):
        """Raises ValueError unless the report that is there has these."""
        known = {n: self.earlier[n] for n in values if n in self.earlier}
        if difference := files.describe_difference(known, values):
            raise ValueError(
                f"{self._path!r} is a report of other settings: {difference}. "
                "Use another --output_dir."
            )

    def with_earlier(self, what, names):
        """Returns names, and after them those that the report has besides.

        A report of fewer would lose what the one that is there says.

        Args:
            what: What they are, a key of the report whose value is by name.
            names: Those that are asked for.

        Returns:
            A tuple.
        """
        more = [n for n in self.earlier.get(what, ()) if n not in names]
        if more:
            logging.info(
                "%s also has these %s, which stay: %s.",
                self._path,
                what,
                ", ".join(more),
            )
        return (*names, *more)

    def or_earlier(self, name, value):
        """Returns a value, that of the report that is there in place of None.

        Args:
            name: Key of the report.
            value: Of JSON.

        Raises:
            ValueError: If both are given and are not equal.
        """
        known = self.earlier.get(name)
        if None not in (known, value):
            self._check({name: value})
        return known if value is None else value

    def write(self, figures, **more):
        """Logs figures and writes the report.

        Args:
            figures: {name: float}.
            **more: What the report says besides.
        """
        for name, value in figures.items():
            logging.info("%s/%s: %s", self._kind, name, value)
        if self._path is None:
            return
        values = {**self._settings, "figures": figures, **more}
        files.write_json(self._path, run_dir.add_versions(values))
        logging.info("Wrote %s.", self._path)
