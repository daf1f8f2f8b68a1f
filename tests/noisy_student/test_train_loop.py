"""Tests of a run that is cut short at any point, and comes back."""

import dataclasses
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from data_prep import command_line
from noisy_student import (
    best_checkpoint,
    checkpoints,
    damaged_records,
    divergence,
    loop_metrics,
    models,
    run_dir,
    train,
    train_loop,
)
from noisy_student import config as config_lib
from tests import replicas as replicas_lib
from tests.noisy_student import fixtures, tiny_run

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
STOPS = [2, 4, 6, 8, 10, 12]


class Killed(BaseException):
    """Takes the place of a `kill -9`: nothing catches it."""


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch):
    monkeypatch.setattr(models, "build", tiny_run.build)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(directory, "train", 10)
    fixtures.write_labeled(directory, "validation", 6)
    return directory


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory):
    """Returns (config, run directory) of a run to compare others with."""
    model_dir = tmp_path_factory.mktemp("undisturbed")
    config = tiny_run.train_config(data_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", tiny_run.build)
        tiny_run.run(config, model_dir)
    return config, model_dir


def weights(model_dir, step=12):
    prefix = str(model_dir / f"model.ckpt-{step}")
    reader = tf.train.load_checkpoint(prefix)
    names = sorted(reader.get_variable_to_dtype_map())
    return {
        name: reader.get_tensor(name)
        for name in names
        if name.endswith("VARIABLE_VALUE")
    }


def assert_equal_runs(model_dir, expected_dir):
    lines = fixtures.untimed_lines(model_dir)
    expected_lines = fixtures.untimed_lines(expected_dir)
    assert [line["step"] for line in lines] == STOPS
    for line, expected in zip(lines, expected_lines):
        assert list(line) == list(expected)
        np.testing.assert_allclose(
            list(line.values()), list(expected.values()), rtol=1e-5
        )
    expected_weights = weights(expected_dir)
    for name, value in weights(model_dir).items():
        np.testing.assert_allclose(
            value, expected_weights[name], rtol=1e-5, err_msg=name
        )
    best, expected = map(best_checkpoint.read, (model_dir, expected_dir))
    assert best["step"] == expected["step"]


def test_a_run_evaluates_at_its_steps_and_at_the_end(undisturbed):
    _, model_dir = undisturbed
    lines = fixtures.untimed_lines(model_dir)
    assert [line["step"] for line in lines] == STOPS
    evaluated = [line["step"] for line in lines if "eval/top_1" in line]
    assert evaluated == [6, 12]
    saved = sorted(path.name for path in model_dir.glob("*.index"))
    assert saved == [
        f"model.ckpt-{step}.index" for step in ("12", "4", "6", "8")
    ]


def test_timings_add_up(undisturbed):
    _, model_dir = undisturbed
    for line in run_dir.read_metrics(str(model_dir)):
        timing = {
            name[len("timing/") :]: value
            for name, value in line.items()
            if name.startswith("timing/")
        }
        step_seconds = timing["step_seconds"]
        assert 0 <= timing["input_wait_seconds"] <= step_seconds
        np.testing.assert_allclose(
            [
                timing["input_wait_seconds"] + timing["compute_seconds"],
                4 / timing["images_per_second"],
                1 / timing["steps_per_second"],
            ],
            step_seconds,
        )
    assert timing["seconds_left"] == 0


def test_a_lines_epoch_is_that_before_its_last_step(undisturbed):
    config, model_dir = undisturbed
    epochs = [line["train/epoch"] for line in fixtures.untimed_lines(model_dir)]
    assert config.steps_per_epoch == 2.5
    assert epochs == pytest.approx([0.4, 1.2, 2.0, 2.8, 3.6, 4.4])


def test_images_per_second_are_those_that_the_pipelines_give(data_dir):
    step = config_lib.StepConfig(
        num_classes=3,
        label_data_sample_prob=0.25,
        pseudo_labels=config_lib.PseudoLabelConfig(unlabeled_ratio=3),
    )
    config = tiny_run.train_config(data_dir, step=step, batch_size=8)

    def images(num_replicas):
        timing = loop_metrics.timing(
            config, num_replicas=num_replicas, step_seconds=2, input_wait=None
        )
        return 2 * timing["timing/images_per_second"]

    assert images(1) == 8 + 6
    # Two labeled images, and 1.5 unlabeled ones rounded up, for each.
    assert images(4) == 4 * (2 + 2)


def test_a_tpu_does_not_wait_for_a_clock(monkeypatch):
    step_config = config_lib.StepConfig(3)
    metrics = dict.fromkeys(train.metric_names(step_config), tf.constant(2.0))
    monkeypatch.setattr(train, "train_step", lambda *_: metrics)
    for strategy, is_timed in (
        (tf.distribute.get_strategy(), True),
        (object.__new__(tf.distribute.TPUStrategy), False),
    ):
        state = types.SimpleNamespace(strategy=strategy)
        run_steps = train.make_train_loop(state, step_config)
        iterator = iter(tf.data.Dataset.range(2))
        values = run_steps(iterator, tf.constant(2, tf.int64))
        assert values["loss"] == 2
        assert ("input_wait" in values) == is_timed


def test_the_wait_for_batches_is_measured():
    batch = {
        "labeled_images": tf.zeros([2, 16, 16, 3]),
        "labeled_labels": tf.constant([0, 1]),
    }

    def slowly(_):
        tf.numpy_function(lambda: time.sleep(0.1), [], [])
        return batch

    state = train.create_state(
        tiny_run.build(fixtures.MODEL), tf.keras.optimizers.SGD(0.1)
    )
    run_steps = train.make_train_loop(state, config_lib.StepConfig(3))
    iterator = iter(tf.data.Dataset.range(100).map(slowly))
    run_steps(iterator, tf.constant(1, tf.int64))
    values = run_steps(iterator, tf.constant(3, tf.int64))
    # One batch may have been made while the steps before were running.
    assert 0.06 < values["input_wait"] < 1
    assert values["finite_steps"] == 3


# Threads are set before TensorFlow starts, so it takes a process of its own.
_ON_ONE_CORE = """
import time
import tensorflow as tf
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(1)
from noisy_student import config, train
from tests.noisy_student import fixtures, tiny_run

batch = {
    "labeled_images": tf.zeros([512, 16, 16, 3]),
    "labeled_labels": tf.zeros([512], tf.int64),
}
state = train.create_state(
    tiny_run.build(fixtures.MODEL), tf.keras.optimizers.SGD(0.1)
)
run_steps = train.make_train_loop(state, config.StepConfig(3))
iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
run_steps(iterator, tf.constant(1, tf.int64))
started = time.time()
values = run_steps(iterator, tf.constant(10, tf.int64))
step_seconds = (time.time() - started) / 10
print(float(values["input_wait"]) / step_seconds)
"""


def test_computing_is_not_taken_for_waiting_on_one_core():
    result = subprocess.run(
        [sys.executable, "-c", _ON_ONE_CORE],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    share = float(result.stdout.splitlines()[-1])
    assert share < 0.3


def test_steps_of_several_replicas_are_timed_and_counted_until_they_diverge():
    strategy = replicas_lib.two_replicas()
    with strategy.scope():
        state = train.create_state(
            tiny_run.build(fixtures.MODEL), tf.keras.optimizers.SGD(0.1)
        )

    def batch(number):
        level = tf.where(number < 3, 100.0, float("nan"))
        return {
            "labeled_images": tf.fill([2, 16, 16, 3], level),
            "labeled_labels": tf.constant([0, 1]),
        }

    # Each replica takes one element of it.
    numbers = tf.data.Dataset.range(5).interleave(
        lambda number: tf.data.Dataset.from_tensors(number).repeat(2),
        cycle_length=1,
        block_length=2,
    )
    iterator = iter(
        strategy.distribute_datasets_from_function(lambda _: numbers.map(batch))
    )
    run_steps = train.make_train_loop(state, config_lib.StepConfig(3))
    values = run_steps(iterator, tf.constant(5, tf.int64))
    assert values["finite_steps"] == 3
    assert np.isnan(values["loss"])
    assert values["input_wait"] > 0


def kill_in(monkeypatch, owner, name, *, call, before=True):
    """Ends the process, as it were, at the given call of a function."""
    function = getattr(owner, name)
    calls = []

    def replaced(*args, **kwargs):
        calls.append(name)
        if before and len(calls) == call:
            raise Killed
        result = function(*args, **kwargs)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, replaced)


KILLS = {
    "after a save": (checkpoints.CheckpointManager, "save", 2, False),
    "in an evaluation": (train_loop.evaluate_lib, "evaluate_split", 1, True),
    "while it archives": (best_checkpoint, "_remove_others", 1, True),
    "before a line": (run_dir.MetricsLog, "write", 3, True),
    "after a line": (run_dir.MetricsLog, "write", 4, False),
    "between figures and their file": (
        best_checkpoint.files,
        "write_json",
        # The fourth, after config.json and two companions, is best.json.
        4,
        True,
    ),
}


RARE_KILLS = ("before a line", "after a line", "between figures and their file")


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(m, marks=pytest.mark.long if m in RARE_KILLS else ())
        for m in sorted(KILLS)
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    undisturbed, tmp_path, monkeypatch, moment
):
    config, expected_dir = undisturbed
    owner, name, call, before = KILLS[moment]
    with monkeypatch.context() as patch:
        kill_in(patch, owner, name, call=call, before=before)
        with pytest.raises(Killed):
            tiny_run.run(config, tmp_path)
    # A kill may also have cut a line short.
    with open(tmp_path / "metrics.jsonl", "a") as log:
        log.write('{"step": 99, "trai')
    tiny_run.run(config, tmp_path)
    assert_equal_runs(tmp_path, expected_dir)
    assert not list(tmp_path.glob("*_temp"))


def test_a_run_that_begins_has_no_lines_of_another_that_came_to_nothing(
    data_dir, tmp_path
):
    config = tiny_run.train_config(
        data_dir, evaluate_start=True, train_steps=2, steps_per_eval=2
    )
    line = {"step": 0, "eval/top_1": 0.123456}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "config.json").write_text('{"other": "settings"}')
    tiny_run.run(config, tmp_path)
    lines = run_dir.read_metrics(str(tmp_path))
    assert [line["step"] for line in lines] == [0, 2]
    assert lines[0]["eval/top_1"] != 0.123456
    assert lines[0]["eval/num_images"] == 6


def test_a_finished_run_that_is_run_again_changes_nothing(
    undisturbed, tmp_path
):
    config, expected_dir = undisturbed
    last = run_dir.read_metrics(str(expected_dir))[-1]
    before = (expected_dir / "metrics.jsonl").read_bytes()
    metrics = tiny_run.run(config, expected_dir)
    assert {"step": 12, **metrics} == last
    assert (expected_dir / "metrics.jsonl").read_bytes() == before


def test_evaluating_what_train_trained_replaces_its_last_line(
    undisturbed, tmp_path
):
    config, _ = undisturbed
    tiny_run.run(config, tmp_path, evaluate=False)
    assert "eval/top_1" not in fixtures.untimed_lines(tmp_path)[-1]
    tiny_run.run(config, tmp_path)
    lines = fixtures.untimed_lines(tmp_path)
    assert [line["step"] for line in lines] == STOPS
    assert "eval/top_1" in lines[-1]


def signal_in_steps(monkeypatch, number, *, call):
    """Sends a signal to this process while the steps are running."""
    make_train_loop = train.make_train_loop

    def make(*args):
        run_steps = make_train_loop(*args)
        calls = []

        def replaced(*args):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), number)
            return run_steps(*args)

        return replaced

    monkeypatch.setattr(train, "make_train_loop", make)


@pytest.mark.parametrize(
    ("name", "call", "exit_code"), [("SIGTERM", 3, 143), ("SIGINT", 1, 130)]
)
def test_a_signal_ends_a_run_after_the_steps_under_way_and_a_save(
    undisturbed, tmp_path, monkeypatch, name, call, exit_code
):
    config, expected_dir = undisturbed
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        signal_in_steps(patch, signal.Signals[name], call=call)
        with pytest.raises(
            command_line.Stopped, match=f"{name} came; step {2 * call} is saved"
        ) as caught:
            tiny_run.run(config, tmp_path)
    assert caught.value.exit_code == exit_code
    assert signal.getsignal(signal.SIGTERM) is handler
    assert tf.train.latest_checkpoint(tmp_path).endswith(f"-{2 * call}")
    tiny_run.run(config, tmp_path)
    assert_equal_runs(tmp_path, expected_dir)


def test_a_signal_during_an_evaluation_ends_a_run_at_the_saved_step(
    undisturbed, tmp_path, monkeypatch
):
    config, expected_dir = undisturbed
    evaluate = train_loop._evaluate_average

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train_loop, "_evaluate_average", interrupted)
        with pytest.raises(command_line.Stopped, match="step 6 is saved"):
            tiny_run.run(config, tmp_path)
    assert run_dir.read_metrics(tmp_path)[-1]["step"] == 6
    tiny_run.run(config, tmp_path)
    assert_equal_runs(tmp_path, expected_dir)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_disk_leaves_the_last_checkpoint_to_go_on_from(
    undisturbed, tmp_path, monkeypatch, asynchronous
):
    config, expected_dir = undisturbed
    config = dataclasses.replace(config, async_checkpoints=asynchronous)
    save = checkpoints.CheckpointManager.save
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_on_full_disk(manager, step, companion):
        if step == 6:
            manager.wait()
            # Enough for what is not a checkpoint.
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
        return save(manager, step, companion)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.CheckpointManager, "save", save_on_full_disk)
        try:
            with pytest.raises(
                checkpoints.CheckpointError,
                match=rf"Writing to '{tmp_path}' failed: .*File too large.* "
                rf"The last good checkpoint is {tmp_path}/model.ckpt-4; the",
            ):
                tiny_run.run(config, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tf.train.latest_checkpoint(tmp_path).endswith("-4")
    assert not list(tmp_path.glob("*_temp"))
    tiny_run.run(config, tmp_path)
    assert_equal_runs(tmp_path, expected_dir)


def test_a_full_disk_is_named_when_a_line_cannot_be_written(
    undisturbed, tmp_path, monkeypatch
):
    config, _ = undisturbed

    def write(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_dir.MetricsLog, "write", write)
    with pytest.raises(
        checkpoints.CheckpointError,
        match=f"'{tmp_path}' failed: .*No space left.*good checkpoint is none",
    ):
        tiny_run.run(config, tmp_path)


def test_divergence_lists_the_images_of_the_last_steps(undisturbed, tmp_path):
    config, _ = undisturbed
    optimizer = dataclasses.replace(config.optimizer, base_learning_rate=1e38)
    config = dataclasses.replace(
        config, optimizer=optimizer, iterations_per_loop=6
    )
    with pytest.raises(
        ValueError,
        match="diverged at step [234]: .*train/loss.*divergence.json",
    ):
        tiny_run.run(config, tmp_path)
    dump = json.loads((tmp_path / "divergence.json").read_text())
    first = dump["step"]
    assert [step["step"] for step in dump["images"]] == [first - 1, first]
    for step in dump["images"]:
        keys = [record["key"] for record in step["labeled"]]
        assert len(set(keys)) == 4
        assert set(keys) <= {f"train{i}" for i in range(10)}
    assert dump["metrics"]["train/loss"] in ("nan", "inf")


def test_a_run_does_not_go_on_in_another_precision(undisturbed):
    config, model_dir = undisturbed
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with pytest.raises(
            ValueError, match="`precision`: 'float32' before, 'mixed_bfloat16'"
        ):
            tiny_run.run(config, model_dir)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_a_run_does_not_go_on_with_another_checkpoint_of_its_teacher(
    undisturbed, tmp_path
):
    config, _ = undisturbed
    teacher = tmp_path / "teacher"
    config = dataclasses.replace(config, teacher_checkpoint=str(teacher))
    made = []
    for value in (1.0, 2.0):
        checkpoint = tf.train.Checkpoint(weight=tf.Variable(value))
        tf.train.CheckpointManager(checkpoint, teacher, None).save()
        made.append(train_loop.settings(config)["teacher_weights"])
    assert made[0] != made[1]


def test_a_run_keeps_its_settings_when_its_teacher_trains_on(
    undisturbed, tmp_path, monkeypatch
):
    config, _ = undisturbed
    teacher, run = tmp_path / "teacher", tmp_path / "run"

    def save_teacher(value):
        checkpoint = tf.train.Checkpoint(weight=tf.Variable(value))
        tf.train.CheckpointManager(checkpoint, teacher, None).save()

    save_teacher(1.0)
    evaluate = train_loop._evaluate_average

    def evaluate_later(*args):
        save_teacher(2.0)
        return evaluate(*args)

    monkeypatch.setattr(train_loop, "_evaluate_average", evaluate_later)
    tiny_run.run(
        dataclasses.replace(config, teacher_checkpoint=str(teacher)), run
    )
    claimed = json.loads((run / "config.json").read_text())
    for step in (4, 8, 12):
        companion = json.loads((run / f"model.ckpt-{step}.json").read_text())
        assert companion["config"] == claimed


def test_an_absurd_loss_stops_a_run_as_well(tmp_path):
    damage = damaged_records.DamageLog(str(tmp_path))
    path = str(tmp_path / "divergence.json")
    counts = {"num_classes": 10, "num_steps": 3, "finite_steps": 3}
    metrics = {"train/labeled_loss": 2.302e6, "train/loss": 1e9}
    divergence.check_metrics(metrics, 6, damage=damage, path=path, **counts)
    metrics["train/labeled_loss"] = 2.303e6
    with pytest.raises(
        ValueError,
        match=r"step 6: train/labeled_loss above 2\.3e\+06, absurdly",
    ):
        divergence.check_metrics(metrics, 6, damage=damage, path=path, **counts)
    dump = json.loads((tmp_path / "divergence.json").read_text())
    assert dump["out_of_bounds"] == ["train/labeled_loss"]
    assert dump["metrics"] == metrics


def test_weights_that_are_not_finite_are_not_saved(
    undisturbed, tmp_path, monkeypatch
):
    config, _ = undisturbed
    make_train_loop = train.make_train_loop

    def make(state, *args):
        run_steps = make_train_loop(state, *args)

        def replaced(iterator, num_steps):
            values = run_steps(iterator, num_steps)
            if state.step == 6:
                # The last update of these steps, which no loss has seen yet.
                bias = state.model.weights[-1]
                bias.assign(bias / 0)
            return values

        return replaced

    monkeypatch.setattr(train, "make_train_loop", make)
    with pytest.raises(ValueError, match="diverged at step 6: head/bias not"):
        tiny_run.run(config, tmp_path)
    assert tf.train.latest_checkpoint(tmp_path).endswith("-4")
    dump = json.loads((tmp_path / "divergence.json").read_text())
    assert dump["out_of_bounds"] == ["head/bias"]
    assert [step["step"] for step in dump["images"]] == [5, 6]
