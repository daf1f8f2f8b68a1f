"""What each chain resolves to, and what its plan says."""

import dataclasses

import pytest
from absl import flags

from noisy_student import chains, config, info, plan, self_training

_SAME_SIZE = {
    "b0": 1.0,
    **{f"b{n}": 3.0 for n in range(1, 8)},
}
# The network and the unlabeled ratio of the teacher and of each student.
NETWORKS = {
    "imagenet/l2": [("b7", 0.0), ("l2", 14.0), ("l2", 14.0), ("l2", 28.0)],
    **{
        f"imagenet/{name}": [(name, 0.0), (name, ratio)]
        for name, ratio in _SAME_SIZE.items()
    },
    "digits": [("b0", 0.0), ("b0", 3.0), ("b0", 3.0)],
    "digits_long": [("b0", 0.0), ("b0", 3.0), ("b0", 3.0)],
}


def parse(*arguments):
    flag_values = flags.FlagValues()
    self_training.define_flags(flag_values)
    flag_values(
        [
            "self_training",
            "--work_dir=/no/such/work",
            "--label_data_dir=labeled",
            "--unlabel_data_dir=/no/such/images",
            *arguments,
        ]
    )
    return flag_values


def config_of(*arguments):
    return self_training.config_from_flags(parse(*arguments))


def networks(run):
    return [
        (
            train.model.model_name[len("efficientnet-") :],
            train.step.pseudo_labels.unlabeled_ratio,
        )
        for train in (run.teacher, *run.rounds)
    ]


def test_every_chain_has_its_networks_in_this_test():
    assert sorted(NETWORKS) == sorted(chains.CHAINS)


@pytest.mark.parametrize("name", sorted(chains.CHAINS))
def test_a_chain_resolves_to_its_networks(name):
    run = config_of(f"--chain={name}")
    assert networks(run) == NETWORKS[name]
    if name.startswith("imagenet/"):
        assert run.balance.num_image == 130000
        assert run.balance.min_threshold == 0.3
    # No two rounds draw the same.
    assert len({train.seed for train in run.rounds}) == len(run.rounds)


def test_flags_override_a_chain():
    run = config_of(
        "--chain=imagenet/l2",
        "--rounds=2",
        "--teacher_preset=imagenet/b0_supervised",
        "--train_batch_size=512",
    )
    assert networks(run) == [("b0", 0.0), ("l2", 14.0), ("l2", 14.0)]
    assert {train.batch_size for train in run.rounds} == {512}
    run = config_of(
        "--chain=imagenet/l2", "--student_preset=imagenet/b7_noisy_student"
    )
    assert networks(run) == [("b7", 0.0)] + 3 * [("b7", 3.0)]


def test_more_rounds_than_a_chain_has_need_recipes():
    with pytest.raises(ValueError, match="Received: 3 for --rounds=4"):
        config_of("--chain=imagenet/l2", "--rounds=4")


def test_an_unknown_chain_is_named():
    with pytest.raises(ValueError, match="--chain must be one of .*'it'"):
        chains.get_chain("it")


CORPUS = plan.Corpus(num_images=300_000_000, image_bytes=100_000)


def stages_of(*arguments):
    run = config_of("--chain=imagenet/l2", *arguments)
    rounds = plan.make(run, CORPUS)
    return {each.title: each.stages for each in rounds}


def test_the_plan_of_l2_has_the_papers_steps_and_images():
    stages = stages_of()
    assert list(stages) == [
        "first teacher",
        "student 1",
        "student 2",
        "student 3",
    ]
    (teacher,) = stages["first teacher"]
    assert (teacher.steps, teacher.images) == (218949, 218949 * 2048)
    for title, ratio in (("student 1", 14), ("student 3", 28)):
        label, kept, train = stages[title]
        assert label.images == 300_000_000
        assert kept.images == 130_000_000
        assert (train.steps, train.images) == (
            218949,
            218949 * 2048 * (1 + ratio),
        )
        assert train.model.image_size == 475
    assert stages["student 1"][0].model.model_name == "efficientnet-b7"
    assert stages["student 2"][0].model.model_name == "efficientnet-l2"


def test_the_published_run_takes_the_published_hours():
    *_, train = stages_of()["student 1"]
    assert train.core_hours == pytest.approx(2048 * 6 * 24, rel=1e-5)


def test_hours_are_scaled_by_operations_and_images():
    big = config.ModelConfig("efficientnet-l2", 1000, 475)
    small = config.ModelConfig("efficientnet-b0", 1000, 224)
    share = (
        info.model_card(small, batch_size=1).multiply_adds
        / info.model_card(big, batch_size=1).multiply_adds
    )
    hours = plan.core_hours(big, 1000, training=True)
    assert plan.core_hours(small, 500, training=True) == pytest.approx(
        hours * share / 2
    )
    # Labelling has no gradients, which take two thirds of a step.
    assert plan.core_hours(big, 1000, training=False) == pytest.approx(
        hours / 3
    )


def test_storage_is_that_of_checkpoints_predictions_and_records():
    label, kept, train = stages_of()["student 1"]
    # Four bytes for each class of each image, and some for its key.
    assert 4000 < label.storage / label.images < 4200
    # The image, its distribution, and some for its key.
    assert 104_000 < kept.storage / kept.images < 104_200
    memory = info.model_card(train.model, batch_size=1).memory
    assert train.storage == 5 * (2 * memory.weights + memory.slots)


def test_a_few_steps_leave_fewer_checkpoints():
    few = stages_of("--train_steps=1500")["student 1"][-1]
    assert few.storage == 2 * plan.checkpoint_bytes(few.model)


def test_what_is_filtered_once_is_all_relabeled(tmp_path):
    run = config_of("--chain=imagenet/l2")
    once = dataclasses.replace(
        run, filter_teacher="it", filter_model=run.teacher.model
    )
    rounds = plan.make(once, CORPUS)
    assert [each.title for each in rounds[:3]] == [
        "first teacher",
        "filter",
        "student 1",
    ]
    assert rounds[1].stages[0].images == 300_000_000
    assert [s.images for s in rounds[2].stages[:2]] == 2 * [130_000_000]


def test_without_copies_no_more_is_kept_than_there_is():
    run = config_of("--chain=imagenet/b0", "--noupsample")
    few = dataclasses.replace(CORPUS, num_images=1000)
    assert plan.make(run, few)[1].stages[1].images == 1000


def test_a_given_teacher_is_not_trained():
    rounds = stages_of("--teacher_model_path=/no/such/teacher")
    assert "first teacher" not in rounds


def test_a_dry_run_prints_the_plan_and_runs_nothing(capsys, tmp_path):
    self_training.main(
        parse(
            "--chain=imagenet/l2",
            "--dry_run",
            "--planned_images=300000000",
            "--planned_image_bytes=20480",
            f"--work_dir={tmp_path}/it",
        )
    )
    text = capsys.readouterr().out
    assert text.startswith("300,000,000 unlabeled images of 20.0 KiB;")
    assert text.count("to do") == 10
    assert "efficientnet-l2 at 475" in text
    assert "an estimate" in text
    # The first line names the directory.
    assert max(map(len, text.splitlines()[1:])) <= 100
    assert not list(tmp_path.iterdir())


def test_a_dry_run_without_images_says_how_to_plan_without_them():
    with pytest.raises(FileNotFoundError, match="--planned_images plans"):
        self_training.main(parse("--chain=imagenet/l2", "--dry_run"))
