import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags

from data_prep import shards
from noisy_student import hardware_config, plan, rounds, self_training
from tests.noisy_student import fixtures

NUM_UNLABELED = 12


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(directory, "train", 6)
    fixtures.write_labeled(directory, "validation", 6)
    fixtures.write_unlabeled(directory, "unlabeled", NUM_UNLABELED)
    truth = {f"unlabeled{i}": i % 3 for i in range(NUM_UNLABELED)}
    (directory / "truth.json").write_text(json.dumps(truth))
    return directory


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "student.json"
    path.write_text(
        json.dumps({"unlabel_ratio": 2, "teacher_softmax_temp": 1.0})
    )
    return path


def arguments(data_dir, recipe, work_dir, *extra):
    return [
        f"--work_dir={work_dir}",
        f"--label_data_dir={data_dir}",
        f"--unlabel_data_dir={data_dir}",
        "--file_prefix=unlabeled",
        f"--unlabel_truth={data_dir}/truth.json",
        f"--student_preset={recipe}",
        "--rounds=1",
        "--num_image=5",
        "--min_threshold=0",
        "--task_name=custom",
        "--num_label_classes=3",
        "--input_image_size=16",
        "--small_image_model",
        "--width_coefficient=0.1",
        "--depth_coefficient=0.1",
        "--train_batch_size=3",
        "--augment_name=randaugment",
        "--randaug_mag=3",
        "--train_steps=6",
        "--iterations_per_loop=2",
        "--save_checkpoints_steps=2",
        "--warmup_epochs=0",
        "--deterministic",
        *extra,
    ]


def run(*args):
    flag_values = flags.FlagValues()
    self_training.define_flags(flag_values)
    flag_values(["self_training", *args])
    config = self_training.config_from_flags(flag_values)
    # Determinism is switched on in the subprocesses of the killed run only:
    # it would stay on for the tests that follow.
    return self_training.run(config, hardware_config.HardwareConfig())


@pytest.fixture(scope="module")
def finished(data_dir, recipe, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("work")
    args = arguments(data_dir, recipe, work_dir)
    return args, work_dir, run(*args)


@pytest.mark.slow
def test_the_report_has_a_row_per_model_and_what_was_kept(finished):
    _, work_dir, report = finished
    assert report == json.loads((work_dir / "report.json").read_text())
    teacher, student = report["rounds"]
    assert (teacher["round"], teacher["role"]) == (0, "teacher")
    assert (student["round"], student["role"]) == (1, "student")
    for row in report["rounds"]:
        assert 0 <= row["validation_top_1"] <= 1
        assert row["num_images"] == 6
        assert row["train_steps"] == 6
    labels = student["pseudo_labels"]
    assert labels["num_unlabeled"] == NUM_UNLABELED
    assert labels["num_kept"] == sum(labels["kept_per_class"])
    assert labels["coverage"] == labels["num_kept"] / NUM_UNLABELED
    # Every class that has an image is filled to five by copies.
    kept = np.array(labels["kept_per_class"])
    assert labels["written_per_class"] == [5 if k else 0 for k in kept]
    manifest = shards.read_manifest(
        f"{work_dir}/round_1/pseudo_labeled/data", "train"
    )
    assert manifest.total_records == labels["num_written"]
    assert (work_dir / "report.html").exists()


@pytest.mark.slow
def test_pseudo_label_accuracy_counts_each_image_once(finished, data_dir):
    _, work_dir, report = finished
    from data_prep import records

    truth = json.loads((data_dir / "truth.json").read_text())
    labels = {}
    directory = f"{work_dir}/round_1/pseudo_labeled/data"
    for path in shards.list_shards(directory, "train"):
        for serialized in records.read_records(path):
            record = records.parse_pseudo_labeled(serialized, 3)
            labels[record["key"].numpy().decode()] = int(record["label"])
    right = [truth[key] == label for key, label in labels.items()]
    assert report["rounds"][1]["pseudo_labels"]["accuracy"] == np.mean(right)


@pytest.mark.slow
def test_the_plan_of_a_finished_run_knows_it_and_its_sizes(finished, data_dir):
    args, work_dir, report = finished
    flag_values = flags.FlagValues()
    self_training.define_flags(flag_values)
    flag_values(["self_training", *args])
    config = self_training.config_from_flags(flag_values)
    corpus = plan.measure(data_dir, "unlabeled")
    assert corpus.num_images == NUM_UNLABELED
    (_, rounds_stages) = [each.stages for each in plan.make(config, corpus)]
    label, kept, train = rounds_stages
    assert label.is_done and kept.is_done and train.is_done
    student = work_dir / "round_1"
    predictions = student.glob("labels/unlabeled-info-*-00000")
    assert bytes_of(predictions) == pytest.approx(label.storage, rel=0.02)
    written = report["rounds"][1]["pseudo_labels"]["num_written"]
    assert bytes_of(student.glob("pseudo_labeled/data/*-of-*")) == (
        pytest.approx(kept.storage / kept.images * written, rel=0.02)
    )
    checkpoints = bytes_of(student.glob("model/model.ckpt-*.data-*"))
    # Beside the tensors a checkpoint has the names of its objects.
    assert train.storage < checkpoints < train.storage + 3 * 400_000


def bytes_of(paths):
    return sum(path.stat().st_size for path in paths)


@pytest.mark.slow
def test_a_second_run_does_no_work(finished, monkeypatch):
    args, _, report = finished
    monkeypatch.setattr(rounds, "run_all", None)
    assert run(*args) == report


@pytest.mark.slow
def test_other_settings_are_refused_with_the_difference(finished):
    args, _, _ = finished
    with pytest.raises(ValueError, match="`balance.num_image`: 5 before, 4"):
        run(*args, "--num_image=4")


@pytest.mark.long
def test_filtering_once_relabels_what_it_kept(finished, data_dir, tmp_path):
    args, work_dir, _ = finished
    teacher = work_dir / "round_0" / "model"
    report = run(
        *args,
        f"--work_dir={tmp_path}",
        f"--filter_teacher={teacher}",
        f"--teacher_model_path={teacher}",
        "--num_image=2",
        "--train_steps=2",
    )
    assert "train_steps" not in report["rounds"][0]
    filtered = shards.read_manifest(
        f"{tmp_path}/filter/pseudo_labeled/data", "train"
    )
    relabeled = shards.read_manifest(
        f"{tmp_path}/round_1/pseudo_labeled/data", "train"
    )
    assert filtered.total_records == relabeled.total_records
    assert filtered.total_records % 2 == 0


def figures(work_dir):
    """Returns the report without times, versions and paths."""
    report = json.loads((work_dir / "report.json").read_text())
    for row in report["rounds"]:
        row.pop("seconds")
    return report["rounds"]


@pytest.mark.long
def test_a_run_killed_at_random_ends_with_the_same_figures(
    data_dir, recipe, tmp_path
):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    command = [sys.executable, "-m", "noisy_student.self_training"]
    started = time.monotonic()
    subprocess.run(
        command + arguments(data_dir, recipe, undisturbed), check=True
    )
    seconds = time.monotonic() - started
    moments = random.Random(0)
    trained = {}
    for _ in range(3):
        process = subprocess.Popen(
            command + arguments(data_dir, recipe, killed)
        )
        time.sleep(seconds * moments.uniform(0.3, 0.9))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in killed.glob("round_*/model/report.json"):
            trained.setdefault(path, path.stat().st_mtime_ns)
    subprocess.run(command + arguments(data_dir, recipe, killed), check=True)
    assert figures(killed) == figures(undisturbed)
    for path, written in trained.items():
        assert path.stat().st_mtime_ns == written, f"{path} was made twice"
    assert last_weights(killed) == last_weights(undisturbed)


def last_weights(work_dir):
    """Returns the bytes of the student's last checkpoint."""
    directory = pathlib.Path(work_dir) / "round_1" / "model"
    return (directory / "model.ckpt-6.data-00000-of-00001").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--label_data_dir=/no/such", "--label_data_dir=/no/such"),
        ("--unlabel_data_dir=/no/such", "--unlabel_data_dir=/no/such"),
        ("--unlabel_truth=/no/such", "--unlabel_truth=/no/such"),
        ("--filter_teacher=/no/such", "--filter_teacher=/no/such"),
        ("--teacher_model_path=/no/such", "--teacher_model_path=/no/such"),
        ("--file_prefix=extra", "--unlabel_data_dir=.*extra-"),
        ("--eval_split=extra", "--label_data_dir=.*extra-"),
        ("--num_label_classes=2", "--num_label_classes=2 .* label 3"),
    ],
)
def test_wrong_input_is_named_before_anything_is_written(
    data_dir, recipe, tmp_path, wrong, message
):
    args = arguments(data_dir, recipe, tmp_path / "work", wrong)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(*args)
    assert not (tmp_path / "work").exists()
