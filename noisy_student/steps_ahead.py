"""Steps of a network that start before the result of the last is asked for."""

import collections
import concurrent.futures

import tensorflow as tf


class StepsAhead:
    """Computes batches in order, some at a time, so that devices need not wait.

    Args:
        step: Function of what a step computes from.
        threads: Steps that are started at a time. More than one where `step`
            returns when all is computed, as on a processor; none where it and
            the batches take part in collectives, whose order must be the same
            on all workers.
    """

    def __init__(self, step, threads=1):
        self._step = step
        self._threads = threads
        self._started = collections.deque()

    @property
    def is_idle(self):
        """Whether all started steps are computed."""
        return all(result.done() for _, result in self._started)

    def run(self, batches):
        """Yields the results of `step` in order.

        Args:
            batches: Iterable of pairs: what is kept beside the result, and what
                the step computes from.

        Yields:
            Pairs of what was kept and the result.
        """
        if not self._threads:
            for kept, batch in batches:
                yield kept, self._step(batch)
            return
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            for kept, batch in batches:
                result = pool.submit(self._step, batch)
                self._started.append((kept, result))
                if len(self._started) > self._threads:
                    yield self._next()
            while self._started:
                yield self._next()

    def _next(self):
        kept, result = self._started.popleft()
        return kept, result.result()


def num_threads(strategy):
    """Returns how many steps should start at a time on one worker.

    A processor computes a step before the call returns, and leaves a tenth of
    two cores idle; other devices queue steps.

    Args:
        strategy: `tf.distribute` strategy.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return 1
    return 1 if tf.config.list_logical_devices("GPU") else 2
