"""Named chains of self-training: which recipes follow each other.

A chain says for `self_training` what `presets.py` says for one training run. An
explicit flag overrides it.
"""

import dataclasses
from typing import Optional

# Between the seeds of a network and the next one, which shall not begin alike.
SEED_STRIDE = 1000003


@dataclasses.dataclass(frozen=True)
class Chain:
    """The recipes of a whole self-training run.

    Attributes:
        teacher: Preset of the first teacher.
        students: Presets of the students, in order, one per round.
        fixres: Preset of the phase that tunes the last student at a larger
            resolution; None ends the run with that student.
    """

    teacher: str
    students: tuple
    fixres: Optional[str] = None


# Teacher and student of the same size, one round: the paper's networks of all
# sizes but the largest.
_SAME_SIZE = ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7")

CHAINS = {
    # The paper's best network: 87.6, 88.1 and 88.4 % after the rounds. Of 475
    # pixels; the last one is then tuned at 800.
    "imagenet/l2": Chain(
        teacher="imagenet/b7_supervised",
        students=(
            "imagenet/l2_noisy_student",
            "imagenet/l2_noisy_student",
            "imagenet/l2_noisy_student_last",
        ),
        fixres="imagenet/l2_fixres",
    ),
    **{
        f"imagenet/{model}": Chain(
            teacher=f"imagenet/{model}_supervised",
            students=(f"imagenet/{model}_noisy_student",),
        )
        for model in _SAME_SIZE
    },
    "digits": Chain(teacher="digits/teacher", students=("digits/student",) * 2),
    "digits_long": Chain(
        teacher="digits/teacher_long", students=("digits/student_long",) * 2
    ),
}


def get_chain(name):
    """Returns the `Chain` of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in CHAINS:
        raise ValueError(
            f"--chain must be one of {sorted(CHAINS)}. Received: {name!r}."
        )
    return CHAINS[name]
