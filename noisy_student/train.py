"""What a run changes, and the step that changes it, on any replicas."""

import contextlib

import tensorflow as tf

import efficientnet
from noisy_student import losses
from noisy_student import moving_average as moving_average_lib

# Set the draws of the labeled images that count, and of a noised teacher,
# apart from the student's noise.
_SAMPLE_SALT = 0x5A3B1E
_TEACHER_SALT = 0x7EAC4E
# Between the seeds of a replica's micro-batches.
_PART_STRIDE = 15485863


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
    return _gradient_metric_names(config) + ("learning_rate",)


def _gradient_metric_names(config):
    pseudo = config.pseudo_labels
    return losses.metric_names(
        has_unlabeled=pseudo.unlabeled_ratio > 0,
        soft_labels=pseudo.label_type == "soft",
    ) + ("loss",)


@tf.autograph.experimental.do_not_convert
def train_step(state, batch, config, teacher=None):
    """Trains one step on every replica of the state's strategy.

    Args:
        state: `TrainState`.
        batch: Dict of per-replica tensors: `labeled_images` float or uint8
            [b, h, w, 3] in [0, 255], `labeled_labels` int [b], and with
            unlabeled images `unlabeled_images`, likewise, and one of
            `unlabeled_probs` float [u, classes] (the teacher's stored
            distribution, perhaps with `unlabeled_labels`, which the metric
            `unlabeled_agreement` then is measured against),
            `unlabeled_labels` int [u] (stored hard labels),
            `unlabeled_teacher_images` float [u, th, tw, 3] (what the online
            teacher sees: clean images, or noised with `noise_teacher`).
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
    # A TPU takes tensors alone as arguments; the others are no tensors.
    metrics = strategy.run(
        lambda batch: _replica_step(state, batch, config, teacher),
        args=(batch,),
    )
    return {
        name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
        for name, value in metrics.items()
    }


def make_unify(state):
    """Returns a function that gives all replicas the same state.

    Each replica has its own batch norm statistics and averages. A checkpoint
    holds their means, so that a run that goes on from one starts with those; so
    must one that is not interrupted.
    """
    own = [
        variable
        for variable in (
            *state.model.non_trainable_variables,
            *state.moving_average.shadows.values(),
        )
        if variable.synchronization == tf.VariableSynchronization.ON_READ
    ]

    @tf.function(autograph=False)
    def unify():
        for variable in own:
            variable.assign(variable.read_value())

    # One replica has nothing to agree on.
    return unify if state.strategy.num_replicas_in_sync > 1 else lambda: None


def check_micro_batches(config, num_labeled):
    """Checks that `accumulate_steps` divides a replica's batch.

    Args:
        config: `config.StepConfig`.
        num_labeled: Labeled images of one replica.

    Raises:
        ValueError: If it does not.
    """
    num_unlabeled = config.unlabeled_batch_size(num_labeled)
    if num_labeled % config.accumulate_steps or (
        num_unlabeled % config.accumulate_steps
    ):
        raise ValueError(
            "--accumulate_steps must divide the labeled and the unlabeled "
            f"images of a replica, {num_labeled} and {num_unlabeled}. "
            f"Received: {config.accumulate_steps}."
        )


def _replica_step(state, batch, config, teacher):
    replica = tf.distribute.get_replica_context()
    learning_rate = _learning_rate(state.optimizer)
    seed = _noise_seed(state, config, replica)
    gradients, metrics = _accumulated_gradients(
        state.model, batch, config, teacher, seed
    )
    gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    state.optimizer.apply_gradients(
        zip(gradients, state.model.trainable_variables),
        skip_gradients_aggregation=True,
    )
    updates = state.moving_average.update(state.model, state.step)
    # Metrics come when their step has ended, not before its gradients: what is
    # timed from there on is no part of it.
    with tf.control_dependencies(updates):
        return tf.nest.map_structure(
            tf.identity, {**metrics, "learning_rate": learning_rate}
        )


def _accumulated_gradients(model, batch, config, teacher, seed):
    """Returns `_gradients` averaged over the micro-batches of a replica."""
    num_parts = config.accumulate_steps
    if num_parts == 1:
        return _gradients(model, batch, config, teacher, seed)
    check_micro_batches(config, batch["labeled_images"].shape[0])
    parts = {
        name: tf.reshape(
            value,
            [num_parts, value.shape[0] // num_parts, *value.shape[1:]],
        )
        for name, value in batch.items()
    }

    def add_part(index, sums):
        values = _gradients(
            model,
            {name: value[index] for name, value in parts.items()},
            config,
            teacher,
            seed + tf.stack([_PART_STRIDE * index, 0]),
        )
        return index + 1, tf.nest.map_structure(tf.add, sums, values)

    zeros = (
        [tf.zeros(v.shape, v.dtype) for v in model.trainable_variables],
        {name: tf.constant(0.0) for name in _gradient_metric_names(config)},
    )
    # A loop, not its steps one by one: only then no two of them overlap.
    _, sums = tf.while_loop(
        lambda index, _: index < num_parts,
        add_part,
        (tf.constant(0), zeros),
        parallel_iterations=1,
    )
    return tf.nest.map_structure(lambda value: value / num_parts, sums)


def _gradients(model, batch, config, teacher, seed):
    """Returns (this replica's share of the gradients, metrics)."""
    images, pseudo_labels = _inputs(batch, config, teacher, seed)
    with tf.GradientTape() as tape:
        with _student_context(batch, config, seed):
            logits = model(images, training=True)
        data_loss, metrics = losses.noisy_student_loss(
            logits,
            batch["labeled_labels"],
            num_labeled=batch["labeled_images"].shape[0],
            num_classes=config.num_classes,
            unlabeled_ratio=config.pseudo_labels.unlabeled_ratio,
            label_smoothing=config.label_smoothing,
            normalization=config.normalization,
            labeled_mask=_labeled_mask(batch, config, seed),
            **pseudo_labels,
        )
        loss = data_loss + losses.weight_decay(
            model.trainable_variables, config.weight_decay
        )
        # Replicas' batches have equal sizes: the sum of their gradients is
        # that of the mean over the global batch.
        replica = tf.distribute.get_replica_context()
        scaled_loss = loss / replica.num_replicas_in_sync
    gradients = tape.gradient(scaled_loss, model.trainable_variables)
    return gradients, {**metrics, "loss": loss}


@contextlib.contextmanager
def _student_context(batch, config, seed):
    """What the student is called in: its noise, and what it keeps."""
    num_labeled = batch["labeled_images"].shape[0]
    pseudo = config.pseudo_labels
    noise = efficientnet.noise_seed(
        seed,
        dropout_rows=None if pseudo.dropout else num_labeled,
        stochastic_depth_rows=None if pseudo.stochastic_depth else num_labeled,
    )
    recompute = efficientnet.recompute_activations(config.recompute_activations)
    with noise, recompute:
        yield


def _inputs(batch, config, teacher, seed):
    """Returns (images, keyword arguments that give the loss its labels)."""
    pseudo = config.pseudo_labels
    labeled_images = tf.cast(batch["labeled_images"], tf.float32)
    if not pseudo.unlabeled_ratio:
        return labeled_images, {}
    # Labeled and unlabeled parts meet here, inside the replica: a batch that
    # was concatenated before would leave some replicas without labels.
    unlabeled_images = tf.cast(batch["unlabeled_images"], tf.float32)
    images = tf.concat([labeled_images, unlabeled_images], axis=0)
    soft = pseudo.label_type == "soft"
    if teacher is not None:
        logits = _teacher_logits(
            teacher, batch["unlabeled_teacher_images"], config, seed
        )
        if not soft:
            return images, {"hard_pseudo_labels": tf.argmax(logits, axis=-1)}
        probs = tf.stop_gradient(tf.nn.softmax(logits))
    elif not soft:
        return images, {"hard_pseudo_labels": batch["unlabeled_labels"]}
    else:
        probs = batch["unlabeled_probs"]
    return images, {
        "pseudo_probs": probs,
        "temperature": pseudo.temperature,
        "stored_labels": batch.get("unlabeled_labels"),
    }


def _teacher_logits(teacher, images, config, seed):
    with contextlib.ExitStack() as stack:
        if config.pseudo_labels.noise_teacher:
            # Its layers have the names, and would draw as, the student's.
            seed = tf.bitwise.bitwise_xor(seed, [_TEACHER_SALT, 0])
            stack.enter_context(
                efficientnet.noise_seed(seed, at_inference=True)
            )
        return tf.cast(teacher(images, training=False), tf.float32)


def _noise_seed(state, config, replica):
    step = tf.cast(state.step, tf.int32)
    replica_id = tf.cast(replica.replica_id_in_sync_group, tf.int32)
    return tf.stack([config.seed + 7919 * replica_id, step])


def _labeled_mask(batch, config, seed):
    """Returns which labeled images count, None for all."""
    prob = config.label_data_sample_prob
    if prob == 1:
        return None
    # Not the draws of a layer, which folds its name in at the same place.
    own_seed = tf.bitwise.bitwise_xor(seed, [_SAMPLE_SALT, 0])
    uniform = tf.random.stateless_uniform(
        [batch["labeled_images"].shape[0]], own_seed
    )
    return losses.sample_mask(uniform, prob)


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
    excludes a clock, and not on a TPU.
    """
    names = (*metric_names(config), "finite_steps")
    # On a TPU the wait would be made by measuring it: there the host would
    # fetch a batch, and start a step, only when the step before has ended and
    # its metrics have come back.
    on_tpu = isinstance(state.strategy, tf.distribute.TPUStrategy)
    if not on_tpu and _has_clock():
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

    On GPUs, which compute while the host is waiting, it is the host whose wait
    is measured: an upper bound of the time they idle.
    """
    with tf.control_dependencies(tf.nest.flatten(before)):
        started = tf.timestamp()
    with tf.control_dependencies([started]):
        batch = next(iterator)
    with tf.control_dependencies(tf.nest.flatten(batch, True)):
        ended = tf.timestamp()
    # Else a processor of one core may compute with the batch before it looks at
    # the clock.
    with tf.control_dependencies([ended]):
        batch = tf.nest.map_structure(
            tf.identity, batch, expand_composites=True
        )
    return batch, ended - started
