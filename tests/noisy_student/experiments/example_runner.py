"""Runs two example stages, as a process to kill.

python -m tests.noisy_student.experiments.example_runner WORK_DIR
"""

import pathlib
import sys

from noisy_student.experiments import __main__ as command
from noisy_student.experiments import arms, protocol, runner, stages

MODULE = "tests.noisy_student.experiments.example_stage"


def stage(name, work_dir, **flags):
    """Returns a stage that appends to `notes` in the work directory."""
    return stages.Stage(
        name,
        MODULE,
        {"notes": f"{work_dir}/notes", "name": name, **flags},
    )


def run(work_dir, plan):
    """Runs a list of stages in a work directory."""
    planner = stages.Planner("unused", protocol.SMOKE)
    arm = arms.ARMS["teacher"]
    with runner.locked(work_dir) as lock:
        work = runner.Runner(planner, work_dir, f"{work_dir}/results", lock)
        for one in plan:
            work.run(one, arm, 0)


if __name__ == "__main__":
    directory = sys.argv[1]
    command.stop_at_signals()
    run(
        directory,
        [
            stage("first", directory),
            stage("second", directory, wait_for=f"{directory}/go"),
        ],
    )
    pathlib.Path(directory, "finished").touch()
