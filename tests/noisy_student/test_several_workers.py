"""Runs of two workers, processes that talk over the loopback device.

The data set is one batch, of which each worker reads one shard. Without noise,
and with batch normalization over all replicas, a step then depends on nothing
else, so one process with two virtual devices takes the same steps, though it
draws other replicas for the images.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from noisy_student import flags as flags_lib
from noisy_student import run_dir, train_loop
from tests import replicas
from tests.noisy_student import fixtures

pytestmark = pytest.mark.long

STEPS = 40
SAVED_EVERY = 10
# Other work on the machine may slow the workers down, but not that much.
PATIENCE = 600
# A killed worker's sockets tell the other one at once; ending takes it a few
# seconds, on a busy machine up to a minute.
NOTICE = 120

SETTINGS = [
    "--mode=train_and_eval",
    "--task_name=custom",
    f"--num_label_classes={fixtures.NUM_CLASSES}",
    f"--input_image_size={fixtures.IMAGE_SIZE}",
    "--small_image_model",
    "--width_coefficient=0.1",
    "--depth_coefficient=0.1",
    "--num_shards_per_group=-2",
    "--remove_aug",
    "--dropout_rate=0",
    "--stochastic_depth_rate=0",
    "--num_train_images=4",
    "--train_batch_size=4",
    "--eval_batch_size=4",
    "--shuffle_buffer=4",
    f"--train_steps={STEPS}",
    "--iterations_per_loop=5",
    f"--save_checkpoints_steps={SAVED_EVERY}",
    "--steps_per_eval=20",
    "--keep_checkpoint_max=9",
    "--warmup_epochs=0",
    "--base_learning_rate=0.5",
    "--moving_average_decay=0.9",
    "--deterministic",
]


@dataclasses.dataclass
class Worker:
    """A process, and where it may leave temporary files."""

    process: subprocess.Popen
    temporary: pathlib.Path

    def end(self):
        """Returns (exit code, standard error) once it has ended."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


def start(arguments, temporary, **environment):
    temporary.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "noisy_student.main", *arguments],
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "-1",
            "TMPDIR": str(temporary),
            **environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Worker(process, temporary)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("localhost", 0))
        return [found.getsockname()[1] for found in sockets]


@contextlib.contextmanager
def two_workers(arguments, folder, *, second=()):
    """Starts two workers; none outlives the block.

    Args:
        arguments: Those of both.
        folder: Place of their temporary files.
        second: Further ones of the second.
    """
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    workers = [
        start(
            [*arguments, *(second if index else ())],
            folder / f"temporary_{index}",
            TF_CONFIG=json.dumps(
                {
                    "cluster": cluster,
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(directory, "train", 4)
    fixtures.write_labeled(directory, "validation", 7)
    return directory


def settings(data_dir, model_dir):
    paths = [f"--label_data_dir={data_dir}", f"--model_dir={model_dir}"]
    return [*SETTINGS, *paths]


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory):
    """Returns (run directory, workers' temporary folders) of a whole run."""
    folder = tmp_path_factory.mktemp("two_workers")
    arguments = settings(data_dir, folder / "run")
    with two_workers(arguments, folder) as workers:
        for worker in workers:
            code, errors = worker.end()
            assert code == 0, errors
    return folder / "run", [worker.temporary for worker in workers]


def checkpoint(model_dir, step):
    """Returns {name: array} of what a checkpoint holds."""
    reader = tf.train.load_checkpoint(str(model_dir / f"model.ckpt-{step}"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    }


def figures(model_dir, up_to=STEPS):
    """Returns the lines of a run's metrics without the times."""
    return [
        line
        for line in fixtures.untimed_lines(model_dir)
        if line["step"] <= up_to
    ]


def test_the_chief_alone_writes(undisturbed):
    model_dir, temporaries = undisturbed
    assert len(list(model_dir.glob("events.out.tfevents.*"))) == 1
    steps = [line["step"] for line in figures(model_dir)]
    assert steps == list(range(5, STEPS + 1, 5))
    saved = sorted(path.name for path in model_dir.glob("model.ckpt-*.index"))
    assert saved == [
        f"model.ckpt-{step}.index"
        for step in range(SAVED_EVERY, STEPS + 1, SAVED_EVERY)
    ]
    report = run_dir.read_report(str(model_dir))
    assert report["eval/num_images"] == 7
    for temporary in temporaries:
        assert list(temporary.iterdir()) == []


def test_two_workers_take_the_steps_of_two_devices(
    undisturbed, data_dir, tmp_path
):
    model_dir, _ = undisturbed
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(["main", *settings(data_dir, tmp_path / "run")])
    config = dataclasses.replace(
        flags_lib.config_from_flags(flag_values).train, train_steps=SAVED_EVERY
    )
    train_loop.run(config, replicas.two_replicas(), str(tmp_path / "run"))
    for ours, theirs in zip(
        figures(tmp_path / "run"), figures(model_dir, SAVED_EVERY)
    ):
        assert ours == pytest.approx(theirs, abs=1e-4)
    expected = checkpoint(tmp_path / "run", SAVED_EVERY)
    found = checkpoint(model_dir, SAVED_EVERY)
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=1e-4, atol=1e-4, err_msg=name
        )


def wait_for(path):
    started = time.monotonic()
    while not path.exists():
        assert time.monotonic() - started < PATIENCE, f"{path} never came"
        time.sleep(0.01)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_worker_is_killed_the_other_ends_and_both_resume(
    undisturbed, data_dir, tmp_path, victim
):
    model_dir = tmp_path / "run"
    arguments = settings(data_dir, model_dir)
    with two_workers(arguments, tmp_path) as workers:
        # Names the first checkpoint once it is whole.
        wait_for(model_dir / "checkpoint")
        workers[victim].process.kill()
        killed = time.monotonic()
        code, errors = workers[1 - victim].end()
        assert time.monotonic() - killed < NOTICE
    assert code == 1
    last_line = errors.strip().splitlines()[-1]
    assert last_line.startswith(f"error: worker {1 - victim} lost another")
    assert run_dir.read_report(str(model_dir)) is None
    with two_workers(arguments, tmp_path) as workers:
        for worker in workers:
            code, errors = worker.end()
            assert code == 0, errors
            assert "Resumed from" in errors
    assert figures(model_dir) == figures(undisturbed[0])
    expected = checkpoint(undisturbed[0], STEPS)
    for name, value in checkpoint(model_dir, STEPS).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_a_signal_to_one_worker_ends_both_after_a_checkpoint(
    data_dir, tmp_path
):
    model_dir = tmp_path / "run"
    arguments = [*settings(data_dir, model_dir), "--train_steps=9000"]
    with two_workers(arguments, tmp_path) as workers:
        wait_for(model_dir / "checkpoint")
        workers[1].process.terminate()
        ends = [worker.end() for worker in workers]
    assert [code for code, _ in ends] == [143, 143]
    saved = tf.train.latest_checkpoint(str(model_dir)).rpartition("-")[2]
    for _, errors in ends:
        last_line = errors.strip().splitlines()[-1]
        assert last_line.startswith(f"stopped: SIGTERM came; step {saved} is ")


def test_all_end_when_the_chief_refuses_or_one_was_started_otherwise(
    undisturbed, data_dir, tmp_path
):
    arguments = settings(data_dir, undisturbed[0])
    with two_workers([*arguments, "--seed=1"], tmp_path) as workers:
        ends = [worker.end() for worker in workers]
    assert [code for code, _ in ends] == [1, 1]
    assert re.search("error: .* holds a run with other settings", ends[0][1])
    assert "error: worker 1 stops because worker 0 did" in ends[1][1]
    with two_workers(arguments, tmp_path, second=["--seed=1"]) as workers:
        ends = [worker.end() for worker in workers]
    assert [code for code, _ in ends] == [1, 1]
    for _, errors in ends:
        assert "error: The workers have different settings" in errors


def test_two_workers_label_as_one_process_does(undisturbed, tmp_path):
    """They divide the shards; batches of one worker hold half the images."""
    model_dir, _ = undisturbed
    fixtures.write_unlabeled(tmp_path / "images", "train", 11, num_shards=3)
    arguments = [
        "--mode=predict",
        f"--checkpoint={model_dir}/model.ckpt-{STEPS}",
        f"--unlabel_data_dir={tmp_path}/images",
        "--file_prefix=train",
        f"--num_label_classes={fixtures.NUM_CLASSES}",
    ]
    shared = [*arguments, f"--output_dir={tmp_path}/shared"]
    with two_workers([*shared, "--eval_batch_size=8"], tmp_path) as workers:
        for worker in workers:
            code, errors = worker.end()
            assert code == 0, errors
    alone = [*arguments, f"--output_dir={tmp_path}/alone"]
    process = start([*alone, "--eval_batch_size=4"], tmp_path / "temporary")
    code, errors = process.end()
    assert code == 0, errors
    names = sorted(os.listdir(tmp_path / "alone"))
    # Three shards, with a count and a table each, and the manifest.
    assert len(names) == 10
    assert sorted(os.listdir(tmp_path / "shared")) == names
    for name in names:
        whole = (tmp_path / "alone" / name).read_bytes()
        assert (tmp_path / "shared" / name).read_bytes() == whole, name
