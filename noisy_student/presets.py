"""Named recipes: values of the command line's flags.

An explicit flag overrides the preset, the preset overrides the default.
"""

import os

from data_prep import files

_DIGITS = {
    "task_name": "digits",
    "model_name": "efficientnet-b0",
    "width_coefficient": 0.25,
    "depth_coefficient": 0.1,
    "stochastic_depth_rate": 0.0,
    "dropout_rate": 0.0,
    "train_batch_size": 30,
    "base_learning_rate": 0.03,
    "final_base_lr": 0.001,
    "warmup_epochs": 50.0,
    "moving_average_decay": 0.99,
    "weight_decay": 1e-4,
    "augment_name": "randaugment",
    "randaug_mag": 5.0,
    "eval_batch_size": 256,
    "iterations_per_loop": 50,
    "save_checkpoints_steps": 250,
    "train_steps": 500,
}

_DIGITS_STUDENT = {
    **_DIGITS,
    "unlabel_ratio": 3.0,
    "teacher_softmax_temp": 1.0,
}

PRESETS = {
    # Stopped early, for a short quickstart; the long recipe's teacher is not
    # better with twice its steps.
    "digits/teacher": {**_DIGITS, "train_steps": 1000},
    "digits/teacher_long": {**_DIGITS, "train_steps": 4000},
    "digits/student": _DIGITS_STUDENT,
    "digits/student_long": {**_DIGITS_STUDENT, "train_steps": 1500},
}


def get_preset(name):
    """Returns {flag: value} of a preset.

    Args:
        name: A key of `PRESETS`, or the path of a JSON file of that form.

    Raises:
        ValueError: If there is neither.
    """
    if name in PRESETS:
        return dict(PRESETS[name])
    if name.endswith(".json") and os.path.exists(name):
        values = files.read_json(name)
        if isinstance(values, dict):
            return values
        raise ValueError(
            f"--preset={name} must hold an object of flags and their values."
        )
    raise ValueError(
        "--preset must be the path of a .json file or one of "
        f"{sorted(PRESETS)}. Received: {name!r}."
    )
