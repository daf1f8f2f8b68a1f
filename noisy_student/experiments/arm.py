"""What an arm of the experiments is, and a finding that it tests."""

import dataclasses
from typing import Optional

HIGHER, LOWER = "higher", "lower"
# Modes of `noisy_student.main`.
TRAIN, TUNE, LOOK = "train_and_eval", "fixres_finetune", "eval"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A statement of the paper about an arm and another one.

    Attributes:
        statement: What the paper says, in our words.
        source: Where it says so.
        expected: `HIGHER` or `LOWER`: where the accuracy of the arm is,
            measured from that of the other one.
        against: Name of the other arm.
        is_late: Whether it was declared when test figures of other arms were
            known already.
    """

    statement: str
    source: str
    expected: str
    against: str
    is_late: bool = False


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train a network.

    Attributes:
        name: What it is called.
        about: How it differs, in a few words.
        preset: The recipe of `noisy_student.main`; None of an arm that is
            looked at alone.
        flags: {flag: value} that override the recipe.
        teacher: The arm whose network labels its unlabeled images; None
            without any.
        online: Whether that network labels inside the training step.
        selection: Which of the labels are kept, a key of
            `protocol.Protocol.selections`.
        start: The arm whose weights it starts from; None for random ones.
        mode: `TRAIN`, `TUNE` for FixRes, or `LOOK`, which evaluates the arm
            that it starts from with its flags.
        data: Which classes have labels, a key of `protocol.DATA`.
        num_seeds: Seeds that it is trained with: 0, 1, ...
        findings: What it tests.
    """

    name: str
    about: str
    preset: Optional[str]
    flags: dict = dataclasses.field(default_factory=dict)
    teacher: Optional[str] = None
    online: bool = False
    selection: str = "balanced"
    start: Optional[str] = None
    mode: str = TRAIN
    data: str = "all_classes"
    num_seeds: int = 2
    findings: tuple = ()

    @property
    def needs(self):
        """Tuple of the names of arms that it is made from or compared with."""
        compared = [finding.against for finding in self.findings]
        made_from = [n for n in (self.teacher, self.start) if n is not None]
        return tuple(dict.fromkeys([*made_from, *compared]))
