import json

import pytest
import tensorflow as tf

from noisy_student import config, strategy


def test_a_machine_without_accelerators_uses_its_cpu():
    created = strategy.create_strategy(config.HardwareConfig())
    assert isinstance(created, tf.distribute.OneDeviceStrategy)
    assert created.num_replicas_in_sync == 1


def test_virtual_devices_become_replicas():
    hardware = config.HardwareConfig(num_virtual_devices=2)
    created = strategy.create_strategy(hardware)
    assert created.num_replicas_in_sync == 2


def test_a_tpu_that_does_not_answer_is_named():
    hardware = config.HardwareConfig(use_tpu=True)
    with pytest.raises(ValueError, match="--tpu='local'"):
        strategy.create_strategy(hardware)


def test_several_workers_are_refused(monkeypatch):
    cluster = {"cluster": {"worker": ["localhost:0", "localhost:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ValueError, match="TF_CONFIG with 2 workers"):
        strategy.create_strategy(config.HardwareConfig())
