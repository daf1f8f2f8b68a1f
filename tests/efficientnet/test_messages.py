"""How messages list names."""

import pytest

from efficientnet import messages


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "none"),
        (("a",), "a"),
        (list("abcde"), "a, b, c, d, e"),
        (list("abcdefg"), "a, b, c, d, e and 2 more"),
    ],
)
def test_five_names_are_shown_and_further_ones_counted(names, expected):
    assert messages.first_names(names) == expected
