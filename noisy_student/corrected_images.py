"""Images that one network gets wrong and another right.

Both look at the same labeled images, each at its own size; the figures are
those of an evaluation, image by image.
"""

import dataclasses
from typing import Optional

import numpy as np
from absl import logging

from data_prep import class_names, progress, thumbnails
from efficientnet.messages import first_names
from noisy_student import classify, preflight, run_dir

_PATHS = ("baseline", "student")
_THUMBNAIL = 192


@dataclasses.dataclass(frozen=True)
class CorrectedConfig:
    """Which images to look at, and with which networks.

    Attributes:
        images: Labeled images, as `labeled_images.open_source` takes them.
        baseline: Checkpoint or run directory of the network that errs.
        student: That of the one that is right.
        split: Prefix of the shards, or the split of a tfds data set.
        baseline_model_name: Its network, where its checkpoint does not tell.
        student_model_name: The same of the student.
        num_examples: Images to find at most.
        batch_size: Images per step.
        class_names_file: Names of the classes; see `ClassifyConfig`.
    """

    images: str
    baseline: str
    student: str
    split: str = "validation"
    baseline_model_name: Optional[str] = None
    student_model_name: Optional[str] = None
    num_examples: int = 24
    batch_size: int = 32
    class_names_file: Optional[str] = None

    def __post_init__(self):
        for name in ("num_examples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be >= 1. Received: {getattr(self, name)}."
                )


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a network said of each image.

    Attributes:
        guesses: int64 [images], its most probable classes, 0-based.
        probs: float32 [images], their probabilities.
    """

    guesses: np.ndarray
    probs: np.ndarray


@dataclasses.dataclass(frozen=True)
class Example:
    """One image that the baseline gets wrong and the student right.

    Attributes:
        image: PIL image.
        key: What messages call it.
        truth: Name of its class, which the student says.
        truth_prob: The student's probability of it.
        wrong: Name of what the baseline says.
        wrong_prob: The baseline's probability of that.
    """

    image: object
    key: str
    truth: str
    truth_prob: float
    wrong: str
    wrong_prob: float


@dataclasses.dataclass(frozen=True)
class Corrected:
    """What came out.

    Attributes:
        counts: dict: images by who is right, "both", "student", "baseline"
            or "neither".
        examples: Tuple of `Example`, those that the student is most sure of
            first.
    """

    counts: dict
    examples: tuple


def choose(labels, baseline, student, number):
    """Returns the images that the student gets right and the baseline wrong.

    Args:
        labels: int64 [images], 0-based.
        baseline: `Answers`.
        student: `Answers`.
        number: How many to return at most.

    Returns:
        list of positions: those that the student is most sure of first, equal
        ones in the order of the images.
    """
    found = np.flatnonzero(
        (student.guesses == labels) & (baseline.guesses != labels)
    )
    order = np.argsort(-student.probs[found], kind="stable")
    return found[order][:number].tolist()


def count(labels, baseline, student):
    """Returns how many images both networks, one or neither gets right.

    Args:
        labels: int64 [images], 0-based.
        baseline: `Answers`.
        student: `Answers`.

    Returns:
        dict as `Corrected.counts`.
    """
    first = baseline.guesses == labels
    second = student.guesses == labels
    return {
        "both": int(np.sum(first & second)),
        "student": int(np.sum(~first & second)),
        "baseline": int(np.sum(first & ~second)),
        "neither": int(np.sum(~first & ~second)),
    }


def find(config):
    """Looks at all images with both networks.

    Args:
        config: `CorrectedConfig`.

    Returns:
        `Corrected`.

    Raises:
        FileNotFoundError: If there is no checkpoint, no image or no file of
            names.
        ValueError: If the networks, the names or the images do not fit
            together, or an image cannot be evaluated; it is named.
    """
    for flag in _PATHS:
        preflight.require_checkpoint(flag, getattr(config, flag))
    names = config.class_names_file
    if names is not None:
        names = class_names.read_class_names(names)
    # TensorFlow is imported only now: a wrong path must not wait for it.
    from noisy_student import labeled_images, models

    described = {flag: _describe(models, config, flag) for flag in _PATHS}
    num_classes = _common_classes(config, described)
    names = classify.resolve_names(
        names,
        names_file=config.class_names_file,
        checkpoint=config.student,
        num_classes=num_classes,
        flag="student",
    )
    source = labeled_images.open_source(
        config.images,
        split=config.split,
        num_classes=num_classes,
        class_names=_common_names(config),
        flag="images",
    )
    source.check()
    labels, answers = None, {}
    for flag, model in described.items():
        network = models.load(model, getattr(config, flag))
        labels, answers[flag] = _look(
            flag, model, network, source, config.batch_size
        )
    baseline, student = answers["baseline"], answers["student"]
    chosen = choose(labels, baseline, student, config.num_examples)
    return Corrected(
        count(labels, baseline, student),
        tuple(_examples(source, chosen, baseline, student, names)),
    )


def _common_names(config):
    """Returns the names of the classes that a run was trained on, or None."""
    baseline, student = (
        run_dir.trained_class_names(getattr(config, flag)) for flag in _PATHS
    )
    if baseline and student and baseline != student:
        raise ValueError(
            "--baseline and --student were trained on classes of other names "
            f"or order: {first_names(baseline)} and {first_names(student)}."
        )
    return student or baseline


def _describe(models, config, flag):
    return models.resolve(
        getattr(config, flag),
        flag=flag,
        name_flag=f"{flag}_model_name",
        model_name=getattr(config, f"{flag}_model_name"),
    )


def _common_classes(config, described):
    baseline, student = (described[flag].num_classes for flag in _PATHS)
    if baseline != student:
        raise ValueError(
            f"--baseline={config.baseline} has {baseline} classes, --student="
            f"{config.student} has {student}: both need the same ones."
        )
    return student


def _look(flag, model, network, source, batch_size):
    """Returns (labels int64 [images], `Answers`) of a network."""
    import tensorflow as tf

    from noisy_student import input_pipeline, preprocessing

    view = preprocessing.eval_view(model)
    batches = input_pipeline.eval_batches(
        source.elements(),
        view,
        parse=source.parse,
        per_replica_batch_size=batch_size,
        num_images=source.num_images,
    )

    @tf.function(autograph=False)
    def answer(images):
        logits = tf.cast(network(images, training=False), tf.float32)
        return tf.argmax(logits, axis=-1), tf.reduce_max(
            tf.nn.softmax(logits), axis=-1
        )

    meter = progress.Progress(f"Looking with --{flag}", total=source.num_images)
    found = []
    try:
        for batch in batches:
            kept = batch["mask"].numpy() > 0
            parts = (batch["labels"], *answer(batch["images"]))
            found.append([part.numpy()[kept] for part in parts])
            meter.advance(int(kept.sum()))
    except tf.errors.InvalidArgumentError:
        source.explain_failure(view, model.num_classes)
        raise
    labels, guesses, probs = map(np.concatenate, zip(*found))
    if labels.min() < 0 or labels.max() >= model.num_classes:
        source.explain_failure(view, model.num_classes)
    return labels, Answers(guesses, probs)


def _examples(source, chosen, baseline, student, names):
    """Yields the `Example` of each chosen position, in that order."""
    if not chosen:
        return
    reader = (
        (image["image_bytes"].numpy(), None) for image in source.dataset()
    )
    images = thumbnails.pick(reader, set(chosen), size=_THUMBNAIL)
    for position in chosen:
        if position not in images:
            logging.warning(
                "%s: cannot be shown, Pillow does not read it.",
                source.describe(position),
            )
            continue
        yield Example(
            image=images[position],
            key=source.describe(position),
            truth=names[student.guesses[position]],
            truth_prob=float(student.probs[position]),
            wrong=names[baseline.guesses[position]],
            wrong_prob=float(baseline.probs[position]),
        )
