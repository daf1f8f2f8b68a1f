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
# What tunes the last student: network, resolutions, fixed blocks.
TUNED = {"imagenet/l2": ("efficientnet-l2", 475, 800, 44)}


def parse(*arguments):
    flag_values = flags.FlagValues()
    self_training.define_flags(flag_values)
    flag_values(
        [
            "self_training",
            "--work_dir=/no/such/runs",
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
    runs = [*run.rounds, *filter(None, [run.tuning])]
    # No two draw the same.
    assert len({train.seed for train in runs}) == len(runs)


def tuned(run):
    """Returns what is tuned, and how, as the row of `TUNED`."""
    train = run.tuning
    return (
        train.model.model_name,
        run.fixres.trained_size,
        train.model.image_size,
        train.freeze.fixed_blocks,
    )


@pytest.mark.parametrize("name", sorted(chains.CHAINS))
def test_a_chain_ends_with_fixres_where_the_paper_does(name):
    run = config_of(f"--chain={name}")
    if name not in TUNED:
        assert (run.tuning, run.fixres) == (None, None)
        return
    assert tuned(run) == TUNED[name]
    assert run.tuning.init_checkpoint == "/no/such/runs/round_3/model"
    assert run.tuning.init_ema
    assert run.fixres.epochs == 1.5
    assert run.tuning.data.label_data_dir == "labeled"
    assert run.tuning.labeled_augment.name == "none"
    for train in (run.teacher, *run.rounds):
        assert train.freeze == config.FreezeConfig()
        assert train.init_checkpoint is None


def test_the_phase_is_left_out_or_put_after_any_chain():
    assert config_of("--chain=imagenet/l2", "--fixres_preset=").tuning is None
    run = config_of(
        "--chain=digits",
        "--task_name=cifar10",
        "--fixres_preset=cifar10/fixres",
    )
    assert tuned(run) == ("efficientnet-b0", 32, 48, 4)
    assert run.tuning.model.stored_size == 32
    # The width of the student, which the recipe does not know.
    assert run.tuning.model.width_coefficient == 0.25


def test_flags_of_the_phase_are_for_it_alone():
    run = config_of(
        "--chain=imagenet/l2",
        "--rounds=1",
        "--fix_layer_num=20",
        "--nouse_ema",
        "--fixres_epochs=3",
    )
    assert tuned(run) == ("efficientnet-l2", 475, 800, 20)
    assert run.tuning.init_checkpoint == "/no/such/runs/round_1/model"
    assert not run.tuning.init_ema
    assert run.fixres.epochs == 3
    assert run.rounds[0].freeze == config.FreezeConfig()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["imagenet/l2", "--student_preset=imagenet/b7_noisy_student"],
            "--fixres_preset=imagenet/l2_fixres: --model_name asks for "
            "efficientnet-l2, .* the last student was trained with .*-b7",
        ),
        (
            ["imagenet/l2", "--input_image_size=300"],
            "must be above 300, where the last student was .* Received: 300",
        ),
        (
            ["imagenet/b0", "--fixres_epochs=2"],
            "--fixres_epochs needs --fixres_preset, or a --chain with one",
        ),
        (
            ["imagenet/b0", "--fixres_preset=imagenet/b0_supervised"],
            "--fixres_variant=full needs --fix_layer_num",
        ),
    ],
)
def test_a_phase_that_does_not_fit_the_chain_is_refused(options, message):
    chain, *others = options
    with pytest.raises(ValueError, match=message):
        config_of(f"--chain={chain}", *others)


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
        "--chain=imagenet/l2",
        "--student_preset=imagenet/b7_noisy_student",
        "--fixres_preset=",
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
        "FixRes",
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


def test_the_plan_ends_with_the_phase_at_its_resolution():
    run = config_of("--chain=imagenet/l2")
    *_, last = plan.make(run, CORPUS)
    (tune,) = last.stages
    # 1.5 epochs of 1,281,167 images in batches of 2,048.
    assert (tune.steps, tune.images) == (938, 938 * 2048)
    assert tune.model.image_size == 800
    assert tune.core_hours == plan.core_hours(
        run.tuning.model, 938 * 2048, training=True
    )
    smaller = dataclasses.replace(run.tuning.model, image_size=475)
    assert tune.core_hours > 2.5 * plan.core_hours(
        smaller, tune.images, training=True
    )
    # The one checkpoint, and the archive's.
    assert tune.storage == 2 * plan.checkpoint_bytes(tune.model)
    assert last.notes == (
        "full: trained at 475 x 475 pixels, tuned at 800 x 800, from the "
        "averaged weights.",
        "938 steps, 1.50 epochs: steps 218011 to 218949 of the schedule. "
        "RMSprop begins with fresh slots.",
        "The stem and the first 44 blocks stay; their batch normalization "
        "takes moving statistics.",
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--fixres_variant=classifier"],
            "The classifier is trained; all batch normalization takes moving "
            "statistics.",
        ),
        (
            ["--fixres_variant=head_batch_norm"],
            "The classifier and the batch normalization before the pooling are "
            "trained; any other takes moving statistics.",
        ),
        (
            ["--fix_layer_num=-1", "--trainable_blocks=3"],
            "The head and the last 3 blocks are trained; batch normalization "
            "before them takes moving statistics.",
        ),
        (
            ["--freeze_batch_norm"],
            "The stem and the first 44 blocks stay; all batch normalization "
            "takes moving statistics.",
        ),
    ],
)
def test_the_plan_says_what_the_phase_trains(options, sentence):
    *_, last = plan.make(config_of("--chain=imagenet/l2", *options), CORPUS)
    assert last.notes[-1] == sentence


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
    assert text.count("to do") == 11
    assert "efficientnet-l2 at 475" in text
    assert "tune    efficientnet-l2 at 800" in text
    assert "an estimate" in text
    # The first line names the directory.
    assert max(map(len, text.splitlines()[1:])) <= 100
    assert not list(tmp_path.iterdir())


def test_a_dry_run_without_images_says_how_to_plan_without_them():
    with pytest.raises(FileNotFoundError, match="--planned_images plans"):
        self_training.main(parse("--chain=imagenet/l2", "--dry_run"))
