import os
import pathlib
import platform
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Threads that each allocate, and the number of pools this made.
COUNT_ARENAS = """
import ctypes, os, sys, tempfile, threading
from data_prep import process_memory

if "limit" in sys.argv:
    process_memory.limit_arenas()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
start = threading.Barrier(40)

def allocate():
    start.wait()
    for _ in range(1000):
        library.malloc(100)
    start.wait()

threads = [threading.Thread(target=allocate) for _ in range(40)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library.fopen.restype = ctypes.c_void_p
with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "info.xml")
    out = ctypes.c_void_p(library.fopen(path.encode(), b"w"))
    library.malloc_info(0, out)
    library.fclose(out)
    print(open(path).read().count("<heap nr="))
"""


def count_arenas(*arguments, **environment):
    result = subprocess.run(
        [sys.executable, "-c", COUNT_ARENAS, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc",
    reason="another C library",
)
def test_threads_share_as_many_pools_as_there_are_processors():
    processors = len(os.sched_getaffinity(0))
    assert count_arenas() > processors
    assert count_arenas("limit") <= processors
    # What a user sets counts.
    chosen = processors + 2
    found = count_arenas("limit", MALLOC_ARENA_MAX=str(chosen))
    assert processors < found <= chosen
