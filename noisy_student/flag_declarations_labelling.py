"""The flags of labelling, and those that old scripts still give.

Source: noisystudent `predict_label.py`, `main.py`.
"""

from data_prep import command_line, prob_storage

# Accepted so that scripts of the original code run, and named in a warning:
# what they steered is TensorFlow's own matter now, or has one choice.
LEGACY_NO_EFFECT = (
    "data_format",
    "data_type",
    "debug",
    "log_step_count_steps",
    "master",
    "num_tpu_cores",
    "skip_host_call",
    "transpose_input",
)


def define_labelling_flags(flag_values):
    """Declares the flags of `--mode=predict` alone."""
    group = command_line.FlagGroup("Labelling", flag_values)
    group.string(
        "predict_ckpt_path",
        "",
        "Checkpoint to label with; as --checkpoint, which every mode takes.",
    )
    group.string(
        "info_dir",
        "",
        "Directory that gets the count of each shard's images, as output_dir "
        "does.",
    )
    group.string(
        "shard_id",
        "0",
        "Shards to label, numbers separated by commas; all of the directory "
        "if neither this nor num_shards is given.",
    )
    group.integer(
        "num_shards",
        128,
        "Shards of the whole data set, as their names say.",
        lower_bound=1,
    )
    group.integer(
        "total_replicas",
        1,
        "Workers that share each shard, image by image, each with a file of "
        "its own; one with reassign_label.",
        lower_bound=1,
    )
    group.integer(
        "worker_id",
        0,
        "Which of those workers this is; with reassign_label, which task of "
        "the original's filter wrote the shards, file_prefix-worker_id-*; not "
        "given, they are called file_prefix-*.",
        lower_bound=0,
    )
    group.boolean(
        "reassign_label",
        False,
        "Label filtered shards again, and write them with their images, in "
        "the same order, under the same names.",
    )
    define_storage_flags(group)


def define_storage_flags(group):
    """Declares in a `FlagGroup` how distributions are stored."""
    group.enum(
        "prediction_storage",
        "full",
        prob_storage.KINDS,
        "How distributions are stored: a float32 or float16 of each class, or "
        "those of the most probable classes, of which the others share the "
        "rest evenly.",
    )
    group.integer(
        "num_stored_classes",
        10,
        "Classes that prediction_storage=topk stores of each image.",
        lower_bound=1,
    )


def storage(values):
    """Returns the `prob_storage.ProbStorage` of flag values."""
    return prob_storage.ProbStorage(
        kind=values.prediction_storage, num_stored=values.num_stored_classes
    )


def define_legacy_flags(flag_values):
    """Declares `LEGACY_NO_EFFECT`."""
    group = command_line.FlagGroup("Accepted, without effect", flag_values)
    group.enum(
        "data_format",
        "channels_last",
        ["channels_last", "channels_first"],
        "No effect: TensorFlow chooses the layout, which changes no result.",
    )
    group.enum(
        "data_type", "tfrecord", ["tfrecord"], "No effect: there is one type."
    )
    group.integer("debug", 0, "No effect, and had none.")
    group.integer(
        "log_step_count_steps",
        64,
        "No effect: progress is told every iterations_per_loop steps.",
    )
    group.string("master", None, "No effect: --tpu names a remote TPU.")
    group.integer(
        "num_tpu_cores", None, "No effect: all cores of the TPU are used."
    )
    group.boolean(
        "skip_host_call",
        False,
        "No effect: metrics are written every iterations_per_loop steps.",
    )
    group.boolean(
        "transpose_input",
        True,
        "No effect: XLA chooses the layout of images.",
    )
