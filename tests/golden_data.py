"""Where the golden data of the tests lies."""

import pathlib

_FOLDER = pathlib.Path(__file__).parent / "golden"


def path(name):
    """Returns the path of a file in tests/golden; the file must exist."""
    found = _FOLDER / name
    if not found.exists():
        raise FileNotFoundError(f"No golden file {name!r} in {_FOLDER}.")
    return found
