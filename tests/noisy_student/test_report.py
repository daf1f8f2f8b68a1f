"""Tests of `noisy_student.report`."""

import base64
import re
import subprocess
import sys

import pytest

from noisy_student import report as report_lib
from tests.noisy_student import report_run


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_table_states_accuracy_gain_and_pseudo_labels_of_each_round():
    assert report_lib.format_table(report_run.REPORT).splitlines() == [
        "model      test accuracy %  gain, points  "
        "pseudo-label accuracy %  coverage %",
        "teacher              90.00             -  "
        "                      -           -",
        "student 1            92.50         +2.50  "
        "                  98.75       75.00",
    ]


def test_table_has_a_dash_where_the_truth_is_unknown_and_a_sign_for_losses():
    report = report_run.changed(top_1=0.8876)
    report["rounds"][1]["pseudo_labels"]["accuracy"] = None
    last = report_lib.format_table(report).splitlines()[-1]
    assert last.split() == ["student", "1", "88.76", "-1.24", "-", "75.00"]


def test_a_loss_too_small_to_print_has_no_sign_of_a_loss():
    report = report_run.changed(top_1=0.89999)
    last = report_lib.format_table(report).splitlines()[-1]
    assert last.split()[2:4] == ["90.00", "+0.00"]


def test_table_names_the_split_that_was_evaluated():
    report = {
        "eval_split": "dev",
        "rounds": [
            {
                "round": 0,
                "role": "teacher",
                "dev_top_1": 0.5,
                "num_images": 8,
            }
        ],
    }
    head, teacher = report_lib.format_table(report).splitlines()
    assert "dev accuracy %" in head
    assert teacher.split() == ["teacher", "50.00", "-", "-", "-"]


def test_the_table_needs_neither_tensorflow_nor_matplotlib():
    program = (
        "import sys; from noisy_student import report; "
        f"report.format_table({report_run.REPORT!r}); "
        "print({'tensorflow', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "set()"


def test_page_stands_alone_and_names_result_and_origin(work, drawn):
    work_dir, report = work
    path = report_lib.write_html(work_dir, report)
    assert path == f"{work_dir}/report.html"
    page = read(path)
    assert (
        "Student 1 classifies 92.50 % of the test images correctly, 2.50 "
        "points more than the first teacher (90.00 %)."
    ) in page
    assert "student 0" not in page
    assert "teacher labeled 80 images; 60 were kept and 90 records" in page
    assert "8 of the 80 labels are wrong. Nothing was kept of class 2." in page
    assert "<dt>python</dt><dd>3.11.0</dd>" in page
    assert "<script" not in page
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,22})', page)
    assert set(sources) == {"data:image/png;base64,"}


def test_page_shows_the_charts_that_are_also_kept_as_files(
    work, drawn, tmp_path
):
    work_dir, report = work
    page = read(report_lib.write_html(work_dir, report))
    figures = tmp_path / "work" / "figures"
    names = {path.name for path in figures.iterdir()}
    shown = ("accuracy", "classes", "confidence", "loss")
    sheets = ("least_confident", "most_confident")
    assert names == {
        f"{name}{suffix}.png"
        for name in shown + sheets
        for suffix in ("", "_dark")
    }
    for name in names:
        png = base64.b64encode((figures / name).read_bytes()).decode()
        assert (f'"data:image/png;base64,{png}"' in page) == (
            name.startswith(shown)
        )


def test_equal_inputs_give_equal_pages(work, drawn):
    work_dir, report = work
    page = read(report_lib.write_html(work_dir, report))
    assert page == read(report_lib.write_html(work_dir, report))


def test_page_without_matplotlib_has_images_and_says_what_to_install(
    work, without_matplotlib, tmp_path
):
    work_dir, report = work
    page = read(report_lib.write_html(work_dir, report))
    assert "pip install 'noisy-student-training[plots]'" in page
    assert "<picture>" not in page
    assert not (tmp_path / "work" / "figures").exists()
    assert page.count("<figcaption><b>") == 64


def test_page_shows_the_most_confident_labels_first(work, without_matplotlib):
    work_dir, report = work
    page = read(report_lib.write_html(work_dir, report))
    order = sorted(range(report_run.NUM_IMAGES), key=report_run.confidence)
    expected = [*order[:-33:-1], *order[:32]]
    alts = re.findall(r'alt="image/(\d+)"', page)
    assert alts == [str(i) for i in expected if i]
    for half in (expected[:32], expected[32:]):
        num_wrong = sum(i % 10 == 0 for i in half)
        assert f">{num_wrong} of these 32 are wrong." in page


def test_without_the_truth_nothing_is_called_wrong(work, drawn):
    work_dir, report = work
    report["unlabeled"]["truth"] = None
    page = read(report_lib.write_html(work_dir, report))
    assert "wrong" not in page[page.index("<body>") :]
    assert drawn["confidence_histogram"][0][1]["wrong_counts"] is None
    for _, settings in drawn["contact_sheet"]:
        assert settings["wrong"] == [False] * 32


def test_names_keys_and_settings_cannot_become_html(work, tmp_path, drawn):
    work_dir, report = work
    report_run.write_config(work_dir, tmp_path / "labeled")
    page = read(report_lib.write_html(work_dir, report))
    assert "<b>&lt;b&gt;ant&lt;/b&gt;</b>" in page
    assert "<b>ant" not in page
    assert "Nothing was kept of class cat &amp; dog." in page
    assert "&quot;&gt;&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert page.count("</pre>") == 1
    assert "&lt;/pre&gt;" in page


def test_missing_labels_are_named(work, drawn):
    work_dir, report = work
    report["rounds"][-1]["round"] = 2
    with pytest.raises(FileNotFoundError, match="No finished labels.*round_2"):
        report_lib.write_html(work_dir, report)
