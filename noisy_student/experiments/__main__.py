"""Tests the paper's findings at a small size.

Arms, and what they are compared with, are declared in `arms.py`. Killed and
started again, the command goes on. The test images are looked at by
--evaluate_test alone, which trains nothing. For example:

    python -m noisy_student.experiments --data_dir=cifar10 --work_dir=runs/paper
    python -m noisy_student.experiments --data_dir=cifar10 --work_dir=runs/paper
        --evaluate_test --report_path=runs/paper/results.md
"""

import os
import signal
import sys
from concurrent import futures

from absl import logging

from data_prep import command_line, cores, files
from noisy_student import image_places, loop_metrics
from noisy_student.experiments import arms, protocol, results, runner, stages


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to run", flag_values)
    group.string(
        "data_dir",
        None,
        "Folder with the image folders train and test, or tfds:NAME of a data "
        "set that is downloaded, once; the classes are CIFAR-10's.",
    )
    group.string("work_dir", None, "Directory of everything that is made.")
    group.list(
        "arms",
        list(arms.HEADLINE),
        "Names of arms, or all; what they need is run, too.",
    )
    group.integer(
        "seeds",
        None,
        "Seeds of each arm; without it, those that the arm declares.",
        lower_bound=1,
    )
    group.integer(
        "jobs",
        None,
        "Commands that run at once, each on its share of the processor cores; "
        "none takes one for each core, which is fastest for small networks.",
        lower_bound=1,
    )
    group.boolean("dry_run", False, "Say what would be run, and run nothing.")
    group.boolean(
        "smoke", False, "A few images and steps, to see that everything runs."
    )
    group.boolean(
        "evaluate_test",
        False,
        "Evaluate what is trained on the test images, and train nothing.",
    )
    group = command_line.FlagGroup("Results", flag_values)
    group.string(
        "results_dir",
        None,
        "Directory of the results of single runs; without it, results in "
        "work_dir.",
    )
    group.string(
        "report_path",
        None,
        "Page to write, ending in .md, with its figures as .json beside it.",
    )
    group.boolean(
        "only_report", False, "Write the page from the results that are there."
    )


def main(flag_values):
    """Runs the chosen arms, then prints the tables."""
    results_dir = _results_dir(flag_values)
    _check_report_path(flag_values.report_path)
    if not flag_values.only_report:
        _run(flag_values, results_dir)
    if not flag_values.dry_run:
        _report(flag_values, results_dir)


def _run(flag_values, results_dir):
    names = flag_values.arms
    if not any(names):
        raise ValueError("--arms names none; all takes every arm.")
    chosen = arms.choose(
        () if names == ["all"] else names, flag_values["seeds"].value
    )
    data_dir = _data_dir(flag_values)
    _check_class_folders(data_dir, [arm for arm, _ in chosen])
    planner = stages.Planner(
        data_dir,
        protocol.SMOKE if flag_values.smoke else protocol.FULL,
    )
    plan = _check_plan(
        planner.test_plan if flag_values.evaluate_test else planner.plan,
        chosen,
        planner.protocol.num_labeled,
    )
    if flag_values.dry_run:
        sys.stdout.write(plan)
        return
    stop_at_signals()
    jobs = flag_values["jobs"].value or cores.count()
    with runner.locked(flag_values.work_dir) as lock:
        files.write_settings(
            flag_values.work_dir, _settings(flag_values.data_dir)
        )
        _run_all(
            runner.Runner(
                planner,
                flag_values.work_dir,
                results_dir,
                lock,
                jobs,
            ),
            chosen,
            evaluate_test=flag_values.evaluate_test,
            jobs=jobs,
        )


def _results_dir(flag_values):
    if flag_values.results_dir:
        return flag_values.results_dir
    if not flag_values.work_dir:
        raise ValueError("--work_dir is needed.")
    files.check_folder("work_dir", flag_values.work_dir)
    return os.path.join(flag_values.work_dir, "results")


def _check_report_path(path):
    if path is not None and not path.endswith(".md"):
        raise ValueError(f"--report_path must end in .md. Received: {path!r}.")


def _data_dir(flag_values):
    data_dir, work_dir = flag_values.data_dir, flag_values.work_dir
    if not (data_dir and work_dir):
        raise ValueError("--data_dir and --work_dir are needed.")
    if not image_places.is_tfds(data_dir):
        for split in ("train", stages.TEST):
            if not files.is_dir(os.path.join(data_dir, split)):
                raise FileNotFoundError(
                    f"--data_dir={data_dir}: no folder {split!r} in it."
                )
    # Commands that are kept leave it out, so as to be those of any machine.
    files.check_settings(work_dir, _settings(data_dir))
    return data_dir


def _check_class_folders(data_dir, chosen):
    """Raises an error if an arm names classes that are no folders."""
    if image_places.is_tfds(data_dir):
        return
    for arm in chosen:
        for split in ("train", stages.TEST):
            folder = os.path.join(data_dir, split)
            missing = [
                name
                for names in protocol.DATA[arm.data].values()
                for name in names
                if not files.is_dir(os.path.join(folder, name))
            ]
            if missing:
                raise FileNotFoundError(
                    f"{arm.name} has labels of some classes alone and needs "
                    "the class folders by CIFAR-10's names. Not in "
                    f"{folder!r}: {', '.join(missing)}. Name them so, or "
                    "choose other --arms."
                )


def _settings(data_dir):
    """Returns what all in a work directory depends on, a dict."""
    return {"data_dir": image_places.absolute(data_dir)}


def _check_plan(plan, chosen, num_labeled):
    """Holds every stage to its flags; returns the plan as text."""
    lines, seen = [], set()
    totals = {"stages": 0, "steps": 0, "images": 0}
    for arm, seed in chosen:
        lines.append(f"{arm.name}, seed {seed}: {arm.about}\n")
        for stage in plan(arm, seed):
            if stage.name in seen:
                continue
            seen.add(stage.name)
            settings = stage.train_config(num_labeled)
            size = ""
            totals["stages"] += 1
            if settings is not None:
                steps = settings.train_steps
                images = steps * loop_metrics.images_per_step(settings)
                totals["steps"] += steps
                totals["images"] += images
                size = f"  # {steps:,} steps, {images:,} images"
            lines.append(f"  {stage.command()}{size}\n")
    lines.append(
        "{stages:,} stages, {steps:,} steps of training, {images:,} images "
        "seen.\n".format(**totals)
    )
    return "".join(lines)


def stop_at_signals():
    """Lets SIGINT and SIGTERM end the stage that runs, and then this run."""

    def stop(number, _):
        raise command_line.Stopped(
            f"{signal.Signals(number).name} came; the same command goes on.",
            128 + number,
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _run_all(work, chosen, *, evaluate_test, jobs):
    """Runs every arm that can be; names those that failed at the end."""

    def run(arm, seed):
        """Returns the error of an arm that cannot be, else None."""
        try:
            if not evaluate_test:
                work.train(arm, seed)
            elif not work.evaluate_test(arm, seed):
                logging.warning("%s, seed %d: not trained.", arm.name, seed)
        except (ValueError, FileNotFoundError) as error:
            logging.error("%s", error)
            return error
        return None

    with futures.ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, arm, seed) for arm, seed in chosen]
        try:
            errors = [each.result() for each in running]
        except BaseException:
            for each in running:
                each.cancel()
            work.stop()
            raise
    # One stage may fail for several arms.
    if failed := dict.fromkeys(filter(None, errors)):
        raise ValueError(" ".join(map(str, failed)))


def _report(flag_values, results_dir):
    found = runner.read_results(results_dir)
    if not found:
        raise FileNotFoundError(f"No result of an arm in {results_dir!r}.")
    content = results.summary(found, results.choose_split(found))
    sys.stdout.write(results.page(content))
    if flag_values.report_path is not None:
        results.write(content, flag_values.report_path)


if __name__ == "__main__":
    command_line.run(main, define_flags)
