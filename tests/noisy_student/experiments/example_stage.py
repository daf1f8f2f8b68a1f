"""A command that notes that it was started and ended, for tests to kill.

python -m tests.noisy_student.experiments.example_stage --notes=FILE
"""

import os
import time

from data_prep import command_line


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("Example", flag_values)
    group.string("notes", None, "File to append to.")
    group.string("name", "", "What to write.")
    group.string("wait_for", "", "File to wait for before the end.")
    group.string("variable", "", "Environment variable to note.")
    group.boolean("fail", False, "End with an error.")


def note(flag_values, what):
    """Appends a line in one write."""
    with open(flag_values.notes, "a") as file:
        file.write(f"{flag_values.name} {what}\n")


def main(flag_values):
    """Notes the start, waits, and notes the end."""
    note(flag_values, "started")
    if flag_values.variable:
        note(flag_values, os.environ.get(flag_values.variable))
    while flag_values.wait_for and not os.path.exists(flag_values.wait_for):
        time.sleep(0.02)
    if flag_values.fail:
        raise ValueError("It was told to fail.")
    note(flag_values, "ended")


if __name__ == "__main__":
    command_line.run(main, define_flags)
