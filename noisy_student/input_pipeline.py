"""Shards in, batches out: labeled and unlabeled streams, evaluation batches.

The order of a training stream is a function of (seed, position) alone, so a
run that was killed continues with the very next image (`record_stream.py`).
Randomness of an image's view is seeded with its position for the same reason.
Records that cannot be used are left out and accounted for
(`damaged_records.py`).
"""

import tensorflow as tf

from data_prep import cores, records, tf_data
from noisy_student import damaged_records, preprocessing, record_stream

# Sets the draws of a noised teacher's view apart from the student's.
_TEACHER_SALT = 0x7EAC4E


def train_batches(
    config,
    context=None,
    *,
    start_step=0,
    damage=None,
    num_parallel_calls=None,
):
    """Returns an endless dataset of training batches of one input pipeline.

    Args:
        config: `config.TrainConfig`.
        context: `tf.distribute.InputContext`; None for a single replica.
        start_step: Steps already trained; the first batch is that of the
            step after them.
        damage: `damaged_records.DamageLog` of the run; None keeps no account
            beyond this call.
        num_parallel_calls: Images that are looked at at once, by default one
            for each processor core; the batches do not depend on it.

    Returns:
        Dataset of dicts with static shapes: `labeled_images` [b, h, w, 3] in
        [0, 255], uint8 where whole numbers and float32 otherwise,
        `labeled_labels` int64 [b] (0-based), and with unlabeled images
        `unlabeled_images` [u, h, w, 3] likewise and either
        `unlabeled_teacher_images` float32 [u, th, tw, 3] or `unlabeled_labels`
        int64 [u], with soft labels beside `unlabeled_probs` float32
        [u, classes].
    """
    replicas = context.num_replicas_in_sync if context else 1
    per_replica = per_replica_batch_size(config.batch_size, replicas)
    unlabeled = config.step.unlabeled_batch_size(per_replica)
    # One dataset element is one replica's batch.
    arguments = {
        "context": context,
        "element_start": start_step * replicas_per_pipeline(context),
        "damage": damage or damaged_records.DamageLog(),
        "num_parallel_calls": num_parallel_calls or cores.count(),
    }
    dataset = _labeled_batches(config, per_replica, **arguments)
    if unlabeled:
        dataset = tf.data.Dataset.zip(
            (dataset, _unlabeled_batches(config, unlabeled, **arguments))
        ).map(lambda labeled, extra: {**labeled, **extra})
    # TensorFlow cannot tell, and would ask all workers before every step
    # whether they have a batch, of a size it does not know.
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    )
    return tf_data.fixed(dataset.prefetch(tf_data.BATCHES_AHEAD))


def replicas_per_pipeline(context):
    """Returns how many replicas one input pipeline feeds.

    Args:
        context: As in `train_batches`.
    """
    if context is None:
        return 1
    return context.num_replicas_in_sync // context.num_input_pipelines


def per_replica_batch_size(batch_size, replicas):
    """Returns a replica's share of a batch; ValueError if it is not whole."""
    if batch_size % replicas:
        raise ValueError(
            "--train_batch_size must be a multiple of the number of replicas, "
            f"{replicas}. Received: {batch_size}."
        )
    return batch_size // replicas


def eval_batches(
    elements, view, *, parse, per_replica_batch_size, num_images, context=None
):
    """Returns the batches of an evaluation: each image once, then padding.

    Args:
        elements: Unbatched `tf.data.Dataset`, an element per image, in an
            order that is the same in every input pipeline.
        view: image_bytes -> float32 [h, w, 3].
        parse: element -> dict with `image_bytes` and perhaps `label` (int64).
        per_replica_batch_size: Images of one batch.
        num_images: Number of elements.
        context: `tf.distribute.InputContext`; each pipeline takes its share
            of every step and all replicas get the same number of batches.

    Returns:
        Dataset of dicts with static shapes: `images` float32 [b, h, w, 3],
        `labels` int64 [b] (0 where there are none and in padding), `mask`
        float32 [b], 1 for images and 0 for padding.
    """
    replicas = context.num_replicas_in_sync if context else 1
    pipelines = context.num_input_pipelines if context else 1
    steps = -(-num_images // (per_replica_batch_size * replicas))
    num_batches = steps * (replicas // pipelines)

    @tf.autograph.experimental.do_not_convert
    def look(element):
        record = parse(element)
        return {
            "images": view(record["image_bytes"]),
            "labels": tf.cast(record.get("label", 0), tf.int64),
            "mask": tf.constant(1.0),
        }

    dataset = elements
    if pipelines > 1:
        # Pipelines share every step, so that the replicas' batches, one after
        # the other, are in the order of the elements.
        share = per_replica_batch_size * (replicas // pipelines)
        reader = context.input_pipeline_id
        dataset = (
            dataset.enumerate()
            .filter(lambda index, _: index // share % pipelines == reader)
            .map(lambda _, element: element)
        )
    dataset = dataset.map(look, num_parallel_calls=cores.count())
    padding = tf.nest.map_structure(
        lambda spec: tf.zeros(spec.shape, spec.dtype), dataset.element_spec
    )
    dataset = dataset.concatenate(
        tf.data.Dataset.from_tensors(padding).repeat()
    )
    dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
    dataset = dataset.take(num_batches).prefetch(tf_data.BATCHES_AHEAD)
    return tf_data.fixed(dataset)


def distribute_eval_batches(strategy, shards, view, *, parse, batch_size):
    """Returns `eval_batches` of TFRecord shards, for all replicas.

    Args:
        strategy: `tf.distribute` strategy.
        shards: Paths of TFRecord files.
        view: image_bytes -> float32 [h, w, 3].
        parse: serialized record -> dict, as in `eval_batches`.
        batch_size: As in `distribute_elements`.
    """
    return distribute_elements(
        strategy,
        lambda: tf.data.TFRecordDataset(list(shards)),
        view,
        parse=parse,
        num_images=sum(map(records.count_records, shards)),
        batch_size=batch_size,
    )


def distribute_elements(
    strategy, elements, view, *, parse, num_images, batch_size
):
    """Returns `eval_batches` of all replicas of a strategy.

    Args:
        strategy: `tf.distribute` strategy.
        elements: Function without arguments that returns the dataset of
            `eval_batches`.
        view: image_bytes -> float32 [h, w, 3].
        parse: As in `eval_batches`.
        num_images: Number of elements.
        batch_size: Images per step over all replicas; rounded up to a
            multiple of the replicas.
    """
    replicas = strategy.num_replicas_in_sync
    return strategy.distribute_datasets_from_function(
        lambda context: eval_batches(
            elements(),
            view,
            parse=parse,
            per_replica_batch_size=-(-batch_size // replicas),
            num_images=num_images,
            context=context,
        )
    )


def _labeled_batches(config, batch_size, **arguments):
    view = preprocessing.train_view(config.model, config.labeled_augment)
    num_classes = config.model.num_classes

    def look(serialized, seed):
        record = records.parse_labeled(serialized)
        return {
            "labeled_images": view(record["image_bytes"], seed),
            # Stored labels are 1-based.
            "labeled_labels": _checked_label(record["label"] - 1, num_classes),
        }

    return _batches(config, "labeled", "labeled", look, batch_size, **arguments)


def _unlabeled_batches(config, batch_size, **arguments):
    pseudo = config.step.pseudo_labels
    view = preprocessing.train_view(config.model, config.unlabeled_augment)
    num_classes = config.model.num_classes
    if pseudo.online:
        teacher_view = _teacher_view(config)

    def look(serialized, seed):
        if pseudo.online:
            image_bytes = records.parse_unlabeled(serialized)["image_bytes"]
            return {
                "unlabeled_images": view(image_bytes, seed),
                "unlabeled_teacher_images": teacher_view(image_bytes, seed),
            }
        record = records.parse_pseudo_labeled(serialized, num_classes)
        images = {"unlabeled_images": view(record["image_bytes"], seed)}
        if pseudo.label_type == "soft":
            return {
                **images,
                "unlabeled_probs": record["probs"],
                "unlabeled_labels": record["label"],
            }
        label = _checked_label(record["label"], num_classes)
        return {**images, "unlabeled_labels": label}

    kind = "unlabeled" if pseudo.online else "pseudo_labeled"
    return _batches(config, "unlabeled", kind, look, batch_size, **arguments)


def _teacher_view(config):
    """Returns the online teacher's view: (image_bytes, seed) -> pixels."""
    if not config.step.pseudo_labels.noise_teacher:
        clean = preprocessing.eval_view(config.teacher)
        return lambda image_bytes, seed: clean(image_bytes)
    noised = preprocessing.train_view(config.teacher, config.labeled_augment)
    # Not the student's crop and operations.
    return lambda image_bytes, seed: noised(
        image_bytes, tf.bitwise.bitwise_xor(seed, [_TEACHER_SALT, 0])
    )


def _checked_label(label, num_classes):
    # Gathering fails outside the range; other checks take longer.
    return tf.gather(tf.range(num_classes, dtype=tf.int64), label)


def _batches(
    config,
    name,
    kind,
    look,
    batch_size,
    *,
    context,
    element_start,
    damage,
    num_parallel_calls,
):
    """Returns the batches of one stream.

    Args:
        config: `config.TrainConfig`.
        name: `labeled` or `unlabeled`.
        kind: What the records are.
        look: serialized, seed int64 [2] -> dict of features.
        batch_size: Records of a batch.
        context: As in `train_batches`.
        element_start: Batches already delivered.
        damage: As above.
        num_parallel_calls: As above.
    """
    data = config.data
    unlabeled = name == "unlabeled"
    stream = record_stream.open_stream(
        data.unlabel_data_dir if unlabeled else data.label_data_dir,
        data.unlabel_split if unlabeled else data.train_split,
        name=name,
        seed=config.seed,
        shuffle_buffer=data.shuffle_buffer,
        cache=data.cache,
        context=context,
        num_shards=None if unlabeled else data.num_train_shards,
    )
    stream_damage = damage.open(
        name,
        stream,
        context=context,
        kind=kind,
        num_classes=config.model.num_classes,
        max_fraction=data.max_damaged_fraction,
        look=look,
        step_size=batch_size * replicas_per_pipeline(context),
        is_new=element_start == 0,
    )
    start = stream_damage.position(element_start * batch_size)
    looked = _look_at_rows(stream, look, start, num_parallel_calls)
    if damage.is_remote:
        images = _refusing_damaged(looked, start)
    else:
        images = _without_damaged(looked, stream_damage, start)
    return images.batch(batch_size, drop_remainder=True)


def _look_at_rows(stream, look, start, num_parallel_calls):
    """Returns a dataset of (features, row); damaged rows are missing."""
    look = tf.function(look, autograph=False).get_concrete_function(
        tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int64)
    )
    nothing = tf.nest.map_structure(
        lambda spec: tf.zeros(spec.shape, spec.dtype), look.structured_outputs
    )

    @tf.autograph.experimental.do_not_convert
    def look_at(row):
        is_end = row.index == tf.size(row.order, tf.int64)

        def features():
            serialized = row.records[row.order[row.index]]
            return look(serialized, stream.view_seed(row.position))

        return tf.cond(is_end, lambda: nothing, features), row

    dataset = stream.dataset(start)
    # Errors of reading arrive here, too; `damaged_records` notices the loss.
    return dataset.map(
        look_at, num_parallel_calls=num_parallel_calls
    ).ignore_errors()


def _refusing_damaged(looked, start):
    """Returns the features alone; a missing row is an error."""

    @tf.autograph.experimental.do_not_convert
    def check(expected, element):
        features, row = element
        is_whole = tf.debugging.Assert(
            row.position == expected,
            [
                "A training record is damaged, or a shard does not hold what "
                "its manifest says. With input on other machines none can be "
                "left out. Place in the stream:",
                expected,
            ],
        )
        is_image = row.index < tf.size(row.order, tf.int64)
        with tf.control_dependencies([is_whole]):
            following = row.position + tf.cast(is_image, tf.int64)
        return tf.ensure_shape(following, []), (features, is_image)

    return _images(looked.scan(tf.constant(start, tf.int64), check))


def _without_damaged(looked, damage, start):
    """Returns the features alone; missing rows are reported to `damage`."""

    @tf.autograph.experimental.do_not_convert
    def account(expected, element):
        features, row = element
        gap = row.position - expected

        def report():
            missing = row.order[tf.maximum(row.index - gap, 0) : row.index]
            return tf.numpy_function(
                damage.report,
                [
                    gap,
                    row.position,
                    tf.gather(row.records, missing),
                    tf.gather(row.origins, missing),
                ],
                tf.int64,
            )

        reported = tf.cond(gap == 0, lambda: tf.zeros([], tf.int64), report)
        is_image = row.index < tf.size(row.order, tf.int64)
        # The sum makes the report a part of what is computed.
        following = row.position + tf.cast(is_image, tf.int64) + reported
        return tf.ensure_shape(following, []), (features, is_image)

    return _images(looked.scan(tf.constant(start, tf.int64), account))


def _images(dataset):
    dataset = dataset.filter(lambda features, is_image: is_image)
    return dataset.map(lambda features, is_image: features)
