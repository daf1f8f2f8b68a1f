"""The command line of training, evaluation and labelling.

Flags keep the original code's names, defaults and meaning; new ones extend
them. This module alone declares and reads them: `config_from_flags` turns
them into the dataclasses that everything else receives.

Source: noisystudent `main.py`, `predict_label.py`.
"""

import dataclasses
from typing import Optional

from data_prep import command_line
from efficientnet import config as efficientnet_config
from noisy_student import config as config_lib
from noisy_student import presets, run_dir, tasks

MODES = ("train", "eval", "train_and_eval", "predict")
_AUGMENT_NAMES = {
    "none": "none",
    "v1": "randaugment",
    "randaugment": "randaugment",
    "autoaugment": "autoaugment",
}
_HARD_LABELS = -1


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything one command needs.

    Attributes:
        mode: One of `MODES`.
        model_dir: The run directory.
        checkpoint: Weights to evaluate or label with; None takes the latest
            of `model_dir`.
        output_dir: Where `predict` writes.
        image_size: Image size asked for by a flag; it overrides that of a
            trained network in `eval` and `predict`.
        train: The training run; its data and model serve the other modes.
        hardware: How to find the devices.
    """

    mode: str
    model_dir: Optional[str]
    checkpoint: Optional[str]
    output_dir: Optional[str]
    image_size: Optional[int]
    train: config_lib.TrainConfig
    hardware: config_lib.HardwareConfig


def define_flags(flag_values):
    """Declares all flags of `noisy_student.main`."""
    group = command_line.FlagGroup("What to do", flag_values)
    group.enum(
        "mode",
        "train_and_eval",
        MODES,
        "Train, evaluate, do both, or label unlabeled shards.",
    )
    group.string(
        "model_dir",
        None,
        "Directory of the run: checkpoints, metrics and reports.",
    )
    define_training_flags(flag_values)
    _define_online_teacher_flags(flag_values)
    _define_evaluation_flags(flag_values)


def define_training_flags(flag_values):
    """Declares the flags that describe a training run."""
    _define_data_flags(flag_values)
    _define_model_flags(flag_values)
    _define_schedule_flags(flag_values)
    _define_noise_flags(flag_values)
    _define_pseudo_label_flags(flag_values)
    _define_hardware_flags(flag_values)


def _define_data_flags(flag_values):
    group = command_line.FlagGroup("Data", flag_values)
    group.string(
        "preset",
        None,
        "Named recipe, or a .json file of flag values; explicit flags "
        "override it.",
    )
    group.enum(
        "task_name",
        "imagenet",
        sorted(tasks.TASKS),
        "Dataset; it sets image statistics, sizes and splits.",
    )
    group.string("label_data_dir", None, "Directory of the labeled shards.")
    group.string(
        "unlabel_data_dir",
        None,
        "Directory of the unlabeled or pseudo-labeled shards.",
    )
    group.string(
        "file_prefix", "train", "Prefix of the unlabeled shards' names."
    )
    group.string(
        "eval_split",
        None,
        "Prefix of the shards to evaluate; none takes the task's.",
    )
    group.integer(
        "num_label_classes", 1000, "Number of classes.", lower_bound=2
    )
    group.integer(
        "num_train_images",
        None,
        "Labeled images per epoch; none takes the task's number or counts "
        "the records.",
        lower_bound=1,
    )
    group.integer(
        "shuffle_buffer",
        1024,
        "Records held in memory to shuffle each stream.",
        lower_bound=1,
    )


def _define_model_flags(flag_values):
    group = command_line.FlagGroup("Model", flag_values)
    group.enum(
        "model_name",
        "efficientnet-b0",
        efficientnet_config.MODEL_NAMES,
        "Network to train, evaluate or label with.",
    )
    group.integer(
        "input_image_size",
        None,
        "Input height and width in pixels; none takes the task's or the "
        "model's.",
        lower_bound=8,
    )
    group.float(
        "width_coefficient",
        None,
        "Multiplies the number of filters; none takes the model's.",
        lower_bound=0.01,
    )
    group.float(
        "depth_coefficient",
        None,
        "Multiplies the number of blocks; none takes the model's.",
        lower_bound=0.01,
    )
    group.boolean(
        "small_image_model",
        False,
        "Use the variant for 32x32 images, on images as they are stored.",
    )


def _define_schedule_flags(flag_values):
    group = command_line.FlagGroup("Training", flag_values)
    group.integer(
        "train_steps",
        109474,
        "Steps of the run, before train_ratio.",
        lower_bound=1,
    )
    group.float(
        "train_ratio",
        1.0,
        "Multiplies train_steps and the epochs between decays.",
        lower_bound=1e-6,
    )
    group.integer(
        "train_batch_size",
        4096,
        "Labeled images per step, over all replicas.",
        lower_bound=1,
    )
    group.float(
        "base_learning_rate",
        0.016,
        "Learning rate per 256 labeled images.",
        lower_bound=1e-12,
    )
    group.float(
        "final_base_lr",
        None,
        "Learning rate per 256 labeled images at the end of the run; it "
        "sets the decay interval.",
        lower_bound=0.0,
    )
    group.float(
        "warmup_epochs", 5, "Epochs of linear warm-up.", lower_bound=0.0
    )
    group.float(
        "moving_average_decay",
        0.9999,
        "Largest decay of the moving average of the weights.",
        lower_bound=0.0,
    )
    group.float(
        "weight_decay",
        1e-5,
        "Coefficient of the L2 penalty; batch norm is left out.",
        lower_bound=0.0,
    )
    group.float(
        "label_smoothing",
        0.1,
        "Smoothing of labels and hard pseudo labels.",
        lower_bound=0.0,
        upper_bound=0.999,
    )
    group.boolean(
        "init_model", False, "Start from the weights of init_model_path."
    )
    group.string(
        "init_model_path", None, "Checkpoint or run directory to start from."
    )
    group.integer(
        "iterations_per_loop",
        1000,
        "Steps between two visits to the host (metrics, progress).",
        lower_bound=1,
    )
    group.integer(
        "save_checkpoints_steps",
        1000,
        "Steps between two checkpoints.",
        lower_bound=1,
    )
    group.integer("keep_checkpoint_max", 5, "Checkpoints kept.", lower_bound=1)
    group.integer(
        "seed",
        0,
        "Seed of initialisation, order, augmentation and noise.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )


def _define_noise_flags(flag_values):
    group = command_line.FlagGroup("Noise", flag_values)
    group.enum(
        "augment_name",
        None,
        sorted(_AUGMENT_NAMES),
        "Augmentation after crop and flip; v1 is RandAugment.",
    )
    group.enum(
        "unl_aug",
        "default",
        ["default", *sorted(_AUGMENT_NAMES)],
        "Augmentation of unlabeled images; default is that of labeled ones.",
    )
    group.float("randaug_mag", 27, "RandAugment magnitude.", lower_bound=0.0)
    group.integer(
        "randaug_layer", 2, "RandAugment operations per image.", lower_bound=1
    )
    group.boolean("cutout_op", True, "Let RandAugment draw Cutout.")
    group.boolean(
        "remove_aug",
        False,
        "Train on the evaluation view, without crop, flip or augmentation.",
    )
    group.float(
        "dropout_rate",
        None,
        "Dropout before the classifier; none takes the model's.",
        lower_bound=0.0,
        upper_bound=0.999,
    )
    group.float(
        "stochastic_depth_rate",
        None,
        "Drop rate of the last block; none takes the model's.",
        lower_bound=0.0,
        upper_bound=0.999,
    )


def _define_pseudo_label_flags(flag_values):
    group = command_line.FlagGroup("Pseudo labels", flag_values)
    group.float(
        "unlabel_ratio",
        0,
        "Unlabeled images per labeled image, and the weight of their loss.",
        lower_bound=0.0,
    )
    group.float(
        "teacher_softmax_temp",
        _HARD_LABELS,
        "Temperature of soft pseudo labels; -1 trains on hard ones.",
    )
    group.enum(
        "loss_normalization",
        "labeled",
        ["labeled", "all"],
        "Average the loss over labeled images (the original code) or over "
        "all images (the paper's text).",
    )


def _define_online_teacher_flags(flag_values):
    group = command_line.FlagGroup("Online teacher", flag_values)
    group.string(
        "teacher_model_name",
        None,
        "Network of the teacher that labels inside the training step; "
        "none reads stored labels.",
    )
    group.string(
        "teacher_model_path",
        None,
        "Checkpoint or run directory of that teacher.",
    )


def _define_evaluation_flags(flag_values):
    group = command_line.FlagGroup("Evaluation and labelling", flag_values)
    group.integer(
        "steps_per_eval",
        3000,
        "Steps between two evaluations in train_and_eval.",
        lower_bound=1,
    )
    group.string(
        "checkpoint",
        None,
        "Weights to evaluate or label with; none takes the latest of "
        "model_dir.",
    )
    group.string("output_dir", None, "Directory of the prediction shards.")


def _define_hardware_flags(flag_values):
    group = command_line.FlagGroup("Hardware", flag_values)
    group.integer(
        "eval_batch_size",
        8,
        "Images per evaluation or labelling step, over all replicas.",
        lower_bound=1,
    )
    group.boolean(
        "use_tpu", None, "Run on a TPU; none does when --tpu is given."
    )
    group.string("tpu", None, "Name or address of the TPU; local on a TPU VM.")
    group.string("tpu_zone", None, "Zone of a named TPU.")
    group.string("gcp_project", None, "Project of a named TPU.")
    group.integer(
        "num_virtual_devices",
        1,
        "Split the CPU into that many replicas, to try distributed training.",
        lower_bound=1,
    )
    group.boolean(
        "deterministic",
        False,
        "Make equal seeds give bit-equal weights, at some cost in speed.",
    )


class Values:
    """Flag values, with a preset put under the explicit ones.

    Args:
        flag_values: Parsed `absl.flags.FlagValues`.
        preset: Name of the preset; None takes that of `--preset`.
        overrides: {flag: value} that beat even explicit flags.

    Raises:
        ValueError: If there is no such preset or it names an unknown flag.
    """

    def __init__(self, flag_values, preset=None, overrides=None):
        self._flags = flag_values
        self._overrides = overrides or {}
        name = _first(preset, flag_values["preset"].value)
        values = {} if name is None else presets.get_preset(name)
        self._preset = {
            flag: _parse_preset_value(flag_values, name, flag, value)
            for flag, value in values.items()
        }

    def __getattr__(self, name):
        if name in self._overrides:
            return self._overrides[name]
        given = self.given(name)
        return self._flags[name].value if given is None else given

    def given(self, name):
        """Returns the value a flag or the preset gives, None for neither."""
        flag = self._flags[name]
        if not flag.using_default_value:
            return flag.value
        return self._preset.get(name)


def _parse_preset_value(flag_values, preset, name, value):
    """Holds a value of a preset to the rules of its flag."""
    group = (
        getattr(flag_values[name], "group", None)
        if (name in flag_values)
        else None
    )
    if group in (None, "What to do", "Self-training"):
        raise ValueError(
            f"The preset {preset} sets {name!r}, which is no setting of a "
            "training run."
        )
    try:
        return None if value is None else flag_values[name].parser.parse(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The preset {preset} sets {name}={value!r}: {error}"
        ) from error


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
    return RunConfig(
        mode=values.mode,
        model_dir=values.model_dir,
        checkpoint=values.checkpoint,
        output_dir=values.output_dir,
        image_size=values.input_image_size,
        train=train_config(values),
        hardware=hardware_config(values),
    )


def hardware_config(values):
    """Returns the `HardwareConfig` of flag values."""
    return config_lib.HardwareConfig(
        use_tpu=values.use_tpu,
        tpu=values.tpu,
        tpu_zone=values.tpu_zone,
        gcp_project=values.gcp_project,
        num_virtual_devices=values.num_virtual_devices,
        deterministic=values.deterministic,
    )


def train_config(values):
    """Returns the `TrainConfig` of flag values."""
    model = model_config(values)
    train_steps = int(values.train_steps * values.train_ratio)
    return config_lib.TrainConfig(
        model=model,
        data=_data_config(values),
        labeled_augment=_augment_config(values, values.augment_name),
        unlabeled_augment=_augment_config(
            values,
            values.augment_name
            if values.unl_aug == "default"
            else values.unl_aug,
        ),
        step=_step_config(values, model.num_classes),
        optimizer=config_lib.OptimizerConfig(
            base_learning_rate=values.base_learning_rate,
            final_base_lr=values.final_base_lr,
            decay_epochs=2.4 * values.train_ratio,
            warmup_epochs=values.warmup_epochs,
            moving_average_decay=values.moving_average_decay,
        ),
        teacher=_teacher_config(values),
        teacher_checkpoint=values.teacher_model_path,
        init_checkpoint=_init_checkpoint(values),
        batch_size=values.train_batch_size,
        train_steps=train_steps,
        num_train_images=_first(
            values.num_train_images,
            tasks.get_task(values.task_name).num_train_images,
        ),
        iterations_per_loop=values.iterations_per_loop,
        save_checkpoints_steps=values.save_checkpoints_steps,
        steps_per_eval=values.steps_per_eval,
        keep_checkpoint_max=values.keep_checkpoint_max,
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
        mean_rgb=task.mean_rgb,
        stddev_rgb=task.stddev_rgb,
    )


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
    """Replaces networks by those of the runs whose weights are loaded.

    Args:
        run: `RunConfig`.

    Returns:
        `RunConfig`: in `eval` and `predict` its model, and always its online
        teacher, are what the checkpoint's own run says, where there is one.
    """
    train = run.train
    if train.teacher is not None:
        trained = run_dir.trained_model_config(train.teacher_checkpoint)
        train = dataclasses.replace(train, teacher=trained or train.teacher)
    if run.mode in ("eval", "predict"):
        path = _first(run.checkpoint, run.model_dir)
        trained = run_dir.trained_model_config(path)
        model = trained or _at_evaluation_size(train.model)
        if run.image_size is not None:
            model = dataclasses.replace(model, image_size=run.image_size)
        train = dataclasses.replace(train, model=model)
    return dataclasses.replace(run, train=train)


def _at_evaluation_size(model):
    row = efficientnet_config.get_config(model.model_name)
    if model.small_image or model.image_size != row.train_image_size:
        return model
    return dataclasses.replace(model, image_size=row.image_size)


def _data_config(values):
    task = tasks.get_task(values.task_name)
    return config_lib.DataConfig(
        label_data_dir=values.label_data_dir,
        unlabel_data_dir=values.unlabel_data_dir,
        unlabel_split=values.file_prefix,
        eval_split=_first(values.eval_split, task.eval_split),
        shuffle_buffer=values.shuffle_buffer,
    )


def _augment_config(values, name):
    return config_lib.AugmentConfig(
        name=_AUGMENT_NAMES[_first(name, "none")],
        num_layers=values.randaug_layer,
        magnitude=values.randaug_mag,
        cutout=values.cutout_op,
        random_crop=not values.remove_aug,
        flip=tasks.get_task(values.task_name).flip,
    )


def _step_config(values, num_classes):
    temperature = values.teacher_softmax_temp
    hard = temperature == _HARD_LABELS
    if not hard and temperature <= 0:
        raise ValueError(
            "--teacher_softmax_temp must be > 0, or -1 for hard labels. "
            f"Received: {temperature}."
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
            online=_teacher_config(values) is not None,
        ),
        seed=values.seed,
    )


def _init_checkpoint(values):
    if not values.init_model:
        return None
    if values.init_model_path is None:
        raise ValueError("--init_model needs --init_model_path.")
    return values.init_model_path


def _first(*candidates):
    """Returns the first candidate that is given; an explicit 0 is."""
    return next((c for c in candidates if c is not None), None)
