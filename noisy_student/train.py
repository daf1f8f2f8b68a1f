"""The training step and the loop around it."""

import time

import tensorflow as tf
from absl import logging

import efficientnet
from data_prep import progress
from noisy_student import (
    checkpoints,
    damaged_records,
    info,
    input_pipeline,
    losses,
    models,
    optimizers,
    run_dir,
    schedules,
)
from noisy_student import evaluate as evaluate_lib
from noisy_student import moving_average as moving_average_lib


class TrainState(tf.Module):
    """What a training run changes; everything in it is checkpointed.

    Attributes:
        model: The student, a `tf.keras.Model`.
        optimizer: Its optimizer, slots built.
        moving_average: `MovingAverage` of its weights.
        strategy: The `tf.distribute` strategy it was created under.
    """

    def __init__(self, model, optimizer, moving_average):
        super().__init__(name="train_state")
        self.model = model
        self.optimizer = optimizer
        self.moving_average = moving_average
        self.strategy = tf.distribute.get_strategy()

    @property
    def step(self):
        """int64 variable: finished steps."""
        return self.optimizer.iterations


def create_state(model, optimizer, moving_average_decay=0.9999):
    """Returns the state of a new run.

    Args:
        model: A built `tf.keras.Model`.
        optimizer: A Keras optimizer; its slots are created here.
        moving_average_decay: Upper bound of the decay of the average, in
            [0, 1).

    Returns:
        `TrainState`; call this inside `strategy.scope()`.
    """
    optimizer.build(model.trainable_variables)
    moving_average = moving_average_lib.MovingAverage(
        model, moving_average_decay
    )
    return TrainState(model, optimizer, moving_average)


def metric_names(config):
    """Returns the names of the metrics `train_step` returns."""
    pseudo = config.pseudo_labels
    return losses.metric_names(
        has_unlabeled=pseudo.unlabeled_ratio > 0,
        soft_labels=pseudo.label_type == "soft",
    ) + ("loss", "learning_rate")


def train_step(state, batch, config, teacher=None):
    """Trains one step on every replica of the state's strategy.

    Args:
        state: `TrainState`.
        batch: Dict of per-replica tensors: `labeled_images` float
            [b, h, w, 3] in [0, 255], `labeled_labels` int [b], and with
            unlabeled images `unlabeled_images` float [u, h, w, 3] and one of
            `unlabeled_probs` float [u, classes] (the teacher's stored
            distribution), `unlabeled_labels` int [u] (stored hard labels),
            `unlabeled_teacher_images` float [u, th, tw, 3] (clean images for
            the online teacher).
        config: `config.StepConfig`.
        teacher: The online teacher, a `tf.keras.Model`; None with stored
            labels.

    Returns:
        Dict of float32 scalars with the keys of `metric_names`, averaged over
        the replicas.

    Source:
        noisystudent `main.py:model_fn`.
    """
    strategy = state.strategy
    inside = tf.distribute.get_strategy() is strategy
    if inside and not tf.distribute.in_cross_replica_context():
        return _replica_step(state, batch, config, teacher)
    metrics = strategy.run(_replica_step, args=(state, batch, config, teacher))
    return {
        name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
        for name, value in metrics.items()
    }


def _replica_step(state, batch, config, teacher):
    replica = tf.distribute.get_replica_context()
    model = state.model
    learning_rate = _learning_rate(state.optimizer)
    images, pseudo_labels = _inputs(batch, config, teacher)
    with tf.GradientTape() as tape:
        with efficientnet.noise_seed(_noise_seed(state, config, replica)):
            logits = model(images, training=True)
        data_loss, metrics = losses.noisy_student_loss(
            logits,
            batch["labeled_labels"],
            num_labeled=batch["labeled_images"].shape[0],
            num_classes=config.num_classes,
            unlabeled_ratio=config.pseudo_labels.unlabeled_ratio,
            label_smoothing=config.label_smoothing,
            normalization=config.normalization,
            **pseudo_labels,
        )
        loss = data_loss + losses.weight_decay(
            model.trainable_variables, config.weight_decay
        )
        # Replicas' batches have equal sizes: the sum of their gradients is
        # that of the mean over the global batch.
        scaled_loss = loss / replica.num_replicas_in_sync
    variables = model.trainable_variables
    gradients = replica.all_reduce(
        tf.distribute.ReduceOp.SUM, tape.gradient(scaled_loss, variables)
    )
    state.optimizer.apply_gradients(
        zip(gradients, variables), skip_gradients_aggregation=True
    )
    state.moving_average.update(model, state.step)
    return {**metrics, "loss": loss, "learning_rate": learning_rate}


def _inputs(batch, config, teacher):
    """Returns (images, keyword arguments that give the loss its labels)."""
    pseudo = config.pseudo_labels
    if not pseudo.unlabeled_ratio:
        return batch["labeled_images"], {}
    # Labeled and unlabeled parts meet here, inside the replica: a batch that
    # was concatenated before would leave some replicas without labels.
    images = tf.concat(
        [batch["labeled_images"], batch["unlabeled_images"]], axis=0
    )
    soft = pseudo.label_type == "soft"
    if teacher is not None:
        logits = tf.cast(
            teacher(batch["unlabeled_teacher_images"], training=False),
            tf.float32,
        )
        if not soft:
            return images, {"hard_pseudo_labels": tf.argmax(logits, axis=-1)}
        probs = tf.stop_gradient(tf.nn.softmax(logits))
    elif not soft:
        return images, {"hard_pseudo_labels": batch["unlabeled_labels"]}
    else:
        probs = batch["unlabeled_probs"]
    return images, {"pseudo_probs": probs, "temperature": pseudo.temperature}


def _noise_seed(state, config, replica):
    step = tf.cast(state.step, tf.int32)
    replica_id = tf.cast(replica.replica_id_in_sync_group, tf.int32)
    return tf.stack([config.seed + 7919 * replica_id, step])


def _learning_rate(optimizer):
    # A schedule's rate belongs to the step about to be taken; the optimizer's
    # own attribute still holds the previous step's.
    schedule = getattr(optimizer, "_learning_rate", None)
    if callable(schedule):
        return tf.cast(schedule(optimizer.iterations), tf.float32)
    return tf.cast(tf.convert_to_tensor(optimizer.learning_rate), tf.float32)


def make_train_loop(state, config, teacher=None):
    """Returns (iterator, num_steps) -> metrics averaged over the steps.

    The steps run inside one `tf.function`, without visits to the host.
    """

    def add_step(step, iterator, totals):
        metrics = train_step(state, next(iterator), config, teacher)
        totals = {name: totals[name] + metrics[name] for name in totals}
        return step + 1, totals

    # Without AutoGraph, whose conversion takes longer than the tracing.
    @tf.function(autograph=False)
    def run_steps(iterator, num_steps):
        totals = {name: tf.constant(0.0) for name in metric_names(config)}
        _, totals = tf.while_loop(
            lambda step, _: step < num_steps,
            lambda step, totals: add_step(step, iterator, totals),
            (tf.zeros_like(num_steps), totals),
        )
        return {
            name: total / tf.cast(num_steps, tf.float32)
            for name, total in totals.items()
        }

    return run_steps


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


def train(config, strategy, model_dir, *, evaluate=False):
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
        state = create_state(
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
    log = run_dir.MetricsLog(model_dir, start_step=step)
    damage = damaged_records.DamageLog(model_dir)
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda context: input_pipeline.train_batches(
                config, context, start_step=step, damage=damage
            )
        )
    )
    run_steps = make_train_loop(state, config.step, teacher)
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
