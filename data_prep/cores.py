"""The processor cores that a process may use."""

import os


def available():
    """Returns their numbers, ascending; None where no system call tells."""
    if not hasattr(os, "sched_getaffinity"):  # Linux has it.
        return None
    return sorted(os.sched_getaffinity(0))


def count():
    """Returns how many there are, at least 1."""
    return len(available() or ()) or os.cpu_count() or 1
