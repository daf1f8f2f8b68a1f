import os
import signal
import threading

import pytest

from noisy_student import preemption


def test_a_second_signal_acts_at_once():
    with pytest.raises(KeyboardInterrupt), preemption.watch() as watch:
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with preemption.watch() as watch:
        assert signal.getsignal(signal.SIGTERM) is not before
        assert watch.signal is None
    assert signal.getsignal(signal.SIGTERM) is before


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
