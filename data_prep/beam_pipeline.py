"""Data preparation on Apache Beam, for corpora that outgrow one machine.

Takes the stages of --stages, one after the other, with the results of the
commands that do the same on one machine, byte for byte:

  deduplicate   removes evaluation images      <output_dir>/deduplicated
  predict       the teacher labels             <output_dir>/predictions
  filter        confident, balanced, shuffled  <output_dir>/filtered

Each stage reads what the one before wrote, or --input_dir. Options of Beam come
after `--`; without them everything runs in this process:

    python -m data_prep.beam_pipeline --stages=deduplicate,filter ...
        -- --runner=DataflowRunner --project=... --temp_location=gs://...

The stage `predict` needs a teacher: `python -m noisy_student.beam_pipeline` has
the same flags, and those of the teacher.
"""

import dataclasses
import importlib.util
import logging as logging_lib
import os

from absl import logging

from data_prep import (
    balancing,
    command_line,
    deduplicate,
    files,
    filter_flags,
    filter_unlabel,
)

STAGES = ("deduplicate", "predict", "filter")

# Flags of filtering that say which part of it a command does.
_ONE_MACHINE = ("only_get_stats", "num_shards", "shard_id")


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Stages of one run on Beam.

    Attributes:
        stages: Tuple of names out of `STAGES`, in their order.
        input_dir: Folder of the image shards.
        split: Their split.
        output_dir: Folder of everything written.
        prediction_dir: Folder of the predictions; None is below `output_dir`.
        options: Tuple of Beam's own options, such as
            "--runner=DataflowRunner".
    """

    stages: tuple
    input_dir: str
    output_dir: str
    split: str = "train"
    prediction_dir: str = None
    options: tuple = ()

    def __post_init__(self):
        for name in ("input_dir", "output_dir", "stages"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed.")
        ordered = tuple(name for name in STAGES if name in self.stages)
        if self.stages != ordered:
            raise ValueError(
                f"--stages must be some of {','.join(STAGES)}, in this order. "
                f"Received: {','.join(self.stages)}."
            )
        if self.options and not self.options[0].startswith("-"):
            raise ValueError(
                f"Unexpected argument {self.options[0]!r}; flags start with "
                "`--`, and those of Beam come after `--` alone."
            )
        if not self.prediction_dir:
            folder = os.path.join(self.output_dir, "predictions")
            object.__setattr__(self, "prediction_dir", folder)

    @property
    def deduplicated_dir(self):
        """Folder of the first stage."""
        return os.path.join(self.output_dir, "deduplicated")

    @property
    def filtered_dir(self):
        """Folder of the last stage."""
        return os.path.join(self.output_dir, "filtered")

    @property
    def image_dir(self):
        """Folder of the image shards that are labeled and filtered."""
        if "deduplicate" in self.stages:
            return os.path.join(self.deduplicated_dir, "data")
        return self.input_dir


def run(config, *, deduplication=None, filtering=None, label=None):
    """Goes through the stages; what an earlier run finished is kept.

    Args:
        config: `PipelineConfig`.
        deduplication: `deduplicate.DeduplicateConfig` of that stage.
        filtering: `filter_unlabel.FilterConfig` of that stage.
        label: Function of a `PipelineConfig` that labels the shards of its
            `image_dir` into its `prediction_dir`.

    Raises:
        FileNotFoundError: Inputs are missing; names them.
        ValueError: Beam is not installed, there is nobody to label, or a stage
            refuses its input; says why.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise ValueError(
            "Apache Beam is not installed: pip install -e '.[beam]'."
        )
    if "predict" in config.stages and label is None:
        raise ValueError(
            "--stages: `predict` needs a teacher; python -m "
            "noisy_student.beam_pipeline takes one."
        )
    files.check_folder("output_dir", config.output_dir)
    # Imported here: wrong flags need not wait for Beam.
    from data_prep import beam_deduplicate, beam_filter

    work = {
        "deduplicate": lambda: beam_deduplicate.run(
            deduplication, config.options
        ),
        "predict": lambda: label(config),
        "filter": lambda: filter_unlabel.log_report(
            beam_filter.run(filtering, config.options)
        ),
    }
    if not any(option.startswith("--runner") for option in config.options):
        # A runner elsewhere says what it does, and where to watch it.
        logging_lib.getLogger("apache_beam").setLevel(logging_lib.WARNING)
    for stage in config.stages:
        logging.info("Stage: %s.", stage)
        work[stage]()


def define_flags(flag_values):
    """Declares the flags of all stages that need no teacher."""
    group = command_line.FlagGroup("Stages", flag_values)
    group.list(
        "stages",
        list(STAGES),
        f"What to do, of {', '.join(STAGES)}; in this order.",
    )
    group = command_line.FlagGroup("Deduplication", flag_values)
    deduplicate.define_eval_flag(group)
    deduplicate.define_rule_flags(group)
    filter_flags.define_flags(flag_values)


def settings_from_flags(flag_values, options):
    """Returns what flags say, as dict of the arguments of `run` but `label`.

    Args:
        flag_values: Parsed flags of `define_flags`.
        options: List of Beam's own options.

    Raises:
        ValueError: A flag has no meaning on Beam, or no good value; names it.
    """
    for name in _ONE_MACHINE:
        if not flag_values[name].using_default_value:
            raise ValueError(
                f"--{name} is for commands that do a part of the work; on Beam "
                f"the workers share it. Received: {flag_values[name].value}."
            )
    config = PipelineConfig(
        stages=tuple(flag_values.stages),
        input_dir=flag_values.input_dir,
        output_dir=flag_values.output_dir,
        split=flag_values.file_prefix,
        prediction_dir=flag_values.prediction_dir,
        options=tuple(options),
    )
    deduplication = filtering = None
    if "deduplicate" in config.stages:
        deduplication = deduplicate.DeduplicateConfig(
            input_dir=config.input_dir,
            output_dir=config.deduplicated_dir,
            split=config.split,
            **deduplicate.rule_from_flags(flag_values),
        )
    if "filter" in config.stages:
        settings = {
            **filter_flags.settings(flag_values),
            "input_dir": config.image_dir,
            "prediction_dir": config.prediction_dir,
            "output_dir": config.filtered_dir,
        }
        filtering = filter_unlabel.FilterConfig(
            balance=balancing.BalanceConfig(**filter_flags.rule(flag_values)),
            **settings,
        )
    return {
        "config": config,
        "deduplication": deduplication,
        "filtering": filtering,
    }


def main(flag_values, options):
    """Prepares data on Beam as the flags say."""
    run(**settings_from_flags(flag_values, options))


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=True)
