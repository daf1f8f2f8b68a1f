"""Tests of the page of results."""

import json
import pathlib

from noisy_student.experiments import arms, results, runner
from tests.noisy_student.experiments import test_findings

FOUND = test_findings.results(
    teacher=[0.5, 0.6, 0.4], noisy_student=[0.53, 0.631, 0.429]
)
ROOT = pathlib.Path(__file__).parents[3]


def row(page, start):
    """Returns the cells of the only row that begins so."""
    (line,) = [x for x in page.splitlines() if x.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_has_a_row_for_every_finding_and_arm():
    page = results.page(results.summary(FOUND, "dev"))
    command = (
        "noisy_student.experiments --data_dir=DIR --work_dir=DIR "
        "--arms=teacher,noisy_student"
    )
    assert f"What `python -m {command}` trained, as" in page
    assert "`dev`" in page and "test images" not in page
    assert row(page, "A noisy student beats") == [
        "A noisy student beats its supervised teacher.",
        "Tables 2 and 6",
        "`noisy_student` - `teacher`",
        "3",
        "+3.00",
        "+2.75 to +3.25",
        "**reproduced**",
    ]
    assert row(page, "A second round")[-4:] == ["0", "-", "-", "**not run**"]
    assert row(page, "`teacher`")[2:] == [
        "50.00, 60.00, 40.00",
        "50.00",
        "10",
        "2,000",
    ]
    late = row(page, "With 2.4 times the steps")[0]
    assert late.endswith("beats its teacher. *Late.*")
    for name in arms.ARMS:
        assert len(row(page, f"`{name}`")) == 6


def test_the_published_page_and_readme_are_of_the_published_results():
    docs = ROOT / "docs"
    found = runner.read_results(str(docs / "results"))
    content = results.summary(found, "test")
    assert (docs / "results.md").read_text() == results.page(content)
    assert json.loads((docs / "results.json").read_text()) == content
    means = {arm["name"]: arm["mean"] for arm in content["arms"]}
    readme = " ".join((ROOT / "README.md").read_text().split())
    for name in ("teacher", "noisy_student", "longer_baseline"):
        assert f"{means[name]:.1f} %" in readme
    gain = means["noisy_student"] - means["teacher"]
    assert f"**{gain:.1f} points** (95 % interval" in readme


def test_figures_of_test_images_are_shown_where_there_are_any():
    assert results.choose_split(FOUND) == "dev"
    tested = test_findings.results("test", teacher=[0.5])
    assert results.choose_split(tested) == "test"
    page = results.page(results.summary(tested, "test"))
    assert "the test images, evaluated once" in page
    assert "--arms=teacher` trained, and the same with `--eval" in page


def test_what_is_trained_and_not_yet_evaluated_says_so():
    found = {
        **test_findings.results("test", teacher=[0.5]),
        **test_findings.results(noisy_student=[0.6]),
    }
    page = results.page(results.summary(found, "test"))
    assert row(page, "`noisy_student`")[2] == "not evaluated"
    assert row(page, "`ratio_7`")[2] == "-"


def test_page_json_and_chart_are_written(tmp_path):
    content = results.summary(FOUND, "dev")
    results.write(content, str(tmp_path / "results.md"))
    assert json.loads((tmp_path / "results.json").read_text()) == content
    assert (tmp_path / "results.md").read_text() == results.page(content)
    chart = tmp_path / "images" / "findings.png"
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_compare_gives_no_chart(tmp_path):
    content = results.summary(test_findings.results(teacher=[0.5]), "dev")
    results.write(content, str(tmp_path / "results.md"))
    assert not (tmp_path / "images").exists()
