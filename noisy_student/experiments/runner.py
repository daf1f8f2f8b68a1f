"""Runs arms stage by stage, each command in a process of its own.

A finished stage leaves `stages/<name>.json` in the work directory and is not
run again; one that was cut short is started again and goes on by itself, as all
commands of the project do. A trained arm leaves `<arm>-seed_<n>.json`, small
enough to be kept for good.
"""

import contextlib
import fcntl
import os
import queue
import subprocess
import threading
import time

from absl import logging

from data_prep import cores, files
from noisy_student import loop_metrics, run_dir
from noisy_student.experiments import arms as arms_lib
from noisy_student.experiments import stages as stages_lib
from noisy_student.experiments.arm import LOOK

_LONGEST_LINE = 500
# oneDNN's kernels train these networks faster; TensorFlow takes them by itself
# on some processors only. With AVX-512 they round otherwise, and a run ends as
# another network: the instructions are those that both kinds have.
_KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}


class StageError(ValueError):
    """A stage failed; names its arm, its log and the last line of it."""


@contextlib.contextmanager
def locked(work_dir):
    """Holds a work directory, and lets stages hold it: yields a descriptor.

    A stage that outlives its runner keeps the lock, so that the next runner
    waits for it and finds its work done, and does not start it a second time.
    """
    files.make_dirs(work_dir)
    with open(os.path.join(work_dir, ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info(
                "Waiting for another runner in %s, or for the stage that one "
                "left behind.",
                work_dir,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


class Runner:
    """Runs stages and keeps what came of them; threads may share one.

    Args:
        planner: `stages.Planner`.
        work_dir: Directory of everything that stages make.
        results_dir: Directory of the results.
        lock: Descriptor that stages inherit, from `locked`.
        jobs: Stages that run at once. Each has its share of the processor
            cores, where the system can tell a process which to take.
    """

    def __init__(self, planner, work_dir, results_dir, lock, jobs=1):
        self._planner = planner
        self._work_dir = work_dir
        self._results_dir = results_dir
        self._lock = lock
        self._failed = {}
        self._turns = {}
        self._running = set()
        self._is_stopped = False
        self._cores = queue.SimpleQueue()
        for share in _divide_cores(jobs):
            self._cores.put(share)

    def train(self, arm, seed):
        """Trains an arm, unless its result is there.

        Args:
            arm: `arms.Arm`.
            seed: int.

        Raises:
            StageError: If a stage fails.
            ValueError: If the result, or a stage, was made with other settings;
                the difference is shown. If a network that the arm is made from
                is another one than its own result is of.
        """
        path = result_path(self._results_dir, arm, seed)
        if files.exists(path):
            self._check_result(path, files.read_json(path), arm, seed)
            return
        seconds = {}
        for stage in self._planner.plan(arm, seed):
            seconds[stage.name] = self.run(stage, arm, seed)
            if stage.arm is not None:
                self._check_network(stage.arm, seed)
        train = self._planner.train(arm, seed)
        result = {
            "arm": arm.name,
            "seed": seed,
            **self._outcome(arm, seed),
            "train_seconds": seconds[train.name],
            **self._made_by(arm, seed),
        }
        files.write_json(path, result)
        logging.info(
            "%s, seed %d: %.2f %% on %s.",
            arm.name,
            seed,
            100 * result["evaluations"][stages_lib.DEV]["top_1"],
            stages_lib.DEV,
        )

    def _outcome(self, arm, seed):
        """Returns what its last stage left: figures, and what was trained."""
        report, prefix = self._report(arm, seed)
        steps = images = 0
        if arm.mode != LOOK:
            # Tuning takes a part of the steps that its recipe has.
            steps = report["config"]["train_steps"]
            images = loop_metrics.images_per_step(
                self._planner.train(arm, seed).train_config()
            )
        return {
            "evaluations": {stages_lib.DEV: _figures(report, prefix)},
            "train_steps": steps,
            "images_per_step": images,
            "made_with": report["made_with"],
        }

    def _report(self, arm, seed):
        """Returns (what its last stage reported, prefix of its figures)."""
        if arm.mode == LOOK:
            folder = stages_lib.look_dir(arm, seed)
            path = os.path.join(self._work_dir, folder, "eval.json")
            report = files.read_json(path) if files.exists(path) else None
            prefix = f"{stages_lib.DEV}/"
        else:
            folder = stages_lib.model_dir(arm, seed)
            report = run_dir.read_report(os.path.join(self._work_dir, folder))
            prefix = "eval/"
        if report is None:
            raise FileNotFoundError(
                f"{arm.name}, seed {seed}: no finished run in {folder!r} of "
                f"{self._work_dir!r}."
            )
        return report, prefix

    def _check_network(self, arm, seed):
        """Raises a ValueError if a result is not that of the network here."""
        path = result_path(self._results_dir, arm, seed)
        if not files.exists(path):
            return
        before = files.read_json(path)["evaluations"][stages_lib.DEV]
        now = _figures(*self._report(arm, seed))
        if difference := files.describe_difference(before, now):
            raise ValueError(
                f"{path!r} is of another network than that in "
                f"{self._work_dir!r}: {difference}. Go on in the work "
                "directory that it was trained in, or train all arms of this "
                "seed anew, with another --results_dir."
            )

    def evaluate_test(self, arm, seed):
        """Evaluates a trained arm on the test images, once.

        Args:
            arm: `arms.Arm`.
            seed: int.

        Returns:
            Whether the arm is trained.

        Raises:
            As `train`.
        """
        path = result_path(self._results_dir, arm, seed)
        if not files.exists(path):
            return False
        result = files.read_json(path)
        self._check_result(path, result, arm, seed)
        if stages_lib.TEST in result["evaluations"]:
            return True
        self._check_network(arm, seed)
        plan = self._planner.test_plan(arm, seed)
        for stage in plan:
            self.run(stage, arm, seed)
        folder = stages_lib.test_dir(arm, seed)
        report = files.read_json(
            os.path.join(self._work_dir, folder, "eval.json")
        )
        result["evaluations"][stages_lib.TEST] = _figures(
            report, f"{stages_lib.TEST}/"
        )
        result["test_commands"] = [stage.command() for stage in plan]
        files.write_json(path, result)
        return True

    def run(self, stage, arm, seed):
        """Runs a stage unless it is finished; returns the seconds it took.

        Args:
            stage: `stages.Stage`.
            arm: `arms.Arm` that needs it, for messages.
            seed: int, likewise.

        Raises:
            As `train`.
        """
        with self._turns.setdefault(stage.name, threading.Lock()):
            return self._run(stage, arm, seed)

    def stop(self):
        """Ends the stages that run, and lets none begin."""
        self._is_stopped = True
        for process in list(self._running):
            process.terminate()

    def _run(self, stage, arm, seed):
        if stage.name in self._failed:
            raise self._failed[stage.name]
        stamp_path = os.path.join(
            self._work_dir, "stages", f"{stage.name}.json"
        )
        if files.exists(stamp_path):
            stamp = files.read_json(stamp_path)
            _check_same(stamp_path, stamp, stage.settings())
            return stamp["seconds"]
        log_path = os.path.join(self._work_dir, "logs", f"{stage.name}.log")
        logging.info("%s, seed %d: %s.", arm.name, seed, stage.name)
        started = time.monotonic()
        status = self._call(stage, log_path)
        if status:
            error = StageError(
                f"{arm.name}, seed {seed}: stage {stage.name} ended with "
                f"status {status}; {log_path} ends in: {_last_line(log_path)}"
            )
            self._failed[stage.name] = error
            raise error
        seconds = round(time.monotonic() - started, 1)
        files.write_json(stamp_path, {"seconds": seconds, **stage.settings()})
        return seconds

    def _made_by(self, arm, seed):
        """Returns what a result depends on."""
        plan = self._planner.plan(arm, seed)
        return {
            "commands": [stage.command() for stage in plan],
            "config": self._planner.train(arm, seed).settings()["config"],
        }

    def _check_result(self, path, result, arm, seed):
        _check_same(path, result, self._made_by(arm, seed))

    def _call(self, stage, log_path):
        """Runs the command to its end and returns its status."""
        files.make_dirs(os.path.dirname(log_path))
        argv = stage.argv(
            work_dir=self._work_dir, data_dir=self._planner.data_dir
        )
        with open(log_path, "ab") as log:
            # In a session of its own: an interrupt of the terminal reaches it
            # once, through us.
            process = subprocess.Popen(
                argv,
                env={**_KERNELS, **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock,),
                start_new_session=True,
            )
            with self._on_cores(process):
                return process.wait()

    @contextlib.contextmanager
    def _on_cores(self, process):
        """Gives a process, which has just begun, its cores."""
        share = self._cores.get()
        self._running.add(process)
        if share:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, share)
        if self._is_stopped:
            process.terminate()
        try:
            yield
        except BaseException:
            # Training saves what it has, and goes on from there.
            process.terminate()
            process.wait()
            raise
        finally:
            self._running.discard(process)
            self._cores.put(share)


def _divide_cores(jobs):
    """Returns the set of cores of each job; None leaves it to the system."""
    available = cores.available()
    if available is None:
        return [None] * jobs
    # Too few for all: then they share.
    return [set(available[job::jobs]) or set(available) for job in range(jobs)]


def result_path(results_dir, arm, seed):
    """Returns the path of what came of an arm with a seed."""
    return os.path.join(results_dir, f"{arm.name}-seed_{seed}.json")


def read_results(results_dir):
    """Returns {arm's name: {seed: result}} of what is there, arms in order."""
    results = {}
    names = files.list_names(results_dir)
    found = [
        files.read_json(os.path.join(results_dir, name))
        for name in names
        if name.endswith(".json")
    ]
    for name in arms_lib.ARMS:
        own = {r["seed"]: r for r in found if r.get("arm") == name}
        if own:
            results[name] = dict(sorted(own.items()))
    return results


def _figures(report, prefix):
    """Returns top_1, loss and num_images of a report."""
    return {
        name: report[prefix + name] for name in ("top_1", "loss", "num_images")
    }


def _check_same(path, before, now):
    """Raises a ValueError if what is in a file differs from values of now."""
    before = {name: before.get(name) for name in now}
    if difference := files.describe_difference(before, now):
        raise ValueError(
            f"{path!r} was made with other settings: {difference}. Use another "
            "--work_dir and --results_dir, or delete it and all that was made "
            "from it: results, stages and folders."
        )


def _last_line(path):
    with open(path, errors="replace") as log:
        lines = [line.strip() for line in log if line.strip()]
    return lines[-1][:_LONGEST_LINE] if lines else "nothing"
