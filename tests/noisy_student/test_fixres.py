"""Tuning at a larger resolution: what moves, at which rates, and what is told.

The runs train a network of two blocks, made of the layers of an EfficientNet.
"""

import dataclasses
import json
import logging

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl import logging as absl_logging

import efficientnet
from noisy_student import (
    checkpoints,
    fixres,
    models,
    moving_average,
    run_dir,
    strategy,
    train_loop,
)
from noisy_student import config as config_lib
from noisy_student import flags as flags_lib
from tests import replicas as replicas_lib
from tests.noisy_student import fixtures, networks

pytestmark = pytest.mark.slow

MODE = "--mode=fixres_finetune"
SCHEDULE = [
    "--task_name=custom",
    f"--num_label_classes={networks.NUM_CLASSES}",
    "--train_batch_size=4",
    "--eval_batch_size=4",
    "--train_steps=40",
    "--base_learning_rate=2",
    "--moving_average_decay=0.9",
    "--warmup_epochs=0",
    "--iterations_per_loop=2",
    "--save_checkpoints_steps=2",
]
NETWORK = [
    "--input_image_size=16",
    "--small_image_model",
    "--width_coefficient=0.1",
    "--depth_coefficient=0.1",
]
# The weights of the layers, and of the parts of the last ones.
HEAD_NORM = "head/tpu_batch_normalization/"
TRAINED = {
    "classifier": ("head/dense/",),
    "head_batch_norm": ("head/dense/", HEAD_NORM),
    "full": ("blocks_1/", "head/"),
}


class Killed(BaseException):
    """Takes the place of a `kill -9`: nothing catches it."""


def build(config):
    return networks.two_blocks(
        survival_prob=0.5, dropout_rate=0.2, image_size=config.image_size
    )


@pytest.fixture(autouse=True)
def _small_network(monkeypatch):
    monkeypatch.setattr(models, "build", build)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns (data directory, run directory) of a run at 16 pixels."""
    data_dir = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(data_dir, "train", 10)
    fixtures.write_labeled(data_dir, "validation", 7)
    model_dir = tmp_path_factory.mktemp("runs") / "trained"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", build)
        fixtures.run_main(
            "--mode=train",
            *(*SCHEDULE, *NETWORK),
            "--train_steps=6",
            f"--label_data_dir={data_dir}",
            f"--model_dir={model_dir}",
        )
    return data_dir, model_dir


def arguments(trained, model_dir, *more):
    data_dir, start = trained
    return [
        *(MODE, *SCHEDULE),
        "--input_image_size=24",
        "--fix_layer_num=1",
        f"--init_model_path={start}",
        f"--label_data_dir={data_dir}",
        f"--model_dir={model_dir}",
        *more,
    ]


@pytest.fixture(scope="module")
def tuned(trained, tmp_path_factory):
    """Returns a function: variant -> run directory of a tuned network."""
    directories = {}

    def tune(variant):
        if variant not in directories:
            directory = tmp_path_factory.mktemp(variant)
            options = arguments(
                trained, directory, f"--fixres_variant={variant}"
            )
            fixtures.run_main(*options)
            directories[variant] = directory
        return directories[variant]

    return tune


def weights(model_dir, *, use_ema):
    """Returns {name: array} of a run's network, at any size."""
    config = run_dir.trained_model_config(str(model_dir))
    network = models.load(config, str(model_dir), use_ema=use_ema)
    return {
        name: weight.numpy()
        for name, weight in moving_average.named_weights(network).items()
    }


def parsed(*options):
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(["main", *options])
    return flags_lib.config_from_flags(flag_values)


@pytest.mark.parametrize("use_ema", [True, False])
@pytest.mark.parametrize(
    "variant",
    [
        "classifier",
        # What it freezes, `efficientnet/test_freezing.py` asks for, too.
        pytest.param("head_batch_norm", marks=pytest.mark.long),
        "full",
    ],
)
def test_what_is_frozen_stays_to_the_bit_and_the_rest_moves(
    trained, tuned, variant, use_ema
):
    # It starts from the averages: of those, and of the weights alike.
    before = weights(trained[1], use_ema=True)
    after = weights(tuned(variant), use_ema=use_ema)
    changed = {
        name for name in before if not np.array_equal(before[name], after[name])
    }
    # Weights and moving statistics, every one.
    assert changed == {
        name for name in before if name.startswith(TRAINED[variant])
    }
    statistics = [name for name in changed if "moving_" in name]
    assert len(statistics) == {"classifier": 0, "head_batch_norm": 2}.get(
        variant, 8
    )


def test_on_several_replicas_each_keeps_what_is_frozen_to_the_bit(
    trained, tmp_path, monkeypatch
):
    states = []

    class Loop(train_loop._Loop):
        def __init__(self, config, state, *others):
            states.append(state)
            super().__init__(config, state, *others)

    monkeypatch.setattr(train_loop, "_Loop", Loop)
    replicas = replicas_lib.two_replicas()
    monkeypatch.setattr(strategy, "create_strategy", lambda _: replicas)
    fixtures.run_main(*arguments(trained, tmp_path))
    (state,) = states
    before = weights(trained[1], use_ema=True)
    moved = set()
    for name, weight in moving_average.named_weights(state.model).items():
        own = replicas.experimental_local_results(weight)
        average = state.moving_average.shadows[name]
        own += replicas.experimental_local_results(average)
        assert len(own) == 4
        if any(not np.array_equal(part, before[name]) for part in own):
            moved.add(name)
    assert moved == {n for n in before if n.startswith(TRAINED["full"])}
    # What is saved is what they hold.
    for use_ema in (True, False):
        saved = weights(tmp_path, use_ema=use_ema)
        for name in before.keys() - moved:
            np.testing.assert_array_equal(saved[name], before[name])
    report = run_dir.read_report(str(tmp_path))
    assert report["eval/num_images"] == report["eval_before/num_images"] == 7


def test_the_report_has_both_evaluations_at_the_larger_size(trained, tuned):
    data_dir, start = trained
    directory = tuned("full")
    report = run_dir.read_report(str(directory))
    lines = run_dir.read_metrics(str(directory))
    # 10 images are 2.5 steps, 1.5 epochs 3.
    assert [line["step"] for line in lines] == [0, 2, 3]
    for step, name in ((0, "eval_before"), (-1, "eval")):
        for figure in ("top_1", "loss", "num_images"):
            value = report[f"{name}/{figure}"]
            assert value == lines[step][f"eval/{figure}"]
    assert report["eval_before/num_images"] == 7
    assert report["eval_before/loss"] != report["eval/loss"]
    assert report["fixres"] == {
        "variant": "full",
        "trained_size": 16,
        "tuned_size": 24,
        "use_ema": True,
    }
    assert report["config"]["model"]["image_size"] == 24
    assert report["config"]["model"]["stored_size"] == 16
    # No other way to evaluate what it started from gives other figures.
    fixtures.run_main(
        "--mode=eval",
        "--task_name=custom",
        "--input_image_size=24",
        f"--checkpoint={start}",
        f"--label_data_dir={data_dir}",
        f"--output_dir={directory}/start",
    )
    start_report = json.loads((directory / "start" / "eval.json").read_text())
    assert start_report["validation/loss"] == pytest.approx(
        report["eval_before/loss"]
    )
    assert start_report["validation/top_1"] == report["eval_before/top_1"]


def test_the_start_is_no_candidate_for_the_archive(tuned):
    best = json.loads((tuned("full") / "archive" / "best.json").read_text())
    assert best["step"] == 3
    assert not list(tuned("full").glob("model.ckpt-0*"))


@pytest.fixture
def started(monkeypatch):
    """Ends runs before their first step; returns the states they had."""
    states = []

    class Started:
        def __init__(self, config, state, *others):
            states.append(state)

        def run(self, companion, watch):
            return {}

    monkeypatch.setattr(train_loop, "_Loop", Started)
    return states


def test_the_log_tells_what_is_frozen_how_much_is_trained_and_both_sizes(
    trained, tmp_path, monkeypatch, caplog, started
):
    monkeypatch.setattr(absl_logging.get_absl_logger(), "propagate", True)
    options = arguments(trained, tmp_path, "--fixres_variant=head_batch_norm")
    with caplog.at_level(logging.INFO, logger="absl"):
        fixtures.run_main(*options)
    for line in (
        "--fix_layer_num has no effect without --fixres_variant=full.",
        "FixRes (head_batch_norm): trained at 16 x 16 pixels, tuned at 24 x "
        f"24, from the averaged weights of {trained[1]}.",
        "3 steps, 1.20 epochs: steps 37 to 40 of the schedule.",
        "Frozen: stem, blocks_0..1, head/conv2d.",
        "Batch normalization in inference mode: 6 of 7, those of stem, "
        "blocks_0..1.",
        # The classifier has 16 x 4 weights and 4 offsets, the normalization 16
        # scales and 16 offsets.
        "Trained: 100 of 1,392 parameters (moving statistics included), of "
        "head, head/dense.",
    ):
        assert line in caplog.messages


@pytest.mark.parametrize("use_ema", [True, False])
def test_it_starts_from_averages_or_from_raw_weights(
    trained, tmp_path, started, use_ema
):
    fixtures.run_main(
        *arguments(trained, tmp_path, f"--use_ema={str(use_ema).lower()}")
    )
    (state,) = started
    expected = weights(trained[1], use_ema=use_ema)
    others = weights(trained[1], use_ema=not use_ema)
    for name, weight in moving_average.named_weights(state.model).items():
        np.testing.assert_array_equal(weight, expected[name])
        np.testing.assert_array_equal(
            state.moving_average.shadows[name], expected[name]
        )
        assert not np.array_equal(expected[name], others[name])
    report = run_dir.read_report(str(tmp_path))
    assert report["fixres"]["use_ema"] is use_ema


def kill_at(monkeypatch, owner, name, *, call):
    """Ends the process, as it were, after the given call of a function."""
    function = getattr(owner, name)
    calls = []

    def replaced(*args, **kwargs):
        result = function(*args, **kwargs)
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, replaced)


@pytest.mark.long
def test_a_killed_run_goes_on_and_ends_the_same(
    trained, tuned, tmp_path, monkeypatch
):
    options = arguments(trained, tmp_path)
    for owner, name in (
        # The evaluation of the start, of which no line is left; then the first
        # save, before its line.
        (train_loop.evaluate_lib, "evaluate_split"),
        (checkpoints.CheckpointManager, "save"),
    ):
        with monkeypatch.context() as patch:
            kill_at(patch, owner, name, call=1)
            with pytest.raises(Killed):
                fixtures.run_main(*options)
    assert [line["step"] for line in run_dir.read_metrics(str(tmp_path))] == [0]
    fixtures.run_main(*options)
    undisturbed = tuned("full")
    for ours, theirs in zip(
        fixtures.untimed_lines(tmp_path), fixtures.untimed_lines(undisturbed)
    ):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert len(fixtures.untimed_lines(tmp_path)) == 3
    expected = weights(undisturbed, use_ema=False)
    for name, weight in weights(tmp_path, use_ema=False).items():
        np.testing.assert_allclose(weight, expected[name], rtol=1e-4, atol=1e-6)
    report = run_dir.read_report(str(tmp_path))
    assert report["eval_before/loss"] == pytest.approx(
        run_dir.read_report(str(undisturbed))["eval_before/loss"]
    )


def with_tail(*options):
    run = parsed(MODE, "--init_model_path=w", "--fix_layer_num=1", *options)
    return fixres.with_tail(run.train, run.fixres)


def rates(train):
    schedule = train_loop.build_optimizer(train)._learning_rate
    return schedule(tf.range(train.train_steps)).numpy()


def test_the_tail_of_l2_is_that_of_its_350_epochs():
    train = with_tail("--preset=imagenet/l2_fixres")
    # 1.5 and 350 epochs of 1,281,167 images in batches of 2,048.
    assert train.train_steps == 938
    assert train.optimizer.start_step == 218949 - 938
    # 0.016 per 256 images; 218,011 steps are 145 stairs of 2.4 epochs, and so
    # are 218,948.
    assert rates(train)[0] == pytest.approx(0.128 * 0.97**145, rel=1e-5)
    assert rates(train)[-1] == rates(train)[0]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ([], 312),
        (["--fixres_epochs=4"], 833),
        (["--train_last_step_num=120"], 120),
        # The ratio stretches the schedule, and [N]'s tail with it, but no
        # epochs.
        (["--train_ratio=2"], 312),
        (["--train_last_step_num=120", "--train_ratio=2"], 240),
    ],
)
def test_the_rates_are_the_last_ones_of_the_whole_schedule(options, steps):
    images = ["--preset=cifar10/fixres", "--num_train_images=2500"]
    tail = with_tail(*images, *options)
    ratio = 2 if "--train_ratio=2" in options else 1
    whole = parsed(
        *images, f"--train_ratio={ratio}", "--fix_layer_num=-1"
    ).train
    assert whole.train_steps == 6000 * ratio
    assert tail.train_steps == steps
    np.testing.assert_allclose(rates(tail), rates(whole)[-steps:], rtol=1e-6)


def test_a_tuned_run_trains_at_those_rates(tuned):
    last = run_dir.read_metrics(str(tuned("full")))[-1]
    # An epoch has 2.5 steps and a stair 2.4 epochs, so step 39 is on the sixth.
    rate = 2 * 4 / 256 * 0.97**6
    assert last["train/learning_rate"] == pytest.approx(rate)


def test_labeled_images_are_seen_as_evaluation_shows_them():
    run = parsed(
        *(MODE, "--init_model_path=w", "--fix_layer_num=1"),
        # The recipe of the student: its noise of images ends with it.
        *("--preset=imagenet/l2_noisy_student", "--unlabel_data_dir=u"),
        *("--teacher_model_name=efficientnet-l2", "--teacher_model_path=t"),
    )
    augment = run.train.labeled_augment
    assert (augment.name, augment.random_crop) == ("none", False)
    assert run.train.step.pseudo_labels == config_lib.PseudoLabelConfig()
    assert run.train.teacher is None
    assert run.train.data.unlabel_data_dir is None


def test_more_blocks_than_there_are_are_refused(trained, tmp_path):
    model_dir = tmp_path / "run"
    with pytest.raises(
        ValueError, match="--fix_layer_num=8: efficientnet-b0 has 7 blocks"
    ):
        fixtures.run_main(*arguments(trained, model_dir, "--fix_layer_num=8"))
    assert not model_dir.exists()


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Returns a function: model name -> prefix of a small checkpoint of it."""

    def save(name):
        model = efficientnet.build_model(
            name, 7, width_coefficient=0.1, depth_coefficient=0.1
        )
        prefix = str(tmp_path_factory.mktemp(name) / "model.ckpt")
        efficientnet.save_tf1_checkpoint(model, prefix)
        return prefix

    return save


def with_network(*options):
    run = parsed(MODE, "--fix_layer_num=1", *options)
    return fixres.with_network(run.train, run.fixres, run.given_model)


@pytest.mark.parametrize("recipe", ["l2", "l2_475"])
def test_a_released_l2_is_tuned_from_475_to_800(released, recipe):
    train, settings = with_network(
        f"--preset=imagenet/{recipe}_fixres",
        f"--init_model_path={released('efficientnet-l2')}",
    )
    assert settings.trained_size == 475
    assert train.model.image_size == 800
    assert train.model.model_name == f"efficientnet-{recipe}"
    assert train.model.num_classes == train.step.num_classes == 7
    assert train.model.stored_size is None


def test_the_network_is_that_of_the_run_but_for_its_noise(trained):
    start = f"--init_model_path={trained[1]}"
    train, settings = with_network(start, "--input_image_size=24")
    saved = run_dir.trained_model_config(str(trained[1]))
    larger = dataclasses.replace(saved, image_size=24, stored_size=16)
    assert train.model == larger
    assert train.step.num_classes == 4
    assert settings.trained_size == 16
    noised, _ = with_network(
        *(start, "--input_image_size=24", "--dropout_rate=0.3"),
        "--stochastic_depth_rate=0",
    )
    assert noised.model == dataclasses.replace(
        larger, dropout_rate=0.3, stochastic_depth_rate=0.0
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input_image_size=16"], r"above 16, where .* Received: 16\."),
        # Its stored size, unless one is asked for.
        ([], r"--input_image_size must be above 16, .* Received: 16\."),
        (
            ["--input_image_size=24", "--model_name=efficientnet-b1"],
            "--model_name asks for .* of --init_model_path=.* was trained",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_refused(trained, options, message):
    with pytest.raises(ValueError, match=message):
        with_network(f"--init_model_path={trained[1]}", *options)


def test_a_model_without_a_larger_size_of_its_own_needs_one(released):
    start = f"--init_model_path={released('efficientnet-b0')}"
    with pytest.raises(ValueError, match=r"above 224, .* Received: 224\."):
        with_network(start)
    train, _ = with_network(start, "--input_image_size=256")
    assert train.model.image_size == 256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], f"{MODE} needs --init_model_path"),
        (
            ["--init_model_path=w"],
            "--fixres_variant=full needs --fix_layer_num",
        ),
        (["--init_model_path=w", "--noremove_aug"], "excludes --noremove_aug"),
        (["--init_model_path=w", "--noinit_model"], "excludes --noinit_model"),
        (
            ["--init_model_path=w", "--checkpoint_head=fresh"],
            "--checkpoint_head=fresh: .* classifier that was trained",
        ),
        (
            [
                *("--init_model_path=w", "--fixres_epochs=2"),
                *("--train_steps=9", "--train_last_step_num=3"),
            ],
            "--train_last_step_num and --fixres_epochs say the same",
        ),
    ],
)
def test_flags_that_contradict_the_mode_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        parsed(MODE, *options)


def test_a_schedule_shorter_than_its_tail_is_refused():
    with pytest.raises(
        ValueError,
        match="--fixres_epochs=31 takes 6458 steps, more .* 6000 by --train",
    ):
        with_tail(
            "--preset=cifar10/fixres",
            "--num_train_images=2500",
            "--fixres_epochs=31",
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "stem"}, "`fixres_variant` must be one of .*'stem'"),
        ({"epochs": 0}, "`fixres_epochs` must be > 0. Received: 0"),
    ],
)
def test_settings_keep_their_rules(values, message):
    with pytest.raises(ValueError, match=message):
        fixres.FixResConfig(**values)
