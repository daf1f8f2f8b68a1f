"""Tests of the intervals against tables and by hand."""

import math

import pytest

from noisy_student.experiments import student_t


# Source: Abramowitz and Stegun, Table 26.10, and 12.7062 by closed form.
@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (9, 2.262),
        (10, 2.228),
        (30, 2.042),
        (120, 1.980),
    ],
)
def test_quantiles_are_those_of_the_tables(degrees, expected):
    found = student_t.quantile(0.95, degrees)
    assert found == pytest.approx(expected, abs=5e-4)


def test_closed_forms_of_one_and_two_degrees():
    for t in (0.3, 1.0, 7.0):
        assert student_t.central_probability(t, 1) == pytest.approx(
            2 * math.atan(t) / math.pi
        )
        assert student_t.central_probability(t, 2) == pytest.approx(
            t / math.sqrt(2 + t * t)
        )


def test_an_interval_by_hand():
    # Mean 2, deviation 1, standard error 1 / sqrt(3), t = 4.30265.
    found = student_t.interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)
    assert found == pytest.approx((2.0, 2.0 - half, 2.0 + half, 3))


def test_equal_values_leave_no_doubt():
    assert student_t.interval([0.5, 0.5]) == (0.5, 0.5, 0.5, 2)


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="at least two. Received: \\[1.0\\]"):
        student_t.interval([1.0])
