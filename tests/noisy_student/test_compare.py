"""Tests of reading reports and of comparing them with what is published."""

import json
import re
import subprocess
import sys

import pytest
from absl import flags

from noisy_student import compare, config, measured, published, text_table
from tests.noisy_student import report_run, robustness_reports

L2_FIGURES = {
    "top_1": 0.75,
    "mean_corruption_error": 29.55,
    "relative_mean_corruption_error": -3.5,
    "unnormalised_error": 25.0,
    "num_images": 50000,
}


def write_c(folder, name="c", size=224, **changes):
    return robustness_reports.write(
        folder,
        name,
        "imagenet_c",
        **{"stored_size": [size, size], "figures": L2_FIGURES, **changes},
    )


def write_run(folder, report, name="report.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(report))
    return str(folder)


def model(name="efficientnet-b0", num_classes=1000, size=224, **changes):
    return config.to_dict(
        config.ModelConfig(name, num_classes, size, **changes)
    )


def evaluated(top_1=0.79, top_5=0.94, num_images=50000, **changes):
    """Returns what `--mode=eval` writes."""
    return {
        "validation/top_1": top_1,
        "validation/top_5": top_5,
        "validation/loss": 1.0,
        "validation/num_images": num_images,
        "checkpoint": "released",
        "model": model(**changes),
    }


def differences(comparison):
    return {
        name: comparison.difference(name)
        for name in comparison.report.figures
        if comparison.difference(name) is not None
    }


def compared(*paths, method=published.NOISY_STUDENT):
    return compare.compare(measured.read(paths), method=method)


def run(*arguments):
    """Runs the command in this process; returns nothing."""
    flag_values = flags.FlagValues()
    compare.define_flags(flag_values)
    flag_values.set_gnu_getopt(True)
    _, *paths = flag_values(["compare", *arguments])
    compare.main(flag_values, paths)


def test_figures_become_percent_and_differences_points(tmp_path):
    [comparison] = compared(write_c(tmp_path))
    assert comparison.report.figures == {
        "top_1": 75.0,
        "mean_corruption_error": 29.55,
        "relative_mean_corruption_error": -3.5,
        "unnormalised_error": 25.0,
    }
    assert comparison.row.name == "Noisy Student (L2)"
    assert differences(comparison) == {
        "top_1": pytest.approx(75.0 - 76.5),
        "mean_corruption_error": pytest.approx(29.55 - 30.0),
    }
    [comparison] = compared(write_c(tmp_path), method=published.SUPERVISED)
    assert differences(comparison) == {
        "top_1": pytest.approx(75.0 - 62.6),
        "mean_corruption_error": pytest.approx(29.55 - 47.5),
    }


def test_the_published_row_is_that_of_the_stored_size(tmp_path):
    small, large, other = compared(
        *(write_c(tmp_path, str(size), size) for size in (224, 299, 64))
    )
    name = "mean_corruption_error"
    assert small.published(name).percent == 30.0
    assert not small.published(name).confirmed
    assert large.published(name).percent == 28.3
    assert large.published(name).confirmed
    assert other.row is None


def test_points_of_the_curve_that_the_paper_tells_have_columns(tmp_path):
    path = robustness_reports.write(
        tmp_path,
        "adversarial",
        "adversarial",
        model_name="efficientnet-l2",
        image_size=800,
        stored_size=None,
        curve=robustness_reports.curve(
            ("fgsm", 2, 0.6), ("fgsm", 3.0, 0.5), ("pgd", 16.0, 0.05)
        ),
    )
    [comparison] = compared(path)
    assert comparison.report.figures == {"fgsm_2": 60.0, "pgd_16": 5.0}
    assert differences(comparison) == {"pgd_16": pytest.approx(0.6)}


def test_reports_of_runs_are_read_with_their_networks(tmp_path):
    trained = write_run(
        tmp_path / "trained",
        {
            "eval_before/top_1": 0.5,
            "eval/top_1": 0.789,
            "eval/num_images": 50000,
            "config": {"model": model()},
        },
    )
    seen = write_run(tmp_path / "seen", evaluated(), "eval.json")
    inner = write_run(tmp_path / "inner", {"test_top_1": 0.9, "num_images": 9})
    (tmp_path / "inner" / "config.json").write_text(
        json.dumps({"model": model(num_classes=10)})
    )
    first, second, third = compared(trained, seen, inner)
    assert first.report.figures == {"top_1": pytest.approx(78.9)}
    assert differences(first) == {"top_1": pytest.approx(0.1)}
    assert second.report.figures == {"top_1": 79.0, "top_5": 94.0}
    assert second.report.data == "ImageNet, validation"
    assert second.report.checkpoint == "released"
    assert third.report.data == "test"
    assert third.report.network == "efficientnet-b0 at 224"
    assert third.row is None


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 10},
        {"small_image": True},
        {"width_coefficient": 0.5},
        {"size": 288},
    ],
)
def test_another_task_or_network_is_not_compared(tmp_path, changes):
    path = write_run(tmp_path / "run", evaluated(**changes), "eval.json")
    [comparison] = compared(path)
    assert comparison.row is None
    [note] = compare.remarks([comparison])
    assert note.startswith(f"{path}: no") and "is" in note


def test_a_self_training_run_has_a_row_for_each_model(tmp_path):
    path = write_run(tmp_path / "work", report_run.REPORT)
    student, teacher = (
        {"model": model(num_classes=3, size=size)} for size in (64, 32)
    )
    (tmp_path / "work" / "config.json").write_text(
        json.dumps({"teacher": teacher, "rounds": [student]})
    )
    first, second = measured.read([path])
    assert [first.name, second.name] == [
        f"{path}: teacher",
        f"{path}: student 1",
    ]
    assert [first.network, second.network] == [
        "efficientnet-b0 at 32",
        "efficientnet-b0 at 64",
    ]
    assert [first.figures, second.figures] == [
        {"top_1": 90.0},
        {"top_1": 92.5},
    ]
    (tmp_path / "work" / "config.json").unlink()
    first, _ = compared(path)
    assert first.report.network == "unknown"
    assert "nothing tells its network" in compare.remarks([first])[0]


def test_the_table_has_published_columns_only_where_something_is(tmp_path):
    paths = [
        write_c(tmp_path, size=299),
        robustness_reports.write(
            tmp_path,
            "a",
            "imagenet_a",
            stored_size=None,
            figures={"top_1": 0.8371, "top_5": 0.9504, "top_1_1000_way": 0.7},
        ),
    ]
    rows, sources = compare.table(compared(*paths))
    assert rows[0] == [
        "report",
        "network",
        "images",
        "top-1 %",
        "published",
        "difference",
        "top-5 %",
        "published",
        "difference",
        "top-1 % of 1000",
        "mCE",
        "published",
        "difference",
        "relative mCE",
        "error %",
    ]
    assert rows[1][2:] == [
        "ImageNet-C, 299x299",
        *("75.00", "77.8? [1]", "-2.80", "-", "-", "-", "-"),
        *("29.55", "28.3 [1]", "+1.25", "-3.50", "25.00"),
    ]
    assert rows[2][2:] == [
        "ImageNet-A",
        *("83.71", "83.7 [2]", "+0.01", "95.04", "95.2? [2]", "-0.16"),
        "70.00",
        *("-", "-", "-", "-", "-"),
    ]
    assert [source.rpartition(", ")[2] for source in sources] == [
        "Table 4",
        "Table 3",
    ]


def test_a_difference_too_small_to_print_has_no_minus(tmp_path):
    path = write_c(
        tmp_path, size=299, figures={"mean_corruption_error": 28.2999}
    )
    rows, _ = compare.table(compared(path))
    assert rows[1][-1] == "+0.00"


def test_markdown_parses_back(tmp_path, capsys):
    path = write_c(tmp_path, "a|b", size=299)
    run(path, "--format=markdown")
    table, _, below = capsys.readouterr().out.partition("\n\n")
    lines = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.splitlines()
    ]
    rows, _ = compare.table(compared(path))
    assert lines[0] == rows[0]
    assert set(lines[1]) == {"---"}
    assert [cell.replace("\\|", "|") for cell in lines[2]] == rows[1]
    assert below == (
        f"- [1] {published.PAPER}, Table 4\n"
        "- ?: this published figure was not found in a second place.\n"
    )


def test_json_parses_back_with_every_number(tmp_path):
    output = tmp_path / "out" / "table.json"
    run(write_c(tmp_path), "--format=json", f"--output={output}")
    content = json.loads(output.read_text())
    [report] = content["reports"]
    assert report["kind"] == "imagenet_c"
    assert report["model_name"] == "efficientnet-l2_475"
    assert report["stored_size"] == [224, 224]
    assert report["figures"]["mean_corruption_error"] == {
        "measured": 29.55,
        "published": 30.0,
        "source": f"{published.PAPER}, Table 4",
        "confirmed": False,
        "difference": pytest.approx(-0.45),
    }
    assert report["figures"]["unnormalised_error"]["published"] is None
    assert report["figures"]["unnormalised_error"]["difference"] is None
    assert content["notes"] == [
        "?: this published figure was not found in a second place."
    ]


def test_the_page_has_signs_for_numbers_and_hyphens_for_names(tmp_path):
    page = compare.render(
        compared(write_c(tmp_path, "<i>")), output_format="html"
    )
    assert "<td>30.0? [1]</td><td>&minus;0.45</td>" in page
    assert "<td>efficientnet-l2_475 at 475</td>" in page
    assert "<td>&minus;3.50</td>" in page
    assert "<i>" not in page


def test_text_is_aligned(tmp_path, capsys):
    run(write_c(tmp_path), write_c(tmp_path, "longer"))
    head, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    ends = {line.index("ImageNet-C") for line in rows}
    assert ends == {head.index("images")}
    assert len({len(line) for line in (head, *rows)}) == 1


def test_what_the_table_does_not_tell_is_said(tmp_path):
    few = write_run(tmp_path / "few", evaluated(num_images=100), "eval.json")
    first = write_c(tmp_path, "first", checkpoint="x", size=299)
    second = write_c(tmp_path, "second", checkpoint="x", size=299)
    third = write_c(
        tmp_path,
        "third",
        checkpoint="x",
        figures={"mean_corruption_error": 1.0, "speed": 5.0},
    )
    b7 = robustness_reports.write(
        tmp_path,
        "b7",
        "imagenet_a",
        model_name="efficientnet-b7",
        image_size=600,
        stored_size=None,
        figures={"top_1": 0.67},
    )
    comparisons = compared(few, first, second, third, b7)
    assert compare.remarks(comparisons) == [
        "?: this published figure was not found in a second place.",
        f"{few}: measured on 100 images, published on 50,000.",
        f"{third}: no column for speed.",
        f"{b7}: nothing is published of efficientnet-b7 at 600 on ImageNet-A "
        "as noisy_student; there is with --published=reevaluated.",
        f"{first} and {second} are of the same checkpoint, network and "
        "images, and their figures are equal.",
    ]
    [found] = compared(b7, method=published.REEVALUATED)
    assert differences(found) == {"top_1": pytest.approx(-0.03)}


def test_reports_of_a_part_are_listed_beside_others(tmp_path):
    whole = write_c(tmp_path)
    for kind, part in (
        ("imagenet_c", {"corruptions": {"fog": {"corruption_error": 60.0}}}),
        ("imagenet_p", {"perturbations": {"tilt": {"flip_probability": 0.1}}}),
        ("adversarial", {"curve": robustness_reports.curve(("pgd", 1, 0.5))}),
    ):
        robustness_reports.write(tmp_path / "part", kind, kind, **part)
    part = str(tmp_path / "part")
    comparisons = compared(whole, part)
    names = [f"{part}/imagenet_{name}.json" for name in "cp"]
    names.append(f"{part}/adversarial.json")
    assert [c.report.name for c in comparisons] == [whole, *names]
    rows, _ = compare.table(comparisons)
    assert [row[3] for row in rows[2:]] == ["-"] * 3
    notes = compare.remarks(comparisons)
    for name, reason in zip(
        names,
        (
            "no mCE, which needs all of the fifteen corruptions",
            "no mFR, which needs all of the ten perturbations",
            "nothing that has a column",
        ),
    ):
        assert f"{name}: {reason}." in notes


def test_each_setting_that_is_not_as_published_is_said(tmp_path):
    cropped = write_c(
        tmp_path,
        "c",
        size=299,
        resize="crop",
        use_ema=False,
        advprop_preprocessing=True,
    )
    attack = {"pgd_steps": 1, "pgd_step_size": 0.5, "pgd_random_start": True}
    l2 = {
        "model_name": "efficientnet-l2",
        "image_size": 800,
        "stored_size": None,
        "resize": "crop",
    }
    attacked, moved_once = (
        robustness_reports.write(
            tmp_path,
            name,
            "adversarial",
            **l2,
            attack=attack,
            curve=robustness_reports.curve((name, 16, 0.5)),
        )
        for name in ("pgd", "fgsm")
    )
    usual = write_c(tmp_path, "usual", size=299, resize="whole", use_ema=True)
    mark, *notes = compare.remarks(
        compared(cropped, attacked, moved_once, usual)
    )
    assert mark.startswith("?")
    assert notes == [
        f"{path}: measured with --{flag}={found}, the published figures are "
        f"taken to be of --{flag}={value}."
        for path, flag, found, value in (
            (cropped, "resize", "crop", "whole"),
            (cropped, "use_ema", "false", "true"),
            (cropped, "advprop_preprocessing", "true", "false"),
            (attacked, "pgd_steps", "1", "10"),
            (attacked, "pgd_step_size", "0.5", "none"),
            (attacked, "pgd_random_start", "true", "false"),
        )
    ]


def test_other_figures_of_the_same_images_are_pointed_out(tmp_path):
    paths = [
        write_c(
            tmp_path,
            str(error),
            size=299,
            checkpoint="x",
            figures={"mean_corruption_error": error},
        )
        for error in (30.0, 31.0)
    ]
    [note] = compare.remarks(compared(*paths))
    assert note.endswith("their figures are not equal.")


def test_what_is_no_report_is_refused_by_name(tmp_path):
    def refused(text, error=ValueError):
        path = tmp_path / "bad.json"
        path.write_text(text)
        with pytest.raises(error) as raised:
            measured.read([str(path)])
        message = str(raised.value)
        assert "bad.json" in message
        return message.partition("bad.json")[2].lstrip("':").strip()

    with open(write_c(tmp_path), encoding="utf-8") as file:
        good = json.load(file)
    assert refused("{").startswith("is not valid JSON")
    assert refused("[]") == "no report, which is a JSON object."
    assert "must be one of evaluation" in refused('{"kind": "imagenet_x"}')
    assert refused('{"rounds": [5]}').startswith(
        "no figure that is known, but rounds."
    )
    assert refused('{"model": "b0", "eval/top_1": 0.5}').startswith(
        "its network is not one of this version:"
    )
    assert refused('{"steps": 5}').startswith(
        "no figure that is known, but steps. Known are top_1,"
    )
    for changes, message in (
        ({"figures": {"speed": 1}}, "no figure that is known, but speed."),
        ({"figures": {}}, "no figure that is known, but none."),
        (
            {"figures": {"top_1": 75}},
            "`top_1` must be in 0..1. Received: 75.",
        ),
        (
            {"figures": {"mean_flip_rate": "12"}},
            "`mean_flip_rate` must be a finite number. Received: '12'.",
        ),
        (
            {"stored_size": 224},
            "`stored_size` must be [height, width]. Received: 224.",
        ),
        ({"figures": [1]}, "`figures` must hold JSON objects. Received: [1]."),
        ({"curve": [5]}, "`curve` must hold JSON objects. Received: 5."),
        (
            {"curve": [{"attack": "pgd", "epsilon": None}]},
            "`curve: epsilon` must be a finite number. Received: None.",
        ),
        (
            {"corruptions": {"fog": {}}},
            "`fog: corruption_error` must be a finite number.",
        ),
        (
            {"model_name": None},
            "`model_name` is missing, so that its network is unknown.",
        ),
    ):
        assert refused(json.dumps({**good, **changes})).startswith(message)


def test_what_is_missing_or_named_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Name at least one file"):
        measured.read([])
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        measured.read([str(tmp_path / "nowhere")])
    with pytest.raises(
        FileNotFoundError,
        match="neither report.json nor eval.json nor the report of a bench",
    ):
        measured.read([str(tmp_path)])
    folder = write_run(tmp_path / "run", evaluated(), "eval.json")
    for second in (folder, f"{folder}/eval.json"):
        with pytest.raises(ValueError, match="are the same report"):
            measured.read([folder, second])


def test_a_table_of_text_is_flush_left_and_right():
    table = text_table.aligned([["a", "bb"], ["ccc", "d"]])
    assert table == "a    bb\nccc   d"
    table = text_table.aligned([["a", "bb"], ["ccc", "d"]], num_left=2)
    assert table == "a    bb\nccc  d"


def test_importing_it_needs_no_tensorflow():
    code = (
        "import sys; from noisy_student import compare; "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_wrong_command_is_answered_in_one_line():
    result = subprocess.run(
        [sys.executable, "-m", "noisy_student.compare", "--format=xml"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: flag --format=xml")
    assert result.stderr.count("\n") == 1
