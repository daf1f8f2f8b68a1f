"""Tests of the flags of filtering, against those of the original program."""

import pytest
from absl import flags

from data_prep import balancing, filter_flags, filter_unlabel

NON_DEFAULT = {
    "input_dir": "other",
    "prediction_dir": "other",
    "info_dir": "other",
    "prelim_stats_dir": "other",
    "output_dir": "other",
    "num_shards": 7,
    "only_use_num_shards": 7,
    "shard_id": 7,
    "total_replicas": 7,
    "task": 7,
    "num_output_shards": 7,
    "num_workers": 7,
    "file_prefix": "other",
    "num_label_classes": 10,
    "selection": "binned",
    "num_image": 7,
    "min_threshold": 0.5,
    "max_prob": 0.5,
    "upsample": 0,
    "use_top": 0,
    "use_all": True,
    "seed": 7,
}


def _flags(**values):
    flag_values = flags.FlagValues()
    filter_unlabel.define_flags(flag_values)
    given = {"input_dir": "i", "prediction_dir": "p", "output_dir": "o"}
    given.update(values)
    arguments = [f"--{name}={value}" for name, value in given.items()]
    flag_values(["program", *arguments])
    return flag_values


@pytest.mark.parametrize("name", NON_DEFAULT)
def test_no_flag_is_dead(name):
    default = filter_unlabel.config_from_flags(_flags())
    changed = filter_unlabel.config_from_flags(
        _flags(**{name: NON_DEFAULT[name]})
    )
    assert changed != default


def test_every_flag_is_tried():
    assert set(_flags()) == {
        *NON_DEFAULT,
        *filter_flags.LEGACY_NO_EFFECT,
        "only_get_stats",
    }


# Name, default, of the original program.
ORIGINAL = {
    "input_dir": "",
    "prediction_dir": "",
    "info_dir": "",
    "prelim_stats_dir": "",
    "output_dir": "",
    "num_shards": 128,
    "only_use_num_shards": -1,
    "shard_id": 0,
    "num_image": 1300,
    "total_replicas": 1,
    "total_label_replicas": -1,
    "task": -1,
    "debug": 0,
    "min_threshold": 0.0,
    "max_prob": 2.0,
    "num_label_classes": 1000,
    "upsample": 1,
    "only_get_stats": 0,
    "file_prefix": "train",
    "data_type": "tfrecord",
    "use_top": 1,
    "eval_imagenet_p": False,
    "use_all": False,
}


def test_the_flags_of_the_original_are_there_with_its_defaults():
    flag_values = flags.FlagValues()
    filter_unlabel.define_flags(flag_values)
    found = {name: flag_values[name].default for name in ORIGINAL}
    assert found == ORIGINAL
    assert len(ORIGINAL) == 23


@pytest.mark.parametrize("name", filter_flags.LEGACY_NO_EFFECT)
def test_flags_without_effect_are_named_in_a_warning(name, caplog):
    value = {"data_type": "tfrecord"}.get(name, 1)
    given = _flags(**{name: value})
    assert filter_unlabel.config_from_flags(
        given
    ) == filter_unlabel.config_from_flags(_flags())
    with caplog.at_level("WARNING", logger="absl"):
        filter_flags.warn_of_legacy_flags(given)
        assert f"without effect: --{name}." in caplog.text
        caplog.clear()
        filter_flags.warn_of_legacy_flags(_flags())
        assert not caplog.text


# The lines of the original's shell scripts, less what they have in common.
SCRIPTS = {
    "imagenet": {
        "num_label_classes": 1000,
        "num_image": 130000,
    },
    "svhn": {
        "num_label_classes": 10,
        "num_image": 53113,
    },
}


@pytest.mark.parametrize("only_get_stats", [0, 1])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_lines_of_the_scripts_of_the_original_are_understood(
    name, only_get_stats
):
    root = f"./data/{name}/predict/"
    shared = {
        "input_dir": f"./data/{name}/proc/unlabeled",
        "file_prefix": "extra",
        "info_dir": f"{root}/info",
        "prediction_dir": f"{root}/predict_label",
        "prelim_stats_dir": f"{root}/prelim_stats",
        "output_dir": f"{root}/filter_data",
        "num_shards": 128,
        "shard_id": 127,
        "task": 0,
    }
    flag_values = _flags(
        min_threshold=0.3,
        only_get_stats=only_get_stats,
        **shared,
        **SCRIPTS[name],
    )
    config = filter_unlabel.config_from_flags(flag_values)
    assert config == filter_unlabel.FilterConfig(
        **shared,
        num_label_classes=SCRIPTS[name]["num_label_classes"],
        balance=balancing.BalanceConfig(
            num_image=SCRIPTS[name]["num_image"], min_threshold=0.3
        ),
    )
    assert flag_values.only_get_stats == only_get_stats


def test_one_shard_is_done_if_the_flags_speak_of_one():
    def shard_id(**values):
        return filter_unlabel.config_from_flags(_flags(**values)).shard_id

    assert shard_id() is None
    assert shard_id(shard_id=0) == 0
    assert shard_id(num_shards=4) == 0
    assert shard_id(num_shards=4, shard_id=3) == 3


def test_flags_have_the_defaults_of_the_config():
    assert filter_unlabel.config_from_flags(
        _flags()
    ) == filter_unlabel.FilterConfig("i", "p", "o")


@pytest.mark.parametrize("name", ["input_dir", "prediction_dir", "output_dir"])
def test_folders_are_needed(name):
    with pytest.raises(ValueError, match=f"--{name} is needed"):
        filter_unlabel.config_from_flags(_flags(**{name: ""}))


def test_the_number_of_classes_is_checked():
    with pytest.raises(ValueError, match="`num_label_classes` must be >= 1"):
        filter_unlabel.FilterConfig("i", "p", "o", num_label_classes=0)
    with pytest.raises(ValueError, match="`num_workers` must be >= 1"):
        filter_unlabel.FilterConfig("i", "p", "o", num_workers=0)


def test_at_least_one_shard_is_used():
    message = "--only_use_num_shards must be -1 or >= 1. Received: 0"
    with pytest.raises(ValueError, match=message):
        filter_unlabel.config_from_flags(_flags(only_use_num_shards=0))
