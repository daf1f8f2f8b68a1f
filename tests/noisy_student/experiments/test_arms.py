"""Tests that arms are well declared."""

import pytest

from noisy_student import flags as flags_lib
from noisy_student import presets
from noisy_student.experiments import arm as arm_lib
from noisy_student.experiments import arms, protocol, stages

PLANNER = stages.Planner("data", protocol.FULL)
SMOKE_PLANNER = stages.Planner("data", protocol.SMOKE)


@pytest.mark.parametrize("planner", [PLANNER, SMOKE_PLANNER])
@pytest.mark.parametrize("name", arms.ARMS)
def test_every_flag_of_every_stage_exists_and_has_a_good_value(name, planner):
    plan = planner.plan(arms.ARMS[name], 0)
    for stage in [*plan, *planner.test_plan(arms.ARMS[name], 0)]:
        parsed = stage.parse()
        for flag, value in stage.flags.items():
            if isinstance(value, tuple):
                value = list(value)
            assert parsed[flag].value == value, (stage.name, flag)
        if stage.module == "noisy_student.main":
            run = flags_lib.config_from_flags(parsed)
            assert run.mode == stage.flags["mode"]


@pytest.mark.parametrize("name", arms.ARMS)
def test_an_arm_is_made_of_arms_above_it(name):
    above = list(arms.ARMS)[: list(arms.ARMS).index(name)]
    assert set(arms.ARMS[name].needs) <= set(above)
    is_trained = arms.ARMS[name].mode != arm_lib.LOOK
    assert (arms.ARMS[name].preset in presets.PRESETS) == is_trained


@pytest.mark.parametrize("name", arms.ARMS)
def test_two_students_differ_in_what_their_arms_say_alone(name):
    arm = arms.ARMS[name]
    flags = PLANNER.train(arm, 0).flags
    assert flags["eval_split"] == "dev"
    assert flags.get("preset") == arm.preset
    for flag, value in arm.flags.items():
        assert flags[flag] == value


def test_the_arms_of_the_paper_are_there():
    declared = {
        (name, finding.source, finding.expected, finding.against)
        for name, arm in arms.ARMS.items()
        for finding in arm.findings
    }
    sources = " ".join(source for _, source, _, _ in declared)
    for number in range(1, 9):
        assert f"study {number}" in sources
    assert ("noisy_student", "Tables 2 and 6", "higher", "teacher") in declared
    for name in ("without_augmentation", "without_noise", "noised_teacher"):
        assert (name, "Table 6", "lower", "noisy_student") in declared
    assert arms.ARMS["noisy_student"].num_seeds == 5
    assert {arm.num_seeds for arm in arms.ARMS.values()} == {2, 3, 5}


def test_noise_is_taken_from_unlabeled_images_alone():
    def train(name):
        return PLANNER.train(arms.ARMS[name], 0).train_config()

    student, plain = train("noisy_student"), train("without_noise")
    assert student.labeled_augment == plain.labeled_augment
    assert student.unlabeled_augment == student.labeled_augment
    assert student.model == plain.model
    assert not plain.unlabeled_augment.random_crop
    pseudo = plain.step.pseudo_labels
    assert not (pseudo.dropout or pseudo.stochastic_depth)
    assert train("noised_teacher").step.pseudo_labels.noise_teacher


def test_chosen_arms_come_after_those_they_need():
    chosen = [(a.name, s) for a, s in arms.choose(["round_2"], num_seeds=2)]
    assert chosen == [
        (name, seed)
        for name in ("teacher", "noisy_student", "round_2")
        for seed in (0, 1)
    ]


def test_all_arms_have_the_seeds_they_declare():
    seeds = {}
    for arm, seed in arms.choose():
        seeds.setdefault(arm.name, []).append(seed)
    assert seeds == {
        name: list(range(arm.num_seeds)) for name, arm in arms.ARMS.items()
    }


def test_an_unknown_arm_is_named():
    with pytest.raises(ValueError, match="--arms must be of .*'student'"):
        arms.choose(["student"])
