"""How messages list names; needs no TensorFlow."""

_MOST_NAMES = 5


def first_names(names):
    """Returns the first five names and how many follow, in one line."""
    more = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES]) or "none"
    return f"{shown} and {more} more" if more > 0 else shown
