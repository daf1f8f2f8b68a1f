"""Tests of progress lines."""

import pytest

from data_prep import progress


@pytest.fixture(name="clock")
def _clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(name="lines")
def _lines(monkeypatch):
    lines = []
    monkeypatch.setattr(
        progress.logging,
        "info",
        lambda message, *args: lines.append(message % args),
    )
    return lines


def test_a_line_tells_speed_and_time_left(clock, lines):
    meter = progress.Progress("images", total=100, every_seconds=5)
    clock[0] += 10
    meter.advance(20)
    assert lines == ["images: 20 of 100 (20 %), 2.0/s, 40 s left"]


def test_lines_are_rare(clock, lines):
    meter = progress.Progress("images", total=100, every_seconds=5)
    for _ in range(20):
        clock[0] += 1
        meter.advance()
    assert len(lines) == 4


def test_work_of_an_earlier_run_does_not_count_for_the_speed(clock, lines):
    meter = progress.Progress("images", total=100, done=90, every_seconds=5)
    clock[0] += 5
    meter.advance(5)
    assert lines == ["images: 95 of 100 (95 %), 1.0/s, 5 s left"]


def test_the_end_is_always_told(clock, lines):
    meter = progress.Progress("images", total=2, every_seconds=1000)
    meter.advance()
    clock[0] += 4
    meter.advance()
    assert lines == ["images: 2 of 2 (100 %), 0.5/s, took 4 s"]


def test_a_note_ends_the_line(clock, lines):
    meter = progress.Progress("steps", total=2, every_seconds=5)
    clock[0] += 5
    meter.advance(note="loss 1.5")
    assert lines == ["steps: 1 of 2 (50 %), 0.2/s, 5 s left, loss 1.5"]


def test_the_time_left_is_known_between_lines(clock, lines):
    meter = progress.Progress("steps", total=100, done=40, every_seconds=50)
    clock[0] += 10
    meter.advance(20)
    assert not lines
    assert meter.seconds_left == 20
