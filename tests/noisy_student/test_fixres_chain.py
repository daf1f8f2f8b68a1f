"""A chain that ends with FixRes, run to its end, killed and started again.

Networks are of two blocks, made of the layers of an EfficientNet.
"""

import json

import numpy as np
import pytest
from absl import flags

from noisy_student import (
    chains,
    checkpoints,
    hardware_config,
    models,
    moving_average,
    plan,
    rounds,
    run_dir,
    self_training,
    train_loop,
)
from noisy_student import report as report_lib
from tests.noisy_student import fixtures, networks

pytestmark = pytest.mark.slow

RECIPE = {
    "task_name": "custom",
    "num_label_classes": networks.NUM_CLASSES,
    "input_image_size": 16,
    "small_image_model": True,
    "width_coefficient": 0.1,
    "depth_coefficient": 0.1,
    "train_batch_size": 4,
    "eval_batch_size": 4,
    "train_steps": 6,
    "iterations_per_loop": 2,
    "save_checkpoints_steps": 2,
    "warmup_epochs": 0.0,
    "moving_average_decay": 0.9,
    "base_learning_rate": 1.0,
}
STUDENT = {**RECIPE, "unlabel_ratio": 1.0, "teacher_softmax_temp": 1.0}
TUNED = {**RECIPE, "input_image_size": 24, "fix_layer_num": 1}


class Killed(BaseException):
    """Takes the place of a `kill -9`: nothing catches it."""


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path, without_matplotlib):
    """Gives every test small networks, and a chain of the name digits."""
    monkeypatch.setattr(
        models,
        "build",
        lambda config: networks.two_blocks(
            survival_prob=0.5, dropout_rate=0.2, image_size=config.image_size
        ),
    )
    paths = []
    for name, recipe in (
        ("teacher", RECIPE),
        ("student", STUDENT),
        ("tuned", TUNED),
    ):
        paths.append(str(tmp_path / f"{name}.json"))
        (tmp_path / f"{name}.json").write_text(json.dumps(recipe))
    teacher, student, tuned = paths
    chain = chains.Chain(teacher, (student,), fixres=tuned)
    monkeypatch.setitem(chains.CHAINS, "digits", chain)


def parsed(tmp_path):
    """Returns the configuration of the chain in `tmp_path`, with its data."""
    data_dir = tmp_path / "data"
    if not data_dir.exists():
        fixtures.write_labeled(data_dir, "train", 10)
        fixtures.write_labeled(data_dir, "validation", 7)
        fixtures.write_unlabeled(data_dir, "unlabeled", 6)
    flag_values = flags.FlagValues()
    self_training.define_flags(flag_values)
    flag_values(
        [
            "self_training",
            "--chain=digits",
            f"--work_dir={tmp_path / 'work'}",
            f"--label_data_dir={data_dir}",
            f"--unlabel_data_dir={data_dir}",
            "--file_prefix=unlabeled",
            "--num_image=3",
            "--min_threshold=0",
        ]
    )
    return self_training.config_from_flags(flag_values)


def run(config):
    return self_training.run(config, hardware_config.HardwareConfig())


def weights(directory):
    """Returns {name: array} of the averages in a run directory."""
    model = run_dir.trained_model_config(str(directory))
    network = models.load(model, str(directory))
    return {
        name: weight.numpy()
        for name, weight in moving_average.named_weights(network).items()
    }


def test_a_chain_ends_with_its_last_student_tuned_and_is_done_once(
    tmp_path, monkeypatch
):
    config = parsed(tmp_path)
    work = tmp_path / "work"
    corpus = plan.Corpus(6, 100, "unlabeled")
    *_, last = plan.make(config, corpus)
    # 10 images are 2.5 steps, 1.5 epochs 3: nothing is there, but counted.
    assert [(s.name, s.steps, s.is_done) for s in last.stages] == [
        ("tune", 3, False)
    ]

    # Killed in the phase, when its first checkpoint is written.
    save = checkpoints.CheckpointManager.save

    def save_or_die(manager, step, companion):
        save(manager, step, companion)
        if companion["config"]["model"]["image_size"] == 24:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.CheckpointManager, "save", save_or_die)
        with pytest.raises(Killed):
            run(config)
    assert run_dir.read_report(str(work)) is None
    assert (work / "fixres" / "checkpoint").exists()

    # Only the phase is trained, from where it was.
    trained = []
    loop = train_loop.run

    def run_loop(settings, strategy, directory, **kwargs):
        trained.append(directory)
        return loop(settings, strategy, directory, **kwargs)

    monkeypatch.setattr(train_loop, "run", run_loop)
    report = run(config)
    assert trained == [str(work / "fixres")]
    steps = [line["step"] for line in run_dir.read_metrics(work / "fixres")]
    assert steps == [0, 2, 3]
    assert [row["role"] for row in report["rounds"]] == ["teacher", "student"]
    check_figures(report["fixres"], work)
    *_, row = report_lib.format_table(report).splitlines()
    accuracy = f"{100 * report['fixres']['validation_top_1']:.2f}"
    assert row.startswith("student 1, FixRes at 24")
    assert accuracy in row.split()
    assert "FixRes at 24" in (work / "report.html").read_text()

    # Finished, but for the last file; then finished.
    (work / "report.json").unlink()
    assert run(config) == {**report, "made_with": run_dir.versions()}
    monkeypatch.setattr(rounds, "run_all", None)
    assert run(config) == {**report, "made_with": run_dir.versions()}
    assert trained == [str(work / "fixres")]
    *_, last = plan.make(config, corpus)
    assert last.stages[0].is_done


def check_figures(figures, work):
    """Checks a phase's row, and what moved from the student to it."""
    assert (figures["round"], figures["role"]) == (1, "fixres")
    assert figures["train_steps"] == 3
    assert figures["fixres"] == {
        "variant": "full",
        "trained_size": 16,
        "tuned_size": 24,
        "use_ema": True,
    }
    # Both at the larger resolution.
    lines = run_dir.read_metrics(str(work / "fixres"))
    for name in ("top_1", "loss"):
        assert figures[f"eval_before/{name}"] == lines[0][f"eval/{name}"]
        assert figures[f"validation_{name}"] == lines[-1][f"eval/{name}"]
    assert figures["num_images"] == 7
    before = weights(work / "round_1" / "model")
    after = weights(work / "fixres")
    assert {n for n in before if not np.array_equal(before[n], after[n])} == {
        n for n in before if n.startswith(("blocks_1/", "head/"))
    }


def test_a_phase_that_cannot_run_is_refused_before_the_first_round(tmp_path):
    recipe = {**TUNED, "fix_layer_num": 99}
    (tmp_path / "tuned.json").write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match="--fix_layer_num=99: efficientnet-b0"):
        run(parsed(tmp_path))
    assert not (tmp_path / "work" / "round_0").exists()


def test_a_schedule_shorter_than_the_phase_is_refused_before(tmp_path):
    (tmp_path / "tuned.json").write_text(
        json.dumps({**TUNED, "train_steps": 2})
    )
    config = parsed(tmp_path)
    with pytest.raises(ValueError, match="--fixres_epochs=1.5 takes 3 steps"):
        run(config)
    assert not (tmp_path / "work" / "round_0").exists()
