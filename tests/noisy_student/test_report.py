"""Tests of `noisy_student.report`."""

import base64
import copy
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import noisy_student
from data_prep import digits, records, shard_writer
from noisy_student import plots, run_dir
from noisy_student import report as report_lib

NUM_CLASSES = 3
NUM_IMAGES = 80
NAMES = ("<b>ant</b>", "bee", "cat & dog")
ODD_KEY = '"><script>alert(1)</script>'
REPORT = {
    "eval_split": "test",
    "num_classes": NUM_CLASSES,
    "unlabeled": {
        "directory": None,
        "split": "extra",
        "num_images": NUM_IMAGES,
        "truth": None,
    },
    "rounds": [
        {
            "round": 0,
            "role": "teacher",
            "test_top_1": 0.9,
            "num_images": 400,
            "train_steps": 200,
            "seconds": 60.0,
        },
        {
            "round": 1,
            "role": "student",
            "test_top_1": 0.925,
            "num_images": 400,
            "train_steps": 200,
            "seconds": 120.0,
            "pseudo_labels": {
                "num_kept": 60,
                "num_written": 90,
                "coverage": 0.75,
                "accuracy": 0.9875,
                "min_threshold": 0.5,
                "kept_per_class": [30, 30, 0],
                "written_per_class": [45, 45, 0],
            },
        },
    ],
    "made_with": {"python": "3.11.0", "commit": None},
}


def changed(*, top_1=None, **unlabeled):
    """Returns a copy of REPORT with another student, or other images."""
    report = copy.deepcopy(REPORT)
    report["unlabeled"].update(unlabeled)
    if top_1 is not None:
        report["rounds"][-1]["test_top_1"] = top_1
    return report


def confidence(index):
    """Returns the teacher's confidence in image `index`, all different."""
    place = index * 37 % NUM_IMAGES
    # Records hold float32.
    return float(np.float32(0.5 + place / (2 * NUM_IMAGES)))


def label(index):
    return index % 2


def key(index):
    return ODD_KEY if index == 0 else f"image/{index}"


def write_images(directory, split, keys):
    """Writes unlabeled images; those with an odd index go to shard 1."""
    writer = shard_writer.ShardedWriter(
        directory, split, 2, kind="unlabeled", config={}
    )
    for number in writer.pending:
        with writer.open_shard(number) as shard:
            for index in range(number, len(keys), 2):
                image = digits.encode_scan(np.full((8, 8), index % 17))
                shard.write(records.unlabeled_example(image, keys[index]))
    writer.finish()


def write_labels(directory, images_dir, split, keys):
    """Writes predictions for what `write_images` wrote."""
    writer = shard_writer.ShardedWriter(
        directory,
        split,
        2,
        kind="prediction",
        config={"input_dir": str(images_dir)},
    )
    for number in writer.pending:
        with writer.open_shard(number) as shard:
            for index in range(number, len(keys), 2):
                rest = (1 - confidence(index)) / 2
                probs = np.full(NUM_CLASSES, rest)
                probs[label(index)] = confidence(index)
                shard.write(records.prediction_example(probs, keys[index]))
    writer.finish()


def write_metrics(directory, names):
    log = run_dir.MetricsLog(str(directory), start_step=0)
    for step in (100, 200):
        log.write(step, {f"train/{name}": 1 / step for name in names})


def write_config(work_dir, data_dir):
    data = {"label_data_dir": str(data_dir), "train_split": "train"}
    run_dir.claim(work_dir, {"rounds": [{"data": data}], "note": "</pre>"})
    writer = shard_writer.ShardedWriter(
        data_dir,
        "train",
        1,
        kind="labeled",
        config={},
        num_classes=NUM_CLASSES,
        class_names=NAMES,
    )
    with writer.open_shard(0) as shard:
        shard.write(records.labeled_example(b"", 1, "a"), 1)
    writer.finish()


@pytest.fixture
def work(tmp_path):
    """Returns (work_dir, report) of a small run, written as the loop does."""
    data_dir, work_dir = tmp_path / "data", tmp_path / "work"
    keys = [key(i) for i in range(NUM_IMAGES)]
    write_images(data_dir, "extra", keys)
    write_labels(work_dir / "round_1" / "labels", data_dir, "extra", keys)
    write_metrics(
        work_dir / "round_0" / "model", ("labeled_loss", "labeled_accuracy")
    )
    write_metrics(
        work_dir / "round_1" / "model",
        (
            "labeled_loss",
            "labeled_accuracy",
            "unlabeled_loss",
            "unlabeled_agreement",
        ),
    )
    # Every tenth label is wrong, the two of images 0 and 10 among them.
    truth = {key(i): label(i) + (i % 10 == 0) for i in range(NUM_IMAGES)}
    truth_path = tmp_path / "truth.json"
    truth_path.write_text(json.dumps(truth))
    report = changed(directory=str(data_dir), truth=str(truth_path))
    return str(work_dir), report


@pytest.fixture
def without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "noisy_student.plots", raising=False)
    monkeypatch.delattr(noisy_student, "plots", raising=False)


@pytest.fixture
def drawn(monkeypatch):
    """Replaces the slow charts; returns {function: arguments, light theme}."""
    calls = {}

    def replace(name):
        def draw(*args, theme, **kwargs):
            if theme == plots.LIGHT:
                calls.setdefault(name, []).append((args, kwargs))
            return f"{name} {theme.background}".encode()

        monkeypatch.setattr(plots, name, draw)

    for name in (
        "curves",
        "confidence_histogram",
        "class_counts",
        "contact_sheet",
    ):
        replace(name)
    return calls


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def tiles(page):
    """Returns [(label, percent, rest)] of all captions below images."""
    captions = re.findall(r"<figcaption><b>(.*?)</b><br>(.*?)</figc", page)
    return [(first, *rest.split("<br>")) for first, rest in captions]


def test_table_states_accuracy_gain_and_pseudo_labels_of_each_round():
    assert report_lib.format_table(REPORT).splitlines() == [
        "model      test accuracy %  gain, points  "
        "pseudo-label accuracy %  coverage %",
        "teacher              90.00             -  "
        "                      -           -",
        "student 1            92.50         +2.50  "
        "                  98.75       75.00",
    ]


def test_table_has_a_dash_where_the_truth_is_unknown_and_a_sign_for_losses():
    report = changed(top_1=0.8876)
    report["rounds"][1]["pseudo_labels"]["accuracy"] = None
    last = report_lib.format_table(report).splitlines()[-1]
    assert last.split() == ["student", "1", "88.76", "-1.24", "-", "75.00"]


def test_a_loss_too_small_to_print_has_no_sign_of_a_loss():
    last = report_lib.format_table(changed(top_1=0.89999)).splitlines()[-1]
    assert last.split()[2:4] == ["90.00", "+0.00"]


def test_table_names_the_split_that_was_evaluated():
    report = {
        "eval_split": "dev",
        "rounds": [{"round": 0, "dev_top_1": 0.5, "num_images": 8}],
    }
    head, teacher = report_lib.format_table(report).splitlines()
    assert "dev accuracy %" in head
    assert teacher.split() == ["teacher", "50.00", "-", "-", "-"]


def test_the_table_needs_neither_tensorflow_nor_matplotlib():
    program = (
        "import sys; from noisy_student import report; "
        f"report.format_table({REPORT!r}); "
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
    assert "Measured on 400 images: one image is 0.25 points" in page
    # sqrt(0.925 * 0.075 / 400) = 0.0132
    assert "standard error of an accuracy about 1.3 points" in page
    assert '<th scope="row">student 1</th><td>92.50</td><td>+2.50</td>' in page
    assert "student 0" not in page
    assert "teacher labeled 80 images; 60 were kept and 90 records" in page
    assert "8 of the 80 labels are wrong. Nothing was kept of class 2." in page
    assert "<dt>python</dt><dd>3.11.0</dd>" in page
    assert "<dt>training time</dt><dd>3.0 minutes</dd>" in page
    assert "commit" not in page
    assert "<script" not in page
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,22})', page)
    assert set(sources) == {"data:image/png;base64,"}


def test_page_shows_the_charts_that_are_also_kept_as_files(work, tmp_path):
    work_dir, report = work
    page = read(report_lib.write_html(work_dir, report))
    names = {path.name for path in (tmp_path / "work" / "figures").iterdir()}
    shown = ("accuracy", "classes", "confidence", "loss")
    sheets = ("least_confident", "most_confident")
    assert names == {
        f"{name}{suffix}.png"
        for name in shown + sheets
        for suffix in ("", "_dark")
    }
    for name in names:
        png = (tmp_path / "work" / "figures" / name).read_bytes()
        Image.open(io.BytesIO(png)).load()
        in_page = base64.b64encode(png).decode() in page
        assert in_page == name.startswith(shown)


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
    assert len(tiles(page)) == 64


def test_examples_are_the_most_and_the_least_confident(
    work, without_matplotlib
):
    work_dir, report = work
    page = read(report_lib.write_html(work_dir, report))
    order = sorted(range(NUM_IMAGES), key=confidence)
    expected = [*order[:-33:-1], *order[:32]]
    found = tiles(page)
    assert [tile[:2] for tile in found] == [
        (str(label(i)), f"{100 * confidence(i):.1f} %") for i in expected
    ]
    for tile, i in zip(found, expected):
        assert tile[2:] == ((f"is {label(i) + 1}",) if i % 10 == 0 else ())
    for half in (expected[:32], expected[32:]):
        num_wrong = sum(i % 10 == 0 for i in half)
        assert f">{num_wrong} of these 32 are wrong." in page
    alts = re.findall(r'alt="image/(\d+)"', page)
    assert alts == [str(i) for i in expected if i]


def test_examples_show_the_image_that_was_labeled(work, without_matplotlib):
    work_dir, report = work
    page = read(report_lib.write_html(work_dir, report))
    found = re.findall(r'base64,([^"]*)" alt="image/(\d+)"', page)
    assert len(found) > 60
    for data, index in found:
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (32, 32)
        # The scans hold 0 to 16; the JPEG is lossy.
        assert np.mean(image) == pytest.approx(
            int(index) % 17 * 255 / 16, abs=2
        )


def test_curves_show_every_round(work, drawn):
    work_dir, report = work
    report_lib.write_html(work_dir, report)
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


def test_evaluations_during_training_become_a_curve(work, drawn):
    work_dir, report = work
    log = run_dir.MetricsLog(
        run_dir.round_dir(work_dir, 0, "model"), start_step=200
    )
    log.write(150, {"eval/top_1": 0.8})
    report_lib.write_html(work_dir, report)
    (accuracy,), _ = drawn["curves"][1]
    expected = plots.Curve("teacher", 0, "test", (150, 200), (0.8, 0.9))
    assert expected in accuracy


def test_a_given_teacher_has_no_curves(work, drawn, tmp_path):
    work_dir, report = work
    (tmp_path / "work" / "round_0" / "model" / "metrics.jsonl").unlink()
    for name in ("train_steps", "seconds"):
        del report["rounds"][0][name]
    page = read(report_lib.write_html(work_dir, report))
    for (curves,), _ in drawn["curves"]:
        assert {curve.name for curve in curves} == {"student 1"}
        assert {curve.series for curve in curves} == {1}
    assert "<dt>training time</dt><dd>2.0 minutes</dd>" in page


def test_charts_show_all_labels_and_the_classes(work, drawn):
    work_dir, report = work
    report_lib.write_html(work_dir, report)
    [((counts,), settings)] = drawn["confidence_histogram"]
    bins = [int(confidence(i) * 20) for i in range(NUM_IMAGES)]
    wrong = bins[::10]
    assert counts.tolist() == [bins.count(i) for i in range(20)]
    assert settings["wrong_counts"].tolist() == [
        wrong.count(i) for i in range(20)
    ]
    assert settings["min_threshold"] == 0.5
    [(classes, _)] = drawn["class_counts"]
    assert classes == ([30, 30, 0], [45, 45, 0], ("0", "1", "2"))


def test_without_the_truth_nothing_is_called_wrong(work, drawn):
    work_dir, report = work
    report = changed(directory=report["unlabeled"]["directory"])
    page = read(report_lib.write_html(work_dir, report))
    assert "wrong" not in page[page.index("<body>") :]
    assert drawn["confidence_histogram"][0][1]["wrong_counts"] is None
    for _, settings in drawn["contact_sheet"]:
        assert settings["wrong"] == [False] * 32


@pytest.mark.parametrize(
    "top_1, expected",
    [
        (0.9, "exactly as many as the first teacher (90.00 %)."),
        (0.875, "2.50 points fewer than the first teacher (90.00 %)."),
    ],
)
def test_headline_is_honest_where_nothing_was_gained(
    work, without_matplotlib, top_1, expected
):
    work_dir, report = work
    report["rounds"][-1]["test_top_1"] = top_1
    page = read(report_lib.write_html(work_dir, report))
    assert f"{100 * top_1:.2f} % of the test images correctly, {expected}" in (
        page
    )
    if top_1 < 0.9:
        assert "<td>&minus;2.50</td>" in page


def test_names_keys_and_settings_cannot_become_html(work, tmp_path, drawn):
    work_dir, report = work
    write_config(work_dir, tmp_path / "labeled")
    page = read(report_lib.write_html(work_dir, report))
    assert "<b>&lt;b&gt;ant&lt;/b&gt;</b>" in page
    assert "<b>ant" not in page
    assert "Nothing was kept of class cat &amp; dog." in page
    assert "&quot;&gt;&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert page.count("</pre>") == 1
    assert "&lt;/pre&gt;" in page


def test_many_empty_classes_are_counted_and_the_first_named(
    work, without_matplotlib
):
    work_dir, report = work
    report["rounds"][-1]["pseudo_labels"]["kept_per_class"] = [0, 5, 0]
    page = read(report_lib.write_html(work_dir, report))
    assert "Nothing was kept of 2 classes: 0, 2." in page


def test_copies_of_a_relabeled_image_are_shown_once(
    work, without_matplotlib, tmp_path
):
    work_dir, report = work
    filtered = tmp_path / "work" / "filter"
    labels_dir = tmp_path / "work" / "round_1" / "labels"
    for path in labels_dir.iterdir():
        path.unlink()
    keys = ["twice", "twice", "other"]
    write_images(filtered, "train", keys)
    write_labels(labels_dir, filtered, "train", keys)
    report = changed(directory=report["unlabeled"]["directory"])
    page = read(report_lib.write_html(work_dir, report))
    assert "teacher labeled 3 images" in page
    assert re.findall(r'alt="(\w+)"', page) == [
        "other",
        "twice",
        "twice",
        "other",
    ]


def test_missing_labels_are_named(work, drawn):
    work_dir, report = work
    report["rounds"][-1]["round"] = 2
    with pytest.raises(FileNotFoundError, match="No finished labels.*round_2"):
        report_lib.write_html(work_dir, report)
