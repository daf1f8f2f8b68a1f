"""What the files of a checkpoint are called; needs no TensorFlow."""

import os

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz")
INDEX_SUFFIX = ".index"
# Names the latest checkpoint of a directory.
STATE_FILE = "checkpoint"


def is_archive(path):
    """Returns whether a path is called like a `.tar.gz` archive."""
    return os.fspath(path).endswith(ARCHIVE_SUFFIXES)


def is_index(name):
    """Returns whether a name in a directory is that of a checkpoint's index."""
    return name.endswith(INDEX_SUFFIX) and not name.startswith(".")
