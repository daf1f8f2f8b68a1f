"""Tests of steps that start ahead of what is asked for."""

import threading

import pytest

from noisy_student import steps_ahead


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_results_come_in_order(threads):
    ahead = steps_ahead.StepsAhead(lambda x: x * x, threads)
    pairs = [(f"kept {i}", i) for i in range(7)]
    assert list(ahead.run(pairs)) == [(f"kept {i}", i * i) for i in range(7)]
    assert ahead.is_idle


@pytest.mark.parametrize("number", [0, 1])
def test_few_batches_are_no_problem(number):
    ahead = steps_ahead.StepsAhead(lambda x: x, 3)
    assert len(list(ahead.run([(None, 0)] * number))) == number


def test_as_many_steps_as_threads_go_on_at_a_time():
    meeting = threading.Barrier(2, timeout=30)
    ahead = steps_ahead.StepsAhead(lambda _: meeting.wait(), 2)
    assert len(list(ahead.run([(None, None)] * 4))) == 4


def test_without_threads_steps_take_turns_with_batches():
    # Where both are collectives, all workers must agree on their order.
    calls = []

    def note(name):
        calls.append((name, threading.get_ident()))

    def batches():
        for i in range(3):
            note(f"batch {i}")
            yield None, i

    ahead = steps_ahead.StepsAhead(lambda i: note(f"step {i}"), 0)
    assert len(list(ahead.run(batches()))) == 3
    assert [name for name, _ in calls] == [
        f"{kind} {i}" for i in range(3) for kind in ("batch", "step")
    ]
    assert {thread for _, thread in calls} == {threading.get_ident()}


def test_no_more_batches_are_taken_than_are_computed():
    taken, seen = [], []

    def batches():
        for i in range(6):
            taken.append(i)
            yield i, i

    for kept, _ in steps_ahead.StepsAhead(lambda x: x, 2).run(batches()):
        seen.append(len(taken) - kept)
    # The one that is given, and two that are computed.
    assert max(seen) == 3


def test_an_error_of_a_step_is_raised():
    def step(number):
        if number == 2:
            raise ValueError("the third")
        return number

    results = steps_ahead.StepsAhead(step, 2).run((i, i) for i in range(5))
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)
