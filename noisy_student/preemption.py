"""Ends a run in an orderly way when the machine or its user asks for it.

A run that gets SIGTERM or SIGINT finishes the steps under way, saves, and ends
with 128 plus the signal's number (143, 130), as a shell reports such an end.
The same command goes on from there. A second signal ends it at once.
"""

import contextlib
import os
import signal
import threading

from absl import logging

from data_prep import command_line

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Watch:
    """Takes note of the first signal.

    Attributes:
        signal: It, a `signal.Signals`; None as long as there is none.
    """

    def __init__(self):
        self.signal = None

    def listen(self, descriptor):
        """Takes note of signals until the pipe they come through is closed.

        Args:
            descriptor: Where the numbers of signals can be read, one a byte.
        """
        while number := os.read(descriptor, 1):
            received = signal.Signals(number[0])
            if received not in _SIGNALS:
                continue
            if self.signal is not None:
                os._exit(128 + received)
            self.signal = received
            logging.warning(
                "%s: finishing the steps under way, then saving; a second one "
                "ends the run at once.",
                received.name,
            )


def stopped(received, step):
    """Returns the error that ends a run after a step that is saved.

    Args:
        received: The number of the signal.
        step: Steps finished.
    """
    return command_line.Stopped(
        f"{signal.Signals(received).name} came; step {step} is saved, and the "
        "same command goes on from there.",
        128 + received,
    )


@contextlib.contextmanager
def watch():
    """Yields a `Watch` that takes note of SIGTERM and SIGINT in the block.

    Outside of the main thread, which alone may ask for signals, nothing is
    watched.
    """
    watched = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watched
        return
    # Steps are one call of TensorFlow's, during which Python runs no handler;
    # but it writes to this pipe at once, and another thread reads it.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = threading.Thread(target=watched.listen, args=[reader], daemon=True)
    thread.start()
    # One that is ignored, as SIGINT is in the background of a script, stays so.
    handlers = {
        number: signal.signal(number, lambda *_: None)
        for number in _SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield watched
    finally:
        signal.set_wakeup_fd(former)
        for number, handler in handlers.items():
            # None is a handler that was not installed from Python.
            signal.signal(number, handler or signal.SIG_DFL)
        os.close(writer)
        thread.join()
        os.close(reader)
