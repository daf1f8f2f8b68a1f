"""The whole loop: teacher, labels, filter, student; the student teaches next.

At last FixRes may tune the last student at a larger resolution. Every stage
keeps its results under the work directory and is skipped when it is finished,
so a run that was killed continues where it was. For example:

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
from noisy_student import chains, fixres_flags, preflight, run_dir
from noisy_student import config as config_lib
from noisy_student import fixres as fixres_lib
from noisy_student import flags as flags_lib
from noisy_student import report as report_lib
from noisy_student.flag_declarations import (
    FIXRES_MODE,
    NO_EVALUATION_BETWEEN,
    NOTHING_FIXED,
)
from noisy_student.flag_declarations_self_training import (
    define_self_training_flags,
)

# Labels are stored between the stages; no teacher runs inside a step.
_OFFLINE = {
    "teacher_model_name": None,
    "teacher_model_path": None,
    "noise_teacher": False,
    "steps_per_eval": 1,
}
# Where the last student is tuned, these say how, and nothing of the others.
_NOTHING_FROZEN = {
    "fix_layer_num": NOTHING_FIXED,
    "freeze_batch_norm": None,
    "trainable_blocks": None,
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
        tuning: The run that tunes the last student at a larger resolution,
            with the steps of the whole schedule; None tunes nothing.
        fixres: How it does, a `fixres.FixResConfig`.
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
    tuning: Optional[config_lib.TrainConfig] = None
    fixres: Optional[fixres_lib.FixResConfig] = None

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
    define_self_training_flags(flag_values)
    flags_lib.define_training_flags(flag_values)
    flags_lib.define_fixres_flags(flag_values)


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
    overrides = dict(_OFFLINE)
    if chain.fixres is not None and not values.init_model:
        overrides.update(_NOTHING_FROZEN)
    teacher_values = flags_lib.Values(
        flag_values,
        preset=chain.teacher,
        overrides={**overrides, "unlabel_ratio": 0.0},
    )
    given = values.teacher_model_path is not None
    rounds = tuple(
        _student_config(flag_values, number, preset, overrides)
        for number, preset in enumerate(chain.students, start=1)
    )
    tuning, fixres = _tuning_config(flag_values, chain.fixres, rounds)
    return SelfTrainingConfig(
        work_dir=values.work_dir,
        rounds=rounds,
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
        tuning=tuning,
        fixres=fixres,
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
    teacher, students, rounds, fixres = None, [], values.rounds, None
    if values.chain is not None:
        chain = chains.get_chain(values.chain)
        given = values.given("rounds")
        rounds = len(chain.students) if given is None else given
        teacher, students = chain.teacher, chain.students[:rounds]
        fixres = chain.fixres
    if values.fixres_preset is not None:
        fixres = values.fixres_preset or None
    students = values.student_preset or students or [None]
    if len(students) not in (1, rounds):
        raise ValueError(
            "--student_preset needs one recipe, or one per round. Received: "
            f"{len(students)} for --rounds={rounds}."
        )
    if len(students) == 1:
        students = rounds * [students[0]]
    teacher = values.teacher_preset or teacher
    return chains.Chain(teacher, tuple(students), fixres)


def _student_config(flag_values, number, preset, overrides):
    values = flags_lib.Values(flag_values)
    return flags_lib.train_config(
        flags_lib.Values(
            flag_values,
            preset=preset,
            overrides={
                "unlabel_data_dir": run_dir.pseudo_labeled_dir(
                    values.work_dir, number
                ),
                **overrides,
                "file_prefix": "train",
                "seed": values.seed + chains.SEED_STRIDE * number,
            },
        )
    )


def _tuning_config(flag_values, preset, rounds):
    """Returns the run that tunes the last student, and how; or twice None."""
    values = flags_lib.Values(flag_values)
    if preset is None:
        for name in ("fixres_epochs", "fixres_variant"):
            if values.given(name) is not None:
                raise ValueError(
                    f"--{name} needs --fixres_preset, or a --chain with one."
                )
        return None, None
    last_student = run_dir.round_dir(values.work_dir, len(rounds), "model")
    values = flags_lib.Values(
        flag_values,
        preset=preset,
        overrides={
            **_OFFLINE,
            **fixres_flags.IMPLIED,
            "mode": FIXRES_MODE,
            "init_model_path": last_student,
            "checkpoint_head": "load",
            "steps_per_eval": NO_EVALUATION_BETWEEN,
            "seed": values.seed + chains.SEED_STRIDE * (len(rounds) + 1),
        },
    )
    try:
        fixres = fixres_flags.fixres_config(values)
        train = fixres_lib.tuning_config(flags_lib.train_config(values), fixres)
        return fixres_lib.with_student(
            train, fixres, rounds[-1].model, flags_lib.given_model(values)
        )
    except ValueError as error:
        raise ValueError(f"--fixres_preset={preset}: {error}") from error


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
