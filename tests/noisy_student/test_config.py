import dataclasses
import json

import pytest

from noisy_student import config, hardware_config

MODEL = config.ModelConfig("efficientnet-b0", 10, 32, mean_rgb=(1.0, 2.0, 3.0))


def train_config(**changes):
    return dataclasses.replace(
        config.TrainConfig(
            model=MODEL,
            data=config.DataConfig(),
            labeled_augment=config.AugmentConfig(),
            unlabeled_augment=config.AugmentConfig(),
            step=config.StepConfig(num_classes=10),
            optimizer=config.OptimizerConfig(),
        ),
        **changes,
    )


# It is trained beside the classifier, and nothing else.
NORM_ALONE = ("head_batch_norm", True)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda v: dataclasses.replace(MODEL, num_classes=v), "num_classes", 1),
        (lambda v: dataclasses.replace(MODEL, image_size=v), "image_size", 4),
        (
            lambda v: dataclasses.replace(MODEL, width_coefficient=v),
            "width_coefficient",
            0.0,
        ),
        (
            lambda v: dataclasses.replace(MODEL, dropout_rate=v),
            "dropout_rate",
            1.0,
        ),
        (
            lambda v: config.ModelConfig(
                "efficientnet-b0", 3, 48, stored_size=v
            ),
            "stored_size",
            32,
        ),
        (lambda v: config.FreezeConfig(head_batch_norm=v), *NORM_ALONE),
        (
            lambda v: config.FreezeConfig(
                trainable_blocks=0, batch_norm=True, head_batch_norm=v
            ),
            *NORM_ALONE,
        ),
        (lambda v: config.AugmentConfig(name=v), "augment", "mixup"),
        (lambda v: config.AugmentConfig(num_layers=v), "num_layers", 0),
        (lambda v: config.AugmentConfig(magnitude=v), "magnitude", -1),
        (lambda v: config.AugmentConfig(magnitude=v), "magnitude", 1e30),
        (lambda v: config.DataConfig(shuffle_buffer=v), "shuffle_buffer", 0),
        (
            lambda v: config.PseudoLabelConfig(unlabeled_ratio=v),
            "unlabeled_ratio",
            -1,
        ),
        (
            lambda v: config.PseudoLabelConfig(label_type=v),
            "label_type",
            "fuzzy",
        ),
        (lambda v: config.PseudoLabelConfig(temperature=v), "temperature", 0),
        (
            lambda v: config.StepConfig(num_classes=2, label_smoothing=v),
            "label_smoothing",
            1.0,
        ),
        (
            lambda v: config.StepConfig(num_classes=2, weight_decay=v),
            "weight_decay",
            -1.0,
        ),
        (
            lambda v: config.StepConfig(
                num_classes=2, label_data_sample_prob=v
            ),
            "label_data_sample_prob",
            0.0,
        ),
        (
            lambda v: config.StepConfig(num_classes=2, accumulate_steps=v),
            "accumulate_steps",
            0,
        ),
        (
            lambda v: config.OptimizerConfig(final_base_lr=v),
            "final_base_lr",
            0.5,
        ),
        (
            lambda v: config.OptimizerConfig(warmup_epochs=v),
            "warmup_epochs",
            -1,
        ),
        (
            lambda v: config.OptimizerConfig(moving_average_decay=v),
            "moving_average_decay",
            1.0,
        ),
        (lambda v: train_config(batch_size=v), "batch_size", 0),
        (lambda v: train_config(train_steps=v), "train_steps", 0),
        (
            lambda v: hardware_config.HardwareConfig(num_virtual_devices=v),
            "num_virtual_devices",
            0,
        ),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule(make, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be") as error:
        make(value)
    assert f"Received: {value!r}." in str(error.value)


def test_an_online_teacher_needs_a_network():
    step = config.StepConfig(
        num_classes=10,
        pseudo_labels=config.PseudoLabelConfig(unlabeled_ratio=1, online=True),
    )
    with pytest.raises(ValueError, match="online=True, teacher=None"):
        train_config(step=step)


def test_a_noised_teacher_must_be_an_online_one():
    with pytest.raises(ValueError, match="`noise_teacher` must be False"):
        config.PseudoLabelConfig(unlabeled_ratio=1, noise_teacher=True)


def test_unlabeled_batch_is_rounded_up_as_in_the_original():
    pseudo = config.PseudoLabelConfig(unlabeled_ratio=0.6)
    assert pseudo.unlabeled_batch_size(4) == 3
    assert config.PseudoLabelConfig().unlabeled_batch_size(4) == 0


def test_unlabeled_images_accompany_the_labeled_ones_that_count():
    step = config.StepConfig(
        num_classes=10,
        label_data_sample_prob=0.25,
        pseudo_labels=config.PseudoLabelConfig(unlabeled_ratio=14),
    )
    assert step.unlabeled_batch_size(8) == 28
    assert step.unlabeled_batch_size(1) == 4


def test_epochs_count_labeled_images_only():
    assert (
        train_config(batch_size=4, num_train_images=10).steps_per_epoch == 2.5
    )


def test_epochs_count_labeled_images_that_count_in_the_loss():
    sampled = config.StepConfig(num_classes=10, label_data_sample_prob=0.25)
    run = train_config(batch_size=64, num_train_images=320, step=sampled)
    assert run.counted_batch_size == 16
    assert run.steps_per_epoch == 20


def test_a_model_config_survives_json():
    values = json.loads(json.dumps(config.to_dict(MODEL)))
    assert config.model_from_dict(values) == MODEL
