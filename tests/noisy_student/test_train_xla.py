"""The whole training step under XLA: it lowers, compiles, and is the same."""

import contextlib
import re
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute import distribute_lib, tpu_strategy

import efficientnet
from noisy_student import config, moving_average, optimizers, train
from noisy_student import schedules as schedules_lib
from tests.noisy_student import networks

pytestmark = pytest.mark.slow

# What a TPU's program cannot do, or does by a visit to the host.
ON_THE_HOST = re.compile(
    r"custom-call|infeed|outfeed|send\(|recv\(|send-done|recv-done|PyFunc|"
    r"callback|host_compute",
    re.I,
)
SOFT_RATIO_3 = config.PseudoLabelConfig(
    unlabeled_ratio=3, label_type="soft", temperature=0.5, online=True
)


def step_config(num_classes, **changes):
    return config.StepConfig(
        num_classes=num_classes, pseudo_labels=SOFT_RATIO_3, **changes
    )


def schedule():
    return schedules_lib.WarmupExponentialDecay(
        0.01, steps_per_epoch=2, warmup_epochs=1
    )


def step_function(state, teacher, settings, batch, **options):
    """Returns a function of the batch's tensors, in the order of its names."""

    @tf.function(autograph=False, **options)
    def step(*tensors):
        return train.train_step(
            state, dict(zip(sorted(batch), tensors)), settings, teacher
        )

    return step


def lowered(state, teacher, settings, batch):
    """Returns the text of the HLO of a step; compiles nothing."""
    step = step_function(state, teacher, settings, batch, jit_compile=True)
    specs = [
        tf.TensorSpec(batch[name].shape, batch[name].dtype)
        for name in sorted(batch)
    ]
    return step.experimental_get_compiler_ir(*specs)(stage="hlo")


@pytest.fixture
def policy(request):
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.long
@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b7"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"], indirect=True)
def test_the_step_of_a_large_network_lowers_without_the_host(name, policy):
    size = efficientnet.get_config(name).image_size
    state = train.create_state(
        efficientnet.build_model(name, image_size=size),
        optimizers.RMSprop(schedule()),
    )
    teacher = efficientnet.build_model(name, image_size=size)
    teacher.trainable = False
    batch = {
        "labeled_images": tf.TensorSpec([2, size, size, 3], tf.float32),
        "labeled_labels": tf.TensorSpec([2], tf.int64),
        "unlabeled_images": tf.TensorSpec([6, size, size, 3], tf.float32),
        "unlabeled_teacher_images": tf.TensorSpec(
            [6, size, size, 3], tf.float32
        ),
    }
    hlo = lowered(state, teacher, step_config(1000), batch)
    assert "convolution" in hlo
    assert ("bf16[" in hlo) == (policy == "mixed_bfloat16")
    assert not ON_THE_HOST.search(hlo)


def test_a_visit_to_the_host_would_be_noticed():
    @tf.function(jit_compile=True)
    def step(x):
        return tf.numpy_function(np.square, [x], tf.float32)

    spec = tf.TensorSpec([2], tf.float32)
    try:
        hlo = step.experimental_get_compiler_ir(spec)(stage="hlo")
    except (tf.errors.OpError, ValueError, TypeError) as error:
        assert "PyFunc" in str(error)
    else:
        assert ON_THE_HOST.search(hlo)


def trained(jit_compile, settings, **noise):
    """Returns metrics, weights and averages of three steps."""
    tf.keras.utils.set_random_seed(0)
    state = train.create_state(
        networks.two_blocks(**noise), optimizers.RMSprop(schedule())
    )
    teacher = networks.two_blocks()
    batch = networks.batch(4, 12, teacher_size=networks.IMAGE_SIZE)
    step = step_function(
        state, teacher, settings, batch, jit_compile=jit_compile
    )
    metrics = [step(*(batch[name] for name in sorted(batch))) for _ in range(3)]
    weights = moving_average.named_weights(state.model)
    return metrics, weights, state.moving_average.shadows


def test_a_compiled_step_equals_the_uncompiled_one():
    # Without noise: XLA draws other numbers from the same seed.
    (metrics, *weights), (expected, *expected_weights) = (
        trained(compiled, step_config(networks.NUM_CLASSES))
        for compiled in (True, False)
    )
    for step, expected_step in zip(metrics, expected):
        for name, value in expected_step.items():
            np.testing.assert_allclose(
                step[name], value, rtol=1e-4, atol=1e-5, err_msg=name
            )
    for values, expected_values in zip(weights, expected_weights):
        for name, value in expected_values.items():
            np.testing.assert_allclose(
                values[name], value, rtol=1e-3, atol=1e-4, err_msg=name
            )


@pytest.mark.long
def test_noise_of_a_compiled_step_depends_on_the_seed_alone():
    first, again, other = (
        trained(
            True,
            step_config(4, label_data_sample_prob=0.5, seed=seed),
            survival_prob=0.5,
            dropout_rate=0.5,
        )[0][-1]["loss"]
        for seed in (1, 1, 2)
    )
    assert np.isfinite(first)
    assert float(first) == float(again)
    assert float(first) != float(other)


def test_a_tpu_strategy_can_build_the_step(monkeypatch):
    """The step passes through what `TPUStrategy.run` makes of a function.

    It turns all arguments into tensors. Without a TPU its replica context
    cannot be entered, and the program not be compiled.
    """

    class Strategy:
        num_replicas_in_sync = 2
        scope = staticmethod(contextlib.nullcontext)

        def run(self, fn, args):
            extended = types.SimpleNamespace(
                _container_strategy=lambda: self,
                _use_spmd_for_xla_partitioning=False,
                _device_assignment=None,
                _tpu_function_cache={},
            )
            create = tpu_strategy.TPUExtended._tpu_function_creator
            function = create(extended, fn, distribute_lib.RunOptions())
            return function(args, {})

        def reduce(self, op, value, axis):
            return value

    monkeypatch.setattr(
        tpu_strategy,
        "_TPUReplicaContext",
        lambda *_, **__: contextlib.nullcontext(),
    )
    state = train.create_state(networks.two_blocks(), optimizers.RMSprop(0.1))
    state.strategy = Strategy()
    batch = networks.batch(4)
    step = step_function(
        state, None, config.StepConfig(networks.NUM_CLASSES), batch
    )
    graph = step.get_concrete_function(
        *(batch[name] for name in sorted(batch))
    ).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert {"TPUReplicateMetadata", "TPUReplicatedInput"} <= kinds
