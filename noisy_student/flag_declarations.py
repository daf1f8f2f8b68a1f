"""The flags of training, evaluation and labelling, group by group.

Read by `flags.py` alone. Those of images and networks are in
`flag_declarations_data.py`, those that only labelling or old scripts need in
`flag_declarations_labelling.py`.
"""

from data_prep import command_line
from noisy_student import config as config_lib
from noisy_student import (
    data_config,
    flag_declarations_data,
    flag_declarations_labelling,
    flag_declarations_loop,
    flag_declarations_step,
)

# What needs trained weights.
LOADING_MODES = ("eval", "predict", "export")
FIXRES_MODE = "fixres_finetune"
TRAINING_MODES = ("train", "train_and_eval", FIXRES_MODE)
MODES = (*TRAINING_MODES, *LOADING_MODES, "info")
AUGMENT_NAMES = {
    "none": "none",
    "v1": "randaugment",
    "randaugment": "randaugment",
    "autoaugment": "autoaugment",
}
HARD_LABELS = -1
# The original's words for "do not".
WHOLE_SCHEDULE = -1
NOTHING_FIXED = -1
# `steps_per_eval` of a run that is evaluated at its ends alone.
NO_EVALUATION_BETWEEN = 10**9


def define_flags(flag_values):
    """Declares all flags of `noisy_student.main`."""
    group = command_line.FlagGroup("What to do", flag_values)
    group.enum(
        "mode",
        "train_and_eval",
        MODES,
        "Train, evaluate, do both, tune at a larger resolution, label "
        "unlabeled shards, export a network, or describe it.",
    )
    group.string(
        "model_dir",
        None,
        "Directory of the run: checkpoints, metrics and reports.",
    )
    define_training_flags(flag_values)
    _define_online_teacher_flags(flag_values)
    define_fixres_flags(flag_values)
    _define_evaluation_flags(flag_values)
    flag_declarations_labelling.define_labelling_flags(flag_values)
    flag_declarations_labelling.define_legacy_flags(flag_values)


def define_training_flags(flag_values):
    """Declares the flags that describe a training run."""
    flag_declarations_data.define_data_flags(flag_values)
    flag_declarations_data.define_model_flags(flag_values)
    _define_schedule_flags(flag_values)
    _define_initialization_flags(flag_values)
    _define_noise_flags(flag_values)
    flag_declarations_step.define_step_flags(flag_values)
    _define_pseudo_label_flags(flag_values)
    define_hardware_flags(flag_values)


def _define_schedule_flags(flag_values):
    group = command_line.FlagGroup("Training", flag_values)
    group.integer(
        "train_steps",
        109474,
        "Steps of the run, before train_ratio.",
        lower_bound=1,
    )
    group.float(
        "train_epochs",
        None,
        "Epochs of labeled images, before train_ratio, in place of "
        "train_steps.",
        lower_bound=1e-6,
    )
    group.integer(
        "train_last_step_num",
        WHOLE_SCHEDULE,
        "Train only that many steps, before train_ratio, at the learning "
        "rates of the last ones of train_steps; -1 trains all.",
        lower_bound=WHOLE_SCHEDULE,
    )
    group.float(
        "train_ratio",
        1.0,
        "Multiplies the steps of the run and the epochs between decays.",
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
    flag_declarations_loop.define_checkpoint_flags(group)
    group.integer(
        "seed",
        0,
        "Seed of initialisation, order, augmentation and noise.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )


def _define_initialization_flags(flag_values):
    group = command_line.FlagGroup("Weights to load", flag_values)
    group.boolean(
        "init_model", False, "Start from the weights of init_model_path."
    )
    group.string(
        "init_model_path",
        None,
        "Run directory, or released checkpoint, to start from.",
    )
    group.boolean(
        "use_ema",
        True,
        "Load the moving averages, to start from or to use, not the raw "
        "weights.",
    )
    group.enum(
        "checkpoint_head",
        "load",
        config_lib.CHECKPOINT_HEADS,
        "Load a classifier as it is, without its first (background) class, or "
        "train a fresh one for other classes.",
    )
    group.integer(
        "trainable_blocks",
        None,
        "Train only the head and that many of the last blocks; 0 trains the "
        "classifier alone.",
        lower_bound=0,
    )
    group.integer(
        "fix_layer_num",
        NOTHING_FIXED,
        "Fix the stem and that many of the first blocks, their batch "
        "normalization and noise included; -1 fixes nothing.",
        lower_bound=NOTHING_FIXED,
    )
    group.boolean(
        "freeze_batch_norm",
        None,
        "Keep batch normalization as loaded; none does with a fresh "
        "classifier.",
    )


def _define_noise_flags(flag_values):
    group = command_line.FlagGroup("Noise", flag_values)
    group.enum(
        "augment_name",
        None,
        sorted(AUGMENT_NAMES),
        "Augmentation after crop and flip; v1 is RandAugment.",
    )
    group.enum(
        "unl_aug",
        "default",
        ["default", *sorted(AUGMENT_NAMES)],
        "Augmentation of unlabeled images; default is that of labeled ones.",
    )
    group.float(
        "randaug_mag",
        27,
        "RandAugment magnitude.",
        lower_bound=0.0,
        upper_bound=data_config.LARGEST_MAGNITUDE,
    )
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
        HARD_LABELS,
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
    flag_declarations_step.define_teacher_noise_flags(flag_values)


def define_fixres_flags(flag_values):
    """Declares the flags of the phase that tunes a trained network."""
    group = command_line.FlagGroup("Tuning at a larger resolution", flag_values)
    group.enum(
        "fixres_variant",
        "full",
        config_lib.FIXRES_VARIANTS,
        "Tune the classifier, with it the batch normalization before the "
        "pooling, or all that fix_layer_num does not fix.",
    )
    group.float(
        "fixres_epochs",
        1.5,
        "Epochs of labeled images, the last ones of the schedule that "
        "train_steps or train_epochs describe; train_last_step_num says the "
        "same in steps.",
        lower_bound=1e-6,
    )


def _define_evaluation_flags(flag_values):
    group = command_line.FlagGroup("Use of a trained network", flag_values)
    group.integer(
        "steps_per_eval",
        3000,
        "Steps between two evaluations in train_and_eval.",
        lower_bound=1,
    )
    flag_declarations_loop.define_follow_flags(group)
    group.string(
        "checkpoint",
        None,
        "Run directory or released checkpoint (prefix, directory or .tar.gz); "
        "none takes the latest of model_dir.",
    )
    group.string(
        "output_dir",
        "",
        "Directory of what predict, export and (optionally) eval write.",
    )
    group.list(
        "export_formats",
        list(config_lib.EXPORT_FORMATS[:3]),
        f"Formats to export, of {', '.join(config_lib.EXPORT_FORMATS)}.",
    )
    group.integer(
        "export_samples",
        100,
        "Images of label_data_dir that exported networks are tried on; int8 "
        "takes its ranges from them.",
        lower_bound=1,
    )


def define_hardware_flags(flag_values):
    """Declares where networks compute."""
    group = command_line.FlagGroup("Hardware", flag_values)
    group.integer(
        "eval_batch_size",
        8,
        "Images per evaluation or labelling step, over all replicas.",
        lower_bound=1,
    )
    group.boolean(
        "use_tpu",
        None,
        "Run on a TPU; none does where --tpu or TPU_NAME names one or this "
        "machine has one.",
    )
    group.string(
        "tpu",
        None,
        "Name or address of the TPU; local on a TPU VM. None takes that of "
        "TPU_NAME, or this machine's.",
    )
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
