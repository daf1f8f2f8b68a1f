"""What a self-training run will do, and what it takes, before it begins.

Steps and images follow from the configuration. The bytes of records are those
of records made for the purpose; those of checkpoints and the operations of a
step are `info.py`'s. Device-hours are scaled from the one figure that the paper
publishes.
"""

import dataclasses
import os
from typing import Optional

from data_prep import files, filter_stages, shards
from noisy_student import config as config_lib
from noisy_student import fixres, info, loop_metrics, preflight, run_dir

# The paper's largest network takes 6 days on 2,048 cores of a TPU v3 pod, with
# 14 unlabeled images for each labeled one.
# Source: paper, Section 3.1.
_PUBLISHED_CORES = 2048
_PUBLISHED_HOURS = 6 * 24
_PUBLISHED_IMAGES = 350 * 1281167 * (1 + 14)
_PUBLISHED_MODEL = config_lib.ModelConfig("efficientnet-l2", 1000, 475)
# Forward pass, and the gradients by inputs and by weights.
_TRAINING_PASSES = 3

_HEADINGS = (
    "stage",
    "network",
    "steps",
    "images",
    "storage",
    "core-hours",
    "state",
)
_ROW = "  {:<7} {:<27} {:>8} {:>9} {:>9} {:>10}  {}"


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The unlabeled images that a plan reckons with.

    Attributes:
        num_images: How many there are.
        image_bytes: Bytes of an encoded image, on average.
        split: Prefix of their shards.
        key: bytes, the key of one of them.
    """

    num_images: int
    image_bytes: int
    split: str = "train"
    key: bytes = b"n00000000_00000000"


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a round.

    Attributes:
        name: What it does: "train", "label", "filter" or "tune".
        model: The `config.ModelConfig` at work; None for a filter.
        steps: Training steps; None where nothing is trained.
        images: Images that a network looks at, repetitions included; for a
            filter the records it writes, at most.
        storage: Bytes that it leaves behind, at most.
        core_hours: An estimate; see `core_hours`.
        is_done: Whether an earlier run finished it.
    """

    name: str
    model: Optional[config_lib.ModelConfig]
    steps: Optional[int]
    images: int
    storage: float
    core_hours: float
    is_done: bool


@dataclasses.dataclass(frozen=True)
class Round:
    """What belongs together.

    Attributes:
        title: "first teacher", "student 1" and so on.
        stages: Tuple of `Stage`, in order.
        notes: Tuple of str, what the stages are besides.
    """

    title: str
    stages: tuple
    notes: tuple = ()


def measure(directory, split):
    """Returns the `Corpus` of the shards in a directory.

    Raises:
        FileNotFoundError: If there are none.
    """
    from data_prep import records
    from noisy_student import labelling_output

    paths, counts = records.count_shards(directory, split)
    num_images = max(sum(counts), 1)
    key = labelling_output.first_key(paths[0])
    # What a record takes besides its image.
    frame = records.framed_size(records.unlabeled_example(b"", key))
    image_bytes = sum(map(files.size, paths)) // num_images - frame
    return Corpus(sum(counts), max(image_bytes, 0), split, key)


def core_hours(model, num_images, *, training):
    """Returns the hours of one TPU v3 core that a stage takes, an estimate.

    The paper's figure for EfficientNet-L2, scaled by operations and images. It
    counts what the layers compute: small networks keep a core less busy, and
    take longer than this.

    Args:
        model: `config.ModelConfig`.
        num_images: Images seen, repetitions included.
        training: Whether gradients are computed.
    """
    published = _flops(_PUBLISHED_MODEL) * _PUBLISHED_IMAGES * _TRAINING_PASSES
    passes = _TRAINING_PASSES if training else 1
    share = _flops(model) * num_images * passes / published
    return share * _PUBLISHED_CORES * _PUBLISHED_HOURS


def _flops(model):
    return info.model_card(model, batch_size=1).flops


def checkpoint_bytes(model):
    """Returns the bytes of one checkpoint of a training run, about.

    Weights, their averages and the optimizer's slots.
    """
    memory = info.model_card(model, batch_size=1).memory
    return memory.weights + memory.moving_average + memory.slots


def make(config, corpus):
    """Returns the `Round`s of a run.

    Args:
        config: `self_training.SelfTrainingConfig`.
        corpus: `Corpus`.

    Returns:
        Tuple of `Round`: the first teacher, with `filter_teacher` the filter,
        then the students, at last FixRes.

    Raises:
        FileNotFoundError: If FixRes needs the number of labeled images, and
            neither flag nor task nor shards tell it.
        ValueError: If its schedule is too short.
    """
    rounds, teacher = [], config.teacher_model
    if config.teacher is not None:
        stage = _train(config, config.teacher, 0)
        rounds.append(Round("first teacher", (stage,)))
        teacher = config.teacher.model
    if config.filter_teacher is not None:
        folder = os.path.join(config.work_dir, "filter")
        stages = _labels(config.filter_model, corpus, folder, config.balance)
        rounds.append(Round("filter", stages))
        kept = stages[-1].images
        corpus = dataclasses.replace(corpus, num_images=kept, split="train")
    # What was filtered once is labeled again, and all of it kept.
    rule = config.balance if config.filter_teacher is None else None
    for number, student in enumerate(config.rounds, start=1):
        folder = run_dir.round_dir(config.work_dir, number)
        stages = _labels(teacher, corpus, folder, rule)
        stages += (_train(config, student, number),)
        rounds.append(Round(f"student {number}", stages))
        teacher = student.model
    if config.tuning is not None:
        rounds.append(_tuning(config))
    return tuple(rounds)


def _train(config, train, number):
    directory = run_dir.round_dir(config.work_dir, number, "model")
    return _run("train", train, directory, _num_checkpoints(train))


def _run(name, train, directory, num_checkpoints):
    """Returns the `Stage` of a `config.TrainConfig`."""
    images = train.train_steps * loop_metrics.images_per_step(train)
    return Stage(
        name=name,
        model=train.model,
        steps=train.train_steps,
        images=images,
        storage=num_checkpoints * checkpoint_bytes(train.model),
        core_hours=core_hours(train.model, images, training=True),
        is_done=run_dir.read_report(directory) is not None,
    )


def _tuning(config):
    """Returns the `Round` of FixRes, and what the phase does."""
    train = config.tuning
    if train.num_train_images is None:
        train = preflight.check_training_data(train)
    train = fixres.with_tail(train, config.fixres)
    directory = run_dir.fixres_dir(config.work_dir)
    # Its last one is archived, too.
    num_checkpoints = _num_checkpoints(train) + 1
    stage = _run("tune", train, directory, num_checkpoints)
    return Round("FixRes", (stage,), fixres.describe(train, config.fixres))


def _num_checkpoints(train):
    written = -(-train.train_steps // train.save_checkpoints_steps)
    return min(written, train.keep_checkpoint_max)


def _labels(teacher, corpus, folder, balance):
    """Returns the stages that label and filter into a folder.

    Without a rule, `balance`, all images are kept.
    """
    from noisy_student import labelling_output

    classes = teacher.num_classes
    kept = corpus.num_images
    if balance is not None:
        wanted = classes * balance.num_image
        kept = wanted if balance.upsample else min(kept, wanted)
    labels = os.path.join(folder, "labels")
    filtered = os.path.join(folder, "pseudo_labeled")
    label = Stage(
        name="label",
        model=teacher,
        steps=None,
        images=corpus.num_images,
        storage=corpus.num_images
        * labelling_output.prediction_size(classes, corpus.key),
        core_hours=core_hours(teacher, corpus.num_images, training=False),
        is_done=shards.read_manifest(labels, f"{corpus.split}-info")
        is not None,
    )
    size = labelling_output.pseudo_labeled_size(
        corpus.image_bytes, classes, corpus.key
    )
    report = os.path.join(filtered, filter_stages.REPORT_FILE)
    return label, Stage(
        name="filter",
        model=None,
        steps=None,
        images=kept,
        storage=kept * size,
        core_hours=0.0,
        is_done=files.exists(report),
    )


def describe(config, corpus):
    """Returns the plan of a run as text: a table per round, then the sums.

    Args:
        config: `self_training.SelfTrainingConfig`.
        corpus: `Corpus`.
    """
    rounds = make(config, corpus)
    stages = [stage for each in rounds for stage in each.stages]
    left = [stage for stage in stages if not stage.is_done]
    lines = [
        f"{corpus.num_images:,} unlabeled images of "
        f"{info.in_bytes(corpus.image_bytes)}; everything goes to "
        f"{config.work_dir}.",
        "",
    ]
    for each in rounds:
        lines += [each.title, _ROW.format(*_HEADINGS)]
        lines += [_ROW.format(*_cells(stage)) for stage in each.stages]
        lines += [f"  {note}" for note in each.notes]
        lines.append("")
    storage = sum(stage.storage for stage in stages)
    total = sum(stage.core_hours for stage in stages)
    ahead = sum(stage.core_hours for stage in left)
    days = ahead / _PUBLISHED_CORES / 24
    lines += [
        f"In all: {info.in_bytes(storage)} and {_number(total)} core-hours, of "
        f"which {_number(ahead)} are ahead: {days:.3g} days on "
        f"{_PUBLISHED_CORES:,} cores.",
        "",
        "Storage is at most that: every class full, and while a filter writes "
        "as much again.",
        "Core-hours are an estimate: the paper's 6 days of EfficientNet-L2 on "
        "2,048 TPU v3 cores,",
        "scaled by operations and images. Evaluation and filters are left out, "
        "frozen layers count",
        "as trained; small networks, which keep a core less busy, take longer.",
    ]
    return "\n".join(lines)


def _cells(stage):
    model = stage.model
    return (
        stage.name,
        f"{model.model_name} at {model.image_size}" if model else "-",
        f"{stage.steps:,}" if stage.steps is not None else "-",
        info.in_thousands(stage.images),
        info.in_bytes(stage.storage),
        _number(stage.core_hours) if model else "-",
        "done" if stage.is_done else "to do",
    )


def _number(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
