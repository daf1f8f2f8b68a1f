"""Tests of `noisy_student.report_text`."""

import numpy as np
import pytest

from noisy_student import label_summary, report_text
from tests.noisy_student import report_run

LABELS = label_summary.LabelSummary(
    np.array([70, 10]), np.array([8, 0]), [], []
)


@pytest.mark.parametrize(
    "top_1, expected",
    [
        (0.925, "2.50 points more than the first teacher (90.00 %)."),
        (0.9, "exactly as many as the first teacher (90.00 %)."),
        (0.875, "2.50 points fewer than the first teacher (90.00 %)."),
    ],
)
def test_headline_is_honest_about_what_was_gained(top_1, expected):
    assert report_text.headline(report_run.changed(top_1=top_1)) == (
        f"Student 1 classifies {100 * top_1:.2f} % of the test images "
        f"correctly, {expected}"
    )


def test_a_tuned_network_has_the_last_row_and_the_headline():
    report = report_run.changed()
    report["fixres"] = {
        "round": 1,
        "role": "fixres",
        "test_top_1": 0.93,
        "num_images": 400,
        "fixres": {"trained_size": 32, "tuned_size": 48},
    }
    *_, student, tuned = report_text.table(report)
    assert student[0] == "student 1"
    assert tuned == ["student 1, FixRes at 48", "93.00", "+3.00", "-", "-"]
    assert report_text.headline(report) == (
        "Student 1, FixRes at 48 classifies 93.00 % of the test images "
        "correctly, 3.00 points more than the first teacher (90.00 %)."
    )


def test_precision_follows_from_the_number_of_images():
    # sqrt(0.925 * 0.075 / 400) = 0.0132
    assert report_text.precision(report_run.REPORT) == (
        "Measured on 400 images: one image is 0.25 points, and the standard "
        "error of an accuracy about 1.3 points."
    )


def test_labels_are_counted_and_an_empty_class_is_named():
    report = report_run.changed(truth="truth.json")
    assert report_text.pseudo_labels(report, LABELS, report_run.NAMES) == (
        "Round 1: teacher labeled 80 images; 60 were kept and 90 records "
        "written, copies included. 8 of the 80 labels are wrong. Nothing was "
        "kept of class cat & dog."
    )


def test_without_the_truth_no_label_is_called_wrong():
    text = report_text.pseudo_labels(
        report_run.REPORT, LABELS, report_run.NAMES
    )
    assert "wrong" not in text


@pytest.mark.parametrize(
    "kept, expected",
    [
        ([5] * 3, "copies included."),
        ([0, 5, 0], "Nothing was kept of 2 classes: 0, 2."),
        (
            [0] * 12,
            "kept of 12 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ....",
        ),
    ],
)
def test_empty_classes_are_counted_and_the_first_named(kept, expected):
    report = report_run.changed()
    report["rounds"][-1]["pseudo_labels"]["kept_per_class"] = kept
    names = tuple(map(str, range(len(kept))))
    text = report_text.pseudo_labels(report, LABELS, names)
    assert text.endswith(expected)


@pytest.mark.parametrize(
    "truth, expected",
    [
        (None, ["bee", "98.8 %"]),
        (1, ["bee", "98.8 %"]),
        (2, ["bee", "98.8 %", "is cat & dog"]),
    ],
)
def test_captions_name_the_truth_of_wrong_labels_only(truth, expected):
    example = label_summary.Example(0.9876, "shard", 0, "key", 1, truth)
    assert report_text.caption(example, report_run.NAMES) == expected
