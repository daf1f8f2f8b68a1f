"""Trains, evaluates and labels with Noisy Student models.

For example:

    python -m noisy_student.main --mode=train --preset=digits/teacher
        --label_data_dir=data/digits --model_dir=runs/teacher
"""

import dataclasses
import os
import sys

from absl import logging

from data_prep import command_line, files
from noisy_student import config as config_lib
from noisy_student import fixres, preflight, run_dir
from noisy_student import flags as flags_lib


def main(flag_values):
    """Runs the mode that the flags name."""
    run = flags_lib.config_from_flags(flag_values)
    flags_lib.warn_of_legacy_flags(flag_values)
    flags_lib.warn_of_ignored_flags(flag_values)
    if run.follow:
        _wait_for_run(run)
    preflight.check_paths(run)
    run = flags_lib.with_trained_models(run)
    if run.mode == "info":
        _describe(run)
        return
    # TensorFlow is imported only now: a wrong flag must not wait for it.
    from noisy_student import precision, workers
    from noisy_student import strategy as strategy_lib

    if run.mode == "export":
        workers.require_one("--mode=export")
    # First: devices cannot be configured once TensorFlow has read a record.
    strategy = strategy_lib.create_strategy(run.hardware)
    precision.set_policy(run.hardware, strategy)
    with workers.explain_loss(strategy):
        with workers.together(strategy):
            train = preflight.check_data(run)
            if run.fixres is not None:
                train = fixres.with_tail(train, run.fixres)
            run = dataclasses.replace(run, train=train)
        workers.check_same(strategy, run)
        _MODES[run.mode](run, strategy)


def _wait_for_run(run):
    preflight.require_run_dir(run.model_dir)
    from noisy_student import follow, workers

    workers.require_one("--follow")
    follow.wait_for_checkpoint(run.model_dir, run.follow_timeout)


def _describe(run):
    from noisy_student import info

    card = info.training_card(run.train)
    sys.stdout.write(info.format_card(card) + "\n")


def _train(run, strategy):
    from noisy_student import train_loop, workers

    train_loop.check(run.train, strategy)
    settings = train_loop.settings(run.train)
    evaluate = run.mode != "train"
    with workers.claimed(strategy, run.model_dir, settings) as finished:
        # What `train` finished, `train_and_eval` has still to evaluate.
        if finished and ("eval/top_1" in finished or not evaluate):
            logging.info("%s is finished.", run.model_dir)
            return
        figures = train_loop.run(
            run.train, strategy, run.model_dir, evaluate=evaluate
        )
        if run.fixres is not None:
            figures.update(fixres.report(run.train, run.fixres, run.model_dir))
        report = run_dir.add_versions({**figures, "config": settings})
        with workers.together(strategy):
            if workers.is_chief(strategy):
                run_dir.write_report(run.model_dir, report)


def _tune(run, strategy):
    fixres.log_start(run.train, run.fixres)
    _train(run, strategy)


def _load(run, strategy):
    from noisy_student import models

    with strategy.scope():
        return models.load(
            run.train.model,
            run.weights_path,
            use_ema=run.use_ema,
            head=run.checkpoint_head,
        )


def _evaluate(run, strategy):
    from noisy_student import evaluate, workers

    # First: images that cannot be evaluated must not wait for the network.
    source = evaluate.open_split(
        run.train.model,
        run.train.data,
        class_names=run_dir.trained_class_names(run.weights_path),
    )
    if run.follow:
        _follow(run, source, strategy)
        return
    figures = evaluate.evaluate_source(
        _load(run, strategy),
        run.train.model,
        source,
        strategy=strategy,
        batch_size=run.train.eval_batch_size,
    )
    split = run.train.data.eval_split
    for name, value in figures.items():
        logging.info("%s/%s: %s", split, name, value)
    if run.output_dir is not None and workers.is_chief(strategy):
        report = {
            **{f"{split}/{name}": value for name, value in figures.items()},
            "checkpoint": run.weights_path,
            "use_ema": run.use_ema,
            "model": config_lib.to_dict(run.train.model),
            "data": config_lib.to_dict(run.train.data),
        }
        # Not `report.json`, which says that a run is finished.
        files.write_json(
            os.path.join(run.output_dir, "eval.json"),
            run_dir.add_versions(report),
        )


def _follow(run, source, strategy):
    from noisy_student import follow, models

    with strategy.scope():
        # Each checkpoint's weights take the place of those it starts with.
        model = models.build(run.train.model)
    follow.follow(run, model, source, strategy)


def _predict(run, strategy):
    from noisy_student import predict

    manifest = predict.predict(
        predict.PredictConfig(
            model=run.train.model,
            checkpoint=run.weights_path,
            input_dir=run.labelling.input_dir,
            split=run.labelling.split,
            output_dir=run.output_dir,
            batch_size=run.train.eval_batch_size,
            use_ema=run.use_ema,
            head=run.checkpoint_head,
            shard_ids=run.labelling.shard_ids,
            info_dir=run.labelling.info_dir,
            num_workers=run.labelling.num_workers,
            worker=run.labelling.worker,
            reassign=run.labelling.reassign,
            storage=run.labelling.storage,
        ),
        strategy,
    )
    if manifest is not None:
        logging.info(
            "Labeled %d images in %s.", manifest.total_records, run.output_dir
        )


def _export(run, strategy):
    from noisy_student import export

    samples = export.read_samples(
        run.train.data, run.train.model, run.export_samples
    )
    config = export.ExportConfig(
        model=run.train.model,
        checkpoint=run.weights_path,
        output_dir=run.output_dir,
        formats=run.export_formats,
    )
    export.export(config, _load(run, strategy), samples)


_MODES = {
    "export": _export,
    "train": _train,
    "train_and_eval": _train,
    "fixres_finetune": _tune,
    "eval": _evaluate,
    "predict": _predict,
}

if __name__ == "__main__":
    command_line.run(main, flags_lib.define_flags)
