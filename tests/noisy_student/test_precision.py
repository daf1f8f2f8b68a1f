import numpy as np
import pytest
import tensorflow as tf

from noisy_student import flags as flags_lib
from noisy_student import hardware_config, main, models, precision
from tests.noisy_student import fixtures
from tests.noisy_student.test_flags import parse

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize(
    ("asked", "on_tpu", "policy"),
    [
        (None, False, "float32"),
        (None, True, "mixed_bfloat16"),
        (False, True, "float32"),
        (True, False, "mixed_bfloat16"),
    ],
)
def test_the_hardware_decides_unless_the_user_does(asked, on_tpu, policy):
    strategy = tf.distribute.get_strategy()
    if on_tpu:
        strategy = object.__new__(tf.distribute.TPUStrategy)
    hardware = hardware_config.HardwareConfig(use_bfloat16=asked)
    precision.set_policy(hardware, strategy)
    assert tf.keras.mixed_precision.global_policy().name == policy
    network = models.build(fixtures.MODEL)
    compute = "bfloat16" if "bfloat16" in policy else "float32"
    assert network.get_layer("blocks_0").output.dtype == compute
    assert network.output.dtype == tf.float32
    assert {w.dtype for w in network.weights} == {tf.float32}


@pytest.mark.long
def test_a_run_trains_and_evaluates_in_the_precision_asked_for(
    tmp_path, monkeypatch
):
    fixtures.write_labeled(tmp_path / "data", "train", 12)
    fixtures.write_labeled(tmp_path / "data", "validation", 6)
    built = []
    real = models.build

    def build(model):
        built.append(real(model))
        return built[-1]

    monkeypatch.setattr(models, "build", build)
    flag_values = parse(
        "--mode=train_and_eval",
        "--use_bfloat16",
        f"--label_data_dir={tmp_path / 'data'}",
        f"--model_dir={tmp_path / 'run'}",
        "--num_label_classes=3",
        "--num_train_images=12",
        "--input_image_size=16",
        "--small_image_model",
        "--width_coefficient=0.1",
        "--depth_coefficient=0.1",
        "--train_batch_size=4",
        "--train_steps=2",
        define=flags_lib.define_flags,
    )
    main.main(flag_values)
    (network,) = built
    assert network.get_layer("head").compute_dtype == "bfloat16"
    assert all(np.all(np.isfinite(w)) for w in network.weights)
    report = (tmp_path / "run" / "report.json").read_text()
    assert "eval/top_1" in report
