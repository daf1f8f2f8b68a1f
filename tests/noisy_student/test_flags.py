import dataclasses
import json
import re

import pytest
import tensorflow as tf
from absl import flags

from noisy_student import config as config_lib
from noisy_student import flags as flags_lib
from noisy_student import presets, run_dir, self_training, tasks

# Each flag with another value than its default.
NON_DEFAULT = {
    "mode": "eval",
    "model_dir": "somewhere",
    "preset": "digits/student",
    "task_name": "svhn",
    "label_data_dir": "labeled",
    "unlabel_data_dir": "unlabeled",
    "file_prefix": "extra",
    "eval_split": "dev",
    "num_label_classes": 10,
    "num_train_images": 7,
    "shuffle_buffer": 3,
    "use_cache": True,
    "max_damaged_fraction": 0.5,
    "fused_decode": True,
    "model_name": "efficientnet-b1",
    "input_image_size": 99,
    "width_coefficient": 0.5,
    "depth_coefficient": 0.5,
    "small_image_model": True,
    "crop_padding": "proportional",
    "num_shards_per_group": 2,
    "advprop_preprocessing": True,
    "train_steps": 9,
    "train_ratio": 2.0,
    "train_batch_size": 12,
    "base_learning_rate": 0.1,
    "final_base_lr": 0.001,
    "warmup_epochs": 0.0,
    "moving_average_decay": 0.0,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "init_model": True,
    "init_model_path": "weights",
    "checkpoint_head": "drop_background",
    "trainable_blocks": 0,
    "freeze_batch_norm": True,
    "iterations_per_loop": 10,
    "save_checkpoints_steps": 10,
    "steps_per_eval": 10,
    "keep_checkpoint_max": 1,
    "async_checkpoints": False,
    "seed": 5,
    "augment_name": "v1",
    "unl_aug": "v1",
    "randaug_mag": 0.0,
    "randaug_layer": 1,
    "cutout_op": False,
    "remove_aug": True,
    "dropout_rate": 0.0,
    "stochastic_depth_rate": 0.0,
    "unlabel_ratio": 3.0,
    "teacher_softmax_temp": 1.0,
    "teacher_model_name": "efficientnet-b2",
    "teacher_model_path": "teacher",
    "loss_normalization": "all",
    "checkpoint": "ckpt",
    "follow": True,
    "follow_timeout": 5.0,
    "use_ema": False,
    "export_formats": "h5",
    "export_samples": 3,
    "output_dir": "out",
    "eval_batch_size": 4,
    "use_tpu": True,
    "tpu": "local",
    "tpu_zone": "zone",
    "gcp_project": "project",
    "num_virtual_devices": 2,
    "deterministic": True,
}
# What a flag needs beside it to have a meaning.
COMPANIONS = {
    "follow": ["--mode=eval"],
    "init_model": ["--init_model_path=w"],
    "init_model_path": ["--init_model"],
    "trainable_blocks": ["--init_model", "--init_model_path=w"],
    "freeze_batch_norm": ["--init_model", "--init_model_path=w"],
    "teacher_model_name": ["--unlabel_ratio=1", "--teacher_model_path=t"],
    "teacher_model_path": [
        "--unlabel_ratio=1",
        "--teacher_model_name=efficientnet-b0",
    ],
}


PATHS = ("init_model_path", "teacher_model_path")


def parse(*arguments, define=flags_lib.define_flags):
    flag_values = flags.FlagValues()
    define(flag_values)
    flag_values(["program", *arguments])
    return flag_values


def parsed_config(*arguments):
    return flags_lib.config_from_flags(parse(*arguments))


def test_every_flag_is_in_the_table_of_this_test():
    assert sorted(NON_DEFAULT) == sorted(parse())


@pytest.mark.parametrize("name", sorted(NON_DEFAULT))
def test_no_flag_is_dead(name):
    companions = COMPANIONS.get(name, [])
    changed = [f"--{name}={NON_DEFAULT[name]}", *companions]
    # A path that the companions need is compared with another path.
    base = companions if name not in PATHS else [f"--{name}=p", *companions]
    assert parsed_config(*changed) != parsed_config(*base)


def test_defaults_are_those_of_the_original():
    train = parsed_config().train
    assert train.train_steps == 109474
    assert train.batch_size == 4096
    assert train.num_train_images == 1281167
    assert train.optimizer.base_learning_rate == 0.016
    assert train.optimizer.decay_epochs == 2.4
    assert train.optimizer.moving_average_decay == 0.9999
    assert train.step.weight_decay == 1e-5
    assert train.step.label_smoothing == 0.1
    assert train.step.pseudo_labels.label_type == "hard"
    assert train.labeled_augment.magnitude == 27
    assert train.labeled_augment.num_layers == 2
    assert train.model.image_size == 224


def test_the_ratio_stretches_steps_and_decay():
    train = parsed_config("--train_ratio=2").train
    assert train.train_steps == 218948
    assert train.optimizer.decay_epochs == 4.8


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_a_task_sets_its_sizes_and_statistics(name):
    task = tasks.get_task(name)
    train = parsed_config(f"--task_name={name}").train
    assert train.model.mean_rgb == task.mean_rgb
    assert train.model.small_image == task.small_image
    assert train.model.num_classes == (task.num_classes or 1000)
    assert train.labeled_augment.flip == task.flip
    assert train.data.eval_split == task.eval_split


def test_an_explicit_flag_beats_the_preset_also_when_it_is_zero():
    preset = parsed_config("--preset=digits/student").train
    assert preset.step.weight_decay > 0
    changed = parsed_config("--preset=digits/student", "--weight_decay=0").train
    assert changed.step.weight_decay == 0
    assert changed.batch_size == preset.batch_size


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_every_preset_sets_flags_that_exist_and_resolves(name):
    assert set(presets.PRESETS[name]) <= set(parse())
    train = parsed_config(f"--preset={name}").train
    assert train.train_steps == presets.PRESETS[name]["train_steps"]


def test_a_preset_may_be_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train_steps": 5}))
    assert parsed_config(f"--preset={path}").train.train_steps == 5


def test_a_preset_with_an_unknown_flag_is_refused(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train_step": 5}))
    with pytest.raises(
        ValueError, match="sets 'train_step', which is no setting"
    ):
        parsed_config(f"--preset={path}")


@pytest.mark.parametrize(
    "values",
    [
        {"train_steps": "many"},
        {"randaug_layer": 2.5},
        {"augment_name": "foo"},
        {"loss_normalization": 3},
        {"seed": -5},
        {"mode": "train"},
        {"model_name": ["efficientnet-b0"]},
    ],
)
def test_a_presets_values_keep_the_rules_of_their_flags(tmp_path, values):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(values))
    (name,) = values
    with pytest.raises(ValueError, match=f"The preset {path} sets .?{name}"):
        parsed_config(f"--preset={path}")


@pytest.mark.parametrize("content", ["null", "5", "[]"])
def test_a_preset_file_must_hold_an_object(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="must hold an object"):
        parsed_config(f"--preset={path}")


def test_values_of_a_preset_may_be_strings_as_on_the_command_line(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train_steps": "500", "cutout_op": "false"}))
    train = parsed_config(f"--preset={path}").train
    assert train.train_steps == 500
    assert train.labeled_augment.cutout is False


def test_an_explicit_class_count_beats_that_of_the_task():
    assert parsed_config("--task_name=digits").train.model.num_classes == 10
    explicit = parsed_config("--task_name=digits", "--num_label_classes=3")
    assert explicit.train.model.num_classes == 3


def test_models_train_at_their_training_size_and_evaluate_at_their_own(
    tmp_path,
):
    prefix = tf.train.Checkpoint(v=tf.Variable(1.0)).save(str(tmp_path / "c"))
    arguments = ["--model_name=efficientnet-l2", f"--checkpoint={prefix}"]
    train = parsed_config("--mode=train", *arguments)
    assert train.train.model.image_size == 475
    evaluated = flags_lib.with_trained_models(
        parsed_config("--mode=eval", *arguments)
    )
    assert evaluated.train.model.image_size == 800


def test_the_online_teacher_is_its_runs_network_or_the_tables(tmp_path):
    arguments = [
        "--model_name=efficientnet-b0",
        "--input_image_size=128",
        "--width_coefficient=0.5",
        "--teacher_model_name=efficientnet-b7",
        f"--teacher_model_path={tmp_path}",
        "--unlabel_ratio=1",
    ]
    table = flags_lib.with_trained_models(parsed_config(*arguments))
    assert table.train.teacher.image_size == 600
    assert table.train.teacher.width_coefficient is None
    trained = dataclasses.replace(table.train.model, image_size=64)
    run_dir.claim(str(tmp_path), {"model": config_lib.to_dict(trained)})
    own = flags_lib.with_trained_models(parsed_config(*arguments))
    assert own.train.teacher == trained


def test_a_size_asked_for_beats_that_of_the_trained_network(tmp_path):
    model = parsed_config().train.model
    run_dir.claim(str(tmp_path), {"model": config_lib.to_dict(model)})
    run = flags_lib.with_trained_models(
        parsed_config(
            "--mode=eval", f"--model_dir={tmp_path}", "--input_image_size=64"
        )
    )
    assert run.train.model == dataclasses.replace(model, image_size=64)


def test_a_fresh_classifier_freezes_batch_norm_unless_told_otherwise():
    init = ["--init_model", "--init_model_path=w"]
    fresh = parsed_config(*init, "--checkpoint_head=fresh").train
    assert fresh.init_head == "fresh"
    assert fresh.freeze == config_lib.FreezeConfig(batch_norm=True)
    told = parsed_config(
        *init,
        "--checkpoint_head=fresh",
        "--nofreeze_batch_norm",
        "--trainable_blocks=3",
    ).train
    assert told.freeze == config_lib.FreezeConfig(trainable_blocks=3)
    assert parsed_config(*init).train.freeze == config_lib.FreezeConfig()


def test_advprop_scales_pixels_to_one():
    model = parsed_config("--advprop_preprocessing", "--task_name=svhn").train
    assert model.model.mean_rgb == model.model.stddev_rgb == (127.5,) * 3


def test_soft_and_hard_labels_follow_the_temperature():
    soft = parsed_config("--teacher_softmax_temp=0.5").train.step.pseudo_labels
    assert (soft.label_type, soft.temperature) == ("soft", 0.5)
    hard = parsed_config("--teacher_softmax_temp=-1").train.step.pseudo_labels
    assert hard.label_type == "hard"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset=nothing"], "Received: 'nothing'"),
        (["--teacher_softmax_temp=0"], "--teacher_softmax_temp.*Received: 0"),
        (["--init_model"], "--init_model needs --init_model_path"),
        (["--trainable_blocks=0"], "--trainable_blocks needs --init_model"),
        (["--freeze_batch_norm"], "--freeze_batch_norm needs --init_model"),
        (["--mode=eval", "--checkpoint_head=fresh"], "answers at random"),
        (["--follow"], "--follow .* needs --mode=eval"),
        (
            ["--mode=eval", "--follow", "--checkpoint=c"],
            "excludes --checkpoint",
        ),
        (["--export_formats=h5,onnx"], "Received: 'onnx'"),
        (["--export_formats=tflite_int8"], "needs --label_data_dir"),
        (
            ["--teacher_model_name=efficientnet-b0", "--unlabel_ratio=1"],
            "needs --teacher_model_path",
        ),
        (["--final_base_lr=1"], "`final_base_lr`.*Received: 1.0"),
    ],
)
def test_contradicting_flags_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        parsed_config(*arguments)


@pytest.mark.parametrize(
    "define", [flags_lib.define_flags, self_training.define_flags]
)
def test_every_flag_is_explained_by_one_clear_sentence_in_a_group(define):
    flag_values = parse(define=define)
    for name in flag_values:
        flag = flag_values[name]
        text = re.sub(r"^<.*?>: ", "", flag.help)
        assert flag.group, name
        assert re.fullmatch(r"[A-Z\-].{12,}[^.]\.", text, re.S), (name, text)


SELF_TRAINING = [
    "--work_dir=w",
    "--label_data_dir=l",
    "--unlabel_data_dir=u",
    "--teacher_preset=digits/teacher",
]


def self_training_config(*arguments):
    flag_values = parse(
        *SELF_TRAINING, *arguments, define=self_training.define_flags
    )
    return self_training.config_from_flags(flag_values)


def test_self_training_resolves_every_role():
    config = self_training_config(
        "--student_preset=digits/student", "--rounds=3", "--train_steps=7"
    )
    assert len(config.rounds) == 3
    assert config.teacher.step.pseudo_labels.unlabeled_ratio == 0
    for number, student in enumerate(config.rounds, start=1):
        assert student.step.pseudo_labels.unlabeled_ratio > 0
        assert student.data.unlabel_data_dir == (
            f"w/round_{number}/pseudo_labeled/data"
        )
        assert student.train_steps == 7
    assert len({config.teacher.seed, *(s.seed for s in config.rounds)}) == 4


SELF_TRAINING_NON_DEFAULT = {
    "work_dir": "elsewhere",
    "rounds": 3,
    "teacher_preset": "digits/student",
    "student_preset": "digits/student",
    "teacher_model_path": "t",
    "filter_teacher": "f",
    "min_threshold": 0.5,
    "num_image": 7,
    "upsample": False,
    "selection": "binned",
    "unlabel_truth": "truth.json",
}


def test_no_flag_of_self_training_is_dead():
    flag_values = parse(define=self_training.define_flags)
    training = set(flag_values) - set(SELF_TRAINING_NON_DEFAULT)
    # The others are those of a training run.
    assert training < set(NON_DEFAULT)
    base = self_training_config("--unlabel_ratio=3")
    for name, value in SELF_TRAINING_NON_DEFAULT.items():
        changed = self_training_config("--unlabel_ratio=3", f"--{name}={value}")
        assert changed != base, name


def test_a_recipe_of_a_round_sets_nothing_of_the_loop(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"unlabel_ratio": 3, "num_image": 5}))
    with pytest.raises(ValueError, match="sets 'num_image', which is no"):
        self_training_config(f"--student_preset={path}")


def test_rounds_may_have_recipes_of_their_own(tmp_path):
    path = tmp_path / "large.json"
    path.write_text(
        json.dumps({**presets.PRESETS["digits/student"], "unlabel_ratio": 7})
    )
    config = self_training_config(f"--student_preset=digits/student,{path}")
    ratios = [s.step.pseudo_labels.unlabeled_ratio for s in config.rounds]
    assert ratios == [presets.PRESETS["digits/student"]["unlabel_ratio"], 7]


def test_a_given_teacher_is_not_trained():
    config = self_training_config(
        "--student_preset=digits/student", "--teacher_model_path=t"
    )
    assert config.teacher is None
    assert config.teacher_checkpoint == "t"
    assert config.teacher_model.num_classes == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--work_dir="], "--work_dir is needed"),
        ([], "--unlabel_ratio must be > 0.*Received: 0 for student 1"),
        (["--student_preset=a,b,c"], "Received: 3 for --rounds=2"),
    ],
)
def test_self_training_flags_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        self_training_config(*arguments)
