"""Tests of `noisy_student.report_page`."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from data_prep import charts
from noisy_student import label_summary, report_page
from tests.noisy_student import report_run

CHARTS = (
    charts.Chart("The first & best.", b"light 1", b"dark 1"),
    charts.Chart("The second.", b"light 2", b"dark 2"),
)


def example(index, truth):
    """Returns a label of image `index`, which is class 0."""
    key = report_run.key(index)
    return label_summary.Example(0.75, "shard", index, key, 0, truth)


def images(number):
    """Returns `number` images, each with a grey level of its own."""
    return {
        ("shard", i): Image.new("RGB", (4, 4), (9 * i,) * 3)
        for i in range(number)
    }


def data_url(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def test_the_page_holds_its_sections_in_order():
    page = report_page.page(["<p>first</p>", "<p>second</p>"])
    assert page.startswith("<!DOCTYPE html>")
    assert "<p>first</p>\n<p>second</p>\n</body>" in page


def test_result_has_headline_precision_and_table():
    section = report_page.result(report_run.REPORT)
    assert ">Student 1 classifies 92.50 % of the test images" in section
    assert ">Measured on 400 images: one image is 0.25 points" in section
    assert '<th scope="col">coverage %</th>' in section
    assert '<th scope="row">student 1</th><td>92.50</td><td>+2.50</td>' in (
        section
    )


def test_numbers_in_the_table_have_a_true_minus_sign():
    section = report_page.result(report_run.changed(top_1=0.875))
    assert "<td>&minus;2.50</td>" in section


def test_charts_follow_the_readers_theme():
    section = report_page.learning_curves(CHARTS)
    assert re.findall(r'srcset="(.*?)"><img src="(.*?)"', section) == [
        (data_url(chart.dark), data_url(chart.light)) for chart in CHARTS
    ]
    assert section.count("The first &amp; best.") == 2
    assert "matplotlib" not in section


@pytest.mark.parametrize(
    "section",
    [
        lambda: report_page.learning_curves([]),
        lambda: report_page.pseudo_labels(
            report_run.REPORT,
            label_summary.LabelSummary(np.ones(1), np.zeros(1), [], []),
            report_run.NAMES,
            [],
        ),
    ],
)
def test_sections_without_charts_say_what_to_install(section):
    section = section()
    assert "pip install 'noisy-student-training[plots]'" in section
    assert "<picture>" not in section


def test_pseudo_labels_have_text_and_charts():
    section = report_page.pseudo_labels(
        report_run.REPORT,
        label_summary.LabelSummary(np.full(2, 40), np.zeros(2), [], []),
        report_run.NAMES,
        CHARTS,
    )
    assert "teacher labeled 80 images; 60 were kept and 90 records" in section
    assert "Nothing was kept of class cat &amp; dog." in section
    assert section.count("<picture>") == 2


def test_examples_show_images_and_mark_wrong_labels():
    shown = [example(0, 0), example(2, 1), example(1, 2)]
    section = report_page.examples("most", shown, images(3), report_run.NAMES)
    assert "<h2>Most confident labels</h2>" in section
    assert ">2 of these 3 are wrong.<" in section
    assert re.findall(r"<figure(.*?)>", section) == [
        "",
        ' class="wrong"',
        ' class="wrong"',
    ]
    label = "<b>&lt;b&gt;ant&lt;/b&gt;</b><br>75.0 %"
    assert re.findall(r"<figcaption>(.*?)</figcaption>", section) == [
        label,
        f"{label}<br>is bee",
        f"{label}<br>is cat &amp; dog",
    ]
    found = re.findall(r'base64,([^"]*)" alt="([^"]*)"', section)
    odd_key = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"
    assert [alt for _, alt in found] == [odd_key, "image/2", "image/1"]
    for (data, _), level in zip(found, (0, 18, 9)):
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert np.all(np.asarray(image) == level)


@pytest.mark.parametrize(
    "truth, note", [(0, "None of these 1 are wrong."), (None, "")]
)
def test_examples_say_that_none_is_wrong_only_where_that_is_known(truth, note):
    section = report_page.examples(
        "least", [example(0, truth)], images(1), report_run.NAMES
    )
    assert f'<h2>Least confident labels</h2><p class="note">{note}</p>' in (
        section
    )


def test_origin_lists_what_is_known_and_all_settings():
    report = report_run.changed(directory="<data>")
    section = report_page.origin(report, {"note": "</pre>"})
    assert "<dd>80 in &lt;data&gt;</dd>" in section
    assert "<dt>python</dt><dd>3.11.0</dd>" in section
    assert "<dt>training time</dt><dd>3.0 minutes</dd>" in section
    assert "commit" not in section
    assert section.count("</pre>") == 1
    assert "&quot;note&quot;: &quot;&lt;/pre&gt;&quot;" in section


def test_a_given_teacher_took_no_time():
    report = report_run.changed()
    del report["rounds"][0]["seconds"]
    section = report_page.origin(report, {})
    assert "<dt>training time</dt><dd>2.0 minutes</dd>" in section
