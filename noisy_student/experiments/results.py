"""The results as a page of tables, as JSON, and as a chart."""

import os

from absl import logging

from data_prep import charts, files
from noisy_student import text_table
from noisy_student.experiments import arms, findings, stages
from noisy_student.experiments.arm import HIGHER

CHART = "findings"
_MODULE = "noisy_student.experiments"
_EVALUATED = ", and the same with `--evaluate_test` evaluated"
_HEAD = """\
# Results of the small-scale reproduction

What `{command}` trained{evaluated}, as the results of single runs say it.

Accuracy is that on {split_text}, in %. Seeds choose the labeled images and all
random draws; differences are between arms of the same seed, in points, and
intervals are 95 % intervals of Student's t. A finding is *reproduced* if the
whole interval of its difference lies on the side of zero that the paper says,
*not reproduced* if all of it lies on the other side, *inconclusive* if zero is
inside, and *not run* with fewer than two seeds that have figures of both arms.
Intervals are not widened for their number. A finding marked *late* was declared
when the figures of other arms were known.
"""
_SPLIT_TEXT = {
    stages.DEV: "`dev`, training images that the recipes were chosen on",
    stages.TEST: "the test images, evaluated once, with recipes chosen before",
}


def choose_split(results):
    """Returns "test" if any result has figures of it, else "dev"."""
    has_test = any(
        stages.TEST in result["evaluations"]
        for by_seed in results.values()
        for result in by_seed.values()
    )
    return stages.TEST if has_test else stages.DEV


def summary(results, split):
    """Returns what the page says as plain JSON values.

    Args:
        results: As of `runner.read_results`.
        split: "dev" or "test".
    """
    return {
        "split": split,
        "arms": [
            _arm_summary(arm, results, split) for arm in arms.ARMS.values()
        ],
        "findings": [
            {
                "statement": judgement.finding.statement,
                "source": judgement.finding.source,
                "arm": judgement.arm,
                "against": judgement.finding.against,
                "expected": judgement.finding.expected,
                "is_late": judgement.finding.is_late,
                "seeds": list(judgement.seeds),
                "differences": list(judgement.differences),
                "interval": judgement.interval
                and {
                    "mean": judgement.interval.mean,
                    "low": judgement.interval.low,
                    "high": judgement.interval.high,
                },
                "verdict": judgement.verdict,
            }
            for judgement in findings.judge(results, split)
        ],
    }


def _arm_summary(arm, results, split):
    by_seed = findings.accuracies(results, arm.name, split)
    runs = list(results.get(arm.name, {}).values())
    last = runs[-1] if runs else None
    return {
        "name": arm.name,
        "about": arm.about,
        "accuracies": {str(seed): value for seed, value in by_seed.items()},
        "mean": sum(by_seed.values()) / len(by_seed) if by_seed else None,
        "train_steps": last and last["train_steps"],
        "images": last and last["train_steps"] * last["images_per_step"],
        "train_seconds": [run["train_seconds"] for run in runs],
    }


def page(content):
    """Returns the page as Markdown.

    Args:
        content: What `summary` returns.
    """
    trained = [arm["name"] for arm in content["arms"] if arm["accuracies"]]
    is_tested = content["split"] == stages.TEST
    parts = [
        _HEAD.format(
            command=(
                f"python -m {_MODULE} --data_dir=DIR --work_dir=DIR "
                f"--arms={','.join(trained)}"
            ),
            evaluated=_EVALUATED if is_tested else "",
            split_text=_SPLIT_TEXT[content["split"]],
        ),
        "\n## Findings\n\n",
        text_table.markdown(
            (
                "Finding",
                "Source",
                "Compared",
                "Seeds",
                "Difference, points",
                "95 % interval",
                "Verdict",
            ),
            map(_finding_row, content["findings"]),
        ),
        "\n## Arms\n\n",
        text_table.markdown(
            ("Arm", "What it is", "By seed, %", "Mean, %", "Steps", "Images"),
            map(_arm_row, content["arms"]),
        ),
    ]
    return "".join(parts)


def _finding_row(finding):
    interval = finding["interval"]
    return (
        finding["statement"] + (" *Late.*" if finding["is_late"] else ""),
        finding["source"],
        f"`{finding['arm']}` - `{finding['against']}`",
        str(len(finding["seeds"])),
        f"{interval['mean']:+.2f}" if interval else "-",
        f"{interval['low']:+.2f} to {interval['high']:+.2f}"
        if interval
        else "-",
        f"**{finding['verdict']}**",
    )


def _arm_row(arm):
    values = arm["accuracies"].values()
    without = "-" if arm["train_steps"] is None else "not evaluated"
    return (
        f"`{arm['name']}`",
        arm["about"],
        ", ".join(f"{value:.2f}" for value in values) or without,
        "-" if arm["mean"] is None else f"{arm['mean']:.2f}",
        "-" if arm["train_steps"] is None else f"{arm['train_steps']:,}",
        "-" if arm["images"] is None else f"{arm['images']:,}",
    )


def write(content, path):
    """Writes the page, beside it its figures as JSON, and the chart.

    Args:
        content: What `summary` returns.
        path: Of the page, which ends in `.md`; the JSON is called alike. The
            chart goes to `images/` beside it.
    """
    files.write_bytes(path, page(content).encode())
    files.write_json(os.path.splitext(path)[0] + ".json", content)
    judged = [f for f in content["findings"] if f["interval"]]
    if judged:
        folder = os.path.join(os.path.dirname(path), "images")
        charts.ChartFolder(folder).draw(
            {
                CHART: (
                    "Differences of arms.",
                    lambda *args: _draw(judged, *args),
                )
            }
        )
    logging.info("Wrote %s.", path)


def _draw(judged, plots, theme):
    return plots.differences(
        [
            plots.Difference(
                f"{finding['arm']} - {finding['against']}",
                tuple(finding["differences"]),
                finding["interval"]["mean"],
                finding["interval"]["low"],
                finding["interval"]["high"],
                finding["expected"] == HIGHER,
            )
            for finding in judged
        ],
        x_label="difference in accuracy, points",
        theme=theme,
    )
