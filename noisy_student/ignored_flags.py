"""Names flags that are given and have no effect beside the others.

Part of `flags.py`. They are no errors: the original code ignores them, too, and
its scripts give some.
"""

from absl import logging

from noisy_student import fixres_flags
from noisy_student.flag_declarations import (
    AUGMENT_NAMES,
    FIXRES_MODE,
    TRAINING_MODES,
)
from noisy_student.flag_values import Values

_UNLABELED = (
    "file_prefix",
    "loss_normalization",
    "teacher_model_name",
    "teacher_softmax_temp",
    "unlabel_data_dir",
    "unl_aug",
    "unl_dropout",
    "unl_remove_aug",
    "unl_stochastic_depth",
)
_RANDAUGMENT = ("cutout_op", "randaug_layer", "randaug_mag")
_NOT_TUNING = (
    "augment_name",
    "teacher_model_path",
    "unlabel_ratio",
    *_UNLABELED,
    *_RANDAUGMENT,
)
_FREEZING = ("fix_layer_num", "freeze_batch_norm", "trainable_blocks")
_FIXRES = ("fixres_epochs", "fixres_variant")
_EVALUATION = ("eval_split", "num_test_images", "steps_per_eval")


def warn_of_ignored_flags(flag_values):
    """Logs a warning for each given flag of training without effect.

    Args:
        flag_values: Parsed `absl.flags.FlagValues`.
    """
    values = Values(flag_values)
    if values.mode not in TRAINING_MODES:
        return
    needs = _needs(values)
    if values.mode == FIXRES_MODE:
        values = Values(flag_values, overrides=fixres_flags.IMPLIED)
        needs = {**_needs(values), **_tuning_needs(values)}
    for name, (needed, is_given) in needs.items():
        flag = flag_values[name]
        if (
            is_given
            or flag.using_default_value
            or flag.value
            in (
                "",
                flag.default,
            )
        ):
            continue
        logging.warning("--%s has no effect without %s.", name, needed)


def _needs(values):
    """Returns {flag: (what it needs, whether that is there)}."""
    has_unlabeled = values.unlabel_ratio > 0
    has_teacher = values.teacher_model_name is not None
    augmented = {values.augment_name}
    if has_unlabeled:
        augmented.add(values.unl_aug)
    has_randaugment = "randaugment" in map(AUGMENT_NAMES.get, augmented)
    evaluates = values.mode != "train"
    tunes = values.mode == FIXRES_MODE
    return {
        "augment_name": (
            "random crops (--remove_aug)",
            not values.remove_aug or values.augment_name == "none",
        ),
        "checkpoint": ("--mode=eval, predict or export", False),
        "follow_timeout": ("--follow", False),
        "output_dir": ("--mode=eval, predict or export", False),
        "predict_ckpt_path": ("--mode=predict", False),
        "tpu_zone": ("--tpu", values.tpu is not None),
        "use_ema": ("--init_model", values.init_model),
        "checkpoint_head": ("--init_model", values.init_model),
        "init_model_path": ("--init_model", values.init_model),
        "teacher_model_path": ("--teacher_model_name", has_teacher),
        **{name: ("--unlabel_ratio", has_unlabeled) for name in _UNLABELED},
        **{
            name: ("--augment_name=randaugment", has_randaugment)
            for name in _RANDAUGMENT
        },
        **{name: ("--mode=train_and_eval", evaluates) for name in _EVALUATION},
        **{name: (f"--mode={FIXRES_MODE}", tunes) for name in _FIXRES},
    }


def _tuning_needs(values):
    """Returns what differs where labeled images alone tune a network."""
    is_full = values.fixres_variant == "full"
    return {
        **{name: ("--mode=train", False) for name in _NOT_TUNING},
        **{name: ("--fixres_variant=full", is_full) for name in _FREEZING},
    }
