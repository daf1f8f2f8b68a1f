"""Keeps confident unlabeled images and balances their classes.

Reads image shards and a teacher's predictions for them; writes pseudo-labeled
shards to <output_dir>/data, with thresholds and counts beside them. A killed
run goes on where it stopped, a finished one returns its report.

--selection=exact is the paper's rule: at most --num_image images a class, the
most confident; classes with fewer are duplicated to that number. It is the
default, other than in the original code, whose rule is --selection=binned:
thresholds on a grid of 0.01, and numbers that hold on average.
"""

import dataclasses
import os

from absl import logging

from data_prep import (
    balancing,
    command_line,
    files,
    filter_report,
    prediction_inputs,
    progress,
    shard_writer,
)

CONFIG_FILE = "config.json"
REPORT_FILE = "report.json"


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """One filtering run.

    Attributes:
        input_dir: Folder of the image shards.
        prediction_dir: Folder of the prediction shards.
        output_dir: Folder of everything written.
        info_dir: Folder of the counts beside the predictions; None is
            `prediction_dir`.
        prelim_stats_dir: Folder of the tables of the first stage, which runs
            with other rules can share; None is below `output_dir`.
        num_shards: Image shards to expect; None takes what is there.
        file_prefix: Split of the image shards.
        num_label_classes: Classes of the teacher.
        balance: `balancing.BalanceConfig`, the rule.
        seed: Seeds all choices by hash.
    """

    input_dir: str
    prediction_dir: str
    output_dir: str
    info_dir: str = None
    prelim_stats_dir: str = None
    num_shards: int = None
    file_prefix: str = "train"
    num_label_classes: int = 1000
    balance: balancing.BalanceConfig = balancing.BalanceConfig()
    seed: int = 0

    def __post_init__(self):
        for name in ("input_dir", "prediction_dir", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed.")
        if self.num_label_classes < 1:
            raise ValueError(
                "`num_label_classes` must be >= 1. Received: "
                f"{self.num_label_classes}."
            )
        if not self.info_dir:
            object.__setattr__(self, "info_dir", self.prediction_dir)
        if not self.prelim_stats_dir:
            folder = os.path.join(self.output_dir, "prelim_stats")
            object.__setattr__(self, "prelim_stats_dir", folder)

    @property
    def salt(self):
        """bytes, the salt of the hash that tables hold."""
        return f"filter/{self.seed}".encode()


def run(config, only_get_stats=False):
    """Counts, chooses and writes; what an earlier run finished is kept.

    Args:
        config: `FilterConfig`.
        only_get_stats: Whether to stop before images are written.

    Returns:
        `FilterReport`.

    Raises:
        FileNotFoundError: Shards are missing; names them.
        ValueError: Inputs do not fit together, a record is malformed, or the
            output folder holds a run with other settings; says which.
    """
    for name in ("output_dir", "prelim_stats_dir"):
        files.check_folder(name, getattr(config, name))
    inputs = prediction_inputs.find(
        config.input_dir,
        config.prediction_dir,
        config.file_prefix,
        config.num_shards,
    )
    table_settings = {
        "num_label_classes": config.num_label_classes,
        "seed": config.seed,
        **inputs.settings(),
    }
    settings = {**dataclasses.asdict(config.balance), **table_settings}
    _check_settings(config.output_dir, settings)
    _check_settings(config.prelim_stats_dir, table_settings)
    report_path = os.path.join(config.output_dir, REPORT_FILE)
    writer = _open_writer(config, settings, len(inputs.images))
    if files.exists(report_path) and not writer.pending:
        return filter_report.report_from_json(files.read_json(report_path))
    # Imported here: --help, wrong flags and finished runs need no TensorFlow.
    from data_prep import counting

    counting.check_inputs(config, inputs)
    files.write_json(os.path.join(config.output_dir, CONFIG_FILE), settings)
    files.write_json(
        os.path.join(config.prelim_stats_dir, CONFIG_FILE), table_settings
    )
    tables = counting.count(config, inputs)
    counts = tables.histogram(config.num_label_classes)
    plan = balancing.choose(config.balance, counts, lambda: iter(tables))
    report = filter_report.make_report(config.balance, plan, tables)
    filter_report.write_stats(config.output_dir, counts, plan.totals, report)
    if not only_get_stats:
        _write_shards(config, writer, inputs, plan, tables)
        files.write_json(report_path, dataclasses.asdict(report))
    return report


def _check_settings(folder, settings):
    path = os.path.join(folder, CONFIG_FILE)
    if not files.exists(path):
        return
    if difference := files.describe_difference(files.read_json(path), settings):
        raise ValueError(
            f"{folder!r} holds a run with other settings: {difference}. Write "
            "to another folder, or delete this one first."
        )


def _open_writer(config, settings, num_shards):
    return shard_writer.ShardedWriter(
        os.path.join(config.output_dir, "data"),
        "train",
        num_shards,
        kind="pseudo_labeled",
        config=settings,
        num_classes=config.num_label_classes,
    )


def _write_shards(config, writer, inputs, plan, tables):
    from data_prep import filtered_shard

    num_shards = len(inputs.images)
    pending = writer.pending
    meter = progress.Progress(
        "shards written", total=num_shards, done=num_shards - len(pending)
    )
    for index in pending:
        table = tables.read(index)
        copies = plan.copies(table, index)
        with writer.open_shard(index, num_input=len(table)) as shard:
            for reason, number in filter_report.count_reasons(
                config.balance, table, copies
            ).items():
                shard.count(reason, number)
            for example, label in filtered_shard.examples(
                inputs.images[index],
                inputs.predictions[index],
                copies,
                salt=config.salt,
            ):
                shard.write(example, label)
        meter.advance()
    writer.finish()


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("Input", flag_values)
    group.string("input_dir", None, "Folder of the image shards.")
    group.string("prediction_dir", None, "Folder of the prediction shards.")
    group.string(
        "info_dir",
        None,
        "Folder of the counts beside the predictions; by default "
        "--prediction_dir.",
    )
    group.string("file_prefix", "train", "Split of the image shards.")
    group.integer(
        "num_shards",
        None,
        "Image shards to expect; without it, as many as there are.",
        lower_bound=1,
    )
    group.integer(
        "num_label_classes",
        1000,
        "Classes of the teacher.",
        lower_bound=1,
    )
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder of everything written.")
    group.string(
        "prelim_stats_dir",
        None,
        "Folder of the first stage's tables, which runs with other rules can "
        "share; by default prelim_stats in --output_dir.",
    )
    group.integer(
        "only_get_stats",
        0,
        "1 writes thresholds and counts, but no images.",
        lower_bound=0,
        upper_bound=1,
    )
    _define_rule_flags(command_line.FlagGroup("Rule", flag_values))


def _define_rule_flags(group):
    group.enum(
        "selection",
        "exact",
        balancing.SELECTIONS,
        "The paper's rule, or the original code's.",
    )
    group.integer("num_image", 1300, "Images wanted per class.", lower_bound=1)
    group.float(
        "min_threshold",
        0.0,
        "Least confidence; a multiple of 0.01 with --selection=binned.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    group.float(
        "max_prob",
        2.0,
        "Largest confidence; above 1, as rounding lets a softmax exceed 1.",
    )
    group.integer(
        "upsample",
        1,
        "1 duplicates images of classes with fewer than --num_image.",
        lower_bound=0,
        upper_bound=1,
    )
    group.bool(
        "use_all",
        False,
        "Keep one copy of each image from --min_threshold to --max_prob.",
    )
    group.integer("seed", 0, "Seeds all choices by hash.")


def config_from_flags(flag_values):
    """Returns the `FilterConfig` the flags ask for."""
    return FilterConfig(
        input_dir=flag_values.input_dir,
        prediction_dir=flag_values.prediction_dir,
        output_dir=flag_values.output_dir,
        info_dir=flag_values.info_dir,
        prelim_stats_dir=flag_values.prelim_stats_dir,
        num_shards=flag_values.num_shards,
        file_prefix=flag_values.file_prefix,
        num_label_classes=flag_values.num_label_classes,
        balance=balancing.BalanceConfig(
            selection=flag_values.selection,
            num_image=flag_values.num_image,
            min_threshold=flag_values.min_threshold,
            max_prob=flag_values.max_prob,
            upsample=bool(flag_values.upsample),
            use_all=flag_values.use_all,
        ),
        seed=flag_values.seed,
    )


def main(flag_values):
    """Filters as the flags say."""
    logging.info("Rule: --selection=%s.", flag_values.selection)
    report = run(
        config_from_flags(flag_values),
        only_get_stats=bool(flag_values.only_get_stats),
    )
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
