"""The loop around the training step: data, checkpoints, metrics, evaluation."""

import os
import time

import tensorflow as tf
from absl import logging

from data_prep import progress
from efficientnet import checkpoint_archive, normalization
from noisy_student import (
    best_checkpoint,
    checkpoints,
    damaged_records,
    divergence,
    info,
    input_pipeline,
    loop_metrics,
    models,
    optimizers,
    preemption,
    run_dir,
    schedules,
    train,
    workers,
)
from noisy_student import config as config_lib
from noisy_student import evaluate as evaluate_lib


def build_optimizer(config):
    """Returns the optimizer of a `config.TrainConfig`."""
    settings = config.optimizer
    decay_epochs = settings.decay_epochs
    if settings.final_base_lr is not None:
        decay_epochs = schedules.decay_epochs_for_final_rate(
            settings.base_learning_rate,
            settings.final_base_lr,
            # The original's epochs here are of all labeled images, also of
            # those that `label_data_sample_prob` masks.
            train_epochs=(settings.start_step + config.train_steps)
            * config.batch_size
            / config.num_train_images,
            warmup_epochs=settings.warmup_epochs,
        )
    return optimizers.RMSprop(
        schedules.WarmupExponentialDecay(
            schedules.scaled_learning_rate(
                settings.base_learning_rate, config.counted_batch_size
            ),
            steps_per_epoch=config.steps_per_epoch,
            decay_epochs=decay_epochs,
            warmup_epochs=settings.warmup_epochs,
            start_step=settings.start_step,
        )
    )


def settings(config):
    """Returns what makes a run, as the JSON values that it is claimed with."""
    made = config_lib.to_dict(config)
    made["precision"] = tf.keras.mixed_precision.global_policy().name
    if config.teacher_checkpoint is not None:
        # The path may be a run's, which names another checkpoint tomorrow.
        prefix = checkpoint_archive.find(config.teacher_checkpoint)
        made["teacher_weights"] = checkpoints.fingerprint(prefix)
    return made


def check(config, strategy):
    """Raises a ValueError if the settings of a run contradict each other."""
    build_optimizer(config)
    num_blocks = info.training_card(config).num_blocks
    for flag, blocks in (
        ("trainable_blocks", config.freeze.trainable_blocks),
        ("fix_layer_num", config.freeze.fixed_blocks),
    ):
        if blocks is not None and blocks > num_blocks:
            raise ValueError(
                f"--{flag}={blocks}: {config.model.model_name} has "
                f"{num_blocks} blocks."
            )
    per_replica = input_pipeline.per_replica_batch_size(
        config.batch_size, strategy.num_replicas_in_sync
    )
    train.check_micro_batches(config.step, per_replica)
    _check_groups(config, strategy)


def _check_groups(config, strategy):
    group_size = normalization.replicas_per_group(
        config.model.num_shards_per_group, strategy.num_replicas_in_sync
    )
    # `MirroredStrategy` reduces in no loop inside a replica, and each
    # micro-batch would have to.
    if (
        config.step.accumulate_steps > 1
        and group_size > 1
        and not isinstance(strategy, tf.distribute.TPUStrategy)
    ):
        raise ValueError(
            f"--accumulate_steps={config.step.accumulate_steps} needs a TPU "
            f"where {group_size} replicas share their batch statistics: give "
            "--num_shards_per_group=1."
        )


def run(config, strategy, model_dir, *, evaluate=False):
    """Trains until `config.train_steps`, resuming what lies in `model_dir`.

    Args:
        config: `config.TrainConfig`.
        strategy: `tf.distribute` strategy.
        model_dir: The run directory; see `workers.claimed`.
        evaluate: Whether to evaluate every `steps_per_eval` steps and at the
            end.

    Returns:
        The last metrics, {name: float}.

    Raises:
        CheckpointError: If the run directory cannot be written to.
        DamagedRecordsError: If too many records cannot be used.
        Stopped: If SIGTERM or SIGINT came; what was trained is saved.
        ValueError: If the loss is out of all bounds.
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
        model_dir,
        state,
        max_to_keep=config.keep_checkpoint_max,
        asynchronous=config.async_checkpoints,
    )
    with manager, preemption.watch() as watch:
        loop = _Loop(config, state, teacher, manager, model_dir, evaluate)
        return loop.run(_restore(config, state, manager), watch)


def _restore(config, state, manager):
    """Restores a state; returns the companion of its checkpoint.

    The order: this run's own checkpoint, else given weights, else none.

    Returns:
        {} where the checkpoint has no companion; None for a run that begins.
    """
    resumed = manager.restore_latest()
    if resumed is not None:
        return run_dir.read_companion(resumed) or {}
    if config.init_checkpoint is not None:
        checkpoints.load_weights(
            state.model,
            config.init_checkpoint,
            use_ema=config.init_ema,
            head=config.init_head,
        )
        state.moving_average.reset(state.model)
    return None


class _Loop:
    """What happens between the steps of one run.

    At each stop: save, evaluate, write the line of metrics. A checkpoint has a
    companion with the metrics of the steps before it, so whatever a kill cuts
    short after it is made up for when the run goes on.

    Args:
        config: `config.TrainConfig`.
        state: `train.TrainState`.
        teacher: The online teacher, or None.
        manager: `checkpoints.CheckpointManager`.
        model_dir: The run directory.
        evaluate: As for `run`.
    """

    def __init__(self, config, state, teacher, manager, model_dir, evaluate):
        self._config = config
        self._state = state
        self._strategy = state.strategy
        self._manager = manager
        self._model_dir = model_dir
        self._evaluate = evaluate
        self._damage = damaged_records.DamageLog(
            model_dir, is_remote=workers.has_remote_hosts(state.strategy)
        )
        self._dump = os.path.join(
            model_dir, workers.own_file(state.strategy, "divergence.json")
        )
        self._run_steps = train.make_train_loop(state, config.step, teacher)
        self._unify = train.make_unify(state)
        # Once: the teacher that was loaded, whatever its run saves meanwhile.
        self._settings = settings(config)

    def run(self, companion, watch):
        """Trains to the end and returns the last metrics.

        Args:
            companion: What `_restore` returned.
            watch: `preemption.Watch`.
        """
        config = self._config
        step = int(self._state.step.numpy())
        workers.check_same_step(self._strategy, step)
        self._damage.check_complete((companion or {}).get("damaged", {}))
        log, metrics = self._catch_up(step, companion)
        iterator = self._iterator(step)
        meter = progress.Progress("train", total=config.train_steps, done=step)
        is_saved = step > 0
        while step < config.train_steps:
            # One may have come while starting, or during an evaluation.
            self._stop_if_asked(watch, step, metrics, is_saved)
            target = _next_stop(step, config, self._evaluate)
            metrics = self._train(iterator, step, target)
            meter.advance(target - step, f"loss {metrics['train/loss']:.3f}")
            metrics["timing/seconds_left"] = meter.seconds_left
            step = target
            is_saved = self._must_save(step)
            if is_saved:
                self._save(step, metrics)
            self._stop_if_asked(watch, step, metrics, is_saved)
            if self._must_evaluate(step):
                metrics.update(self._measure(step))
            self._write(log, step, metrics)
        self._manager.wait()
        self._damage.log_summary()
        return metrics

    def _stop_if_asked(self, watch, step, metrics, is_saved):
        """Saves, and raises `Stopped`, if a signal came to any worker."""
        # Asked once: a signal may come at any moment.
        received = max(workers.gather(self._strategy, int(watch.signal or 0)))
        if not received:
            return
        if not is_saved:
            self._save(step, metrics)
        self._manager.wait()
        raise preemption.stopped(received, step)

    def _catch_up(self, step, companion):
        """Makes up for what a kill cut short after the checkpoint of a step.

        Lines in the directory of a run that begins are those of another, which
        came to nothing.

        Returns:
            (the log, the metrics of the step's line).
        """
        is_new = companion is None
        companion = companion or {}
        lines = [] if is_new else run_dir.read_metrics(self._model_dir)
        written = [line for line in lines if line["step"] == step]
        metrics = dict(written[-1] if written else companion.get("metrics", {}))
        metrics.pop("step", None)
        missing = self._must_evaluate(step) and "eval/top_1" not in metrics
        # All have read before the chief writes.
        missing, *_ = workers.gather(self._strategy, int(missing))
        if missing:
            metrics.update(self._measure(step))
        is_whole = bool(written) and not missing
        log = self._open_log(step if is_whole else step - 1)
        if metrics and not is_whole:
            self._write(log, step, metrics)
        return log, metrics

    def _open_log(self, step):
        if not workers.is_chief(self._strategy):
            return run_dir.NoMetricsLog()
        with self._manager.explained_errors():
            return run_dir.MetricsLog(self._model_dir, start_step=step)

    def _iterator(self, step):
        return iter(
            self._strategy.distribute_datasets_from_function(
                lambda context: input_pipeline.train_batches(
                    self._config,
                    context,
                    start_step=step,
                    damage=self._damage,
                )
            )
        )

    def _train(self, iterator, step, target):
        """Takes the steps up to `target`; returns their metrics."""
        started = time.monotonic()
        num_steps = tf.constant(target - step, tf.int64)
        try:
            values = self._run_steps(iterator, num_steps)
            values = {name: float(value) for name, value in values.items()}
        except tf.errors.OpError:
            with self._manager.explained_errors():
                self._damage.raise_error()
            raise
        seconds = time.monotonic() - started
        input_wait = values.pop("input_wait", None)
        finite_steps = int(values.pop("finite_steps"))
        metrics = {f"train/{name}": value for name, value in values.items()}
        divergence.check_metrics(
            metrics,
            target,
            num_classes=self._config.model.num_classes,
            num_steps=target - step,
            finite_steps=finite_steps,
            damage=self._damage,
            path=self._dump,
        )
        metrics["train/epoch"] = loop_metrics.epoch(self._config, target)
        metrics.update(
            loop_metrics.timing(
                self._config,
                num_replicas=self._strategy.num_replicas_in_sync,
                step_seconds=seconds / (target - step),
                input_wait=input_wait,
            )
        )
        return metrics

    def _must_save(self, step):
        # What is evaluated is saved first: its evaluation may be cut short.
        return self._must_evaluate(step) or _is_due(
            step, self._config.save_checkpoints_steps, self._config
        )

    def _must_evaluate(self, step):
        is_due = (
            self._config.evaluate_start
            if step == 0
            else _is_due(step, self._config.steps_per_eval, self._config)
        )
        return self._evaluate and is_due

    def _save(self, step, metrics):
        # First: what is not finite on one replica is so in their mean.
        self._unify()
        divergence.check_weights(
            self._state.model,
            step,
            damage=self._damage,
            path=self._dump,
        )
        self._manager.save(
            step,
            {
                "step": step,
                "metrics": metrics,
                "damaged": self._damage.counts(),
                "config": self._settings,
            },
        )

    def _measure(self, step):
        """Evaluates the averages of a step; returns the figures.

        All steps but 0 are saved, and the best of them is kept.
        """
        figures = _evaluate_average(self._config, self._state)
        logging.info(
            "Step %d: eval top-1 %.2f %%.", step, 100 * figures["eval/top_1"]
        )
        self._manager.wait()
        if step > 0 and workers.is_chief(self._strategy):
            with self._manager.explained_errors():
                best_checkpoint.keep(
                    self._model_dir, self._manager.latest, step, figures
                )
        return figures

    def _write(self, log, step, metrics):
        with self._manager.explained_errors():
            log.write(step, metrics)


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
    return step > 0 and (step % every == 0 or step == config.train_steps)
