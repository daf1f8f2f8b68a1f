"""What a run changes, and the step that changes it, on any replicas."""

import tensorflow as tf

import efficientnet
from noisy_student import losses
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

    The steps run inside one `tf.function`, without visits to the host. Beside
    the metrics there are `finite_steps`, how many steps there were before the
    first one whose loss is not finite, and `input_wait`, the mean seconds that
    a step waited for its batch; not where operations are deterministic, which
    excludes a clock.
    """
    names = (*metric_names(config), "finite_steps")
    if _has_clock():
        names += ("input_wait",)

    def add_step(step, iterator, totals):
        if "input_wait" in totals:
            batch, wait = _timed_next(iterator, totals)
        else:
            batch, wait = next(iterator), 0.0
        metrics = train_step(state, batch, config, teacher)
        is_next = tf.equal(totals["finite_steps"], tf.cast(step, tf.float32))
        is_finite = tf.math.is_finite(metrics["loss"])
        added = {
            **metrics,
            "input_wait": tf.cast(wait, tf.float32),
            "finite_steps": tf.cast(is_next & is_finite, tf.float32),
        }
        return step + 1, {name: totals[name] + added[name] for name in totals}

    # Without AutoGraph, whose conversion takes longer than the tracing.
    @tf.function(autograph=False)
    def run_steps(iterator, num_steps):
        _, totals = tf.while_loop(
            lambda step, _: step < num_steps,
            lambda step, totals: add_step(step, iterator, totals),
            (tf.zeros_like(num_steps), dict.fromkeys(names, tf.constant(0.0))),
        )
        finite_steps = totals.pop("finite_steps")
        count = tf.cast(num_steps, tf.float32)
        averages = {name: total / count for name, total in totals.items()}
        return {**averages, "finite_steps": finite_steps}

    return run_steps


def _has_clock():
    try:
        tf.timestamp()
    except tf.errors.OpError:
        return False
    return True


def _timed_next(iterator, before):
    """Returns (batch, seconds it took to come) once `before` is computed.

    On accelerators, which compute while the host is waiting, it is the host
    whose wait is measured: an upper bound of the time they idle.
    """
    with tf.control_dependencies(tf.nest.flatten(before)):
        started = tf.timestamp()
    with tf.control_dependencies([started]):
        batch = next(iterator)
    with tf.control_dependencies(tf.nest.flatten(batch, True)):
        return batch, tf.timestamp() - started
