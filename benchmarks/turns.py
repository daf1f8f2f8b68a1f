"""Measurements by turns, and the ratios of neighbouring ones.

Other work on a machine then slows all contenders alike.
"""

import time

import numpy as np


def by_turns(measurements, runs, *, warm_ups=1):
    """Takes measurements by turns, in every other run from last to first.

    Args:
        measurements: Functions without arguments, each of which returns a
            number or several.
        runs: How often each is called and counted.
        warm_ups: Runs before them that are not counted.

    Returns:
        float64 [runs, measurements], and a last axis of what one returns.
    """
    results = []
    for run in range(-warm_ups, runs):
        order = list(enumerate(measurements))[:: -1 if run % 2 else 1]
        taken = {index: measurement() for index, measurement in order}
        if run >= 0:
            results.append([taken[index] for index in range(len(taken))])
    return np.array(results, np.float64)


def median_and_middle_half(ratios):
    """Returns the 50th, 25th and 75th percentile of ratios, one of each run."""
    low, median, high = np.percentile(ratios, [25, 50, 75])
    return median, low, high


def pass_over(dataset):
    """Returns a measurement of a `tf.data.Dataset` from its second element on.

    The first one waits until all functions are optimized and instantiated.

    Returns:
        A function that makes one pass and returns (seconds, seconds of
        processor time).
    """

    def measure():
        elements = iter(dataset)
        next(elements)
        cpu, started = time.process_time(), time.perf_counter()
        for _ in elements:
            pass
        seconds = time.perf_counter() - started
        return seconds, time.process_time() - cpu

    return measure
