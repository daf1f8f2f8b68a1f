import logging
import re

import pytest
from absl import flags

from noisy_student import flags as flags_lib
from noisy_student import ignored_flags


def warnings_of(caplog, *arguments):
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(["program", *arguments])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        ignored_flags.warn_of_ignored_flags(flag_values)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ("--init_model_path=x", "--init_model"),
        ("--checkpoint_head=fresh", "--init_model"),
        ("--teacher_model_path=x", "--teacher_model_name"),
        ("--teacher_model_name=efficientnet-b0", "--unlabel_ratio"),
        ("--unlabel_data_dir=x", "--unlabel_ratio"),
        ("--unl_aug=v1", "--unlabel_ratio"),
        ("--nounl_dropout", "--unlabel_ratio"),
        ("--nounl_stochastic_depth", "--unlabel_ratio"),
        ("--unl_remove_aug", "--unlabel_ratio"),
        ("--teacher_softmax_temp=1", "--unlabel_ratio"),
        ("--loss_normalization=all", "--unlabel_ratio"),
        ("--file_prefix=x", "--unlabel_ratio"),
        ("--randaug_mag=15", "--augment_name=randaugment"),
        ("--randaug_layer=3", "--augment_name=randaugment"),
        ("--nocutout_op", "--augment_name=randaugment"),
        ("--nouse_ema", "--init_model"),
        ("--steps_per_eval=5", "--mode=train_and_eval"),
        ("--eval_split=x", "--mode=train_and_eval"),
        ("--num_test_images=5", "--mode=train_and_eval"),
        ("--tpu_zone=x", "--tpu"),
        ("--follow_timeout=5", "--follow"),
        ("--output_dir=x", "--mode=eval, predict or export"),
        ("--predict_ckpt_path=x", "--mode=predict"),
        ("--checkpoint=x", "--mode=eval, predict or export"),
    ],
)
def test_a_flag_whose_partner_is_missing_is_named(caplog, given, needed):
    name = re.sub("^no(?=unl|use|cut)", "", given[2:].partition("=")[0])
    assert warnings_of(caplog, "--mode=train", given) == [
        f"--{name} has no effect without {needed}."
    ]


def test_an_augmentation_of_the_evaluation_view_is_named(caplog):
    assert warnings_of(caplog, "--remove_aug", "--augment_name=v1") == [
        "--augment_name has no effect without random crops (--remove_aug)."
    ]


TUNE = ["--mode=fixres_finetune", "--init_model_path=x", "--fix_layer_num=1"]


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ("--unlabel_ratio=3", "--mode=train"),
        ("--unlabel_data_dir=x", "--mode=train"),
        ("--teacher_model_path=x", "--mode=train"),
        ("--augment_name=v1", "--mode=train"),
        ("--randaug_mag=15", "--mode=train"),
        ("--checkpoint=x", "--mode=eval, predict or export"),
    ],
)
def test_what_does_not_tune_a_network_is_named(caplog, given, needed):
    name = given[2:].partition("=")[0]
    assert warnings_of(caplog, *TUNE, given) == [
        f"--{name} has no effect without {needed}."
    ]


@pytest.mark.parametrize("variant", ["classifier", "head_batch_norm"])
def test_blocks_that_a_variant_freezes_anyway_are_named(caplog, variant):
    assert warnings_of(caplog, *TUNE, f"--fixres_variant={variant}") == [
        "--fix_layer_num has no effect without --fixres_variant=full."
    ]


@pytest.mark.parametrize("given", ["variant=classifier", "epochs=3"])
def test_tuning_has_a_mode_of_its_own(caplog, given):
    name = given.partition("=")[0]
    assert warnings_of(caplog, "--mode=train", f"--fixres_{given}") == [
        f"--fixres_{name} has no effect without --mode=fixres_finetune."
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--mode=eval", "--checkpoint=x"],
        ["--remove_aug", "--augment_name=none"],
        ["--augment_name=v1", "--randaug_mag=15", "--nocutout_op"],
        ["--unlabel_ratio=1", "--unl_aug=v1", "--randaug_mag=15"],
        ["--mode=train_and_eval", "--steps_per_eval=5"],
        ["--init_model", "--init_model_path=x", "--checkpoint_head=fresh"],
        ["--unlabel_ratio=1", "--unlabel_data_dir=x", "--unl_aug=v1"],
        # As the original's scripts leave things out.
        ["--teacher_model_path=", "--unlabel_data_dir=", "--unl_aug=default"],
        ["--preset=imagenet/b5_noisy_student"],
        [*TUNE, "--fixres_epochs=3", "--nouse_ema", "--steps_per_eval=5"],
        # What the recipe of a student sets.
        [*TUNE, "--preset=imagenet/l2_noisy_student", "--eval_split=x"],
    ],
)
def test_what_has_an_effect_is_not_named(caplog, arguments):
    assert warnings_of(caplog, *arguments) == []
