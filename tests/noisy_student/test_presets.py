"""The figures that each recipe resolves to."""

import pytest
from absl import flags

import efficientnet
from efficientnet import scaling
from noisy_student import config as config_lib
from noisy_student import flags as flags_lib
from noisy_student import presets

# model: epochs, epochs per stair, dropout, augmentation, magnitude, training
# size, unlabeled images for each labeled one.
_IMAGENET_STUDENTS = {
    "b0": (700, 4.8, 0.2, "none", 27, 224, 1),
    "b1": (700, 4.8, 0.2, "none", 27, 240, 3),
    "b2": (700, 4.8, 0.3, "randaugment", 6, 260, 3),
    "b3": (700, 4.8, 0.3, "randaugment", 12, 300, 3),
    "b4": (700, 4.8, 0.4, "randaugment", 15, 380, 3),
    "b5": (350, 2.4, 0.4, "randaugment", 18, 456, 3),
    "b6": (350, 2.4, 0.5, "randaugment", 24, 528, 3),
    "b7": (350, 2.4, 0.5, "randaugment", 27, 600, 3),
    "l2": (350, 2.4, 0.5, "randaugment", 27, 475, 14),
    "l2_475": (350, 2.4, 0.5, "randaugment", 27, 475, 14),
}
_STEPS = {350: 218949, 700: 437898}
# model: width, depth, size of training and of evaluation, dropout.
_NETWORKS = {
    "b0": (1.0, 1.0, 224, 224, 0.2),
    "b1": (1.0, 1.1, 240, 240, 0.2),
    "b2": (1.1, 1.2, 260, 260, 0.3),
    "b3": (1.2, 1.4, 300, 300, 0.3),
    "b4": (1.4, 1.8, 380, 380, 0.4),
    "b5": (1.6, 2.2, 456, 456, 0.4),
    "b6": (1.8, 2.6, 528, 528, 0.5),
    "b7": (2.0, 3.1, 600, 600, 0.5),
    "l2": (4.3, 5.3, 475, 800, 0.5),
    "l2_475": (4.3, 5.3, 475, 475, 0.5),
}


def _imagenet(model, figures, ratio):
    epochs, decay_epochs, dropout, augment, magnitude, size, _ = figures
    return {
        "model_name": f"efficientnet-{model}",
        "image_size": size,
        "dropout_rate": dropout,
        "stochastic_depth_rate": 0.2,
        "augment": (augment, 2, magnitude),
        "cropped_flipped_cut": (True, True, True),
        "warmup_epochs": 5,
        "normalization": "labeled",
        "batch_size": 2048,
        "train_steps": _STEPS[epochs],
        "num_train_images": 1281167,
        "base_learning_rate": 0.016,
        "final_base_lr": None,
        "decay_epochs": decay_epochs,
        "moving_average_decay": 0.9999,
        "weight_decay": 1e-5,
        "label_smoothing": 0.1,
        "unlabeled": (ratio, "soft" if ratio else "hard", 1.0),
    }


_SVHN = {
    "model_name": "efficientnet-b0",
    "image_size": 32,
    "dropout_rate": None,
    "stochastic_depth_rate": None,
    "augment": ("randaugment", 2, 5),
    "cropped_flipped_cut": (True, False, True),
    "warmup_epochs": 5,
    "normalization": "labeled",
    "batch_size": 128,
    "train_steps": 109474,
    "num_train_images": 69257,
    "base_learning_rate": 0.016,
    "final_base_lr": 0.0002,
    "decay_epochs": 2.4,
    "moving_average_decay": 0.9999,
    "weight_decay": 1e-4,
    "label_smoothing": 0.1,
    "unlabeled": (5, "soft", 1.0),
}
_DIGITS = {
    "model_name": "efficientnet-b0",
    "image_size": 32,
    "dropout_rate": 0.0,
    "stochastic_depth_rate": 0.0,
    "augment": ("randaugment", 2, 5),
    "cropped_flipped_cut": (True, False, True),
    "warmup_epochs": 50,
    "normalization": "labeled",
    "batch_size": 30,
    "train_steps": 500,
    "num_train_images": None,
    "base_learning_rate": 0.03,
    "final_base_lr": 0.001,
    "decay_epochs": 2.4,
    "moving_average_decay": 0.99,
    "weight_decay": 1e-4,
    "label_smoothing": 0.1,
    "unlabeled": (3, "soft", 1.0),
}
_CIFAR10 = {
    **_DIGITS,
    "dropout_rate": 0.2,
    "stochastic_depth_rate": 0.2,
    "batch_size": 12,
    "base_learning_rate": 0.1,
    "final_base_lr": 0.01,
    "weight_decay": 1e-5,
    "train_steps": 6000,
    "cropped_flipped_cut": (True, True, True),
    "warmup_epochs": 5,
}
_NO_UNLABELED = {"unlabeled": (0, "hard", 1.0)}
SETTINGS = {
    **{
        f"imagenet/{model}_noisy_student": _imagenet(model, row, row[-1])
        for model, row in _IMAGENET_STUDENTS.items()
    },
    **{
        f"imagenet/{model}_noisy_student_last": _imagenet(
            model, _IMAGENET_STUDENTS[model], 28
        )
        for model in ("l2", "l2_475")
    },
    # Labeled images alone: half of the small students' epochs.
    **{
        f"imagenet/{model}_supervised": _imagenet(
            model, (350, 2.4, *row[2:]), 0
        )
        for model, row in _IMAGENET_STUDENTS.items()
    },
    # The schedule of L2, the images of its evaluation.
    **{
        f"imagenet/{model}_fixres": {
            **_imagenet(model, _IMAGENET_STUDENTS[model], 0),
            "image_size": 800,
            "augment": ("none", 2, 27),
            "cropped_flipped_cut": (False, True, True),
        }
        for model in ("l2", "l2_475")
    },
    "svhn/b0_noisy_student": _SVHN,
    "svhn/b0_supervised": {**_SVHN, **_NO_UNLABELED},
    "cifar10/teacher": {**_CIFAR10, **_NO_UNLABELED, "train_steps": 10000},
    "cifar10/student": _CIFAR10,
    # The network is that of the run it tunes.
    "cifar10/fixres": {
        **_CIFAR10,
        **_NO_UNLABELED,
        "image_size": 48,
        "augment": ("none", 2, 27),
        "cropped_flipped_cut": (False, True, True),
        "dropout_rate": None,
        "stochastic_depth_rate": None,
    },
    # A labeled image a step, at the rates of twelve.
    "cifar10/pretrained": {
        **_CIFAR10,
        "batch_size": 1,
        "base_learning_rate": 1.2,
        "final_base_lr": 0.12,
        "warmup_epochs": 0.4,
        "normalization": "all",
        "unlabeled": (47, "soft", 1.0),
    },
    "cifar10/finetuned": {
        **_CIFAR10,
        **_NO_UNLABELED,
        "train_steps": 2000,
        "base_learning_rate": 0.02,
        "final_base_lr": 0.002,
        "warmup_epochs": 1.0,
    },
    "digits/teacher": {**_DIGITS, **_NO_UNLABELED, "train_steps": 1000},
    "digits/teacher_long": {**_DIGITS, **_NO_UNLABELED, "train_steps": 4000},
    "digits/student": _DIGITS,
    "digits/student_long": {**_DIGITS, "train_steps": 1500},
}


TUNE = ["--mode=fixres_finetune", "--init_model_path=w"]


def train_config(*arguments):
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(["program", *arguments])
    return flags_lib.config_from_flags(flag_values).train


def figures_of(train):
    pseudo = train.step.pseudo_labels
    augment = train.labeled_augment
    return {
        "model_name": train.model.model_name,
        "image_size": train.model.image_size,
        "dropout_rate": train.model.dropout_rate,
        "stochastic_depth_rate": train.model.stochastic_depth_rate,
        "augment": (augment.name, augment.num_layers, augment.magnitude),
        "cropped_flipped_cut": (
            augment.random_crop,
            augment.flip,
            augment.cutout,
        ),
        "warmup_epochs": train.optimizer.warmup_epochs,
        "normalization": train.step.normalization,
        "batch_size": train.batch_size,
        "train_steps": train.train_steps,
        "num_train_images": train.num_train_images,
        "base_learning_rate": train.optimizer.base_learning_rate,
        "final_base_lr": train.optimizer.final_base_lr,
        "decay_epochs": train.optimizer.decay_epochs,
        "moving_average_decay": train.optimizer.moving_average_decay,
        "weight_decay": train.step.weight_decay,
        "label_smoothing": train.step.label_smoothing,
        "unlabeled": (
            pseudo.unlabeled_ratio,
            pseudo.label_type,
            pseudo.temperature,
        ),
    }


def test_every_preset_has_its_figures_in_this_test():
    assert sorted(SETTINGS) == sorted(presets.PRESETS)


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_a_preset_resolves_to_its_figures(name):
    mode = TUNE if name.endswith("fixres") else []
    train = train_config(f"--preset={name}", *mode)
    assert figures_of(train) == SETTINGS[name]
    assert train.unlabeled_augment == train.labeled_augment


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in presets.PRESETS
        if name.startswith("imagenet/") and not name.endswith("_fixres")
    ),
)
def test_a_preset_trains_the_network_of_the_scaling_table(name):
    model = train_config(f"--preset={name}").model
    row = efficientnet.get_config(model.model_name)
    assert (model.width_coefficient, model.depth_coefficient) == (None, None)
    assert (
        row.width_coefficient,
        row.depth_coefficient,
        model.image_size,
        row.image_size,
        model.dropout_rate,
    ) == _NETWORKS[model.model_name[len("efficientnet-") :]]


@pytest.mark.parametrize(
    ("name", "fixed_blocks"),
    [
        ("imagenet/l2_fixres", 44),
        ("imagenet/l2_475_fixres", 44),
        ("cifar10/fixres", 4),
    ],
)
def test_a_tuning_recipe_fixes_the_first_four_stages(name, fixed_blocks):
    train = train_config(f"--preset={name}", *TUNE)
    assert train.freeze == config_lib.FreezeConfig(fixed_blocks=fixed_blocks)
    network = efficientnet.get_config(train.model.model_name)
    # That of CIFAR-10's runs is shallower than its name says.
    depth = 0.1 if name == "cifar10/fixres" else network.depth_coefficient
    repeats = [
        scaling.round_repeats(stage.num_repeats, depth)
        for stage in network.stages[:4]
    ]
    assert sum(repeats) == fixed_blocks


@pytest.mark.parametrize(
    ("batch_size", "steps"), [(512, 1751594), (1024, 875796), (4096, 218948)]
)
def test_another_batch_trains_for_the_same_epochs(batch_size, steps):
    name = "imagenet/b0_noisy_student"
    train = train_config(f"--preset={name}", f"--train_batch_size={batch_size}")
    assert train.train_steps == steps
    epochs = train.train_steps / train.steps_per_epoch
    assert epochs == pytest.approx(700, abs=0.01)
    changed = {"batch_size": batch_size, "train_steps": steps}
    assert figures_of(train) == {**SETTINGS[name], **changed}


def test_other_images_are_seen_as_often():
    train = train_config(
        "--preset=imagenet/b7_noisy_student", "--num_train_images=128117"
    )
    assert train.train_steps == int(350 * 128117 / 2048)


def test_explicit_steps_replace_the_epochs_of_a_preset():
    arguments = ["--preset=imagenet/b0_noisy_student", "--train_steps=10"]
    assert train_config(*arguments).train_steps == 20
    assert train_config(*arguments, "--train_ratio=1").train_steps == 10
    assert (
        train_config("--preset=digits/student", "--train_steps=7").train_steps
        == 7
    )


def test_explicit_epochs_replace_the_steps_of_a_preset():
    train = train_config(
        "--preset=digits/student", "--train_epochs=6", "--num_train_images=100"
    )
    assert train.train_steps == 20


def test_an_explicit_flag_beats_the_paper():
    train = train_config(
        "--preset=imagenet/b5_noisy_student",
        "--unlabel_ratio=1",
        "--randaug_mag=0",
        "--dropout_rate=0",
        "--teacher_softmax_temp=-1",
    )
    assert figures_of(train) == {
        **SETTINGS["imagenet/b5_noisy_student"],
        "unlabeled": (1, "hard", 1.0),
        "augment": ("randaugment", 2, 0),
        "dropout_rate": 0.0,
    }
