"""Means of a few paired differences, and how far they can be trusted."""

import math
import statistics
from typing import NamedTuple

_CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and its 95 % confidence interval, from Student's t.

    Attributes:
        mean: Of the values.
        low: Lower end.
        high: Upper end.
        count: Number of values.
    """

    mean: float
    low: float
    high: float
    count: int


def interval(values):
    """Returns the `Interval` of the mean of at least two values.

    Args:
        values: Sequence of floats, independent of each other.

    Raises:
        ValueError: If there are fewer than two.
    """
    count = len(values)
    if count < 2:
        raise ValueError(
            f"`values` must be at least two. Received: {list(values)}."
        )
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(count)
    half_width = quantile(_CONFIDENCE, count - 1) * error
    return Interval(mean, mean - half_width, mean + half_width, count)


def quantile(probability, degrees):
    """Returns t such that |T| < t has a probability.

    Args:
        probability: In (0, 1).
        degrees: Degrees of freedom of T, int >= 1.

    Returns:
        A float, found by bisection.
    """
    low, high = 0.0, 1.0
    while central_probability(high, degrees) < probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        if central_probability(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def central_probability(t, degrees):
    """Returns the probability of |T| < t of Student's distribution.

    Args:
        t: >= 0.
        degrees: Degrees of freedom, int >= 1.

    Source:
        Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and
        26.7.4: finite sums, as the degrees are whole.
    """
    angle = math.atan(t / math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    is_odd = degrees % 2
    term = cosine if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + is_odd, degrees - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if is_odd:
        return 2 / math.pi * (angle + sine * total)
    return sine * total
