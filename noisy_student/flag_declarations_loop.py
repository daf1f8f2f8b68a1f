"""The flags of what happens between the steps; part of `flag_declarations`."""


def define_checkpoint_flags(group):
    """Declares how checkpoints are kept.

    Args:
        group: `command_line.FlagGroup`.
    """
    group.integer("keep_checkpoint_max", 5, "Checkpoints kept.", lower_bound=1)
    group.boolean(
        "async_checkpoints",
        True,
        "Write checkpoints while training goes on, from a copy of the state in "
        "the host's memory; not of mixed precision on one device with "
        "TensorFlow 2.15, nor of several workers.",
    )


def define_follow_flags(group):
    """Declares how `eval` follows a run that is training.

    Args:
        group: `command_line.FlagGroup`.
    """
    group.boolean(
        "follow",
        False,
        "In eval: evaluate each new checkpoint of model_dir until its run is "
        "finished.",
    )
    group.float(
        "follow_timeout",
        7200,
        "Seconds that follow waits for a new checkpoint.",
        lower_bound=0.0,
    )
