"""The command line of training, evaluation and labelling.

Flags keep the original code's names, defaults and meaning; new ones extend
them. `flag_declarations.py` declares them, `flag_values.py` puts a preset
under them, and this module with `labelling_flags.py` and `fixres_flags.py`
alone reads them: `config_from_flags` turns them into the dataclasses that
everything else gets.

Source: noisystudent `main.py`, `predict_label.py`.
"""

import dataclasses
from typing import Optional

from efficientnet import config as efficientnet_config
from noisy_student import config as config_lib
from noisy_student import fixres as fixres_lib
from noisy_student import fixres_flags, labelling_flags, run_dir, tasks
from noisy_student import flag_values as flag_values_lib
from noisy_student.data_config import UNLABELED_SPLITS
from noisy_student.flag_declarations import (
    AUGMENT_NAMES,
    HARD_LABELS,
    LOADING_MODES,
    NOTHING_FIXED,
    define_fixres_flags,
    define_flags,
    define_training_flags,
)
from noisy_student.flag_values import Values
from noisy_student.hardware_config import HardwareConfig
from noisy_student.ignored_flags import warn_of_ignored_flags
from noisy_student.labelling_config import LabellingConfig
from noisy_student.labelling_flags import warn_of_legacy_flags

__all__ = [
    "Values",
    "define_fixres_flags",
    "define_flags",
    "define_training_flags",
    "warn_of_ignored_flags",
    "warn_of_legacy_flags",
]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything one command needs.

    Attributes:
        mode: What to do, a choice of `--mode`.
        model_dir: The run directory.
        checkpoint: Weights to evaluate or label with; None takes the latest
            of `model_dir`.
        output_dir: Where `predict`, `export` and perhaps `eval` write.
        labelling: What `predict` labels.
        follow: Whether `eval` evaluates each new checkpoint of `model_dir`.
        follow_timeout: Seconds it waits for one.
        use_ema: Whether the loaded weights are the moving averages.
        checkpoint_head: What becomes of a loaded classifier.
        given_model: Fields of `config.ModelConfig` that flags ask for, by
            name; a checkpoint may not contradict them.
        export_formats: What `export` writes.
        export_samples: Most images that it looks at.
        train: The training run; its data and model serve the other modes.
        fixres: How `fixres_finetune` tunes; None in other modes.
        hardware: How to find the devices.
    """

    mode: str
    model_dir: Optional[str]
    checkpoint: Optional[str]
    output_dir: Optional[str]
    labelling: LabellingConfig
    follow: bool
    follow_timeout: float
    use_ema: bool
    checkpoint_head: str
    given_model: dict
    export_formats: tuple
    export_samples: int
    train: config_lib.TrainConfig
    fixres: Optional[fixres_lib.FixResConfig]
    hardware: HardwareConfig

    def __post_init__(self):
        for name in self.export_formats:
            if name not in config_lib.EXPORT_FORMATS:
                raise ValueError(
                    "--export_formats must be of "
                    f"{', '.join(config_lib.EXPORT_FORMATS)}. "
                    f"Received: {name!r}."
                )
        labeled = self.train.data.label_data_dir
        if "tflite_int8" in self.export_formats and labeled is None:
            raise ValueError(
                "--export_formats=tflite_int8 needs --label_data_dir: it takes "
                "the ranges of activations from real images."
            )
        if self.mode in LOADING_MODES and self.checkpoint_head == "fresh":
            raise ValueError(
                "--checkpoint_head=fresh is for training: a new classifier "
                f"answers at random in --mode={self.mode}."
            )
        if self.follow and (self.mode != "eval" or self.checkpoint is not None):
            raise ValueError(
                "--follow evaluates the checkpoints of --model_dir as they "
                "come: it needs --mode=eval and excludes --checkpoint."
            )

    @property
    def weights_path(self):
        """The checkpoint or run whose weights are used, None without any."""
        return _first(self.checkpoint, self.model_dir)


def config_from_flags(flag_values):
    """Returns the `RunConfig` that parsed flags describe.

    Reads no file but the preset's.

    Args:
        flag_values: Parsed `absl.flags.FlagValues` with `define_flags`'s
            flags.

    Raises:
        ValueError: If flags contradict each other.
    """
    values = Values(flag_values)
    fixres = fixres_flags.fixres_config(values)
    if fixres is None:
        train = train_config(values)
    else:
        values = Values(flag_values, overrides=fixres_flags.IMPLIED)
        train = fixres_lib.tuning_config(train_config(values), fixres)
    return RunConfig(
        mode=values.mode,
        model_dir=values.model_dir,
        checkpoint=labelling_flags.checkpoint(values),
        output_dir=values.output_dir or None,
        labelling=labelling_flags.labelling_config(values),
        follow=values.follow,
        follow_timeout=values.follow_timeout,
        use_ema=values.use_ema,
        checkpoint_head=values.checkpoint_head,
        given_model=given_model(values),
        export_formats=tuple(values.export_formats),
        export_samples=values.export_samples,
        train=train,
        fixres=fixres,
        hardware=hardware_config(values),
    )


def hardware_config(values):
    """Returns the `HardwareConfig` of flag values."""
    return HardwareConfig(
        use_tpu=values.use_tpu,
        tpu=values.tpu,
        tpu_zone=values.tpu_zone,
        gcp_project=values.gcp_project,
        num_virtual_devices=values.num_virtual_devices,
        deterministic=values.deterministic,
        use_bfloat16=values.use_bfloat16,
    )


def train_config(values):
    """Returns the `TrainConfig` of flag values."""
    model = model_config(values)
    num_train_images = _first(
        values.num_train_images,
        tasks.get_task(values.task_name).num_train_images,
    )
    train_steps, start_step = flag_values_lib.steps(values, num_train_images)
    return config_lib.TrainConfig(
        model=model,
        data=_data_config(values),
        labeled_augment=_augment_config(values, values.augment_name),
        unlabeled_augment=_augment_config(
            values,
            values.augment_name
            if values.unl_aug == "default"
            else values.unl_aug,
            remove=values.unl_remove_aug,
        ),
        step=_step_config(values, model.num_classes),
        optimizer=config_lib.OptimizerConfig(
            base_learning_rate=values.base_learning_rate,
            final_base_lr=values.final_base_lr,
            decay_epochs=2.4 * values.train_ratio,
            warmup_epochs=values.warmup_epochs,
            moving_average_decay=values.moving_average_decay,
            start_step=start_step,
        ),
        teacher=_teacher_config(values),
        teacher_checkpoint=values.teacher_model_path,
        **_initialization(values),
        batch_size=values.train_batch_size,
        train_steps=train_steps,
        num_train_images=num_train_images,
        iterations_per_loop=values.iterations_per_loop,
        save_checkpoints_steps=values.save_checkpoints_steps,
        steps_per_eval=values.steps_per_eval,
        keep_checkpoint_max=values.keep_checkpoint_max,
        async_checkpoints=values.async_checkpoints,
        eval_batch_size=values.eval_batch_size,
        seed=values.seed,
    )


def model_config(values):
    """Returns the `ModelConfig` of flag values, at its training size."""
    task = tasks.get_task(values.task_name)
    table_row = efficientnet_config.get_config(values.model_name)
    return config_lib.ModelConfig(
        model_name=values.model_name,
        num_classes=_first(
            values.given("num_label_classes"),
            task.num_classes,
            values.num_label_classes,
        ),
        image_size=_first(
            values.input_image_size,
            task.image_size,
            table_row.train_image_size,
        ),
        width_coefficient=values.width_coefficient,
        depth_coefficient=values.depth_coefficient,
        dropout_rate=values.dropout_rate,
        stochastic_depth_rate=values.stochastic_depth_rate,
        small_image=task.small_image or values.small_image_model,
        crop_padding=values.crop_padding,
        fused_decode=_first(values.fused_decode, False),
        num_shards_per_group=values.num_shards_per_group,
        **_pixel_statistics(values),
    )


def _pixel_statistics(values):
    if values.advprop_preprocessing:
        rgb = config_lib.ADVPROP_RGB
        return {"mean_rgb": rgb, "stddev_rgb": rgb}
    task = tasks.get_task(values.task_name)
    return {"mean_rgb": task.mean_rgb, "stddev_rgb": task.stddev_rgb}


def given_model(values):
    """Returns the fields of `ModelConfig` that flag values ask for, by name."""
    given = {
        field: values.given(flag)
        for field, flag in config_lib.FLAG_OF_MODEL_FIELD.items()
    }
    if values.advprop_preprocessing:
        given.update(_pixel_statistics(values))
    return {name: value for name, value in given.items() if value is not None}


def _teacher_config(values):
    """Returns the online teacher of the table, at its own resolution.

    `with_trained_models` replaces it by that of a run.
    """
    name = values.teacher_model_name
    if name is None or not values.unlabel_ratio:
        return None
    if values.teacher_model_path is None:
        raise ValueError(
            f"--teacher_model_name={name} needs --teacher_model_path: a "
            "teacher without weights labels at random."
        )
    student = model_config(values)
    size = efficientnet_config.get_config(name).image_size
    return dataclasses.replace(
        student,
        model_name=name,
        image_size=student.image_size if student.small_image else size,
        width_coefficient=None,
        depth_coefficient=None,
    )


def with_trained_models(run):
    """Replaces networks by those that checkpoints belong to.

    Args:
        run: `RunConfig`.

    Returns:
        `RunConfig`: where trained weights are used or tuned, its model, and
        always its online teacher, are what the checkpoint says.

    Raises:
        ValueError: If flags say something else.
    """
    train = run.train
    if run.fixres is not None:
        train, fixres = fixres_lib.with_network(
            train, run.fixres, run.given_model
        )
        return dataclasses.replace(run, train=train, fixres=fixres)
    if train.teacher is not None:
        trained = run_dir.trained_model_config(train.teacher_checkpoint)
        train = dataclasses.replace(train, teacher=trained or train.teacher)
    if run.mode in (*LOADING_MODES, "info") and run.weights_path is not None:
        from noisy_student import models

        model = models.resolve(
            run.weights_path,
            head=run.checkpoint_head,
            fallback=train.model,
            **run.given_model,
        )
        train = dataclasses.replace(train, model=model)
    return dataclasses.replace(run, train=train)


def _data_config(values):
    task = tasks.get_task(values.task_name)
    eval_split = _first(values.eval_split, task.eval_split)
    return config_lib.DataConfig(
        label_data_dir=values.label_data_dir,
        unlabel_data_dir=values.unlabel_data_dir or None,
        # Training of the original takes both, whatever the flag says.
        unlabel_split=_first(values.given("file_prefix"), UNLABELED_SPLITS),
        num_train_shards=values.num_train_shards,
        eval_split=eval_split,
        num_eval_images=values.num_test_images
        if eval_split == "test"
        else values.num_eval_images,
        shuffle_buffer=values.shuffle_buffer,
        cache=values.use_cache,
        max_damaged_fraction=values.max_damaged_fraction,
    )


def _augment_config(values, name, *, remove=False):
    return config_lib.AugmentConfig(
        name=AUGMENT_NAMES[_first(name, "none")],
        num_layers=values.randaug_layer,
        magnitude=values.randaug_mag,
        cutout=values.cutout_op,
        random_crop=not (values.remove_aug or remove),
        flip=tasks.get_task(values.task_name).flip,
        fused_decode=_first(values.fused_decode, True),
    )


def _step_config(values, num_classes):
    temperature = values.teacher_softmax_temp
    hard = temperature == HARD_LABELS
    if not hard and temperature <= 0:
        raise ValueError(
            "--teacher_softmax_temp must be > 0, or -1 for hard labels. "
            f"Received: {temperature}."
        )
    online = _teacher_config(values) is not None
    if values.noise_teacher and not online:
        raise ValueError(
            "--noise_teacher needs --teacher_model_name and --unlabel_ratio: "
            "stored labels were made without noise."
        )
    return config_lib.StepConfig(
        num_classes=num_classes,
        label_smoothing=values.label_smoothing,
        weight_decay=values.weight_decay,
        normalization=values.loss_normalization,
        pseudo_labels=config_lib.PseudoLabelConfig(
            unlabeled_ratio=values.unlabel_ratio,
            label_type="hard" if hard else "soft",
            temperature=1.0 if hard else temperature,
            online=online,
            noise_teacher=values.noise_teacher,
            dropout=values.unl_dropout,
            stochastic_depth=values.unl_stochastic_depth,
        ),
        label_data_sample_prob=values.label_data_sample_prob,
        accumulate_steps=values.accumulate_steps,
        recompute_activations=values.recompute_activations,
        seed=values.seed,
    )


def _initialization(values):
    """Returns the fields of `TrainConfig` about given weights."""
    fixed = values.fix_layer_num
    given = {
        "trainable_blocks": values.trainable_blocks,
        "fix_layer_num": None if fixed == NOTHING_FIXED else fixed,
        "freeze_batch_norm": values.freeze_batch_norm,
    }
    if not values.init_model:
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"--{name} needs --init_model.")
        return {}
    if None not in (given["trainable_blocks"], given["fix_layer_num"]):
        raise ValueError(
            "--trainable_blocks and --fix_layer_num say the same from two "
            "ends: give one of them."
        )
    if values.init_model_path is None:
        raise ValueError("--init_model needs --init_model_path.")
    head = values.checkpoint_head
    return {
        "init_checkpoint": values.init_model_path,
        "init_head": head,
        "init_ema": values.use_ema,
        "freeze": config_lib.FreezeConfig(
            trainable_blocks=given["trainable_blocks"],
            fixed_blocks=given["fix_layer_num"],
            # One's own few images have worse statistics than ImageNet's.
            batch_norm=_first(values.freeze_batch_norm, head == "fresh"),
        ),
    }


def _first(*candidates):
    """Returns the first candidate that is given; an explicit 0 is."""
    return next((c for c in candidates if c is not None), None)
