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
from noisy_student import run_dir
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
    row = efficientnet_config.get_config(model.model_name)
    if "image_size" not in given and not model.small_image:
        model = dataclasses.replace(model, image_size=row.image_size)
    trained_size = _trained_size(checkpoint, settings, row)
    if model.image_size <= trained_size:
        raise ValueError(
            "--mode=fixres_finetune tunes at a larger resolution than that of "
            f"training: --input_image_size must be above {trained_size}, where "
            f"--init_model_path={checkpoint} was trained. Received: "
            f"{model.image_size}."
        )
    if model.small_image and model.stored_size is None:
        model = dataclasses.replace(model, stored_size=trained_size)
    own = {name: getattr(train.model, name) for name in _OWN_SETTINGS}
    model = dataclasses.replace(
        model, **{name: v for name, v in own.items() if v is not None}
    )
    step = dataclasses.replace(train.step, num_classes=model.num_classes)
    return (
        dataclasses.replace(train, model=model, step=step),
        dataclasses.replace(settings, trained_size=trained_size),
    )


def _trained_size(checkpoint, settings, row):
    trained = run_dir.trained_model_config(checkpoint)
    if trained is not None:
        return trained.image_size
    if settings.assumed_size is not None:
        return settings.assumed_size
    return row.train_image_size


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
    model = train.model
    kind = "averaged" if train.init_ema else "raw"
    logging.info(
        "FixRes (%s): trained at %d x %d pixels, tuned at %d x %d, from the %s "
        "weights of %s.",
        settings.variant,
        *(settings.trained_size, settings.trained_size),
        *(model.image_size, model.image_size),
        kind,
        train.init_checkpoint,
    )
    logging.info(
        "%d steps, %.2f epochs: steps %d to %d of the schedule.",
        train.train_steps,
        train.train_steps / train.steps_per_epoch,
        train.optimizer.start_step,
        train.optimizer.start_step + train.train_steps,
    )


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
