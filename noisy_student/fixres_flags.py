"""From the flags of `--mode=fixres_finetune` to its configuration.

Part of `flags.py`.
"""

from noisy_student import fixres, tasks
from noisy_student.flag_declarations import FIXRES_MODE, WHOLE_SCHEDULE

# What the mode means for flags that every training has.
IMPLIED = {"init_model": True, "remove_aug": True}


def fixres_config(values):
    """Returns the `fixres.FixResConfig` of flag values, None in other modes.

    Raises:
        ValueError: If flags contradict the mode or each other.
    """
    if values.mode != FIXRES_MODE:
        return None
    for name in IMPLIED:
        if values.given(name) is False:
            raise ValueError(f"--mode={FIXRES_MODE} excludes --no{name}.")
    if values.init_model_path is None:
        raise ValueError(
            f"--mode={FIXRES_MODE} needs --init_model_path: the run or the "
            "released checkpoint to tune."
        )
    is_tail = values.train_last_step_num != WHOLE_SCHEDULE
    if is_tail and values.given("fixres_epochs") is not None:
        raise ValueError(
            "--train_last_step_num and --fixres_epochs say the same: give one "
            "of them."
        )
    return fixres.FixResConfig(
        variant=values.fixres_variant,
        epochs=None if is_tail else values.fixres_epochs,
        assumed_size=tasks.get_task(values.task_name).image_size,
    )
