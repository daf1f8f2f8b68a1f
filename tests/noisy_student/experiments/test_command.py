"""Tests of the command `python -m noisy_student.experiments`."""

import json
import shutil

import pytest
from absl import flags

from data_prep import cifar10
from noisy_student.experiments import __main__ as command
from noisy_student.experiments import arms, runner
from tests.noisy_student.experiments import test_findings


@pytest.fixture
def data_dir(tmp_path):
    for split in ("train", "test"):
        for name in cifar10.CLASS_NAMES:
            (tmp_path / "data" / split / name).mkdir(parents=True)
    return tmp_path / "data"


def run(*arguments):
    flag_values = flags.FlagValues()
    command.define_flags(flag_values)
    flag_values(["experiments", *map(str, arguments)])
    command.main(flag_values)


def test_a_dry_run_lists_stages_steps_and_images(data_dir, tmp_path, capsys):
    run(
        f"--data_dir={data_dir}",
        f"--work_dir={tmp_path}/work",
        "--arms=noisy_student",
        "--seeds=1",
        "--dry_run",
        "--smoke",
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("teacher, seed 0: ")
    trained = [line for line in lines if "--mode=train_and_eval" in line]
    assert [line.split("  # ")[1] for line in trained] == [
        "2 steps, 8 images",
        "2 steps, 32 images",
    ]
    assert lines[-1] == ("6 stages, 4 steps of training, 40 images seen.")
    assert not (tmp_path / "work").exists()


def test_steps_of_fixres_are_those_of_its_tail(data_dir, tmp_path, capsys):
    places = (f"--data_dir={data_dir}", f"--work_dir={tmp_path}")
    run(*places, "--arms=fixres_at_48", "--seeds=1", "--dry_run")
    lines = capsys.readouterr().out.splitlines()
    (tuned,) = [line for line in lines if "--mode=fixres_finetune" in line]
    assert tuned.endswith("  # 312 steps, 3,744 images")


def test_all_arms_can_be_planned(data_dir, tmp_path, capsys):
    run(
        f"--data_dir={data_dir}",
        f"--work_dir={tmp_path}",
        "--arms=all",
        "--dry_run",
    )
    text = capsys.readouterr().out
    for arm, seed in arms.choose():
        assert f"{arm.name}, seed {seed}: " in text


def test_the_last_step_can_be_planned_too(data_dir, tmp_path, capsys):
    run(
        f"--data_dir={data_dir}",
        f"--work_dir={tmp_path}",
        "--arms=teacher",
        "--evaluate_test",
        "--dry_run",
    )
    text = capsys.readouterr().out
    assert text.count("--mode=eval") == 5
    assert "--mode=train_and_eval" not in text
    assert text.endswith("6 stages, 0 steps of training, 0 images seen.\n")


def test_a_work_directory_is_of_one_data_set(data_dir, tmp_path):
    arguments = (f"--work_dir={tmp_path}/work", "--evaluate_test")
    for spelled in (data_dir, f"{data_dir}/../data"):
        with pytest.raises(FileNotFoundError, match="No result of an arm"):
            run(f"--data_dir={spelled}", *arguments)
    other = shutil.copytree(data_dir, tmp_path / "other")
    with pytest.raises(ValueError, match="`data_dir`: .*/data' before, .*/oth"):
        run(f"--data_dir={other}", *arguments)


def test_arms_of_some_classes_need_folders_of_their_names(data_dir, tmp_path):
    (data_dir / "test" / "cat").rename(data_dir / "test" / "3")
    places = (f"--data_dir={data_dir}", f"--work_dir={tmp_path}/work")
    with pytest.raises(
        FileNotFoundError, match="^out_of_domain_teacher .*/test': cat. Name"
    ):
        run(*places, "--arms=out_of_domain_soft")
    assert not (tmp_path / "work").exists()
    run(*places, "--dry_run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--work_dir=w"], "--data_dir and --work_dir are needed"),
        (["--data_dir=tfds:cifar10"], "--work_dir is needed"),
        (["--work_dir=w", "--data_dir=nowhere"], "nowhere: no folder 'train'"),
        (
            ["--work_dir=w", "--data_dir=tfds:cifar10", "--arms=cow"],
            "--arms must be of .*'cow'",
        ),
        (["--work_dir=w", "--report_path=page"], "must end in .md"),
        (["--work_dir=w", "--data_dir=tfds:cifar10", "--arms="], "names none"),
        (["--only_report", "--results_dir=nowhere"], "No result of an arm"),
    ],
)
def test_what_a_user_can_get_wrong_is_said_at_once(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(*arguments)


def test_a_page_of_given_results_needs_no_data(tmp_path, capsys):
    found = test_findings.results(teacher=[0.5, 0.6], noisy_student=[0.6, 0.7])
    for name, by_seed in found.items():
        for seed, result in by_seed.items():
            path = tmp_path / "given" / f"{name}-seed_{seed}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(result))
    page = tmp_path / "results.md"
    run(
        "--only_report",
        f"--results_dir={tmp_path}/given",
        f"--report_path={page}",
    )
    assert page.read_text() in capsys.readouterr().out
    assert "**reproduced**" in page.read_text()


@pytest.mark.parametrize("kind", [runner.StageError, FileNotFoundError])
def test_arms_that_failed_are_named_after_the_others_ran(kind):
    class Work:
        def __init__(self):
            self.trained = []

        def train(self, arm, seed):
            self.trained.append(arm.name)
            if arm.name == "teacher":
                raise kind("teacher failed; see log.")

    work = Work()
    chosen = [(arms.ARMS[n], 0) for n in ("teacher", "small_teacher")]
    with pytest.raises(ValueError, match="teacher failed; see log."):
        command._run_all(work, chosen, evaluate_test=False, jobs=1)
    assert work.trained == ["teacher", "small_teacher"]
