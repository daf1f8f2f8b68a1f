"""What is compared: arms, and the findings of the paper that they test.

An arm trains one network for each seed. The seed chooses the labeled images and
all random draws, so that arms of one seed differ in what is said here alone.
The settings of `cifar10/teacher` and `cifar10/student` are in `presets.py`.
"""

from noisy_student.experiments.arm import (
    HIGHER,
    LOOK,
    LOWER,
    TUNE,
    Arm,
    Finding,
)

_SMALL = {"width_coefficient": 0.1}
_SEVEN = {"num_label_classes": 7}
_TEACHER = "cifar10/teacher"
_STUDENT = "cifar10/student"


def _at_larger_size(size):
    """Returns the arms of FixRes: untuned, classifier alone, whole phase."""
    larger = {"input_image_size": size}
    untuned = f"at_{size}"

    def tuned(name, variant, statement, *more):
        return Arm(
            name=name,
            about=f"tuned at {size}x{size}: {variant}",
            preset="cifar10/fixres",
            flags={**larger, "fixres_variant": variant},
            start="noisy_student",
            mode=TUNE,
            num_seeds=5,
            findings=(
                Finding(
                    f"{statement} helps at a larger resolution, {size} pixels.",
                    "Section 3.1, FixRes",
                    HIGHER,
                    untuned,
                ),
                *more,
            ),
        )

    return (
        Arm(
            name=untuned,
            about=f"the noisy student, looking at {size}x{size} pixels",
            preset=None,
            flags=larger,
            start="noisy_student",
            mode=LOOK,
            num_seeds=5,
        ),
        tuned(f"classifier_at_{size}", "classifier", "Tuning the classifier"),
        tuned(
            f"fixres_at_{size}",
            "full",
            "FixRes",
            Finding(
                f"FixRes at {size} pixels beats the network at its own 32.",
                "Section 3.1, FixRes",
                HIGHER,
                "noisy_student",
                is_late=True,
            ),
        ),
    )


# Each is made of arms further up alone.
_ARMS = (
    Arm(
        name="teacher",
        about="supervised baseline: the labeled images alone, RandAugment",
        preset=_TEACHER,
        num_seeds=5,
    ),
    Arm(
        name="noisy_student",
        about="the same network, noised, on labeled and pseudo-labeled images",
        preset=_STUDENT,
        teacher="teacher",
        num_seeds=5,
        findings=(
            Finding(
                "A noisy student beats its supervised teacher.",
                "Tables 2 and 6",
                HIGHER,
                "teacher",
            ),
        ),
    ),
    Arm(
        name="longer_baseline",
        about="the baseline with as many images seen as the student",
        preset=_TEACHER,
        flags={"train_steps": 24000},
        findings=(
            Finding(
                "A baseline that sees as many images is worse than the "
                "student.",
                "no table: a control",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="student_of_longer_baseline",
        about="the student that this one teaches, with as many more steps",
        preset=_STUDENT,
        flags={"train_steps": 14400},
        teacher="longer_baseline",
        findings=(
            Finding(
                "With 2.4 times the steps of both, a student still beats its "
                "teacher.",
                "no table: a control",
                HIGHER,
                "longer_baseline",
                is_late=True,
            ),
        ),
    ),
    # Table 6: is noise the reason?
    Arm(
        name="without_augmentation",
        about="no crop, flip and RandAugment on unlabeled images",
        preset=_STUDENT,
        flags={"unl_remove_aug": True},
        teacher="teacher",
        num_seeds=3,
        findings=(
            Finding(
                "Without augmentation of unlabeled images it is worse.",
                "Table 6",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="without_noise",
        about="nor dropout and stochastic depth on unlabeled images",
        preset=_STUDENT,
        flags={
            "unl_remove_aug": True,
            "unl_dropout": False,
            "unl_stochastic_depth": False,
        },
        teacher="teacher",
        num_seeds=3,
        findings=(
            Finding(
                "Without any noise on unlabeled images it is worse.",
                "Table 6",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="noised_teacher",
        about="the teacher labels augmented images, with its own noise",
        preset=_STUDENT,
        flags={"noise_teacher": True},
        teacher="teacher",
        online=True,
        num_seeds=3,
        findings=(
            Finding(
                "A noised teacher makes a worse student.",
                "Table 6",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    # Table 7: do iterations help, and a larger ratio?
    Arm(
        name="round_2",
        about="the student teaches the next one",
        preset=_STUDENT,
        teacher="noisy_student",
        num_seeds=3,
        findings=(
            Finding(
                "A second round is better than the first.",
                "Table 7",
                HIGHER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="round_3",
        about="and that one a third",
        preset=_STUDENT,
        teacher="round_2",
        findings=(
            Finding(
                "A third round is better than the second.",
                "Table 7",
                HIGHER,
                "round_2",
            ),
        ),
    ),
    Arm(
        name="ratio_1",
        about="1 unlabeled image for each labeled one, not 3",
        preset=_STUDENT,
        flags={"unlabel_ratio": 1},
        teacher="teacher",
        findings=(
            Finding(
                "With 1 unlabeled image for each labeled one it is worse.",
                "Table 7; Appendix A.2, study 7",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="ratio_7",
        about="7 unlabeled images for each labeled one, not 3",
        preset=_STUDENT,
        flags={"unlabel_ratio": 7},
        teacher="teacher",
        findings=(
            Finding(
                "With 7 unlabeled images for each labeled one it is better.",
                "Table 7; Appendix A.2, study 7",
                HIGHER,
                "noisy_student",
            ),
        ),
    ),
    # Appendix A.2, study by study; 7, the ratio, is above.
    Arm(
        name="small_teacher",
        about="a narrower network on the labeled images",
        preset=_TEACHER,
        flags=_SMALL,
    ),
    Arm(
        name="student_of_small_teacher",
        about="a student of the usual size that this one teaches",
        preset=_STUDENT,
        teacher="small_teacher",
        findings=(
            Finding(
                "A smaller teacher makes a worse student.",
                "Appendix A.2, study 1",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="quarter_of_unlabeled",
        about="a quarter of the unlabeled images",
        preset=_STUDENT,
        teacher="teacher",
        selection="quarter",
        findings=(
            Finding(
                "With a quarter of the unlabeled images it is worse.",
                "Appendix A.2, study 2",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="hard_labels",
        about="hard pseudo labels, smoothed, in place of soft ones",
        preset=_STUDENT,
        flags={"teacher_softmax_temp": -1},
        teacher="teacher",
        findings=(
            Finding(
                "In domain hard labels make a student better than its teacher, "
                "too.",
                "Appendix A.2, study 3",
                HIGHER,
                "teacher",
            ),
        ),
    ),
    Arm(
        name="out_of_domain_teacher",
        about="labels of seven classes alone",
        preset=_TEACHER,
        flags=_SEVEN,
        data="seven_classes",
    ),
    Arm(
        name="out_of_domain_soft",
        about="its student: unlabeled images of the other three, soft labels",
        preset=_STUDENT,
        flags=_SEVEN,
        teacher="out_of_domain_teacher",
        selection="out_of_domain",
        data="seven_classes",
    ),
    Arm(
        name="out_of_domain_hard",
        about="the same with hard labels",
        preset=_STUDENT,
        flags={**_SEVEN, "teacher_softmax_temp": -1},
        teacher="out_of_domain_teacher",
        selection="out_of_domain",
        data="seven_classes",
        findings=(
            Finding(
                "Out of domain hard labels are worse than soft ones.",
                "Appendix A.2, study 3",
                LOWER,
                "out_of_domain_soft",
            ),
        ),
    ),
    Arm(
        name="small_student",
        about="a student narrower than its teacher",
        preset=_STUDENT,
        flags=_SMALL,
        teacher="teacher",
        findings=(
            Finding(
                "A smaller student is worse.",
                "Appendix A.2, study 4",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="without_balancing",
        about="every label of confidence 0.3 and more, once",
        preset=_STUDENT,
        teacher="teacher",
        selection="unbalanced",
        findings=(
            Finding(
                "Without balancing a small model is worse.",
                "Appendix A.2, study 5",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    # Every batch has a labeled image; here one among many that are not.
    Arm(
        name="pretrained",
        about="first pseudo-labeled images, but for one image in a batch",
        preset="cifar10/pretrained",
        teacher="teacher",
    ),
    Arm(
        name="finetuned",
        about="its averaged weights, then the labeled images alone",
        preset="cifar10/finetuned",
        start="pretrained",
        findings=(
            Finding(
                "Pretraining and finetuning is worse than joint training.",
                "Appendix A.2, study 6",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    Arm(
        name="from_teacher",
        about="the student starts from the teacher's averaged weights",
        preset=_STUDENT,
        teacher="teacher",
        start="teacher",
        findings=(
            Finding(
                "A student that starts from its teacher's weights is worse.",
                "Appendix A.2, study 8",
                LOWER,
                "noisy_student",
            ),
        ),
    ),
    *_at_larger_size(48),
    *_at_larger_size(64),
)
ARMS = {arm.name: arm for arm in _ARMS}
HEADLINE = ("teacher", "noisy_student")


def choose(names=(), num_seeds=None):
    """Returns the list of (arm, seed) to run, those that others need first.

    Args:
        names: Names of arms; none for all.
        num_seeds: Seeds of each of them; None takes the arms' own.

    Returns:
        List of (`Arm`, int), arm by arm; what a chosen arm is made from or
        compared with is there, too, with the same seeds.

    Raises:
        ValueError: If there is no such arm.
    """
    if unknown := [name for name in names if name not in ARMS]:
        raise ValueError(
            f"--arms must be of {', '.join(ARMS)}. Received: {unknown[0]!r}."
        )
    wanted = {name: 0 for name in ARMS}
    # From the last on, as each needs arms before it.
    for arm in reversed(_ARMS):
        if not names or arm.name in names:
            own = arm.num_seeds if num_seeds is None else num_seeds
            wanted[arm.name] = max(wanted[arm.name], own)
        for name in arm.needs:
            wanted[name] = max(wanted[name], wanted[arm.name])
    return [(arm, seed) for arm in _ARMS for seed in range(wanted[arm.name])]
