"""The whole loop: teacher, labels, filter, student; the student teaches next.

Every stage keeps its results under the work directory and is skipped when it
is finished, so a run that was killed continues where it was. For example:

    python -m noisy_student.self_training --work_dir=runs/digits
        --teacher_preset=digits/teacher --student_preset=digits/student
        --label_data_dir=data/digits --unlabel_data_dir=data/digits
        --file_prefix=unlabeled

--chain names the recipes of all rounds, --dry_run prints the plan of a run and
what is done of it.
"""

import dataclasses
import os
import sys
from typing import Optional

from data_prep import balancing, command_line, files
from noisy_student import chains, preflight, run_dir
from noisy_student import config as config_lib
from noisy_student import flags as flags_lib
from noisy_student import report as report_lib

# Labels are stored between the stages; no teacher runs inside a step.
_OFFLINE = {
    "teacher_model_name": None,
    "teacher_model_path": None,
    "noise_teacher": False,
    "steps_per_eval": 1,
}


@dataclasses.dataclass(frozen=True)
class SelfTrainingConfig:
    """A whole self-training run.

    Attributes:
        work_dir: Where everything is kept.
        rounds: The students' training runs, in order.
        unlabel_data_dir: Directory of the unlabeled shards.
        unlabel_split: Prefix of their names.
        balance: How pseudo labels are chosen, a `balancing.BalanceConfig`.
        teacher: The first teacher's training run; None when it is given.
        teacher_model: Network of a given first teacher.
        teacher_checkpoint: Its weights.
        filter_teacher: Checkpoint of a teacher that filters once, before the
            first round; each round then relabels what it kept. None filters in
            every round.
        filter_model: Its network.
        truth: JSON file {key: 0-based label} of the unlabeled images, used
            for figures in the report and for nothing else.
    """

    work_dir: str
    rounds: tuple
    unlabel_data_dir: str
    unlabel_split: str
    balance: balancing.BalanceConfig
    teacher: Optional[config_lib.TrainConfig] = None
    teacher_model: Optional[config_lib.ModelConfig] = None
    teacher_checkpoint: Optional[str] = None
    filter_teacher: Optional[str] = None
    filter_model: Optional[config_lib.ModelConfig] = None
    truth: Optional[str] = None

    def __post_init__(self):
        for number, student in enumerate(self.rounds, start=1):
            if not student.step.pseudo_labels.unlabeled_ratio:
                raise ValueError(
                    "--unlabel_ratio must be > 0 for students, by flag or by "
                    f"--student_preset. Received: 0 for student {number}."
                )

    @property
    def eval_split(self):
        """Prefix of the shards that every round is evaluated on."""
        return self.rounds[0].data.eval_split


def define_flags(flag_values):
    """Declares all flags of this command."""
    group = command_line.FlagGroup("Self-training", flag_values)
    group.string("work_dir", None, "Directory of everything the loop makes.")
    group.enum(
        "chain",
        None,
        sorted(chains.CHAINS),
        "Recipes of the first teacher and of all students; the flags below "
        "override them.",
    )
    group.integer(
        "rounds",
        2,
        "Number of students; that of --chain, where one is given.",
        lower_bound=1,
    )
    group.string(
        "teacher_preset",
        None,
        "Recipe of the first teacher; none takes --preset.",
    )
    group.list(
        "student_preset",
        [],
        "Recipes of the students, one for all rounds or one per round, "
        "separated by commas; none takes --preset.",
    )
    group.string(
        "teacher_model_path",
        None,
        "Checkpoint or run directory of a teacher you have; none trains one.",
    )
    group.string(
        "filter_teacher",
        None,
        "Checkpoint of a teacher that filters once; each round relabels what "
        "it kept. None filters in every round.",
    )
    group.float(
        "min_threshold",
        0.3,
        "Least confidence of a kept pseudo label.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    group.integer(
        "num_image", 130000, "Images per class after balancing.", lower_bound=1
    )
    group.boolean(
        "upsample", True, "Fill classes that have fewer images with copies."
    )
    group.enum(
        "selection",
        "exact",
        ["exact", "binned"],
        "Keep exactly the most confident images (the paper) or the original "
        "code's approximation.",
    )
    group.string(
        "unlabel_truth",
        None,
        "JSON file of the unlabeled images' labels, for the report only.",
    )
    _define_plan_flags(group)
    flags_lib.define_training_flags(flag_values)


def _define_plan_flags(group):
    group.boolean(
        "dry_run",
        False,
        "Print the stages, their steps, images, storage and device-hours, and "
        "run nothing.",
    )
    group.integer(
        "planned_images",
        None,
        "Unlabeled images that the plan reckons with; none counts those of "
        "unlabel_data_dir.",
        lower_bound=1,
    )
    group.integer(
        "planned_image_bytes",
        100000,
        "Bytes of one of these planned_images.",
        lower_bound=1,
    )


def config_from_flags(flag_values):
    """Returns the `SelfTrainingConfig` that parsed flags describe.

    Raises:
        ValueError: If flags contradict each other.
    """
    values = flags_lib.Values(flag_values)
    for name in ("work_dir", "label_data_dir", "unlabel_data_dir"):
        if not getattr(values, name):
            raise ValueError(f"--{name} is needed.")
    chain = _chain(values)
    teacher_values = flags_lib.Values(
        flag_values,
        preset=chain.teacher,
        overrides={**_OFFLINE, "unlabel_ratio": 0.0},
    )
    given = values.teacher_model_path is not None
    return SelfTrainingConfig(
        work_dir=values.work_dir,
        rounds=tuple(
            _student_config(flag_values, number, preset)
            for number, preset in enumerate(chain.students, start=1)
        ),
        unlabel_data_dir=values.unlabel_data_dir,
        unlabel_split=values.file_prefix,
        balance=balancing.BalanceConfig(
            selection=values.selection,
            num_image=values.num_image,
            min_threshold=values.min_threshold,
            upsample=values.upsample,
        ),
        filter_teacher=values.filter_teacher,
        teacher=None if given else flags_lib.train_config(teacher_values),
        teacher_model=_given_model(values.teacher_model_path, teacher_values),
        filter_model=_given_model(values.filter_teacher, teacher_values),
        teacher_checkpoint=values.teacher_model_path,
        truth=values.unlabel_truth,
    )


def _given_model(path, values):
    """Returns the network of given weights, as far as known; or None."""
    if path is None:
        return None
    described = flags_lib.model_config(values)
    trained = run_dir.trained_model_config(path)
    if trained is not None or not preflight.has_checkpoint(path):
        return trained or described
    # Imported here: a finished run needs no TensorFlow.
    from noisy_student import models

    return models.resolve(path, fallback=described)


def _chain(values):
    """Returns the `chains.Chain` of the run; its recipes are None for none."""
    teacher, students, rounds = None, [], values.rounds
    if values.chain is not None:
        chain = chains.get_chain(values.chain)
        given = values.given("rounds")
        rounds = len(chain.students) if given is None else given
        teacher, students = chain.teacher, chain.students[:rounds]
    students = values.student_preset or students or [None]
    if len(students) not in (1, rounds):
        raise ValueError(
            "--student_preset needs one recipe, or one per round. Received: "
            f"{len(students)} for --rounds={rounds}."
        )
    if len(students) == 1:
        students = rounds * [students[0]]
    return chains.Chain(values.teacher_preset or teacher, tuple(students))


def _student_config(flag_values, number, preset):
    values = flags_lib.Values(flag_values)
    return flags_lib.train_config(
        flags_lib.Values(
            flag_values,
            preset=preset,
            overrides={
                "unlabel_data_dir": run_dir.pseudo_labeled_dir(
                    values.work_dir, number
                ),
                **_OFFLINE,
                "file_prefix": "train",
                "seed": values.seed + 1000003 * number,
            },
        )
    )


def main(flag_values):
    """Runs or continues the loop, then prints the table and the report."""
    config = config_from_flags(flag_values)
    if flag_values.dry_run:
        sys.stdout.write(_plan(config, flag_values) + "\n")
        return
    hardware = flags_lib.hardware_config(flags_lib.Values(flag_values))
    report = run(config, hardware)
    sys.stdout.write(report_lib.format_table(report) + "\n")
    sys.stdout.write(os.path.join(config.work_dir, "report.html") + "\n")


def _plan(config, flag_values):
    """Returns the plan of a run as text."""
    from noisy_student import plan

    if flag_values.planned_images is None:
        with files.naming(
            f"--unlabel_data_dir={config.unlabel_data_dir} (--planned_images "
            "plans without it)"
        ):
            corpus = plan.measure(config.unlabel_data_dir, config.unlabel_split)
    else:
        corpus = plan.Corpus(
            flag_values.planned_images,
            flag_values.planned_image_bytes,
            config.unlabel_split,
        )
    return plan.describe(config, corpus)


def run(config, hardware):
    """Runs or continues the loop.

    Args:
        config: `SelfTrainingConfig`.
        hardware: `hardware_config.HardwareConfig`.

    Returns:
        The content of `report.json`.

    Raises:
        FileNotFoundError: If input shards or a given checkpoint are missing.
        ValueError: If the work directory holds a run with other settings, or
            the records do not fit.
    """
    _check_paths(config)
    report = run_dir.read_report(config.work_dir)
    if report is None:
        # TensorFlow is imported only now: a finished run needs none.
        from noisy_student import precision, workers
        from noisy_student import strategy as strategy_lib

        workers.require_one("Self-training")
        # First: devices cannot be configured once TensorFlow read a record.
        strategy = strategy_lib.create_strategy(hardware)
        precision.set_policy(hardware, strategy)
        _check_data(config)
    run_dir.claim(config.work_dir, config_lib.to_dict(config))
    if report is None:
        from noisy_student import rounds

        report = run_dir.add_versions(rounds.run_all(config, strategy))
        report_lib.write_html(config.work_dir, report)
        # Last: it says that the run is finished, its page included.
        run_dir.write_report(config.work_dir, report)
    return report


def _check_paths(config):
    preflight.require_directory(
        "label_data_dir", config.rounds[0].data.label_data_dir
    )
    preflight.require_directory("unlabel_data_dir", config.unlabel_data_dir)
    if config.teacher is None:
        preflight.require_checkpoint(
            "teacher_model_path", config.teacher_checkpoint
        )
    if config.filter_teacher is not None:
        preflight.require_checkpoint("filter_teacher", config.filter_teacher)
    files.check_folder("work_dir", config.work_dir)
    if config.truth is not None:
        if not files.exists(config.truth):
            raise FileNotFoundError(
                f"--unlabel_truth={config.truth}: no such file."
            )
        if not isinstance(files.read_json(config.truth), dict):
            raise ValueError(
                f"--unlabel_truth={config.truth} must hold an object of keys "
                "and labels."
            )


def _check_data(config):
    for train in config.rounds:
        preflight.check_labeled(train, train.data.train_split)
        preflight.check_labeled(train, train.data.eval_split)
    preflight.find_shards(
        "unlabel_data_dir", config.unlabel_data_dir, config.unlabel_split
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)
