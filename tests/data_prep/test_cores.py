"""How many cores a process may use."""

from data_prep import cores


def test_cores_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr(
        cores.os, "sched_getaffinity", lambda process: {8, 3, 5}, raising=False
    )
    assert cores.available() == [3, 5, 8]
    assert cores.count() == 3


def test_elsewhere_they_are_those_of_the_machine(monkeypatch):
    monkeypatch.delattr(cores.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 7)
    assert cores.available() is None
    assert cores.count() == 7
    monkeypatch.setattr(cores.os, "cpu_count", lambda: None)
    assert cores.count() == 1
