"""Ends a run in an orderly way when the machine or its user asks for it.

A run that gets SIGTERM or SIGINT finishes the steps under way, saves, and ends
with 128 plus the signal's number (143, 130), as a shell reports such an end.
The same command goes on from there.
"""

import contextlib
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

    A second signal does what it did before the block. Outside of the main
    thread, which alone gets signals, nothing is watched.
    """
    watched = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watched
        return
    handlers = {name: signal.getsignal(name) for name in _SIGNALS}

    def restore():
        for name, handler in handlers.items():
            # None is a handler that was not installed from Python.
            signal.signal(name, handler or signal.SIG_DFL)

    def note(number, _):
        watched.signal = signal.Signals(number)
        restore()
        logging.warning(
            "%s: finishing the steps under way, then saving.",
            watched.signal.name,
        )

    for name in _SIGNALS:
        signal.signal(name, note)
    try:
        yield watched
    finally:
        restore()
