import json

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from noisy_student import flags as flags_lib
from noisy_student import loop_metrics, schedules, train_loop
from tests import golden_data

GOLDEN = np.load(golden_data.path("lr_schedule_ns.npz"))
CASES = json.loads(golden_data.path("lr_schedule_ns.json").read_text())


@pytest.mark.parametrize("name", sorted(CASES))
def test_rates_equal_the_original(name):
    case = CASES[name]
    schedule = schedules.WarmupExponentialDecay(
        case["scaled_lr"],
        steps_per_epoch=case["steps_per_epoch"],
        decay_epochs=case["decay_epochs"],
        decay_rate=case["decay_factor"],
        warmup_epochs=case["warmup_epochs"],
        start_step=case["start_from_step"],
    )
    steps = GOLDEN[f"{name}/steps"]
    np.testing.assert_allclose(
        schedule(tf.constant(steps)), GOLDEN[f"{name}/lr"], rtol=1e-5
    )


@pytest.mark.parametrize("name", sorted(CASES))
def test_epochs_equal_the_original(name):
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    given = CASES[name]["flags"].items()
    flag_values(["program", *(f"--{flag}={value}" for flag, value in given)])
    config = flags_lib.config_from_flags(flag_values).train
    # Its global step is that of the steps before.
    finished = GOLDEN[f"{name}/steps"] + 1
    np.testing.assert_allclose(
        loop_metrics.epoch(config, finished),
        GOLDEN[f"{name}/epoch"],
        rtol=1e-5,
    )


WHOLE_RUNS = sorted(n for n in CASES if not CASES[n]["start_from_step"])


@pytest.mark.parametrize("name", WHOLE_RUNS)
def test_a_run_of_the_originals_flags_has_its_rates(name):
    case = CASES[name]
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(["program", *(f"--{k}={v}" for k, v in case["flags"].items())])
    config = flags_lib.config_from_flags(flag_values).train
    schedule = train_loop.build_optimizer(config)._learning_rate
    assert config.steps_per_epoch == pytest.approx(case["steps_per_epoch"])
    steps = GOLDEN[f"{name}/steps"]
    np.testing.assert_allclose(
        schedule(tf.constant(steps)), GOLDEN[f"{name}/lr"], rtol=1e-5
    )


FINAL_RATE_CASES = sorted(n for n in CASES if "final" in n)


@pytest.mark.parametrize("name", FINAL_RATE_CASES)
def test_final_rate_sets_the_originals_decay_interval(name):
    case = CASES[name]
    train = case["after_main"]
    batch_size = case["flags"]["train_batch_size"]
    decay_epochs = schedules.decay_epochs_for_final_rate(
        train["base_learning_rate"],
        case["flags"]["final_base_lr"],
        train_epochs=train["train_steps"]
        * batch_size
        / train["num_train_images"],
    )
    assert decay_epochs == pytest.approx(case["decay_epochs"], rel=1e-9)


def test_rate_scales_with_the_labeled_batch():
    assert schedules.scaled_learning_rate(0.016, 2048) == pytest.approx(0.128)


def test_no_warmup_starts_at_the_full_rate():
    schedule = schedules.WarmupExponentialDecay(
        0.5, steps_per_epoch=10, decay_epochs=1, warmup_epochs=0
    )
    np.testing.assert_allclose(schedule(0), 0.5)
    np.testing.assert_allclose(schedule(10), 0.5 * 0.97, rtol=1e-6)


def test_schedule_survives_serialisation():
    schedule = schedules.WarmupExponentialDecay(
        0.5, steps_per_epoch=7.5, decay_epochs=1.5, start_step=3
    )
    copy = tf.keras.optimizers.schedules.deserialize(
        tf.keras.optimizers.schedules.serialize(schedule)
    )
    assert copy.get_config() == schedule.get_config()
    np.testing.assert_allclose(copy(100), schedule(100))


@pytest.mark.parametrize(
    "change",
    [
        {"steps_per_epoch": 0},
        {"decay_epochs": -1},
        {"decay_rate": 0},
        {"warmup_epochs": -1},
        {"start_step": -1},
    ],
)
def test_out_of_range_arguments_are_named(change):
    ((name, value),) = change.items()
    arguments = {"steps_per_epoch": 1, **change}
    with pytest.raises(ValueError, match=rf"`{name}` .* Received: {value}\."):
        schedules.WarmupExponentialDecay(0.1, **arguments)


def test_final_rate_must_be_lower():
    with pytest.raises(ValueError, match="`final_base_lr`.*Received: 0.2"):
        schedules.decay_epochs_for_final_rate(0.1, 0.2, train_epochs=10)


def test_final_rate_needs_epochs_beyond_warmup():
    with pytest.raises(ValueError, match="5 warm-up epochs.*4.00 epochs"):
        schedules.decay_epochs_for_final_rate(0.1, 0.01, train_epochs=4)
