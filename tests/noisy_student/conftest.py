"""Fixtures that the tests of the report share."""

import sys

import pytest
from absl import logging

import data_prep
from tests.noisy_student import report_run


@pytest.fixture
def work(tmp_path):
    """Returns (work_dir, report) of a small run."""
    return report_run.write(tmp_path)


@pytest.fixture
def warned(monkeypatch, caplog):
    """Returns a function that returns the warnings logged so far."""
    monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
    caplog.set_level("WARNING", logger="absl")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "data_prep.plots", raising=False)
    monkeypatch.delattr(data_prep, "plots", raising=False)


@pytest.fixture
def drawn(monkeypatch):
    """Replaces the slow charts; returns {function: arguments, light theme}."""
    from data_prep import plots

    calls = {}

    def replace(name):
        def draw(*args, theme, **kwargs):
            if theme == plots.LIGHT:
                calls.setdefault(name, []).append((args, kwargs))
            return f"{name} {theme.background}".encode()

        monkeypatch.setattr(plots, name, draw)

    for name in (
        "curves",
        "confidence_histogram",
        "class_counts",
        "contact_sheet",
    ):
        replace(name)
    return calls
