"""How much memory the C library keeps back for a process's threads."""

import ctypes
import os
import sys

from data_prep import cores

_M_ARENA_MAX = -8
_ENVIRONMENT = "MALLOC_ARENA_MAX"


def limit_arenas():
    """Lets threads share as many pools of memory as there are processors.

    glibc gives up to eight pools to every processor. Records that one thread
    reads and another frees leave holes in all of them, so that the resident
    memory of a long stream of photos came to nearly twice what it held. A pool
    for each processor takes no more time. Elsewhere than on glibc, and where
    the environment sets `MALLOC_ARENA_MAX`, nothing happens.
    """
    if sys.platform != "linux" or _ENVIRONMENT in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, cores.count())
