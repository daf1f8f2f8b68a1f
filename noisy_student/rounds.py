"""The stages of the self-training loop, each skipped when it is finished."""

import dataclasses
import time

import tensorflow as tf
from absl import logging

from data_prep import files, filter_unlabel, records, shards
from noisy_student import config as config_lib
from noisy_student import (
    evaluate,
    fixres,
    models,
    predict,
    preflight,
    run_dir,
    train_loop,
    workers,
)
from noisy_student import report as report_lib


@dataclasses.dataclass(frozen=True)
class _Source:
    """Images to label: shards in a directory."""

    directory: str
    split: str


@dataclasses.dataclass(frozen=True)
class _Teacher:
    """A trained network."""

    model: config_lib.ModelConfig
    checkpoint: str


def run_all(config, strategy):
    """Runs every round and returns the figures of the report.

    Args:
        config: `self_training.SelfTrainingConfig`.
        strategy: `tf.distribute` strategy.

    Returns:
        The content of `report.json`, versions aside.
    """
    # First: its settings must not turn out to be wrong after all rounds.
    tuning = _checked_tuning(config, strategy)
    teacher, figures = _first_teacher(config, strategy)
    rounds = [figures]
    source = _Source(config.unlabel_data_dir, config.unlabel_split)
    if config.filter_teacher is not None:
        source = _filter_once(config, source, strategy)
    for number, student in enumerate(config.rounds, start=1):
        pseudo_labels = _pseudo_labels(
            config, number, teacher, source, strategy
        )
        figures = _train(config, student, number, strategy)
        rounds.append({**figures, "pseudo_labels": pseudo_labels})
        _log_table({"eval_split": config.eval_split, "rounds": rounds})
        teacher = _Teacher(
            student.model,
            run_dir.round_dir(config.work_dir, number, "model"),
        )
    report = {
        "eval_split": config.eval_split,
        "num_classes": teacher.model.num_classes,
        "unlabeled": {
            "directory": config.unlabel_data_dir,
            "split": config.unlabel_split,
            "num_images": _num_unlabeled(config),
            "truth": config.truth,
        },
        "rounds": rounds,
    }
    if tuning is not None:
        report["fixres"] = _tune(config, tuning, strategy)
        _log_table(report)
    return report


def _log_table(report):
    logging.info("%s", report_lib.format_table(report))


def _checked_tuning(config, strategy):
    """Returns the run after the last student, its steps counted; or None."""
    if config.tuning is None:
        return None
    settings = preflight.check_training_data(config.tuning)
    settings = fixres.with_tail(settings, config.fixres)
    train_loop.check(settings, strategy)
    return settings


def _first_teacher(config, strategy):
    if config.teacher is None:
        teacher = _Teacher(config.teacher_model, config.teacher_checkpoint)
        directory = run_dir.round_dir(config.work_dir, 0, "model")
        finished = run_dir.claim(directory, dataclasses.asdict(teacher))
        if finished is not None:
            return teacher, finished
        figures = _evaluate(config.rounds[0], teacher, 0, strategy)
        run_dir.write_report(directory, figures)
        return teacher, figures
    figures = _train(config, config.teacher, 0, strategy)
    directory = run_dir.round_dir(config.work_dir, 0, "model")
    return _Teacher(config.teacher.model, directory), figures


def _train(config, settings, number, strategy):
    """Trains and evaluates one model; returns the figures of its round."""
    directory = run_dir.round_dir(config.work_dir, number, "model")
    settings = preflight.check_training_data(settings)

    def measure(metrics):
        trained = _Teacher(settings.model, directory)
        return _evaluate(settings, trained, number, strategy)

    return _run_once(settings, strategy, directory, measure)


def _tune(config, settings, strategy):
    """Tunes the last student; returns the figures of before and after."""
    directory = run_dir.fixres_dir(config.work_dir)
    number = len(config.rounds)

    def measure(metrics):
        done = fixres.report(settings, config.fixres, directory)
        ends = {
            name.replace("eval/", "", 1): value
            for name, value in metrics.items()
            if name.startswith("eval/")
        }
        return {**_figures(settings, ends, number, "fixres"), **done}

    if run_dir.read_report(directory) is None:
        fixres.log_start(settings, config.fixres)
    return _run_once(settings, strategy, directory, measure, evaluate=True)


def _run_once(settings, strategy, directory, measure, *, evaluate=False):
    """Trains in a directory, unless that is done.

    Args:
        settings: `config.TrainConfig`.
        strategy: `tf.distribute` strategy.
        directory: The run directory.
        measure: Function from the last metrics to the figures of the report.
        evaluate: Whether the loop evaluates.

    Returns:
        The content of its `report.json`.
    """
    train_loop.check(settings, strategy)
    values = train_loop.settings(settings)
    with workers.claimed(strategy, directory, values) as finished:
        if finished is not None:
            logging.info("%s is finished.", directory)
            return finished
        started = time.monotonic()
        metrics = train_loop.run(
            settings, strategy, directory, evaluate=evaluate
        )
        seconds = time.monotonic() - started
        figures = {
            **measure(metrics),
            "train_steps": settings.train_steps,
            "seconds": seconds,
        }
        run_dir.write_report(directory, figures)
        return figures


def _evaluate(settings, trained, number, strategy):
    """Returns the figures of a round's model on the evaluation images."""
    with strategy.scope():
        model = models.load(trained.model, trained.checkpoint)
    values = evaluate.evaluate_split(
        model,
        trained.model,
        settings.data,
        strategy=strategy,
        batch_size=settings.eval_batch_size,
    )
    logging.info(
        "Round %d: %s top-1 %.2f %% on %d images.",
        number,
        settings.data.eval_split,
        100 * values["top_1"],
        values["num_images"],
    )
    role = "student" if number else "teacher"
    return _figures(settings, values, number, role)


def _figures(settings, values, number, role):
    """Returns what an evaluation found, named as the report names it."""
    split = settings.data.eval_split
    return {
        "round": number,
        "role": role,
        **{f"{split}_{k}": v for k, v in values.items() if k != "num_images"},
        "num_images": values["num_images"],
    }


def _filter_once(config, source, strategy):
    """Filters with a teacher of its own; returns the images it kept."""
    trained = _Teacher(config.filter_model, config.filter_teacher)
    labels = f"{config.work_dir}/filter/labels"
    kept = f"{config.work_dir}/filter/pseudo_labeled"
    _label(config, trained, source, labels, strategy)
    _filter(config, source, labels, kept, trained.model)
    return _Source(f"{kept}/data", "train")


def _pseudo_labels(config, number, teacher, source, strategy):
    """Labels and filters for one student; returns what came of it."""
    labels = run_dir.round_dir(config.work_dir, number, "labels")
    kept = run_dir.round_dir(config.work_dir, number, "pseudo_labeled")
    _label(config, teacher, source, labels, strategy)
    relabel = config.filter_teacher is not None
    report = _filter(
        config, source, labels, kept, teacher.model, keep_all=relabel
    )
    return _describe(config, report, number, teacher.model)


def _label(config, teacher, source, directory, strategy):
    predict.predict(
        predict.PredictConfig(
            model=teacher.model,
            checkpoint=teacher.checkpoint,
            input_dir=source.directory,
            split=source.split,
            output_dir=directory,
            batch_size=config.rounds[0].eval_batch_size,
        ),
        strategy,
    )


def _filter(config, source, labels, directory, model, *, keep_all=False):
    balance = config.balance
    if keep_all:
        balance = dataclasses.replace(balance, min_threshold=0.0, use_all=True)
    report = filter_unlabel.run(
        filter_unlabel.FilterConfig(
            input_dir=source.directory,
            prediction_dir=labels,
            output_dir=directory,
            file_prefix=source.split,
            num_label_classes=model.num_classes,
            balance=balance,
        )
    )
    if not report.num_records:
        raise ValueError(
            f"No label reaches --min_threshold={balance.min_threshold}. The "
            "teacher is kept: continue with another --work_dir, a lower "
            "threshold and --teacher_model_path="
            f"{run_dir.round_dir(config.work_dir, 0, 'model')}."
        )
    return report


def _num_unlabeled(config):
    _, counts = records.count_shards(
        config.unlabel_data_dir, config.unlabel_split
    )
    return sum(counts)


def _describe(config, report, number, model):
    """Returns the figures of one round's pseudo labels."""
    num_unlabeled = _num_unlabeled(config)
    return {
        "num_unlabeled": num_unlabeled,
        "num_kept": report.num_unique,
        "num_written": report.num_records,
        "coverage": report.num_unique / num_unlabeled,
        "accuracy": _accuracy(config, number, model),
        "min_threshold": (
            config.balance.min_threshold
            if config.filter_teacher is None
            else 0.0
        ),
        "kept_per_class": [row.kept for row in report.classes],
        "written_per_class": [row.copies for row in report.classes],
    }


def _accuracy(config, number, model):
    """Returns the share of right labels among the different images kept.

    None where the truth is not known.
    """
    if config.truth is None:
        return None
    truth = files.read_json(config.truth)
    directory = run_dir.pseudo_labeled_dir(config.work_dir, number)
    is_right = {}
    for path in shards.list_shards(directory, "train"):
        dataset = tf.data.TFRecordDataset(path).map(
            lambda serialized: records.parse_pseudo_labeled(
                serialized, model.num_classes
            )
        )
        for record in dataset.as_numpy_iterator():
            key = record["key"].decode(errors="backslashreplace")
            if key in truth:
                is_right[key] = truth[key] == int(record["label"])
    return sum(is_right.values()) / max(len(is_right), 1)
