"""The loop around the training step: data, checkpoints, metrics, evaluation."""

import time

import tensorflow as tf
from absl import logging

from data_prep import progress
from noisy_student import (
    checkpoints,
    damaged_records,
    info,
    input_pipeline,
    models,
    optimizers,
    run_dir,
    schedules,
    train,
    workers,
)
from noisy_student import evaluate as evaluate_lib


def build_optimizer(config):
    """Returns the optimizer of a `config.TrainConfig`."""
    settings = config.optimizer
    decay_epochs = settings.decay_epochs
    if settings.final_base_lr is not None:
        decay_epochs = schedules.decay_epochs_for_final_rate(
            settings.base_learning_rate,
            settings.final_base_lr,
            train_epochs=config.train_steps / config.steps_per_epoch,
            warmup_epochs=settings.warmup_epochs,
        )
    return optimizers.RMSprop(
        schedules.WarmupExponentialDecay(
            schedules.scaled_learning_rate(
                settings.base_learning_rate, config.batch_size
            ),
            steps_per_epoch=config.steps_per_epoch,
            decay_epochs=decay_epochs,
            warmup_epochs=settings.warmup_epochs,
        )
    )


def check(config, strategy):
    """Raises a ValueError if the settings of a run contradict each other."""
    build_optimizer(config)
    blocks = config.freeze.trainable_blocks
    num_blocks = info.training_card(config).num_blocks
    if blocks is not None and blocks > num_blocks:
        raise ValueError(
            f"--trainable_blocks={blocks}: {config.model.model_name} has "
            f"{num_blocks} blocks."
        )
    input_pipeline.per_replica_batch_size(
        config.batch_size, strategy.num_replicas_in_sync
    )


def run(config, strategy, model_dir, *, evaluate=False):
    """Trains until `config.train_steps`, resuming what lies in `model_dir`.

    Args:
        config: `config.TrainConfig`.
        strategy: `tf.distribute` strategy.
        model_dir: The run directory; it must have been claimed.
        evaluate: Whether to evaluate every `steps_per_eval` steps and at the
            end.

    Returns:
        The last metrics, {name: float}.

    Raises:
        DamagedRecordsError: If too many records cannot be used.
        ValueError: If the loss is not finite any more.
    """
    card = info.training_card(
        config, num_replicas=strategy.num_replicas_in_sync
    )
    logging.info("%s", info.summary(card))
    # Initial weights depend on the seed alone, not on what ran before.
    tf.keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        teacher = models.load_teacher(config)
        network = models.build(config.model)
        models.freeze(network, config.freeze)
        state = train.create_state(
            network,
            build_optimizer(config),
            config.optimizer.moving_average_decay,
        )
    manager = checkpoints.CheckpointManager(
        model_dir, state, max_to_keep=config.keep_checkpoint_max
    )
    # Restore order: this run's own checkpoint, else given weights, else none.
    resumed = manager.restore_latest()
    if resumed is None and config.init_checkpoint is not None:
        checkpoints.load_weights(
            state.model,
            config.init_checkpoint,
            use_ema=config.init_ema,
            head=config.init_head,
        )
        state.moving_average.reset(state.model)
    return _run(config, state, teacher, manager, model_dir, evaluate)


def _run(config, state, teacher, manager, model_dir, evaluate):
    strategy = state.strategy
    step = int(state.step.numpy())
    workers.check_same_step(strategy, step)
    if workers.is_chief(strategy):
        log = run_dir.MetricsLog(model_dir, start_step=step)
    else:
        log = run_dir.NoMetricsLog()
    damage = damaged_records.DamageLog(
        model_dir, is_remote=workers.has_remote_hosts(strategy)
    )
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda context: input_pipeline.train_batches(
                config, context, start_step=step, damage=damage
            )
        )
    )
    run_steps = train.make_train_loop(state, config.step, teacher)
    meter = progress.Progress("train", total=config.train_steps, done=step)
    # A line is written before its checkpoint, so the last one is this step's.
    metrics = (run_dir.read_metrics(model_dir) or [{}])[-1]
    metrics.pop("step", None)
    while step < config.train_steps:
        target = _next_stop(step, config, evaluate)
        started = time.monotonic()
        try:
            values = run_steps(iterator, tf.constant(target - step, tf.int64))
        except tf.errors.OpError:
            damage.raise_error()
            raise
        metrics = {f"train/{k}": float(v) for k, v in values.items()}
        _check_finite(metrics, target)
        seconds = time.monotonic() - started
        metrics["train/epoch"] = target / config.steps_per_epoch
        metrics["timing/steps_per_second"] = (target - step) / seconds
        steps, step = target - step, target
        if evaluate and _is_due(step, config.steps_per_eval, config):
            metrics.update(_evaluate_average(config, state))
        log.write(step, metrics)
        meter.advance(steps, _summary(metrics))
        if _is_due(step, config.save_checkpoints_steps, config):
            manager.save(step)
    damage.log_summary()
    if evaluate and "eval/top_1" not in metrics:
        # The steps were trained before, by a run that did not evaluate.
        metrics.update(_evaluate_average(config, state))
        log.write(step, metrics)
    return metrics


def _evaluate_average(config, state):
    with state.moving_average.swapped_into(state.model):
        values = evaluate_lib.evaluate_split(
            state.model,
            config.model,
            config.data,
            strategy=state.strategy,
            batch_size=config.eval_batch_size,
        )
    return {f"eval/{name}": value for name, value in values.items()}


def _next_stop(step, config, evaluate):
    """Returns the next step at which the host has something to do.

    Stops lie at fixed multiples, whatever step the run started from, so a
    resumed run reports over the same windows.
    """
    intervals = [config.iterations_per_loop, config.save_checkpoints_steps]
    if evaluate:
        intervals.append(config.steps_per_eval)
    following = [(step // every + 1) * every for every in intervals]
    return min(*following, config.train_steps)


def _is_due(step, every, config):
    return step % every == 0 or step == config.train_steps


def _check_finite(metrics, step):
    broken = [
        name for name, value in metrics.items() if not abs(value) < float("inf")
    ]
    if broken:
        raise ValueError(
            f"Training diverged by step {step}: {', '.join(broken)} not "
            "finite. The last checkpoint is intact; lower "
            "--base_learning_rate."
        )


def _summary(metrics):
    parts = [f"loss {metrics['train/loss']:.3f}"]
    if "eval/top_1" in metrics:
        parts.append(f"eval top-1 {100 * metrics['eval/top_1']:.1f} %")
    return ", ".join(parts)
