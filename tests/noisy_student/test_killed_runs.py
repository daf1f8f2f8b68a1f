"""Tests of runs whose process is really killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from noisy_student import run_dir
from tests.noisy_student import fixtures

pytestmark = pytest.mark.slow

TINY = [sys.executable, "-m", "tests.noisy_student.tiny_run"]
MAIN = [
    *(sys.executable, "-m", "noisy_student.main"),
    "--task_name=custom",
    "--num_label_classes=3",
    "--input_image_size=16",
    "--small_image_model",
    "--width_coefficient=0.1",
    "--depth_coefficient=0.1",
    "--train_batch_size=4",
    "--eval_batch_size=4",
    "--train_steps=120",
    "--iterations_per_loop=3",
    "--save_checkpoints_steps=6",
    "--steps_per_eval=10",
    "--keep_checkpoint_max=2",
    "--warmup_epochs=0",
    "--unlabel_ratio=1.5",
    "--teacher_softmax_temp=1",
    "--augment_name=randaugment",
    "--max_damaged_fraction=0.2",
    "--deterministic",
]
EVAL_STEPS = range(10, 121, 10)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(directory, "train", 10)
    fixtures.write_labeled(directory, "validation", 6)
    return directory


def lines(model_dir):
    """Returns the untimed part of the lines of metrics, as text."""
    return list(map(json.dumps, fixtures.untimed_lines(model_dir)))


def last_weights(model_dir, step):
    """Returns the bytes of a checkpoint's values."""
    name = f"model.ckpt-{step}.data-00000-of-00001"
    return (model_dir / name).read_bytes()


@pytest.mark.long
def test_a_run_killed_in_a_save_ends_bit_for_bit_the_same(data_dir, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    command = [*TINY, f"--data_dir={data_dir}"]
    subprocess.run([*command, f"--model_dir={undisturbed}"], check=True)
    command.append(f"--model_dir={killed}")
    # The third one, of step 8.
    status = subprocess.run([*command, "--kill_in_save=3"], check=False)
    assert status.returncode == -signal.SIGKILL
    assert (killed / "model.ckpt-8.index").exists()
    assert tf.train.latest_checkpoint(killed).endswith("-6")
    subprocess.run(command, check=True)
    assert lines(killed) == lines(undisturbed)
    assert last_weights(killed, 12) == last_weights(undisturbed, 12)


def test_a_terminated_run_saves_and_says_so_in_a_line_and_a_status(
    data_dir, tmp_path
):
    process = subprocess.Popen(
        [
            *TINY,
            f"--data_dir={data_dir}",
            f"--model_dir={tmp_path}",
            "--train_steps=1000000",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not run_dir.read_metrics(str(tmp_path)):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate()
    assert process.returncode == 143
    step = tf.train.latest_checkpoint(tmp_path).rsplit("-", 1)[1]
    assert "async" not in output.lower()
    assert output.splitlines()[-1] == (
        f"stopped: SIGTERM came; step {step} is saved, and the same command "
        "goes on from there."
    )


def write_with_damage(data_dir):
    """Writes labeled and pseudo-labeled shards, some records of no use."""
    fixtures.write_labeled(data_dir, "train", 20)
    fixtures.write_labeled(data_dir, "validation", 200)
    fixtures.write_pseudo_labeled(data_dir / "pseudo", "train", 30)
    path = data_dir / "train-00000-of-00002"
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as out:
        for i, record in enumerate(records):
            out.write(b"no example" if i == 7 else record)
    # It says how many bytes the shard had.
    (data_dir / "train.manifest.json").unlink()


def kill_when(process, model_dir, moment, wait):
    """Kills a training process in a step, a save or an evaluation."""
    started = len(run_dir.read_metrics(str(model_dir)))
    limit = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < limit:
        written = run_dir.read_metrics(str(model_dir))
        if moment == "save" and list(model_dir.glob("model.ckpt-*_temp")):
            break
        done = {line["step"] for line in written}
        evaluating = any(
            (model_dir / f"model.ckpt-{step}.json").exists()
            for step in EVAL_STEPS
            if step not in done
        )
        if moment == "evaluation" and evaluating:
            time.sleep(wait / 4)
            break
        if moment == "step" and len(written) > started + 1:
            time.sleep(wait)
            break
    process.kill()
    return process.wait()


@pytest.mark.long
def test_a_run_killed_at_ten_random_points_ends_bit_for_bit_the_same(tmp_path):
    data_dir = tmp_path / "data"
    write_with_damage(data_dir)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    command = [
        *MAIN,
        f"--label_data_dir={data_dir}",
        f"--unlabel_data_dir={data_dir}/pseudo",
    ]
    subprocess.run([*command, f"--model_dir={undisturbed}"], check=True)
    killed.mkdir()
    command.append(f"--model_dir={killed}")
    moments = ["step", "save", "evaluation"] * 3 + ["save"]
    waits = random.Random(0)
    statuses = []
    for moment in moments:
        process = subprocess.Popen(command)
        statuses.append(kill_when(process, killed, moment, waits.uniform(0, 2)))
    assert statuses == [-signal.SIGKILL] * 10
    assert not os.path.exists(killed / "report.json")
    subprocess.run(command, check=True)
    assert lines(killed) == lines(undisturbed)
    assert last_weights(killed, 120) == last_weights(undisturbed, 120)
    for name in ("damaged_labeled.jsonl", "archive/best.json"):
        assert (killed / name).read_text() == (undisturbed / name).read_text()
