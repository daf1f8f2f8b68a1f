import dataclasses
import json
import re

import pytest
import tensorflow as tf
from absl import flags

from noisy_student import config as config_lib
from noisy_student import flags as flags_lib
from noisy_student import presets, run_dir, self_training, tasks
from noisy_student.flag_declarations_labelling import LEGACY_NO_EFFECT

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
    "num_train_shards": 3,
    "num_eval_images": 3,
    "num_test_images": 3,
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
    "train_epochs": 3.0,
    "train_last_step_num": 7,
    "train_ratio": 2.0,
    "train_batch_size": 12,
    "label_data_sample_prob": 0.5,
    "accumulate_steps": 2,
    "recompute_activations": True,
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
    "fix_layer_num": 0,
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
    "unl_remove_aug": True,
    "unl_dropout": False,
    "unl_stochastic_depth": False,
    "dropout_rate": 0.0,
    "stochastic_depth_rate": 0.0,
    "unlabel_ratio": 3.0,
    "teacher_softmax_temp": 1.0,
    "teacher_model_name": "efficientnet-b2",
    "teacher_model_path": "teacher",
    "noise_teacher": True,
    "fixres_variant": "classifier",
    "fixres_epochs": 3.0,
    "loss_normalization": "all",
    "checkpoint": "ckpt",
    "follow": True,
    "follow_timeout": 5.0,
    "use_ema": False,
    "export_formats": "h5",
    "export_samples": 3,
    "output_dir": "out",
    "predict_ckpt_path": "ckpt",
    "info_dir": "info",
    "shard_id": "3",
    "num_shards": 4,
    "total_replicas": 2,
    "worker_id": 1,
    "reassign_label": True,
    "prediction_storage": "float16",
    "num_stored_classes": 3,
    "eval_batch_size": 4,
    "use_tpu": True,
    "tpu": "local",
    "tpu_zone": "zone",
    "gcp_project": "project",
    "num_virtual_devices": 2,
    "deterministic": True,
    "use_bfloat16": True,
}
_TUNE = ["--mode=fixres_finetune", "--init_model_path=w", "--fix_layer_num=0"]
# What a flag needs beside it to have a meaning.
COMPANIONS = {
    "follow": ["--mode=eval"],
    "init_model": ["--init_model_path=w"],
    "init_model_path": ["--init_model"],
    "trainable_blocks": ["--init_model", "--init_model_path=w"],
    "fix_layer_num": ["--init_model", "--init_model_path=w"],
    "freeze_batch_norm": ["--init_model", "--init_model_path=w"],
    "fixres_variant": _TUNE,
    "fixres_epochs": _TUNE,
    "num_test_images": ["--eval_split=test"],
    "predict_ckpt_path": ["--mode=predict"],
    "worker_id": ["--total_replicas=2"],
    "teacher_model_name": ["--unlabel_ratio=1", "--teacher_model_path=t"],
    "teacher_model_path": [
        "--unlabel_ratio=1",
        "--teacher_model_name=efficientnet-b0",
    ],
    "noise_teacher": [
        "--unlabel_ratio=1",
        "--teacher_model_name=efficientnet-b0",
        "--teacher_model_path=t",
    ],
}


# Flags that old scripts may give, with another value than the default where
# there is one.
LEGACY = {
    "data_format": "channels_first",
    "data_type": "tfrecord",
    "debug": 1,
    "log_step_count_steps": 1,
    "master": "grpc://host",
    "num_tpu_cores": 8,
    "skip_host_call": True,
    "transpose_input": False,
}
PATHS = ("init_model_path", "teacher_model_path")


def parse(*arguments, define=flags_lib.define_flags):
    flag_values = flags.FlagValues()
    define(flag_values)
    flag_values(["program", *arguments])
    return flag_values


def parsed_config(*arguments):
    return flags_lib.config_from_flags(parse(*arguments))


def test_every_flag_is_in_a_table_of_this_test():
    assert sorted([*NON_DEFAULT, *LEGACY]) == sorted(parse())
    assert sorted(LEGACY) == sorted(LEGACY_NO_EFFECT)


@pytest.mark.parametrize("name", sorted(NON_DEFAULT))
def test_no_flag_is_dead(name):
    companions = COMPANIONS.get(name, [])
    changed = [f"--{name}={NON_DEFAULT[name]}", *companions]
    # A path that the companions need is compared with another path.
    base = companions if name not in PATHS else [f"--{name}=p", *companions]
    assert parsed_config(*changed) != parsed_config(*base)


@pytest.mark.parametrize("name", sorted(LEGACY))
def test_a_legacy_flag_changes_nothing_and_is_named_in_a_warning(warned, name):
    flag_values = parse(f"--{name}={LEGACY[name]}")
    assert flags_lib.config_from_flags(flag_values) == parsed_config()
    flags_lib.warn_of_legacy_flags(flag_values)
    flags_lib.warn_of_legacy_flags(parse("--use_tpu=false"))
    assert warned() == [f"Accepted for old scripts, without effect: --{name}."]


def test_one_warning_names_all_legacy_flags(warned):
    flag_values = parse("--debug=1", "--master=m", "--notranspose_input")
    flags_lib.warn_of_legacy_flags(flag_values)
    (warning,) = warned()
    assert warning.endswith("--debug, --master, --transpose_input.")


def test_defaults_resolve_to_the_originals_settings():
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


def test_the_tail_of_a_schedule_is_trained():
    train = parsed_config(
        "--train_steps=1000", "--train_last_step_num=30", "--train_ratio=2"
    ).train
    assert train.train_steps == 60
    assert train.optimizer.start_step == 1940
    whole = parsed_config("--train_last_step_num=-1").train
    assert (whole.train_steps, whole.optimizer.start_step) == (109474, 0)


def test_epochs_become_steps_of_the_batch():
    arguments = ["--train_epochs=350", "--train_batch_size=2048"]
    assert parsed_config(*arguments).train.train_steps == 218949
    assert (
        parsed_config(*arguments, "--train_ratio=2").train.train_steps == 437898
    )


def test_images_to_evaluate_are_those_of_the_split():
    limits = ["--num_eval_images=3", "--num_test_images=5"]

    def limit(split):
        run = parsed_config(*limits, f"--eval_split={split}")
        return run.train.data.num_eval_images

    assert limit("test") == 5
    assert limit("dev") == limit("validation") == 3


def test_training_takes_unlabeled_shards_of_both_names_unless_told_otherwise():
    assert parsed_config().train.data.unlabel_split == "train;extra"
    told = parsed_config("--file_prefix=train").train.data
    assert told.unlabel_split == "train"
    # Pseudo-labeled shards of a round have one name.
    student = self_training_config("--unlabel_ratio=3").rounds[0]
    assert student.data.unlabel_split == "train"


def test_labelling_takes_every_shard_unless_some_are_asked_for():
    def labelling(*arguments):
        return parsed_config("--mode=predict", *arguments).labelling

    everything = labelling("--label_data_dir=d")
    assert everything.input_dir == "d"
    assert everything.shard_ids is everything.num_shards is None
    some = labelling("--unlabel_data_dir=d", "--shard_id=3,5")
    assert (some.shard_ids, some.num_shards) == ((3, 5), 128)
    first = labelling("--unlabel_data_dir=d", "--num_shards=4")
    assert (first.shard_ids, first.num_shards) == ((0,), 4)


def test_filtered_shards_are_called_by_the_task_of_their_filter():
    labelling = parsed_config("--reassign_label", "--worker_id=7").labelling
    assert labelling.split == "train-7"
    assert (labelling.worker, labelling.num_workers) == (0, 1)
    # Our own filter has no tasks.
    assert parsed_config("--reassign_label").labelling.split == "train"


def test_the_checkpoint_of_labelling_is_for_labelling_alone():
    given = "--predict_ckpt_path=c"
    assert parsed_config("--mode=predict", given).checkpoint == "c"
    assert parsed_config("--mode=predict", given, "--checkpoint=c")
    assert parsed_config("--mode=eval", given).checkpoint is None


def test_fixed_layers_are_counted_from_the_first():
    init = ["--init_model", "--init_model_path=w"]
    for number in (0, 3):
        train = parsed_config(*init, f"--fix_layer_num={number}").train
        assert train.freeze == config_lib.FreezeConfig(fixed_blocks=number)
    nothing = parsed_config(*init, "--fix_layer_num=-1").train
    assert nothing.freeze == config_lib.FreezeConfig()


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


def test_noise_of_unlabeled_images_alone_is_removed():
    train = parsed_config(
        "--augment_name=v1",
        "--unl_remove_aug",
        "--nounl_dropout",
        "--nounl_stochastic_depth",
    ).train
    assert train.labeled_augment.random_crop
    assert not train.unlabeled_augment.random_crop
    assert not train.step.pseudo_labels.dropout
    assert not train.step.pseudo_labels.stochastic_depth
    # The student's own rates stay.
    assert train.model.dropout_rate is None


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
        (["--fix_layer_num=2"], "--fix_layer_num needs --init_model"),
        (
            ["--init_model", "--fix_layer_num=2", "--trainable_blocks=3"],
            "--trainable_blocks and --fix_layer_num say the same",
        ),
        (["--train_last_step_num=0"], "--train_last_step_num.*Received: 0"),
        (
            ["--train_steps=5", "--train_last_step_num=6"],
            r"--train_last_step_num times .* 1\.\.5.*Received: 6 times 1\.",
        ),
        (
            ["--train_steps=5", "--train_epochs=6"],
            "--train_steps and --train_epochs say the same",
        ),
        (
            ["--task_name=custom", "--train_epochs=6"],
            "--train_epochs needs --num_train_images for --task_name=custom",
        ),
        (["--shard_id=1,b"], "--shard_id must be numbers.*Received: '1,b'"),
        (
            ["--shard_id=4", "--num_shards=4"],
            "--shard_id must be below --num_shards=4. Received: 4",
        ),
        (["--worker_id=1"], "--worker_id must be below --total_replicas=1"),
        (
            ["--mode=predict", "--checkpoint=a", "--predict_ckpt_path=b"],
            "--checkpoint=a and --predict_ckpt_path=b say the same",
        ),
        (
            ["--mode=predict", "--label_data_dir=a", "--unlabel_data_dir=b"],
            "labels one directory",
        ),
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
        (
            ["--noise_teacher", "--unlabel_ratio=1"],
            "--noise_teacher needs --teacher_model_name.*stored labels",
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
    "chain": "digits",
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


# They print something else, and change no run; see `test_chains.py`.
PLAN_FLAGS = {"dry_run", "planned_images", "planned_image_bytes"}


def test_no_flag_of_self_training_is_dead(tmp_path):
    flag_values = parse(define=self_training.define_flags)
    recipe = tmp_path / "tuned.json"
    recipe.write_text(json.dumps({"input_image_size": 256, "fix_layer_num": 3}))
    non_default = {**SELF_TRAINING_NON_DEFAULT, "fixres_preset": recipe}
    training = set(flag_values) - set(non_default) - PLAN_FLAGS
    # The others are those of a training run.
    assert training < set(NON_DEFAULT)
    base = self_training_config("--unlabel_ratio=3")
    for name, value in non_default.items():
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
