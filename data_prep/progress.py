"""Progress lines with an estimate of the time left."""

import time

from absl import logging


class Progress:
    """Logs how far a long step is, at most every few seconds.

    Args:
        name: What is being done.
        total: Units of work in all.
        done: Units that an earlier run had finished; they do not count for
            the speed.
        every_seconds: Least time between two lines.
    """

    def __init__(self, name, *, total, done=0, every_seconds=5.0):
        self._name = name
        self._total = total
        self._done = self._first = done
        self._every_seconds = every_seconds
        self._started = self._last_line = time.monotonic()

    def advance(self, number=1, note=""):
        """Adds finished units; logs a line if the last one is old enough.

        Args:
            number: Units finished since the last call.
            note: Put at the end of the line.
        """
        self._done += number
        now = time.monotonic()
        finished = self._done >= self._total
        if now - self._last_line < self._every_seconds and not finished:
            return
        self._last_line = now
        elapsed = now - self._started
        rate = self._rate()
        left = self.seconds_left
        logging.info(
            "%s: %d of %d (%.0f %%), %.1f/s, %s%s",
            self._name,
            self._done,
            self._total,
            100 * self._done / self._total,
            rate,
            f"took {elapsed:.0f} s" if finished else f"{left:.0f} s left",
            f", {note}" if note else "",
        )

    @property
    def seconds_left(self):
        """Estimate of the seconds until all is done, from the mean speed.

        It needs some finished work.
        """
        return (self._total - self._done) / self._rate()

    def _rate(self):
        elapsed = max(time.monotonic() - self._started, 1e-9)
        return (self._done - self._first) / elapsed
