"""Tests of evaluating a run while it is training."""

import pytest
from absl import flags

from noisy_student import checkpoints, evaluate, follow, run_dir
from noisy_student import flags as flags_lib

pytestmark = pytest.mark.slow


class Training:
    """Plays a training run: writes and deletes checkpoints when it is waited
    for.

    Args:
        directory: The run directory.
        script: What happens at each wait: a list of steps that are the
            checkpoints there are then, or "finish".
    """

    def __init__(self, directory, script):
        self._directory = directory
        self._script = list(script)

    def wait(self, _):
        """Takes the place of `time.sleep`."""
        if not self._script:
            return
        action = self._script.pop(0)
        if action == "finish":
            run_dir.write_report(str(self._directory), {})
            return
        for path in self._directory.glob("model.ckpt-*"):
            path.unlink()
        names = [f"model.ckpt-{step}" for step in action]
        for name in names:
            (self._directory / f"{name}.index").touch()
        lines = [f'all_model_checkpoint_paths: "{name}"' for name in names]
        state = [f'model_checkpoint_path: "{names[-1]}"', *lines]
        (self._directory / "checkpoint").write_text("\n".join(state))


@pytest.fixture
def followed(tmp_path, monkeypatch):
    """Returns a function that follows a script and returns what it saw."""
    clock = [0.0]
    loaded = []

    def load(model, prefix, **_):
        loaded.append(prefix)

    monkeypatch.setattr(checkpoints, "load_weights", load)
    monkeypatch.setattr(
        evaluate,
        "evaluate_source",
        lambda *_, **__: {"top_1": len(loaded) / 10, "num_images": 3},
    )
    monkeypatch.setattr(follow.time, "monotonic", lambda: clock[0])

    def start(script, timeout=100.0):
        training = Training(tmp_path, script)

        def sleep(seconds):
            clock[0] += seconds
            training.wait(seconds)

        monkeypatch.setattr(follow.time, "sleep", sleep)
        loaded.clear()
        follow.follow(run_config(tmp_path, timeout), None, None, Scope())
        return [int(prefix.rsplit("-", 1)[1]) for prefix in loaded]

    return start


class Scope:
    """A strategy that is looked at for its scope alone."""

    def scope(self):
        import contextlib

        return contextlib.nullcontext()


def run_config(model_dir, timeout):
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(
        [
            "main",
            "--mode=eval",
            "--follow",
            f"--follow_timeout={timeout}",
            f"--model_dir={model_dir}",
        ]
    )
    return flags_lib.config_from_flags(flag_values)


def lines(directory):
    return run_dir.read_metrics(str(directory), follow.METRICS)


def test_each_checkpoint_is_evaluated_once_until_the_run_is_finished(
    followed, tmp_path
):
    script = [[2], [2, 4], [4, 6, 8], "finish"]
    assert followed(script) == [2, 4, 6, 8]
    assert lines(tmp_path)[1] == {
        "step": 4,
        "eval/top_1": 0.2,
        "eval/num_images": 3,
    }
    assert list((tmp_path / "eval").glob("events.out.tfevents.*"))


def test_it_writes_nothing_of_the_trainings(followed, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 2}\n')
    followed([[2], "finish"])
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 2}\n'
    assert not list(tmp_path.glob("events.*"))


def test_started_again_it_leaves_out_what_is_evaluated(followed, tmp_path):
    with pytest.raises(TimeoutError, match="100 seconds.*--follow_timeout=100"):
        followed([[2], [2, 4]])
    with open(tmp_path / follow.METRICS, "a") as log:
        log.write('{"step": 6, "ev')
    assert followed([[4, 6], "finish"]) == [6]
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]
    assert followed([]) == []


def test_the_last_checkpoint_of_a_finished_run_is_evaluated(followed, tmp_path):
    Training(tmp_path, [[2, 4]]).wait(0)
    run_dir.write_report(str(tmp_path), {})
    assert followed([]) == [2, 4]


def test_a_checkpoint_that_is_deleted_under_it_is_left_out(
    followed, tmp_path, monkeypatch
):
    def load(model, prefix, **_):
        if prefix.endswith("-4"):
            Training(tmp_path, [[6]]).wait(0)
            raise ValueError("does not fit the model")

    monkeypatch.setattr(checkpoints, "load_weights", load)
    followed([[2, 4], "finish"])
    assert [line["step"] for line in lines(tmp_path)] == [2, 6]


def test_a_checkpoint_that_does_not_fit_ends_it(followed, monkeypatch):
    def load(model, prefix, **_):
        raise ValueError("does not fit the model")

    monkeypatch.setattr(checkpoints, "load_weights", load)
    with pytest.raises(ValueError, match="does not fit"):
        followed([[2]])


def test_a_released_checkpoint_is_none_of_a_run(tmp_path):
    (tmp_path / "model.ckpt.index").touch()
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"')
    with pytest.raises(TimeoutError, match="No checkpoint in"):
        follow.wait_for_checkpoint(str(tmp_path), 0)


def test_it_waits_for_the_first_checkpoint_of_a_run_that_is_not_there_yet(
    tmp_path, monkeypatch
):
    directory = tmp_path / "later"
    waits = []

    def sleep(_):
        waits.append(1)
        if len(waits) == 3:
            directory.mkdir()
            Training(directory, [[2]]).wait(0)

    monkeypatch.setattr(follow.time, "sleep", sleep)
    follow.wait_for_checkpoint(str(directory), 100)
    assert len(waits) == 3
    with pytest.raises(TimeoutError, match="No checkpoint in"):
        follow.wait_for_checkpoint(str(tmp_path), 0)
