"""Keeps confident unlabeled images and balances their classes.

Reads image shards and a teacher's predictions for them; writes pseudo-labeled
shards to <output_dir>/data, in one random order over all of them, with
thresholds and counts beside them. A killed run goes on where it stopped, a
finished one returns its report.

--selection=exact is the paper's rule: at most --num_image images a class, the
most confident; classes with fewer are duplicated to that number. It is the
default, other than in the original code, whose rule is --selection=binned:
thresholds on a grid of 0.01, and numbers that hold on average.

With --shard_id it does the part of one shard, as the original's scripts call
it: first all with --only_get_stats=1, then all again, shard 0 last both times.
"""

import dataclasses
import os

from absl import logging

from data_prep import (
    balancing,
    command_line,
    files,
    filter_flags,
    filter_stages,
)

define_flags = filter_flags.define_flags


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """One filtering run.

    Attributes:
        input_dir: Folder of the image shards.
        prediction_dir: Folder of the prediction shards.
        output_dir: Folder of everything written.
        info_dir: Folder of the counts beside the predictions; None is
            `prediction_dir`.
        prelim_stats_dir: Folder of the first stage, which runs with other rules
            can share; None is below `output_dir`.
        num_shards: Image shards to expect; None takes what is there.
        num_used_shards: Take the first so many shards only; None takes all.
        shard_id: Do the part of this shard only; None does everything.
        num_output_shards: Shards to write; None writes as many as are read.
        task: Number in the names of the shards written; None leaves it out.
        total_replicas: Prediction files to expect for each shard; None takes
            what is there.
        file_prefix: Split of the image shards.
        num_label_classes: Classes of the teacher.
        balance: `balancing.BalanceConfig`, the rule.
        num_workers: Threads that go through the tables.
    """

    input_dir: str
    prediction_dir: str
    output_dir: str
    info_dir: str = None
    prelim_stats_dir: str = None
    num_shards: int = None
    num_used_shards: int = None
    shard_id: int = None
    num_output_shards: int = None
    task: int = None
    total_replicas: int = None
    file_prefix: str = "train"
    num_label_classes: int = 1000
    balance: balancing.BalanceConfig = balancing.BalanceConfig()
    num_workers: int = 2

    def __post_init__(self):
        for name in ("input_dir", "prediction_dir", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed.")
        for name in ("num_label_classes", "num_workers"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be >= 1. Received: {getattr(self, name)}."
                )
        if self.num_used_shards is not None and self.num_used_shards < 1:
            raise ValueError(
                "--only_use_num_shards must be -1 or >= 1. Received: "
                f"{self.num_used_shards}."
            )
        if not self.info_dir:
            object.__setattr__(self, "info_dir", self.prediction_dir)
        if not self.prelim_stats_dir:
            folder = os.path.join(self.output_dir, "prelim_stats")
            object.__setattr__(self, "prelim_stats_dir", folder)
        if files.is_same(self.prelim_stats_dir, self.output_dir):
            raise ValueError(
                "--prelim_stats_dir must not be --output_dir: each has a "
                f"config.json of its own. Received: {self.output_dir!r}."
            )

    @property
    def split(self):
        """Split of the shards written."""
        return "train" if self.task is None else f"train-{self.task}"


def run(config, only_get_stats=False):
    """Counts, chooses and writes; what an earlier run finished is kept.

    Args:
        config: `FilterConfig`.
        only_get_stats: Whether to stop before images are written.

    Returns:
        `FilterReport`; None where `shard_id` leaves the choice to another call.

    Raises:
        FileNotFoundError: Shards are missing, or what calls for other shards
            have to do first; names them.
        ValueError: Inputs do not fit together, a record is malformed, keys are
            not unique, or the output folder holds a run with other settings;
            says which.
    """
    for name in ("output_dir", "prelim_stats_dir"):
        files.check_folder(name, getattr(config, name))
    return filter_stages.Stages(config).run(only_get_stats)


def config_from_flags(flag_values):
    """Returns the `FilterConfig` the flags ask for."""
    return FilterConfig(
        balance=balancing.BalanceConfig(**filter_flags.rule(flag_values)),
        **filter_flags.settings(flag_values),
    )


def main(flag_values):
    """Filters as the flags say."""
    filter_flags.warn_of_legacy_flags(flag_values)
    logging.info("Rule: --selection=%s.", flag_values.selection)
    report = run(
        config_from_flags(flag_values),
        only_get_stats=bool(flag_values.only_get_stats),
    )
    if report is None:
        logging.info("Shard %d is counted.", flag_values.shard_id)
        return
    log_report(report)


def log_report(report):
    """Says in a few lines what a `FilterReport` says."""
    logging.info(
        "%d of %d images kept, %d records; %s.",
        report.num_unique,
        report.num_input,
        report.num_records,
        ", ".join(f"{name}: {n}" for name, n in report.counters.items()),
    )
    if empty := report.empty_classes:
        logging.warning(
            "%d classes have no image with an accepted confidence and stay "
            "empty: %s.",
            len(empty),
            ", ".join(map(str, empty[:20])) + (", ..." if empty[20:] else ""),
        )


if __name__ == "__main__":
    command_line.run(main, define_flags)
