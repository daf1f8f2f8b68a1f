"""Tests of `noisy_student.report_charts`."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from data_prep import plots
from noisy_student import label_summary, report_charts, run_dir
from tests.noisy_student import report_run

LABELS = label_summary.LabelSummary(
    np.array([70, 10]), np.array([8, 0]), [], []
)
EXAMPLES = (
    label_summary.Example(0.9876, "shard", 0, "first", 1, 2),
    label_summary.Example(0.5, "shard", 7, "second", 0, 0),
)
IMAGES = {
    ("shard", 0): Image.new("RGB", (4, 4), "black"),
    ("shard", 7): Image.new("RGB", (4, 4), "white"),
}


def draw_all(directory, work_dir, report):
    """Returns all charts: what is shown in the page, and what is not."""
    charts = report_charts.Charts(str(directory))
    charts.contact_sheet("most", EXAMPLES, IMAGES, report_run.NAMES)
    return [
        *charts.learning_curves(work_dir, report),
        *charts.pseudo_labels(report, LABELS, report_run.NAMES),
    ]


def test_charts_are_kept_as_files_in_both_themes(work, tmp_path):
    directory = tmp_path / "figures"
    shown = draw_all(directory, *work)
    names = ("loss", "accuracy", "confidence", "classes")
    assert len(shown) == len(names)
    for chart, name in zip(shown, names):
        assert (directory / f"{name}.png").read_bytes() == chart.light
        assert (directory / f"{name}_dark.png").read_bytes() == chart.dark
        assert chart.light != chart.dark
    assert {path.name for path in directory.iterdir()} == {
        f"{name}{suffix}.png"
        for name in (*names, "most_confident")
        for suffix in ("", "_dark")
    }
    for path in directory.iterdir():
        Image.open(io.BytesIO(path.read_bytes())).load()


def test_without_matplotlib_nothing_is_drawn(
    work, without_matplotlib, tmp_path
):
    assert draw_all(tmp_path / "figures", *work) == []
    assert not (tmp_path / "figures").exists()


def test_curves_show_every_round(work, drawn, tmp_path):
    draw_all(tmp_path, *work)
    (loss,), loss_settings = drawn["curves"][0]
    (accuracy,), accuracy_settings = drawn["curves"][1]
    assert loss_settings == {"y_label": "loss", "percent": False}
    assert accuracy_settings == {"y_label": "accuracy", "percent": True}
    steps, values = (100, 200), (0.01, 0.005)
    assert loss == [
        plots.Curve("teacher", 0, "labeled", steps, values),
        plots.Curve("student 1", 1, "labeled", steps, values),
        plots.Curve("student 1", 1, "unlabeled", steps, values),
    ]
    assert accuracy == [
        *loss,
        plots.Curve("teacher", 0, "test", (200,), (0.9,)),
        plots.Curve("student 1", 1, "test", (200,), (0.925,)),
    ]


def test_evaluations_during_training_become_a_curve(work, drawn, tmp_path):
    work_dir, report = work
    log = run_dir.MetricsLog(
        run_dir.round_dir(work_dir, 0, "model"), start_step=200
    )
    log.write(150, {"eval/top_1": 0.8})
    draw_all(tmp_path, work_dir, report)
    (accuracy,), _ = drawn["curves"][1]
    expected = plots.Curve("teacher", 0, "test", (150, 200), (0.8, 0.9))
    assert expected in accuracy


def test_a_given_teacher_has_no_curves(work, drawn, tmp_path):
    work_dir, report = work
    model_dir = pathlib.Path(run_dir.round_dir(work_dir, 0, "model"))
    (model_dir / "metrics.jsonl").unlink()
    del report["rounds"][0]["train_steps"]
    draw_all(tmp_path, work_dir, report)
    assert len(drawn["curves"]) == 2
    for (curves,), _ in drawn["curves"]:
        assert {curve.name for curve in curves} == {"student 1"}
        assert {curve.series for curve in curves} == {1}


def test_labels_are_shown_by_confidence_and_by_class(work, drawn, tmp_path):
    draw_all(tmp_path, *work)
    [((counts,), settings)] = drawn["confidence_histogram"]
    assert counts is LABELS.counts
    assert settings["wrong_counts"] is LABELS.wrong_counts
    assert settings["min_threshold"] == 0.5
    [(classes, _)] = drawn["class_counts"]
    counts = {"kept": [30, 30, 0], "after balancing": [45, 45, 0]}
    assert classes == (counts, report_run.NAMES)


@pytest.mark.parametrize("truth", [None, "truth.json"])
def test_wrong_labels_are_shown_where_the_truth_is_known(
    drawn, tmp_path, truth
):
    charts = report_charts.Charts(str(tmp_path))
    confidence, _ = charts.pseudo_labels(
        report_run.changed(truth=truth), LABELS, report_run.NAMES
    )
    assert ("wrong" in confidence.about) == (truth is not None)
    [(_, settings)] = drawn["confidence_histogram"]
    assert (settings["wrong_counts"] is None) == (truth is None)


def test_contact_sheets_pair_images_with_captions(work, drawn, tmp_path):
    draw_all(tmp_path, *work)
    [((images, captions), settings)] = drawn["contact_sheet"]
    assert [image.mean() for image in images] == [0, 255]
    assert captions == ["bee\n98.8 %\nis cat & dog", "<b>ant</b>\n50.0 %"]
    assert settings == {"wrong": [True, False]}
