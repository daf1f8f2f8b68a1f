"""The original code's flags, and the flag lines of its shell scripts.

Source: noisystudent `main.py`, `predict_label.py`, `local_scripts/`.
"""

import functools
import json
import pathlib
import re

import numpy as np
import pytest
from absl import flags

from noisy_student import flags as flags_lib
from noisy_student import preflight
from tests import golden_data
from tests.noisy_student import fixtures

# The original's flags and defaults; None for those that hardware decides.
ORIGINAL_DEFAULTS = {
    # main.py
    "task_name": "imagenet",
    "label_data_dir": None,
    "model_dir": None,
    "init_model": False,
    "init_model_path": None,
    "model_name": "efficientnet-b0",
    "mode": "train_and_eval",
    "train_steps": 109474,
    "input_image_size": None,
    "train_ratio": 1.0,
    "train_batch_size": 4096,
    "eval_batch_size": 8,
    "use_tpu": None,
    "master": None,
    "tpu": None,
    "gcp_project": None,
    "tpu_zone": None,
    "num_train_images": None,
    "num_eval_images": None,
    "num_test_images": None,
    "steps_per_eval": 3000,
    "skip_host_call": False,
    "iterations_per_loop": 1000,
    "data_format": "channels_last",
    "num_label_classes": 1000,
    "transpose_input": True,
    "use_bfloat16": None,
    "base_learning_rate": 0.016,
    "moving_average_decay": 0.9999,
    "weight_decay": 1e-5,
    "label_smoothing": 0.1,
    "dropout_rate": None,
    "stochastic_depth_rate": None,
    "log_step_count_steps": 64,
    "use_cache": False,
    "depth_coefficient": None,
    "width_coefficient": None,
    "debug": 0,
    "unlabel_data_dir": "",
    "unlabel_ratio": 0,
    "teacher_softmax_temp": -1,
    "train_last_step_num": -1,
    "teacher_model_name": None,
    "teacher_model_path": None,
    "augment_name": None,
    "remove_aug": False,
    "save_checkpoints_steps": 1000,
    "fix_layer_num": -1,
    "randaug_mag": 27,
    "randaug_layer": 2,
    "num_shards_per_group": -1,
    "label_data_sample_prob": 1,
    "num_tpu_cores": None,
    "unl_aug": "default",
    "cutout_op": True,
    "small_image_model": False,
    "final_base_lr": None,
    "num_train_shards": None,
    "keep_checkpoint_max": 5,
    # predict_label.py
    "predict_ckpt_path": "",
    "output_dir": "",
    "info_dir": "",
    "num_shards": 128,
    "shard_id": "0",
    "total_replicas": 1,
    "worker_id": 0,
    "reassign_label": False,
    "data_type": "tfrecord",
    "file_prefix": "train",
}


def parse(*arguments):
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(["program", *arguments])
    return flag_values


@pytest.mark.parametrize("name", sorted(ORIGINAL_DEFAULTS))
def test_every_flag_of_the_original_is_declared_with_its_default(name):
    assert parse()[name].default == ORIGINAL_DEFAULTS[name]


SCHEDULES = json.loads(golden_data.path("lr_schedule_ns.json").read_text())
TAILS = sorted(n for n in SCHEDULES if SCHEDULES[n]["start_from_step"])


@pytest.mark.parametrize("name", TAILS)
def test_the_tail_of_a_schedule_has_the_originals_rates(name):
    from noisy_student import train_loop

    case = SCHEDULES[name]
    train = flags_lib.config_from_flags(
        parse(*(f"--{flag}={value}" for flag, value in case["flags"].items()))
    ).train
    assert train.train_steps == case["after_main"]["train_last_step_num"]
    rates = np.load(golden_data.path("lr_schedule_ns.npz"))
    schedule = train_loop.build_optimizer(train)._learning_rate
    np.testing.assert_allclose(
        schedule(rates[f"{name}/steps"]), rates[f"{name}/lr"], rtol=1e-5
    )


# What the scripts leave to their user, filled in.
_LABELED, _UNLABELED = "labeled", "unlabeled"
_TEACHER = "ckpt/teacher_ckpt/model.ckpt"
_ON_CPU = ["--use_tpu=False", "--use_bfloat16=False"]
_IMAGENET_TRAIN = [
    *_ON_CPU,
    "--mode=train",
    "--model_name=efficientnet-{model}",
    f"--label_data_dir={_LABELED}",
    "--model_dir=./ckpt/imagenet",
    f"--unlabel_data_dir={_UNLABELED}",
    "--teacher_model_name=efficientnet-{model}",
    f"--teacher_model_path={_TEACHER}",
    "--teacher_softmax_temp=1",
]
# What the comments of both training scripts add for each model.
_IMAGENET_EXTRA = {
    "b0": ["--unlabel_ratio=1", "--train_ratio=2"],
    "b1": ["--unlabel_ratio=3", "--train_ratio=2"],
    "b2": [
        "--unlabel_ratio=3",
        "--train_ratio=2",
        "--augment_name=v1",
        "--randaug_mag=6",
    ],
    "b3": [
        "--unlabel_ratio=3",
        "--train_ratio=2",
        "--augment_name=v1",
        "--randaug_mag=12",
    ],
    "b4": [
        "--unlabel_ratio=3",
        "--train_ratio=2",
        "--augment_name=v1",
        "--randaug_mag=15",
    ],
    "b5": ["--unlabel_ratio=3", "--augment_name=v1", "--randaug_mag=18"],
    "b6": ["--unlabel_ratio=3", "--augment_name=v1", "--randaug_mag=24"],
    "b7": ["--unlabel_ratio=3", "--augment_name=v1", "--randaug_mag=27"],
}
_SVHN_TRAIN = [
    "--model_name=efficientnet-b0",
    *_ON_CPU,
    "--task_name=svhn",
    "--mode=train",
    "--train_batch_size=128",
    "--iterations_per_loop=1000",
    "--save_checkpoints_steps=1000",
    "--unlabel_ratio=5",
    "--teacher_softmax_temp=1",
    "--augment_name=v1",
    "--randaug_mag=5",
    "--final_base_lr=0.0002",
    "--weight_decay=1e-4",
    "--label_data_dir=./data/svhn/proc",
]
_SVHN_EVAL = [
    "--model_name=efficientnet-b0",
    *_ON_CPU,
    "--task_name=svhn",
    "--mode=eval",
    "--label_data_dir=./data/svhn/proc",
    "--model_dir=./ckpt/exp_1",
]
_PREDICT = [
    "--model_name=efficientnet-b0",
    *_ON_CPU,
    "--mode=predict",
    f"--predict_ckpt_path={_TEACHER}",
    "--worker_id=0",
    "--num_shards=128",
    "--shard_id=17",
    "--data_type=tfrecord",
]
SCRIPTS = {
    **{
        f"imagenet/{script} {model}": [
            line.format(model=f"{model}") for line in [*_IMAGENET_TRAIN, *extra]
        ]
        for script in ("run", "train_offline")
        for model, extra in _IMAGENET_EXTRA.items()
    },
    "imagenet/train_offline as it is": [
        line.format(model="b0") for line in _IMAGENET_TRAIN
    ],
    "imagenet/eval": [
        "--model_name=efficientnet-b0",
        *_ON_CPU,
        "--mode=eval",
        f"--label_data_dir={_LABELED}",
        "--model_dir=./ckpt/imagenet",
    ],
    "imagenet/predict": [
        *_PREDICT,
        "--file_prefix=extra",
        "--label_data_dir=./data/imagenet/predict/",
        "--info_dir=./data/imagenet/predict//info",
        "--output_dir=./data/imagenet/predict//predict_label",
    ],
    "imagenet/reassign": [
        *_PREDICT,
        "--task_name=svhn",
        "--file_prefix=train",
        "--label_data_dir=./data/imagenet/predict//filter_data/data",
        "--info_dir=./data/imagenet/predict//info",
        "--output_dir=./data/imagenet/predict//reassign",
        "--reassign_label=True",
    ],
    "run_svhn train": [
        *_SVHN_TRAIN,
        "--teacher_model_name=efficientnet-b0",
        "--teacher_model_path=ckpt/teacher_ckpt/model.ckpt",
        "--model_dir=./ckpt/exp_1",
        "--unlabel_data_dir=./data/proc/unlabeled",
    ],
    "run_svhn eval": _SVHN_EVAL,
    "svhn/svhn_offline train": [
        *_SVHN_TRAIN,
        "--model_dir=./ckpt/exp_1",
        "--unlabel_data_dir=./data/svhn/predict/filter_data/data",
    ],
    "svhn/svhn_offline eval": _SVHN_EVAL,
    "svhn/predict": [
        *_PREDICT,
        "--task_name=svhn",
        "--file_prefix=extra",
        "--label_data_dir=./data/svhn/predict/",
        "--info_dir=./data/svhn/predict//info",
        "--output_dir=./data/svhn/predict//predict_label",
    ],
    "svhn/reassign": [
        *_PREDICT,
        "--task_name=svhn",
        "--file_prefix=train",
        "--label_data_dir=./data/svhn/predict//filter_data/data",
        "--info_dir=./data/svhn/predict//info",
        "--output_dir=./data/svhn/predict//reassign",
        "--reassign_label=True",
    ],
}

# model: unlabeled ratio, steps, epochs per stair, augmentation, magnitude,
# image size, dropout.
_IMAGENET_SETTINGS = {
    "b0": (1, 218948, 4.8, "none", 27, 224),
    "b1": (3, 218948, 4.8, "none", 27, 240),
    "b2": (3, 218948, 4.8, "randaugment", 6, 260),
    "b3": (3, 218948, 4.8, "randaugment", 12, 300),
    "b4": (3, 218948, 4.8, "randaugment", 15, 380),
    "b5": (3, 109474, 2.4, "randaugment", 18, 456),
    "b6": (3, 109474, 2.4, "randaugment", 24, 528),
    "b7": (3, 109474, 2.4, "randaugment", 27, 600),
}
_IMAGENET_TRAINED = {
    "mode": "train",
    "model_dir": "./ckpt/imagenet",
    "hardware.use_tpu": False,
    "train.data.label_data_dir": _LABELED,
    "train.data.unlabel_data_dir": _UNLABELED,
    "train.data.unlabel_split": "train;extra",
    "train.batch_size": 4096,
    "train.num_train_images": 1281167,
    "train.model.num_classes": 1000,
    "train.model.dropout_rate": None,
    "train.step.weight_decay": 1e-5,
    "train.step.label_smoothing": 0.1,
    "train.step.pseudo_labels.label_type": "soft",
    "train.step.pseudo_labels.temperature": 1,
    "train.optimizer.base_learning_rate": 0.016,
    "train.optimizer.final_base_lr": None,
    "train.optimizer.moving_average_decay": 0.9999,
    "train.optimizer.start_step": 0,
    "train.init_checkpoint": None,
}


def _imagenet_trained(model):
    ratio, steps, decay_epochs, augment, magnitude, size = _IMAGENET_SETTINGS[
        model
    ]
    settings = {
        **_IMAGENET_TRAINED,
        "train.model.model_name": f"efficientnet-{model}",
        "train.model.image_size": size,
        "train.train_steps": steps,
        "train.optimizer.decay_epochs": decay_epochs,
        "train.step.pseudo_labels.unlabeled_ratio": ratio,
        "train.step.pseudo_labels.online": True,
        "train.teacher.model_name": f"efficientnet-{model}",
        "train.teacher.image_size": size,
        "train.teacher_checkpoint": _TEACHER,
    }
    for part in ("labeled", "unlabeled"):
        settings[f"train.{part}_augment.name"] = augment
        settings[f"train.{part}_augment.num_layers"] = 2
        settings[f"train.{part}_augment.magnitude"] = magnitude
    return settings


_SVHN_TRAINED = {
    "mode": "train",
    "model_dir": "./ckpt/exp_1",
    "hardware.use_tpu": False,
    "train.model.model_name": "efficientnet-b0",
    "train.model.image_size": 32,
    "train.model.num_classes": 10,
    "train.model.small_image": True,
    "train.data.label_data_dir": "./data/svhn/proc",
    "train.data.unlabel_split": "train;extra",
    "train.batch_size": 128,
    "train.num_train_images": 69257,
    "train.train_steps": 109474,
    "train.iterations_per_loop": 1000,
    "train.save_checkpoints_steps": 1000,
    "train.step.weight_decay": 1e-4,
    "train.step.pseudo_labels.unlabeled_ratio": 5,
    "train.step.pseudo_labels.label_type": "soft",
    "train.step.pseudo_labels.temperature": 1,
    "train.optimizer.final_base_lr": 0.0002,
    "train.labeled_augment.name": "randaugment",
    "train.labeled_augment.magnitude": 5,
    "train.labeled_augment.flip": False,
}
_SVHN_EVALUATED = {
    "mode": "eval",
    "weights_path": "./ckpt/exp_1",
    "train.model.image_size": 32,
    "train.data.label_data_dir": "./data/svhn/proc",
    "train.data.eval_split": "test",
}
_PREDICTED = {
    "mode": "predict",
    "hardware.use_tpu": False,
    "checkpoint": _TEACHER,
    "train.model.model_name": "efficientnet-b0",
    "labelling.shard_ids": (17,),
    "labelling.num_shards": 128,
    "labelling.num_workers": 1,
    "labelling.worker": 0,
}


def _predicted(data, *, size):
    return {
        **_PREDICTED,
        "train.model.image_size": size,
        "labelling.input_dir": f"./data/{data}/predict/",
        "labelling.split": "extra",
        "labelling.reassign": False,
        "labelling.info_dir": f"./data/{data}/predict//info",
        "output_dir": f"./data/{data}/predict//predict_label",
    }


def _reassigned(data):
    return {
        **_PREDICTED,
        # The script for ImageNet says so, too.
        "train.model.image_size": 32,
        "train.model.num_classes": 10,
        "labelling.input_dir": f"./data/{data}/predict//filter_data/data",
        "labelling.split": "train-0",
        "labelling.reassign": True,
        "labelling.info_dir": f"./data/{data}/predict//info",
        "output_dir": f"./data/{data}/predict//reassign",
    }


SETTINGS = {
    **{
        f"imagenet/{script} {model}": _imagenet_trained(model)
        for script in ("run", "train_offline")
        for model in _IMAGENET_SETTINGS
    },
    "imagenet/train_offline as it is": {
        **_IMAGENET_TRAINED,
        "train.train_steps": 109474,
        "train.step.pseudo_labels.unlabeled_ratio": 0,
        "train.teacher": None,
    },
    "imagenet/eval": {
        "mode": "eval",
        "hardware.use_tpu": False,
        "weights_path": "./ckpt/imagenet",
        "use_ema": True,
        "train.model.model_name": "efficientnet-b0",
        "train.model.image_size": 224,
        "train.data.label_data_dir": _LABELED,
        "train.data.eval_split": "validation",
        "train.eval_batch_size": 8,
    },
    "imagenet/predict": _predicted("imagenet", size=224),
    "imagenet/reassign": _reassigned("imagenet"),
    "run_svhn train": {
        **_SVHN_TRAINED,
        "train.data.unlabel_data_dir": "./data/proc/unlabeled",
        "train.step.pseudo_labels.online": True,
        "train.teacher.model_name": "efficientnet-b0",
        "train.teacher.image_size": 32,
        "train.teacher_checkpoint": "ckpt/teacher_ckpt/model.ckpt",
    },
    "run_svhn eval": _SVHN_EVALUATED,
    "svhn/svhn_offline train": {
        **_SVHN_TRAINED,
        "train.data.unlabel_data_dir": ("./data/svhn/predict/filter_data/data"),
        "train.step.pseudo_labels.online": False,
        "train.teacher": None,
    },
    "svhn/svhn_offline eval": _SVHN_EVALUATED,
    "svhn/predict": _predicted("svhn", size=32),
    "svhn/reassign": _reassigned("svhn"),
}
# Flags of the scripts that have no effect here.
WITHOUT_EFFECT = {
    script: ["--data_type"]
    for script in SCRIPTS
    if "predict" in script or "reassign" in script
}


def parse_script(script):
    return parse(*SCRIPTS[script])


def test_every_script_has_its_settings():
    assert sorted(SETTINGS) == sorted(SCRIPTS)


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_of_the_original_resolves_to_its_settings(script):
    config = flags_lib.config_from_flags(parse_script(script))
    resolved = {
        name: functools.reduce(getattr, name.split("."), config)
        for name in SETTINGS[script]
    }
    assert resolved == SETTINGS[script]


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_of_the_original_hears_what_has_no_effect(script, warned):
    flag_values = parse_script(script)
    flags_lib.config_from_flags(flag_values)
    flags_lib.warn_of_legacy_flags(flag_values)
    assert [w.split(": ")[1] for w in warned()] == [
        f"{flag}." for flag in WITHOUT_EFFECT.get(script, [])
    ]


@pytest.mark.parametrize(
    ("script", "write_unlabeled", "ignored"),
    [
        ("imagenet/train_offline b0", fixtures.write_pseudo_labeled, True),
        ("imagenet/run b0", fixtures.write_unlabeled, False),
        ("svhn/svhn_offline train", fixtures.write_pseudo_labeled, False),
    ],
)
def test_training_offline_with_a_teacher_hears_that_labels_are_ignored(
    tmp_path, warned, script, write_unlabeled, ignored
):
    run = flags_lib.config_from_flags(parse_script(script))
    fixtures.write_labeled(tmp_path, "train", 6)
    write_unlabeled(tmp_path / "unlabeled", "train", 6)
    train = fixtures.train_config(
        tmp_path,
        unlabel_data_dir=tmp_path / "unlabeled",
        step=run.train.step,
        teacher=run.train.teacher,
        teacher_checkpoint=run.train.teacher_checkpoint,
    )
    preflight.check_training_data(train)
    expected = (
        "--teacher_model_name=efficientnet-b0 labels inside the step: the "
        f"labels stored in --unlabel_data_dir={tmp_path}/unlabeled are ignored."
    )
    assert [w.startswith(expected) for w in warned()] == [True] * ignored


PAGE = (
    pathlib.Path(__file__).parents[2] / "docs" / "original_scripts.md"
).read_text()


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_each_flag_of_a_script_has_its_line_on_the_page(script):
    missing = [
        flag
        for flag in (word.split("=")[0] for word in SCRIPTS[script])
        if not re.search(rf"{flag}\b", PAGE)
    ]
    assert missing == []


def test_the_page_names_files_that_exist():
    named = re.findall(r"`((?:scripts|tests|docs)/[\w/.]+)", PAGE)
    assert len(named) > 10
    for name in named:
        assert (pathlib.Path(__file__).parents[2] / name).exists(), name
