"""Trains, evaluates and labels with Noisy Student models.

For example:

    python -m noisy_student.main --mode=train --preset=digits/teacher
        --label_data_dir=data/digits --model_dir=runs/teacher
"""

import dataclasses

from absl import logging

from data_prep import command_line
from noisy_student import config as config_lib
from noisy_student import flags as flags_lib
from noisy_student import preflight, run_dir


def main(flag_values):
    """Runs the mode that the flags name."""
    run = flags_lib.config_from_flags(flag_values)
    preflight.check_paths(run)
    run = flags_lib.with_trained_models(run)
    # TensorFlow is imported only now: a wrong flag must not wait for it.
    from noisy_student import strategy as strategy_lib

    # First: devices cannot be configured once TensorFlow has read a record.
    strategy = strategy_lib.create_strategy(run.hardware)
    run = dataclasses.replace(run, train=preflight.check_data(run))
    _MODES[run.mode](run, strategy)


def _train(run, strategy):
    from noisy_student import train

    train.check(run.train, strategy)
    run_dir.claim(run.model_dir, config_lib.to_dict(run.train))
    if run_dir.read_report(run.model_dir) is not None:
        logging.info("%s is finished.", run.model_dir)
        return
    evaluate = run.mode == "train_and_eval"
    figures = train.train(run.train, strategy, run.model_dir, evaluate=evaluate)
    run_dir.write_report(
        run.model_dir,
        run_dir.add_versions(
            {**figures, "config": config_lib.to_dict(run.train)}
        ),
    )


def _evaluate(run, strategy):
    from noisy_student import evaluate, models

    path = run.checkpoint or run.model_dir
    model_config = run.train.model
    with strategy.scope():
        model = models.load(model_config, path)
    figures = evaluate.evaluate_split(
        model,
        model_config,
        run.train.data,
        strategy=strategy,
        batch_size=run.train.eval_batch_size,
    )
    for name, value in figures.items():
        logging.info("%s/%s: %s", run.train.data.eval_split, name, value)


def _predict(run, strategy):
    from noisy_student import predict

    path = run.checkpoint or run.model_dir
    manifest = predict.predict(
        predict.PredictConfig(
            model=run.train.model,
            checkpoint=path,
            input_dir=run.train.data.unlabel_data_dir,
            split=run.train.data.unlabel_split,
            output_dir=run.output_dir,
            batch_size=run.train.eval_batch_size,
        ),
        strategy,
    )
    logging.info(
        "Labeled %d images in %s.", manifest.total_records, run.output_dir
    )


_MODES = {
    "train": _train,
    "train_and_eval": _train,
    "eval": _evaluate,
    "predict": _predict,
}

if __name__ == "__main__":
    command_line.run(main, flags_lib.define_flags)
