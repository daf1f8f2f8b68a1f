"""The flags of `filter_unlabel`: the original's 23, and ours.

Source: noisystudent `filter_unlabel.py`.
"""

from absl import logging

from data_prep import balancing, command_line

# Accepted so that scripts of the original code run, and named in a warning.
LEGACY_NO_EFFECT = (
    "data_type",
    "debug",
    "eval_imagenet_p",
    "total_label_replicas",
)
_NOT_GIVEN = -1


def define_flags(flag_values):
    """Declares the flags of this command."""
    _define_input_flags(command_line.FlagGroup("Input", flag_values))
    _define_output_flags(command_line.FlagGroup("Output", flag_values))
    _define_rule_flags(command_line.FlagGroup("Rule", flag_values))
    _define_legacy_flags(
        command_line.FlagGroup("Accepted, without effect", flag_values)
    )


def _define_input_flags(group):
    group.string("input_dir", "", "Folder of the image shards.")
    group.string("prediction_dir", "", "Folder of the prediction shards.")
    group.string(
        "info_dir",
        "",
        "Folder of the counts beside the predictions; by default "
        "--prediction_dir.",
    )
    group.string("file_prefix", "train", "Split of the image shards.")
    group.integer(
        "num_shards",
        128,
        "Image shards to expect; as many as there are if this is not given.",
        lower_bound=1,
    )
    group.integer(
        "only_use_num_shards",
        _NOT_GIVEN,
        "Take the first so many shards only; -1 takes all.",
        lower_bound=_NOT_GIVEN,
    )
    group.integer(
        "shard_id",
        0,
        "Do the part of this shard only; everything is done if neither this "
        "nor --num_shards is given.",
        lower_bound=0,
    )
    group.integer(
        "total_replicas",
        1,
        "Prediction files to expect for each shard; as many as there are if "
        "this is not given.",
        lower_bound=1,
    )
    group.integer(
        "num_label_classes",
        1000,
        "Classes of the teacher.",
        lower_bound=1,
    )


def _define_output_flags(group):
    group.string("output_dir", "", "Folder of everything written.")
    group.string(
        "prelim_stats_dir",
        "",
        "Folder of the first stage's tables and counts, which runs with other "
        "rules can share; by default prelim_stats in --output_dir.",
    )
    group.integer(
        "task",
        _NOT_GIVEN,
        "Number in the names of the shards written, train-<task>-...; -1 "
        "leaves it out. Of several workers' tasks, 0 chooses and writes.",
        lower_bound=_NOT_GIVEN,
    )
    group.integer(
        "num_output_shards",
        None,
        "Shards to write; by default as many as are read.",
        lower_bound=1,
    )
    group.integer(
        "only_get_stats",
        0,
        "1 writes thresholds and counts, but no images.",
        lower_bound=0,
        upper_bound=1,
    )
    group.integer(
        "num_workers",
        2,
        "Threads that go through the tables; changes no result.",
        lower_bound=1,
    )


def _define_rule_flags(group):
    group.enum(
        "selection",
        "exact",
        balancing.SELECTIONS,
        "The paper's rule, or the original code's.",
    )
    group.integer("num_image", 1300, "Images wanted per class.", lower_bound=1)
    group.float(
        "min_threshold",
        0.0,
        "Least confidence; a multiple of 0.01 with --selection=binned.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    group.float(
        "max_prob",
        2.0,
        "Largest confidence; above 1, as rounding lets a softmax exceed 1.",
    )
    group.integer(
        "upsample",
        1,
        "1 duplicates images of classes with fewer than --num_image.",
        lower_bound=0,
        upper_bound=1,
    )
    group.integer(
        "use_top",
        1,
        "0 gives all images from --min_threshold up the same chance, in place "
        "of the most confident.",
        lower_bound=0,
        upper_bound=1,
    )
    group.bool(
        "use_all",
        False,
        "Keep one copy of each image from --min_threshold to --max_prob.",
    )
    group.integer("seed", 0, "Seeds all choices by hash.")


def _define_legacy_flags(group):
    group.enum(
        "data_type", "tfrecord", ["tfrecord"], "No effect: there is one type."
    )
    group.integer("debug", 0, "No effect: --only_use_num_shards tries a part.")
    group.bool("eval_imagenet_p", False, "No effect, and had none.")
    group.integer(
        "total_label_replicas",
        _NOT_GIVEN,
        "No effect: it follows from the files, as in the original.",
    )


def warn_of_legacy_flags(flag_values):
    """Names the given flags that only scripts of the original code need."""
    given = [
        f"--{name}" for name in LEGACY_NO_EFFECT if _is_given(flag_values, name)
    ]
    if given:
        logging.warning(
            "Accepted for old scripts, without effect: %s.", ", ".join(given)
        )


def settings(flag_values):
    """Returns dict of the `filter_unlabel.FilterConfig` less its rule."""
    names = (
        "input_dir",
        "prediction_dir",
        "output_dir",
        "info_dir",
        "prelim_stats_dir",
        "num_output_shards",
        "file_prefix",
        "num_label_classes",
        "num_workers",
    )
    values = {name: flag_values[name].value for name in names}
    for name in ("num_shards", "total_replicas"):
        given = _is_given(flag_values, name)
        values[name] = flag_values[name].value if given else None
    for name, flag in (
        ("task", "task"),
        ("num_used_shards", "only_use_num_shards"),
    ):
        value = flag_values[flag].value
        values[name] = None if value == _NOT_GIVEN else value
    one_shard = any(
        _is_given(flag_values, name) for name in ("shard_id", "num_shards")
    )
    values["shard_id"] = flag_values.shard_id if one_shard else None
    return values


def rule(flag_values):
    """Returns dict of the `balancing.BalanceConfig`."""
    names = (
        "selection",
        "num_image",
        "min_threshold",
        "max_prob",
        "use_all",
        "seed",
    )
    values = {name: flag_values[name].value for name in names}
    for name in ("upsample", "use_top"):
        values[name] = bool(flag_values[name].value)
    return values


def _is_given(flag_values, name):
    return not flag_values[name].using_default_value
