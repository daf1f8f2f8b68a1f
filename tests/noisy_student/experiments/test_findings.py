"""Tests of the rule that marks findings."""

import pytest

from noisy_student.experiments import findings, student_t
from noisy_student.experiments.arm import HIGHER, LOWER


def result(name, seed, top_1, split="dev"):
    return {
        "arm": name,
        "seed": seed,
        "evaluations": {split: {"top_1": top_1, "loss": 1.0, "num_images": 9}},
        "train_steps": 10,
        "images_per_step": 200,
        "train_seconds": 5.0,
    }


def results(split="dev", **accuracies):
    """Returns results: name=[top_1 of seed 0, of seed 1, ...]."""
    return {
        name: {s: result(name, s, v, split) for s, v in enumerate(values)}
        for name, values in accuracies.items()
    }


@pytest.mark.parametrize(
    ("low", "high", "expected", "verdict"),
    [
        (0.1, 2.0, HIGHER, "reproduced"),
        (-2.0, -0.1, HIGHER, "not reproduced"),
        (-2.0, -0.1, LOWER, "reproduced"),
        (0.1, 2.0, LOWER, "not reproduced"),
        (-0.1, 2.0, HIGHER, "inconclusive"),
        (-2.0, 0.1, LOWER, "inconclusive"),
        (0.0, 0.0, HIGHER, "inconclusive"),
    ],
)
def test_the_rule_looks_at_the_side_of_the_whole_interval(
    low, high, expected, verdict
):
    interval = student_t.Interval((low + high) / 2, low, high, 3)
    assert findings.mark(interval, expected) == verdict


def test_differences_are_of_equal_seeds():
    found = results(teacher=[0.5, 0.6, 0.4], noisy_student=[0.52, 0.64])
    judgement = findings.judge(found, "dev")[0]
    assert judgement.arm == "noisy_student"
    assert judgement.seeds == (0, 1)
    assert judgement.differences == pytest.approx((2.0, 4.0))
    assert judgement.interval.mean == pytest.approx(3.0)
    # t of one degree times the standard error, 1.
    assert judgement.interval.low == pytest.approx(3.0 - 12.7062, abs=1e-3)
    assert judgement.verdict == "inconclusive"


def test_a_clear_gain_is_reproduced_and_others_were_not_run():
    found = results(teacher=[0.5, 0.6, 0.4], noisy_student=[0.53, 0.63, 0.43])
    verdicts = [j.verdict for j in findings.judge(found, "dev")]
    assert verdicts[0] == "reproduced"
    assert set(verdicts[1:]) == {"not run"}


def test_figures_of_the_other_split_do_not_count():
    found = results(teacher=[0.5, 0.6], noisy_student=[0.6, 0.7])
    assert findings.judge(found, "test")[0].verdict == "not run"
