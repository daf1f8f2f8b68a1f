"""What the results say about the findings of the paper.

The rule: of the seeds that both arms were trained with, the differences of
their accuracies have a mean and a 95 % interval. If all of the interval lies on
the side of zero that the paper says, the finding is reproduced; if all of it
lies on the other side, it is not; if zero is inside, it is inconclusive; with
fewer than two such seeds it was not run.
"""

import dataclasses
from typing import Optional

from noisy_student.experiments import arms, student_t
from noisy_student.experiments.arm import HIGHER, Finding

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive"
NOT_RUN = "not run"


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What came of one finding.

    Attributes:
        arm: Name of the arm that tests it.
        finding: `arm.Finding`.
        seeds: Tuple of the seeds that both arms have figures for.
        differences: Tuple of float, of each of them: the accuracy of the arm
            less that of the other one, in points.
        interval: `student_t.Interval` of them; None of fewer than two.
        verdict: One of the four words above.
    """

    arm: str
    finding: Finding
    seeds: tuple
    differences: tuple
    interval: Optional[student_t.Interval]
    verdict: str


def accuracies(results, name, split):
    """Returns {seed: accuracy in %} of an arm on a split.

    Args:
        results: As of `runner.read_results`.
        name: The arm's.
        split: "dev" or "test".
    """
    return {
        seed: 100 * result["evaluations"][split]["top_1"]
        for seed, result in results.get(name, {}).items()
        if split in result["evaluations"]
    }


def judge(results, split):
    """Returns the list of `Judgement`s of all findings, in the arms' order.

    Args:
        results: As of `runner.read_results`.
        split: Which accuracies to compare, "dev" or "test".
    """
    return [
        _judge(arm.name, finding, results, split)
        for arm in arms.ARMS.values()
        for finding in arm.findings
    ]


def _judge(name, finding, results, split):
    own = accuracies(results, name, split)
    other = accuracies(results, finding.against, split)
    seeds = tuple(sorted(own.keys() & other.keys()))
    differences = tuple(own[seed] - other[seed] for seed in seeds)
    interval = student_t.interval(differences) if len(seeds) > 1 else None
    verdict = mark(interval, finding.expected)
    return Judgement(name, finding, seeds, differences, interval, verdict)


def mark(interval, expected):
    """Returns the verdict on a finding by the rule above.

    Args:
        interval: `student_t.Interval` of the differences, or None.
        expected: `arm.HIGHER` or `arm.LOWER`.
    """
    if interval is None:
        return NOT_RUN
    if interval.low <= 0 <= interval.high:
        return INCONCLUSIVE
    is_higher = interval.low > 0
    agrees = is_higher == (expected == HIGHER)
    return REPRODUCED if agrees else NOT_REPRODUCED
