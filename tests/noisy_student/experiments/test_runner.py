"""Tests of running, killing and continuing."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent import futures

import pytest

from noisy_student import presets
from noisy_student.experiments import arms, protocol, runner, stages
from tests.noisy_student.experiments import example_runner

TEACHER = arms.ARMS["teacher"]
PROGRAM = [
    sys.executable,
    "-m",
    "tests.noisy_student.experiments.example_runner",
]


def notes(directory):
    path = directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


def wait_until(condition):
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_killed_run_waits_for_what_it_left_and_does_nothing_twice(tmp_path):
    first = subprocess.Popen([*PROGRAM, str(tmp_path)])
    wait_until(lambda: "second started" in notes(tmp_path))
    first.kill()
    assert first.wait() == -signal.SIGKILL
    second = subprocess.Popen([*PROGRAM, str(tmp_path)])
    time.sleep(0.5)
    # The stage that is left behind goes on, and no other beside it.
    assert second.poll() is None
    assert notes(tmp_path).count("second started") == 1
    (tmp_path / "go").touch()
    assert second.wait(60) == 0
    assert notes(tmp_path).count("first started") == 1
    assert notes(tmp_path)[:4] == [
        "first started",
        "first ended",
        "second started",
        "second ended",
    ]
    before = notes(tmp_path)
    subprocess.run([*PROGRAM, str(tmp_path)], check=True)
    assert notes(tmp_path) == before


def test_a_terminated_run_ends_its_stage_and_goes_on_later(tmp_path):
    process = subprocess.Popen([*PROGRAM, str(tmp_path)])
    wait_until(lambda: "second started" in notes(tmp_path))
    process.terminate()
    assert process.wait(60) != 0
    (tmp_path / "go").touch()
    subprocess.run([*PROGRAM, str(tmp_path)], check=True)
    assert notes(tmp_path) == [
        "first started",
        "first ended",
        "second started",
        "second started",
        "second ended",
    ]


def test_a_finished_stage_is_not_run_again(tmp_path):
    plan = [example_runner.stage("one", tmp_path)]
    for _ in range(2):
        example_runner.run(str(tmp_path), plan)
    assert notes(tmp_path) == ["one started", "one ended"]
    stamp = json.loads((tmp_path / "stages" / "one.json").read_text())
    assert stamp["command"] == plan[0].command()
    assert stamp["seconds"] > 0


@pytest.mark.parametrize("given", [None, "AVX"])
def test_kernels_do_not_depend_on_the_processor(given, tmp_path, monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if given is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", given)
    stage = example_runner.stage("one", tmp_path, variable="ONEDNN_MAX_CPU_ISA")
    example_runner.run(str(tmp_path), [stage])
    assert notes(tmp_path)[1] == f"one {given or 'AVX2'}"


def test_a_stage_with_other_flags_is_refused(tmp_path):
    example_runner.run(str(tmp_path), [example_runner.stage("one", tmp_path)])
    changed = example_runner.stage("one", tmp_path, wait_for="x")
    with pytest.raises(ValueError, match="other settings: .*wait_for=x"):
        example_runner.run(str(tmp_path), [changed])


def test_a_failed_stage_names_its_arm_and_log(tmp_path):
    bad = example_runner.stage("bad", tmp_path, fail=True)
    with pytest.raises(runner.StageError) as caught:
        example_runner.run(str(tmp_path), [bad])
    log = tmp_path / "logs" / "bad.log"
    assert str(caught.value) == (
        f"teacher, seed 0: stage bad ended with status 1; {log} ends in: "
        "error: It was told to fail."
    )
    assert not (tmp_path / "stages").exists()


class FakeRunner(runner.Runner):
    """Writes what commands would leave, and keeps their names."""

    def __init__(self, work_dir, **options):
        planner = stages.Planner("data", protocol.SMOKE)
        results_dir = options.get("results_dir", f"{work_dir}/results")
        super().__init__(planner, str(work_dir), results_dir, 0)
        self.work_dir = work_dir
        self.called = []
        self.failing = options.get("failing")
        self.top_1 = options.get("top_1", 0.5)

    def _call(self, stage, log_path):
        self.called.append(stage.name)
        if stage.name == self.failing:
            os.makedirs(os.path.dirname(log_path), exist_ok=True)
            with open(log_path, "w") as log:
                log.write("error: no space left\n")
            return 1
        figures = {"top_1": self.top_1, "loss": 1.25, "num_images": 4}
        if "model_dir" in stage.flags:
            self._leave(
                stage.flags["model_dir"], "report.json", "eval", figures
            )
        if stage.flags.get("mode") == "eval":
            folder = stage.flags["output_dir"]
            split = stage.flags["eval_split"]
            self._leave(folder, "eval.json", split, figures)
        return 0

    def _leave(self, folder, name, prefix, figures):
        path = folder.replace("{work_dir}", str(self.work_dir))
        os.makedirs(path, exist_ok=True)
        report = {f"{prefix}/{k}": v for k, v in figures.items()}
        report["config"] = {"train_steps": 2}
        report["made_with"] = {"commit": "abc"}
        with open(os.path.join(path, name), "w") as file:
            json.dump(report, file)


def test_a_trained_arm_leaves_one_small_result(tmp_path):
    work = FakeRunner(tmp_path)
    work.train(TEACHER, 3)
    path = tmp_path / "results" / "teacher-seed_3.json"
    result = json.loads(path.read_text())
    assert result["evaluations"] == {
        "dev": {"top_1": 0.5, "loss": 1.25, "num_images": 4}
    }
    assert (result["train_steps"], result["images_per_step"]) == (2, 4)
    assert result["made_with"] == {"commit": "abc"}
    assert str(tmp_path) not in path.read_text()
    assert runner.read_results(tmp_path / "results") == {"teacher": {3: result}}
    again = FakeRunner(tmp_path)
    again.train(TEACHER, 3)
    assert again.called == []


def test_arms_of_a_seed_train_their_teacher_once(tmp_path):
    work = FakeRunner(tmp_path)
    for name in ("teacher", "noisy_student", "hard_labels"):
        work.train(arms.ARMS[name], 0)
    assert len(work.called) == len(set(work.called)) == 7


def test_test_images_are_read_by_the_last_step_alone(tmp_path):
    work = FakeRunner(tmp_path)
    work.train(TEACHER, 0)
    assert not [name for name in work.called if "test" in name]
    work.called.clear()
    assert work.evaluate_test(TEACHER, 0)
    assert work.called == ["images/test", "seed_0/teacher/test"]
    (result,) = runner.read_results(tmp_path / "results")["teacher"].values()
    assert set(result["evaluations"]) == {"dev", "test"}
    work.called.clear()
    assert work.evaluate_test(TEACHER, 0)
    assert work.called == []


def test_what_is_not_trained_is_not_evaluated(tmp_path):
    work = FakeRunner(tmp_path)
    assert not work.evaluate_test(TEACHER, 0)
    assert work.called == []


def test_a_result_of_other_settings_is_refused(tmp_path):
    FakeRunner(tmp_path).train(TEACHER, 0)
    path = tmp_path / "results" / "teacher-seed_0.json"
    result = json.loads(path.read_text())
    result["commands"][1] = "another"
    path.write_text(json.dumps(result))
    for call in ("train", "evaluate_test"):
        with pytest.raises(ValueError, match="other settings: .*another"):
            getattr(FakeRunner(tmp_path), call)(TEACHER, 0)


def test_another_network_of_the_same_name_is_refused(tmp_path):
    FakeRunner(tmp_path).train(TEACHER, 0)
    elsewhere = FakeRunner(
        tmp_path / "other", results_dir=f"{tmp_path}/results", top_1=0.4
    )
    with pytest.raises(FileNotFoundError, match="no finished run in"):
        elsewhere.evaluate_test(TEACHER, 0)
    message = "of another network .*`top_1`: 0.5 before, 0.4 now"
    with pytest.raises(ValueError, match=message):
        elsewhere.train(arms.ARMS["noisy_student"], 0)
    assert elsewhere.called[-1] == "seed_0/teacher/train"
    with pytest.raises(ValueError, match=message):
        elsewhere.evaluate_test(TEACHER, 0)


def test_a_preset_that_changed_is_noticed(tmp_path, monkeypatch):
    FakeRunner(tmp_path).train(TEACHER, 0)
    recipe = {**presets.PRESETS[TEACHER.preset], "dropout_rate": 0.7}
    monkeypatch.setitem(presets.PRESETS, TEACHER.preset, recipe)
    for directory in (tmp_path / "results", tmp_path / "nowhere"):
        work = FakeRunner(tmp_path, results_dir=str(directory))
        with pytest.raises(ValueError, match="dropout_rate`: .*, 0.7 now"):
            work.train(TEACHER, 0)


def test_what_failed_is_not_tried_again_for_other_arms(tmp_path):
    work = FakeRunner(tmp_path, failing="seed_0/teacher/train")
    for name in ("teacher", "noisy_student"):
        with pytest.raises(runner.StageError, match="no space left"):
            work.train(arms.ARMS[name], 0)
    assert work.called.count("seed_0/teacher/train") == 1


def test_an_arm_that_is_looked_at_has_no_steps(tmp_path):
    work = FakeRunner(tmp_path)
    work.train(arms.ARMS["at_48"], 0)
    work.evaluate_test(arms.ARMS["at_48"], 0)
    (result,) = runner.read_results(tmp_path / "results")["at_48"].values()
    assert set(result["evaluations"]) == {"dev", "test"}
    assert (result["train_steps"], result["images_per_step"]) == (0, 0)
    assert result["config"] is None


def test_stages_run_at_once_and_a_shared_one_once(tmp_path):
    shared = example_runner.stage(
        "shared", tmp_path, wait_for=f"{tmp_path}/both"
    )
    own = [example_runner.stage(name, tmp_path) for name in ("one", "two")]
    planner = stages.Planner("unused", protocol.SMOKE)
    with runner.locked(tmp_path) as lock:
        work = runner.Runner(planner, str(tmp_path), "unused", lock, jobs=2)

        def run(stage):
            work.run(shared, TEACHER, 0)
            work.run(stage, TEACHER, 0)

        with futures.ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(run, stage) for stage in own]
            wait_until(lambda: "shared started" in notes(tmp_path))
            (tmp_path / "both").touch()
            for call in calls:
                call.result()
    lines = notes(tmp_path)
    assert lines[:2] == ["shared started", "shared ended"]
    assert sorted(lines[2:]) == [
        f"{name} {what}"
        for name in ("one", "two")
        for what in ("ended", "started")
    ]


def test_jobs_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(runner.cores, "available", lambda: [1, 4, 6])
    assert runner._divide_cores(2) == [{1, 6}, {4}]
    assert runner._divide_cores(4) == [{1}, {4}, {6}, {1, 4, 6}]
    monkeypatch.setattr(runner.cores, "available", lambda: None)
    assert runner._divide_cores(2) == [None, None]


def test_what_is_stopped_begins_nothing(tmp_path):
    planner = stages.Planner("unused", protocol.SMOKE)
    with runner.locked(tmp_path) as lock:
        work = runner.Runner(planner, str(tmp_path), "unused", lock, jobs=2)
        endless = example_runner.stage("one", tmp_path, wait_for="never")
        with futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(work.run, endless, TEACHER, 0)
            wait_until(lambda: "one started" in notes(tmp_path))
            work.stop()
            with pytest.raises(runner.StageError, match="one ended with"):
                call.result()
        late = example_runner.stage("two", tmp_path)
        with pytest.raises(runner.StageError, match="two ended with"):
            work.run(late, TEACHER, 0)
    assert "two ended" not in notes(tmp_path)
