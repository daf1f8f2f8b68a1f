import signal
import subprocess
import sys
import threading
import time

import pytest

from noisy_student import preemption

pytestmark = pytest.mark.slow

# Signals come while TensorFlow runs steps, without a return to Python.
IN_A_LOOP = """
import os, signal, threading, time
import tensorflow as tf
from noisy_student import preemption

@tf.function(autograph=False)
def steps(count):
    return tf.while_loop(lambda n: n < count, lambda n: n + 1, [tf.constant(0)])

def send(numbers):
    for number in numbers:
        time.sleep(1)
        os.kill(os.getpid(), number)

steps(tf.constant(1))
with preemption.watch() as watch:
    threading.Thread(target=send, args=[{numbers}], daemon=True).start()
    if len({numbers}) > 1:
        steps(tf.constant(10**9))
    time.sleep(2)
    print(watch.signal.name)
"""


@pytest.mark.parametrize(
    ("numbers", "status", "output"),
    [([15], 0, "SIGTERM\n"), ([15, 2], 130, ""), ([2, 15], 143, "")],
)
def test_a_first_signal_is_noted_and_a_second_ends_at_once(
    numbers, status, output
):
    result = subprocess.run(
        [sys.executable, "-c", IN_A_LOOP.format(numbers=numbers)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stdout) == (status, output)
    assert "finishing the steps under way" in result.stderr


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with preemption.watch() as watch:
        assert signal.getsignal(signal.SIGTERM) is not before
        assert watch.signal is None
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_so():
    # As SIGINT is where a script starts a command in the background.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with preemption.watch() as watch:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.2)
            assert watch.signal is None
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_trains_without_watching():
    seen = []

    def train():
        with preemption.watch() as watch:
            seen.append(watch.signal)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [None]


def test_the_status_is_that_of_a_process_ended_by_the_signal():
    watch = preemption.Watch()
    watch.signal = signal.SIGTERM
    stopped = preemption.stopped(watch.signal, 7)
    assert stopped.exit_code == 143
    assert "step 7 is saved" in str(stopped)
