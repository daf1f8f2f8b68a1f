"""The values of flags, with a preset under the explicit ones.

Part of `flags.py`, which makes configurations of them.
"""

from noisy_student import presets
from noisy_student.flag_declarations import WHOLE_SCHEDULE

# Groups of flags that are no part of a recipe for training.
_NO_RECIPE = (
    "What to do",
    "Self-training",
    "Labelling",
    "Accepted, without effect",
)
_SAY_THE_SAME = (("train_steps", "train_epochs"),)


class Values:
    """Flag values, with a preset put under the explicit ones.

    Args:
        flag_values: Parsed `absl.flags.FlagValues`.
        preset: Name of the preset; None takes that of `--preset`.
        overrides: {flag: value} that beat even explicit flags.

    Raises:
        ValueError: If there is no such preset, it names an unknown flag, or
            both of two flags are given that say the same.
    """

    def __init__(self, flag_values, preset=None, overrides=None):
        self._flags = flag_values
        self._overrides = overrides or {}
        name = preset or flag_values["preset"].value
        values = {} if name is None else presets.get_preset(name)
        self._preset = {
            flag: _parse_preset_value(flag_values, name, flag, value)
            for flag, value in values.items()
        }
        for pair in _SAY_THE_SAME:
            self._keep_one(*pair)

    def _keep_one(self, first, second):
        """Lets an explicit flag replace the other one in the preset."""
        for one, other in ((first, second), (second, first)):
            if not self._flags[one].using_default_value:
                self._preset.pop(other, None)
        if None not in (self.given(first), self.given(second)):
            raise ValueError(
                f"--{first} and --{second} say the same: give one of them."
            )

    def __getattr__(self, name):
        if name in self._overrides:
            return self._overrides[name]
        given = self.given(name)
        return self._flags[name].value if given is None else given

    def given(self, name):
        """Returns the value that is given somehow, None where none is."""
        if name in self._overrides:
            return self._overrides[name]
        flag = self._flags[name]
        if not flag.using_default_value:
            return flag.value
        return self._preset.get(name)


def _parse_preset_value(flag_values, preset, name, value):
    """Holds a value of a preset to the rules of its flag."""
    group = (
        getattr(flag_values[name], "group", None)
        if (name in flag_values)
        else None
    )
    if group is None or group in _NO_RECIPE:
        raise ValueError(
            f"The preset {preset} sets {name!r}, which is no setting of a "
            "training run."
        )
    try:
        return None if value is None else flag_values[name].parser.parse(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The preset {preset} sets {name}={value!r}: {error}"
        ) from error


def steps(values, num_train_images):
    """Returns the steps of the run, and those of the schedule before it."""
    total = _steps_of_epochs(values, num_train_images)
    if total is None:
        total = values.train_steps
    schedule = int(total * values.train_ratio)
    if values.train_last_step_num == WHOLE_SCHEDULE:
        return schedule, 0
    last = int(values.train_last_step_num * values.train_ratio)
    if not 1 <= last <= schedule:
        raise ValueError(
            f"--train_last_step_num times --train_ratio must be in "
            f"1..{schedule}, the steps of the schedule, or the former "
            f"{WHOLE_SCHEDULE} for all. Received: "
            f"{values.train_last_step_num} times {values.train_ratio:g}."
        )
    return last, schedule - last


def _steps_of_epochs(values, num_train_images):
    if values.train_epochs is None:
        return None
    if num_train_images is None:
        raise ValueError(
            f"--train_epochs needs --num_train_images for "
            f"--task_name={values.task_name}, whose records are not counted "
            "before a run."
        )
    batch_size = values.train_batch_size * values.label_data_sample_prob
    # Rounded: the steps of a preset that was stated in steps are whole.
    steps = values.train_epochs * num_train_images / batch_size
    return max(1, int(round(steps, 6)))
