import json

import pytest

from noisy_student import run_dir


def test_the_first_claim_writes_the_config_and_the_same_one_passes(tmp_path):
    directory = str(tmp_path / "run")
    run_dir.claim(directory, {"a": 1})
    run_dir.claim(directory, {"a": 1})
    assert json.loads((tmp_path / "run/config.json").read_text()) == {"a": 1}


def test_another_config_is_refused_with_the_difference(tmp_path):
    run_dir.claim(str(tmp_path), {"a": 1, "b": {"c": 2}})
    (tmp_path / "checkpoint").touch()
    with pytest.raises(ValueError, match=r"`b\.c`: 2 before, 3 now"):
        run_dir.claim(str(tmp_path), {"a": 1, "b": {"c": 3}})


def write_checkpoint(directory, step, config):
    """Writes what says that there is a checkpoint, and of which settings."""
    prefix = directory / f"model.ckpt-{step}"
    (directory / "checkpoint").touch()
    (directory / f"{prefix.name}.index").touch()
    companion = run_dir.companion_path(str(prefix))
    with open(companion, "w") as file:
        json.dump({"config": config}, file)


def test_without_its_config_a_run_is_known_by_its_last_checkpoint(tmp_path):
    write_checkpoint(tmp_path, 8, {"a": 1})
    write_checkpoint(tmp_path, 12, {"a": 2})
    # Not a checkpoint: the companion of one that was cut short.
    (tmp_path / "model.ckpt-16.json").write_text('{"config": {"a": 3}}')
    with pytest.raises(ValueError, match="`a`: 2 before, 3 now"):
        run_dir.claim(str(tmp_path), {"a": 3})
    assert not (tmp_path / "config.json").exists()
    run_dir.claim(str(tmp_path), {"a": 2})
    assert json.loads((tmp_path / "config.json").read_text()) == {"a": 2}


def test_a_checkpoint_of_other_settings_than_the_config_is_refused(tmp_path):
    run_dir.claim(str(tmp_path), {"a": 1})
    write_checkpoint(tmp_path, 8, {"a": 2})
    with pytest.raises(ValueError, match="`a`: 2 before, 1 now"):
        run_dir.claim(str(tmp_path), {"a": 1})


def test_a_run_whose_settings_are_not_known_is_refused(tmp_path):
    (tmp_path / "checkpoint").touch()
    with pytest.raises(ValueError, match="without its config.json"):
        run_dir.claim(str(tmp_path), {"a": 1})


@pytest.mark.parametrize(
    "name",
    [
        "async_checkpoints",
        "eval_batch_size",
        "iterations_per_loop",
        "keep_checkpoint_max",
        "max_damaged_fraction",
        "recompute_activations",
        "save_checkpoints_steps",
        "steps_per_eval",
    ],
)
def test_settings_that_change_no_step_may_change(tmp_path, name):
    run_dir.claim(str(tmp_path), {"a": 1, "b": {name: 2}})
    write_checkpoint(tmp_path, 8, {"a": 1, "b": {name: 2}})
    assert run_dir.claim(str(tmp_path), {"a": 1, "b": {name: 3}}) is None


def test_a_run_that_came_to_nothing_may_be_claimed_anew(tmp_path):
    run_dir.claim(str(tmp_path), {"a": 1})
    run_dir.claim(str(tmp_path), {"a": 2})
    assert json.loads((tmp_path / "config.json").read_text()) == {"a": 2}


def test_a_report_names_commit_and_versions(tmp_path):
    assert run_dir.read_report(str(tmp_path)) is None
    report = run_dir.add_versions({"top_1": 0.5})
    run_dir.write_report(str(tmp_path), report)
    read = run_dir.read_report(str(tmp_path))
    assert read["top_1"] == 0.5
    assert {"python", "tensorflow", "numpy", "commit"} <= set(read["made_with"])


def test_resuming_drops_lines_after_the_checkpoint_and_a_torn_line(tmp_path):
    directory = str(tmp_path)
    log = run_dir.MetricsLog(directory, start_step=0)
    for step in (10, 20, 30):
        log.write(step, {"train/loss": 1.0 / step})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "train/lo')
    log = run_dir.MetricsLog(directory, start_step=20)
    log.write(30, {"train/loss": 0.5})
    steps = [m["step"] for m in run_dir.read_metrics(directory)]
    assert steps == [10, 20, 30]
    assert run_dir.read_metrics(directory)[-1]["train/loss"] == 0.5


def test_metrics_reach_tensorboard(tmp_path):
    log = run_dir.MetricsLog(str(tmp_path), start_step=0)
    log.write(1, {"train/loss": 1.0})
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_rounds_have_directories_of_their_own():
    assert run_dir.round_dir("w", 2, "model") == "w/round_2/model"
    assert run_dir.pseudo_labeled_dir("w", 1) == (
        "w/round_1/pseudo_labeled/data"
    )


def test_a_config_of_another_program_is_not_a_runs(tmp_path):
    path = tmp_path / "config.json"
    for content in ('{"architectures": ["EfficientNet"]}', "[]"):
        path.write_text(content)
        assert run_dir.trained_model_config(str(tmp_path)) is None
        assert run_dir.trained_class_names(str(tmp_path)) is None
    path.write_text('{"model": {"foo": 1}}')
    with pytest.raises(ValueError, match="config.json' does not describe"):
        run_dir.trained_model_config(str(tmp_path))


def test_one_process_trains_in_a_directory_at_a_time(tmp_path):
    for _ in range(2):
        with run_dir.locked(str(tmp_path)):
            second = run_dir.locked(str(tmp_path))
            with pytest.raises(ValueError, match="another process is training"):
                second.__enter__()
