"""Tests of the commands that arms become."""

import pytest

from noisy_student.experiments import arms, protocol, stages

PLANNER = stages.Planner("images", protocol.FULL)


def plan(name, seed=0, planner=PLANNER):
    return planner.plan(arms.ARMS[name], seed)


def test_a_student_needs_images_teacher_labels_and_a_selection():
    names = [stage.name for stage in plan("noisy_student", 2)]
    assert names == [
        "images/train",
        "seed_2/data/all_classes/divide",
        "seed_2/teacher/train",
        "seed_2/teacher/label",
        "seed_2/teacher/balanced/filter",
        "seed_2/noisy_student/train",
    ]


def test_arms_share_what_is_equal():
    first = {s.name: s for s in plan("noisy_student")}
    second = {s.name: s for s in plan("hard_labels")}
    for name in first.keys() & second.keys():
        assert first[name] == second[name]
    assert set(second) - set(first) == {"seed_0/hard_labels/train"}


def test_stages_of_one_name_are_equal_over_all_arms():
    seen = {}
    for name in arms.ARMS:
        for stage in plan(name):
            assert seen.setdefault(stage.name, stage) == stage


def test_places_become_directories_of_this_machine_in_a_call_alone():
    first = plan("teacher")[0]
    assert "--input_dir={data_dir}/train" in first.words()
    argv = first.argv(work_dir="/w", data_dir="/d")
    assert "--input_dir=/d/train" in argv
    assert "--output_dir=/w/images/train" in argv


def test_a_prepared_data_set_takes_the_place_of_folders():
    planner = stages.Planner("tfds:cifar10", protocol.FULL)
    first = plan("teacher", planner=planner)[0]
    assert first.module == "data_prep.tfds_dataset"
    assert first.flags["name"] == "cifar10"
    assert first.flags["prepare"]
    first.parse()


@pytest.mark.parametrize("name", arms.ARMS)
def test_training_an_arm_never_reads_test_images(name):
    for stage in plan(name):
        assert "test" not in stage.command()


@pytest.mark.parametrize("name", arms.ARMS)
def test_the_test_is_of_the_classes_that_the_arm_knows(name):
    arm = arms.ARMS[name]
    stages_of_test = PLANNER.test_plan(arm, 1)
    last = stages_of_test[-1]
    folder = "test" if arm.data == "all_classes" else arm.data
    assert last.flags["label_data_dir"] == f"{{work_dir}}/images/{folder}"
    network = arm.start if arm.mode == "eval" else name
    assert last.flags["checkpoint"] == f"{{work_dir}}/seed_1/{network}/model"
    outputs = [stage.flags["output_dir"] for stage in stages_of_test]
    assert last.flags["label_data_dir"] in outputs


def test_a_student_does_not_begin_as_its_teacher_did():
    seeds = [
        PLANNER.train(arms.ARMS[name], 4).flags["seed"]
        for name in ("teacher", "noisy_student", "round_2", "finetuned")
    ]
    assert seeds == [4, 4 + 1000003, 4 + 2 * 1000003, 4 + 2 * 1000003]


def test_a_flag_that_does_not_exist_is_named_with_its_stage():
    stage = stages.Stage("this/one", "data_prep.divide", {"nothing": 1})
    with pytest.raises(ValueError, match="this/one: .*nothing"):
        stage.parse()


def test_fixres_is_looked_at_before_and_tuned_at_the_same_size():
    for size in (48, 64):
        before = plan(f"at_{size}")[-1]
        assert before.flags["mode"] == "eval"
        assert before.flags["input_image_size"] == size
        student = plan("noisy_student")[-1].flags["model_dir"]
        assert before.flags["checkpoint"] == student
        test = PLANNER.test_plan(arms.ARMS[f"at_{size}"], 0)[-1]
        assert test.flags["input_image_size"] == size
        for name, variant in (("classifier", "classifier"), ("fixres", "full")):
            tuned = plan(f"{name}_at_{size}")[-1]
            assert tuned.flags["mode"] == "fixres_finetune"
            assert tuned.flags["init_model_path"] == student
            assert tuned.flags["input_image_size"] == size
            assert tuned.flags["fixres_variant"] == variant
            test = PLANNER.test_plan(arms.ARMS[f"{name}_at_{size}"], 0)[-1]
            # Its run tells the size.
            assert "input_image_size" not in test.flags
            assert test.flags["checkpoint"] == tuned.flags["model_dir"]
