import json
import types

import pytest
import tensorflow as tf

from noisy_student import config, strategy

LOCAL = "/job:localhost/replica:0/task:0/device:"


class FakeStrategy:
    """Stands for a `tf.distribute` strategy of devices that are not here."""

    def __init__(self, devices, resolver=None, num_replicas=None):
        self.extended = types.SimpleNamespace(worker_devices=devices)
        self.num_replicas_in_sync = num_replicas or len(devices)
        self.cluster_resolver = resolver


@pytest.fixture
def calls(monkeypatch):
    """Returns the calls that would touch devices, in order."""
    made = []

    def record(owner, name, result=None):
        def call(*args, **kwargs):
            made.append((name, args, kwargs))
            return result(*args) if callable(result) else result

        monkeypatch.setattr(owner, name, call)

    record(tf.config.experimental, "set_memory_growth")
    made.record = record
    return made


class Calls(list):
    """A list that can be told what else to record."""


@pytest.fixture
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(
        strategy.logging, "info", lambda text, *args: lines.append(text % args)
    )
    return lines
