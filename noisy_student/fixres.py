"""FixRes: a trained network is tuned, shortly, at a larger resolution.

A phase of its own after training: 1.5 epochs of labeled images as evaluation
shows them, at the learning rates that end the schedule. The loop is that of
every run (`train_loop.py`); here is what makes its settings.

Source: paper, Section 3.1; Touvron et al. 2019, "Fixing the train-test
resolution discrepancy" (arXiv 1906.06423), Section 4.2.
"""

import dataclasses
from typing import Optional

from absl import logging

from efficientnet import config as efficientnet_config
from noisy_student import config as config_lib
from noisy_student import model_view, run_dir
from noisy_student.data_config import require

# Where a run differs from the network that it starts from: in its noise, if
# that is given, and in its devices.
_OWN_SETTINGS = (
    "dropout_rate",
    "stochastic_depth_rate",
    "num_shards_per_group",
)


@dataclasses.dataclass(frozen=True)
class FixResConfig:
    """How a network is tuned.

    Attributes:
        variant: One of `config.FIXRES_VARIANTS`. `'classifier'` trains the last
            layer alone, and every batch normalization takes its moving
            statistics. `'head_batch_norm'` also trains scale and offset of the
            batch normalization before the pooling, whose statistics follow the
            images; the convolution before it stays. `'full'` trains all that
            `config.FreezeConfig` does not freeze.
        epochs: Epochs of labeled images, the last ones of the schedule, > 0;
            None where the run is that tail already.
        assumed_size: Resolution in pixels that a checkpoint was trained at that
            does not tell; None takes that of the model's row.
        trained_size: Resolution that it was trained at; None until it is known.
    """

    variant: str = "full"
    epochs: Optional[float] = 1.5
    assumed_size: Optional[int] = None
    trained_size: Optional[int] = None

    def __post_init__(self):
        variants = config_lib.FIXRES_VARIANTS
        require(
            self.variant in variants,
            "fixres_variant",
            f"one of {variants}",
            self.variant,
        )
        require(
            self.epochs is None or self.epochs > 0,
            "fixres_epochs",
            "> 0",
            self.epochs,
        )


def tuning_config(train, settings):
    """Returns the run that tunes what another one trained.

    It sees labeled images alone, as evaluation does, and evaluates what it
    starts from.

    Args:
        train: `config.TrainConfig`: the schedule, and `init_checkpoint`.
        settings: `FixResConfig`.

    Raises:
        ValueError: If nothing says which blocks stay, or the classifier is
            replaced.
    """
    if train.init_head == "fresh":
        raise ValueError(
            "--checkpoint_head=fresh: --mode=fixres_finetune tunes the "
            "classifier that was trained."
        )
    clean = dataclasses.replace(
        train.labeled_augment, name="none", random_crop=False
    )
    return dataclasses.replace(
        train,
        data=dataclasses.replace(train.data, unlabel_data_dir=None),
        labeled_augment=clean,
        unlabeled_augment=clean,
        step=dataclasses.replace(
            train.step, pseudo_labels=config_lib.PseudoLabelConfig()
        ),
        teacher=None,
        teacher_checkpoint=None,
        freeze=_freeze(train.freeze, settings.variant),
        evaluate_start=True,
    )


def _freeze(given, variant):
    if variant != "full":
        return config_lib.FreezeConfig(
            trainable_blocks=0, head_batch_norm=variant == "head_batch_norm"
        )
    if given.trainable_blocks is None and given.fixed_blocks is None:
        raise ValueError(
            "--fixres_variant=full needs --fix_layer_num, the number of first "
            "blocks that stay as they are with the stem; 0 is the stem alone."
        )
    return given


def with_network(train, settings, given):
    """Gives a run the network of its `init_checkpoint`, at a larger size.

    Args:
        train: What `tuning_config` returned.
        settings: `FixResConfig`.
        given: Fields of `config.ModelConfig` that flags ask for, by name. The
            size that is not among them is that of the model's evaluation.

    Returns:
        (`config.TrainConfig`, `FixResConfig`): with the network, and with the
        size it was trained at.

    Raises:
        ValueError: If the size is not larger than that, or flags ask for
            another network.
    """
    # Imported here: flags that contradict each other need no TensorFlow.
    from noisy_student import models

    checkpoint = train.init_checkpoint
    model = models.resolve(
        checkpoint,
        head=train.init_head,
        fallback=train.model,
        flag="init_model_path",
        **given,
    )
    settings = dataclasses.replace(
        settings,
        trained_size=_trained_size(checkpoint, settings, model.model_name),
    )
    return _enlarged(
        train, settings, model, given, f"--init_model_path={checkpoint}"
    )


def with_student(train, settings, student, given):
    """As `with_network`, of a network that will be trained before.

    Args:
        train: As there; nothing has to be where its `init_checkpoint` points.
        settings: As there.
        student: `config.ModelConfig` of that network.
        given: As there.
    """
    origin = "the last student"
    model = model_view.with_view(student, origin, given)
    settings = dataclasses.replace(settings, trained_size=student.image_size)
    return _enlarged(train, settings, model, given, origin)


def _enlarged(train, settings, model, given, origin):
    """Gives a run the network `model` of `origin`, as `with_network`."""
    if "image_size" not in given and not model.small_image:
        row = efficientnet_config.get_config(model.model_name)
        model = dataclasses.replace(model, image_size=row.image_size)
    trained_size = settings.trained_size
    if model.image_size <= trained_size:
        raise ValueError(
            "FixRes tunes at a larger resolution than that of training: "
            f"--input_image_size must be above {trained_size}, where {origin} "
            f"was trained. Received: {model.image_size}."
        )
    if model.small_image and model.stored_size is None:
        model = dataclasses.replace(model, stored_size=trained_size)
    own = {name: getattr(train.model, name) for name in _OWN_SETTINGS}
    model = dataclasses.replace(
        model, **{name: v for name, v in own.items() if v is not None}
    )
    step = dataclasses.replace(train.step, num_classes=model.num_classes)
    return dataclasses.replace(train, model=model, step=step), settings


def _trained_size(checkpoint, settings, model_name):
    trained = run_dir.trained_model_config(checkpoint)
    if trained is not None:
        return trained.image_size
    if settings.assumed_size is not None:
        return settings.assumed_size
    return efficientnet_config.get_config(model_name).train_image_size


def with_tail(train, settings):
    """Cuts a run to the last epochs of its schedule.

    Args:
        train: `config.TrainConfig` with the steps of the whole schedule, and
            `num_train_images`.
        settings: `FixResConfig`.

    Raises:
        ValueError: If the schedule is shorter.
    """
    if settings.epochs is None:
        return train
    steps = max(1, int(round(settings.epochs * train.steps_per_epoch, 6)))
    before = train.train_steps - steps
    if before < 0:
        raise ValueError(
            f"--fixres_epochs={settings.epochs:g} takes {steps} steps, more "
            f"than the schedule has, whose end they are: {train.train_steps} "
            "by --train_steps or --train_epochs, and --train_ratio."
        )
    return dataclasses.replace(
        train,
        train_steps=steps,
        optimizer=dataclasses.replace(train.optimizer, start_step=before),
    )


def log_start(train, settings):
    """Logs what is tuned, from which weights, at which rates."""
    logging.info(
        "FixRes (%s): %s, from the %s weights of %s.",
        settings.variant,
        _sizes(train, settings),
        _kind(train),
        train.init_checkpoint,
    )
    logging.info("%s", _tail(train))


def describe(train, settings):
    """Returns what will be done, before anything is built.

    Args:
        train: What `with_tail` returned.
        settings: `FixResConfig`.

    Returns:
        Tuple of str, a sentence each.
    """
    return (
        f"{settings.variant}: {_sizes(train, settings)}, from the "
        f"{_kind(train)} weights.",
        f"{_tail(train)} RMSprop begins with fresh slots.",
        _trained_part(train.freeze, settings.variant),
    )


def _sizes(train, settings):
    before, after = settings.trained_size, train.model.image_size
    return f"trained at {before} x {before} pixels, tuned at {after} x {after}"


def _kind(train):
    return "averaged" if train.init_ema else "raw"


def _tail(train):
    start = train.optimizer.start_step
    epochs = train.train_steps / train.steps_per_epoch
    return (
        f"{train.train_steps} steps, {epochs:.2f} epochs: steps {start} to "
        f"{start + train.train_steps} of the schedule."
    )


def _trained_part(freeze, variant):
    """Returns what is trained, and what batch normalization does."""
    all_norms = "all batch normalization"
    if variant == "classifier":
        parts, norms = "The classifier is trained", all_norms
    elif variant == "head_batch_norm":
        parts = (
            "The classifier and the batch normalization before the pooling are "
            "trained"
        )
        norms = "any other"
    elif freeze.fixed_blocks is not None:
        parts = f"The stem and the first {freeze.fixed_blocks} blocks stay"
        norms = "their batch normalization"
    else:
        count = freeze.trainable_blocks
        parts = f"The head and the last {count} blocks are trained"
        norms = "batch normalization before them"
    if freeze.batch_norm:
        norms = all_norms
    return f"{parts}; {norms} takes moving statistics."


def report(train, settings, model_dir):
    """Returns what a tuned run's report holds beside its last figures.

    Args:
        train: Its `config.TrainConfig`.
        settings: Its `FixResConfig`.
        model_dir: Its run directory.

    Returns:
        Dict of `fixres`, what was done, and `eval_before/top_1` and so on, the
        evaluation at the larger size before the first step.
    """
    lines = run_dir.read_metrics(model_dir)
    first = next((line for line in lines if line["step"] == 0), {})
    before = {
        name.replace("eval/", "eval_before/", 1): value
        for name, value in first.items()
        if name.startswith("eval/")
    }
    done = {
        "variant": settings.variant,
        "trained_size": settings.trained_size,
        "tuned_size": train.model.image_size,
        "use_ema": train.init_ema,
    }
    return {**before, "fixres": done}
