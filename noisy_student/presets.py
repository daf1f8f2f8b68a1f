"""Named recipes: values of the command line's flags.

An explicit flag overrides the preset, the preset overrides the default.

Recipes of the paper say how long they train in epochs, so another
`--train_batch_size` takes more or fewer steps over the same images; their
learning rate is per 256 images, so it follows the batch, too. An explicit
`--train_steps` replaces the epochs.
"""

import os

from data_prep import files
from noisy_student import tasks

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

_AUGMENTATION = ("augment_name", "randaug_layer", "randaug_mag")
# What a network that is tuned brings along, or sees nothing of.
_NETWORK_AND_NOISE = (
    "model_name",
    "width_coefficient",
    "depth_coefficient",
    "stochastic_depth_rate",
    "dropout_rate",
    *_AUGMENTATION,
)

# For a processor of two cores and a few thousand labeled images.
_CIFAR10 = {
    **_DIGITS,
    "task_name": "cifar10",
    "dropout_rate": 0.2,
    "stochastic_depth_rate": 0.2,
    "train_batch_size": 12,
    "base_learning_rate": 0.1,
    "final_base_lr": 0.01,
    "weight_decay": 1e-5,
    "warmup_epochs": 5.0,
    "iterations_per_loop": 100,
    "save_checkpoints_steps": 1000,
    "use_cache": True,
}
_CIFAR10_STUDENT = {
    **_CIFAR10,
    "train_steps": 6000,
    "unlabel_ratio": 3.0,
    "teacher_softmax_temp": 1.0,
}

# Of the 7 blocks of that network, those of the first four stages.
_CIFAR10_FIXED_BLOCKS = 4

# By model: dropout, RandAugment magnitude (None: no RandAugment), unlabeled
# images per labeled one.
_IMAGENET_MODELS = {
    "b0": (0.2, None, 1.0),
    "b1": (0.2, None, 3.0),
    "b2": (0.3, 6.0, 3.0),
    "b3": (0.3, 12.0, 3.0),
    "b4": (0.4, 15.0, 3.0),
    "b5": (0.4, 18.0, 3.0),
    "b6": (0.5, 24.0, 3.0),
    "b7": (0.5, 27.0, 3.0),
    "l2": (0.5, 27.0, 14.0),
    "l2_475": (0.5, 27.0, 14.0),
}
# Students of these sizes train for twice the epochs.
_SMALL = ("b0", "b1", "b2", "b3", "b4")
_LAST_L2_RATIO = 28.0
# The resolution that L2 is tuned at, and how many of its 88 blocks stay as they
# are: those of the first four of seven stages. The paper does not say how many.
_L2_TUNED_SIZE = 800
_L2_FIXED_BLOCKS = 44


def _without(recipe, names):
    return {name: v for name, v in recipe.items() if name not in names}


def _imagenet_supervised(model):
    """Returns the recipe of a teacher: labeled images alone, 350 epochs."""
    dropout_rate, magnitude, _ = _IMAGENET_MODELS[model]
    recipe = {
        "task_name": "imagenet",
        "model_name": f"efficientnet-{model}",
        "train_batch_size": 2048,
        "train_epochs": 350.0,
        "base_learning_rate": 0.016,
        "moving_average_decay": 0.9999,
        "weight_decay": 1e-5,
        "label_smoothing": 0.1,
        "dropout_rate": dropout_rate,
        "stochastic_depth_rate": 0.2,
    }
    if magnitude is not None:
        recipe["augment_name"] = "v1"
        recipe["randaug_layer"] = 2
        recipe["randaug_mag"] = magnitude
    return recipe


def _imagenet_student(model, unlabel_ratio):
    """Returns the recipe of a student that learns soft pseudo labels."""
    recipe = _imagenet_supervised(model)
    if model in _SMALL:
        # Not more epochs: the learning rate decays half as often as well.
        recipe["train_ratio"] = 2.0
    recipe["unlabel_ratio"] = unlabel_ratio
    recipe["teacher_softmax_temp"] = 1.0
    return recipe


def _imagenet_fixres(model):
    """Returns the recipe of the phase after a student: its schedule's end."""
    return {
        **_without(_imagenet_supervised(model), _AUGMENTATION),
        "input_image_size": _L2_TUNED_SIZE,
        "fix_layer_num": _L2_FIXED_BLOCKS,
    }


_SVHN_BATCH_SIZE = 128
_SVHN_IMAGES = tasks.get_task("svhn").num_train_images
_SVHN = {
    "task_name": "svhn",
    "model_name": "efficientnet-b0",
    "train_batch_size": _SVHN_BATCH_SIZE,
    # The original code's default number of steps.
    "train_epochs": 109474 * _SVHN_BATCH_SIZE / _SVHN_IMAGES,
    "base_learning_rate": 0.016,
    "final_base_lr": 0.0002,
    "weight_decay": 1e-4,
    "augment_name": "v1",
    "randaug_layer": 2,
    "randaug_mag": 5.0,
}

PRESETS = {
    **{
        f"imagenet/{model}_supervised": _imagenet_supervised(model)
        for model in _IMAGENET_MODELS
    },
    **{
        f"imagenet/{model}_noisy_student": _imagenet_student(model, ratio)
        for model, (_, _, ratio) in _IMAGENET_MODELS.items()
    },
    # The last of L2's three students sees twice the unlabeled images.
    **{
        f"imagenet/{model}_noisy_student_last": _imagenet_student(
            model, _LAST_L2_RATIO
        )
        for model in ("l2", "l2_475")
    },
    # Students of 475 pixels, with --mode=fixres_finetune.
    **{
        f"imagenet/{model}_fixres": _imagenet_fixres(model)
        for model in ("l2", "l2_475")
    },
    "svhn/b0_supervised": _SVHN,
    "svhn/b0_noisy_student": {
        **_SVHN,
        "unlabel_ratio": 5.0,
        "teacher_softmax_temp": 1.0,
    },
    "cifar10/teacher": {**_CIFAR10, "train_steps": 10000},
    "cifar10/student": _CIFAR10_STUDENT,
    # On pseudo-labeled images, but for the one labeled image of each batch that
    # training needs; an epoch has as many steps as labeled images.
    "cifar10/pretrained": {
        **_CIFAR10_STUDENT,
        "train_batch_size": 1,
        "unlabel_ratio": 47.0,
        "loss_normalization": "all",
        "base_learning_rate": 1.2,
        "final_base_lr": 0.12,
        "warmup_epochs": 0.4,
    },
    "cifar10/finetuned": {
        **_CIFAR10,
        "train_steps": 2000,
        "base_learning_rate": 0.02,
        "final_base_lr": 0.002,
        "warmup_epochs": 1.0,
    },
    "cifar10/fixres": {
        **_without(_CIFAR10, _NETWORK_AND_NOISE),
        "train_steps": _CIFAR10_STUDENT["train_steps"],
        "input_image_size": 48,
        "fix_layer_num": _CIFAR10_FIXED_BLOCKS,
    },
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
