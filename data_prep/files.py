"""Small files written whole or not at all, on local disks and on `gs://`.

A file appears under its name only when it is complete: it is written under a
temporary, hidden name first and renamed. Local paths need no TensorFlow; any
path with a scheme (`gs://...`) goes through `tf.io.gfile`.
"""

import contextlib
import glob as glob_lib
import hashlib
import json
import os
import re
import reprlib
import shutil
import uuid

# Process ids of containers on different machines are often the same.
_MACHINE = uuid.uuid4().hex[:8]
_SAMPLE_BYTES = 1 << 16
# Class lists are too long for a message, paths are not.
_SHORT = reprlib.Repr()
_SHORT.maxstring = 300
_MOST_DIFFERENCES = 20
_ABSENT = object()
_SETTINGS_FILE = "config.json"
# What `temporary_path` makes of a name.
_TEMPORARY_NAME = re.compile(r"^\.(?P<name>.+)\.[\w-]+\.tmp$")


def is_remote(path):
    """Returns whether `path` has a scheme such as `gs://`."""
    return "://" in os.fspath(path)


def _gfile():
    # Imported on first use: local paths must not pay for TensorFlow.
    import tensorflow as tf

    return tf.io.gfile


def temporary_path(path):
    """Returns the hidden name to write to before `publish(temporary, path)`.

    The name tells processes apart, those of other machines too, so that two
    that write the same file never write into each other's copy.
    """
    folder, name = os.path.split(os.fspath(path))
    return os.path.join(folder, f".{name}.{os.getpid()}-{_MACHINE}.tmp")


def publish(temporary, path):
    """Renames a complete temporary file to `path`, replacing what was there."""
    path = os.fspath(path)
    if is_remote(path):
        _gfile().rename(temporary, path, overwrite=True)
        return
    # Without the two fsyncs a power cut may leave the name with no content.
    _fsync(temporary)
    os.replace(temporary, path)
    _fsync(os.path.dirname(path) or ".")


def _fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path, data):
    """Writes `data` to `path` atomically; missing folders are created."""
    path = os.fspath(path)
    make_dirs(os.path.dirname(path))
    temporary = temporary_path(path)
    try:
        with open_file(temporary, "wb") as file:
            file.write(data)
        publish(temporary, path)
    except BaseException as error:
        remove(temporary)
        if isinstance(error, OSError) and error.filename is None:
            # A full disk does not say which.
            error.filename = path
        raise


def write_json(path, value, *, indent=2):
    """Writes `value` to `path` as JSON with a final newline, atomically.

    Args:
        path: Local or remote path.
        value: Anything `json.dumps` takes; the order of keys is kept.
        indent: Spaces per level; None writes one line.
    """
    write_bytes(path, (json.dumps(value, indent=indent) + "\n").encode())


def open_file(path, mode):
    """Opens a local or remote file; `mode` as in `open`."""
    if is_remote(path):
        return _gfile().GFile(os.fspath(path), mode)
    return open(path, mode)


def read_bytes(path):
    """Returns the content of a file."""
    with open_file(path, "rb") as file:
        return file.read()


def read_json(path):
    """Returns the value in a JSON file; ValueError names a malformed one."""
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise ValueError(
            f"{os.fspath(path)!r} is not valid JSON: {error}."
        ) from error


def exists(path):
    """Returns whether `path` is a file or a folder."""
    if is_remote(path):
        return _gfile().exists(os.fspath(path))
    return os.path.exists(path)


def is_dir(path):
    """Returns whether `path` is a folder."""
    if is_remote(path):
        return _gfile().isdir(os.fspath(path))
    return os.path.isdir(path)


def size(path):
    """Returns the size of a file in bytes."""
    if is_remote(path):
        return _gfile().stat(os.fspath(path)).length
    return os.path.getsize(path)


def glob(pattern):
    """Returns the sorted paths that match a pattern with `*`, `?` or `[]`."""
    if is_remote(pattern):
        return sorted(_gfile().glob(os.fspath(pattern)))
    return sorted(glob_lib.glob(os.fspath(pattern)))


def fingerprint(paths):
    """Returns a short digest of files: their names, sizes, starts and ends.

    It tells one set of large files from another without reading them.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        length = size(path)
        name = os.path.basename(os.fspath(path)).encode()
        digest.update(b"%s\0%d\0" % (name, length))
        with open_file(path, "rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, length - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def fingerprint_unread(named_paths):
    """Returns a short digest of files: names, sizes and times of change.

    It reads none of them, so that there may be millions.

    Args:
        named_paths: Iterable of (name, path), in order; the name is what is
            to stay the same, however the path is spelled.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, path in named_paths:
        length, changed = _size_and_time(path)
        digest.update(os.fsencode(f"{name}\0{length}\0{changed}\0"))
    return digest.hexdigest()


def _size_and_time(path):
    """Returns the size of a file in bytes and when it changed, nanoseconds."""
    if is_remote(path):
        found = _gfile().stat(os.fspath(path))
        return found.length, found.mtime_nsec
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def list_names(directory):
    """Returns the sorted names in a folder; [] where there is no folder."""
    if not is_dir(directory):
        return []
    if is_remote(directory):
        names = _gfile().listdir(os.fspath(directory))
        return sorted(name.rstrip("/") for name in names)
    return sorted(os.listdir(directory))


def list_folders(directory):
    """Returns the sorted names of the folders in a folder, not hidden ones."""
    return [
        name
        for name in list_names(directory)
        if not name.startswith(".") and is_dir(os.path.join(directory, name))
    ]


def is_same(path, other):
    """Returns whether two paths are spelled differently at most."""
    return absolute(path) == absolute(other)


def absolute(path):
    """Returns a path that does not depend on the working directory."""
    path = os.fspath(path)
    return path.rstrip("/") if is_remote(path) else os.path.realpath(path)


def make_dirs(path):
    """Creates a folder and its parents; one that exists is left alone."""
    if not os.fspath(path):
        return
    if is_remote(path):
        _gfile().makedirs(os.fspath(path))
    else:
        os.makedirs(path, exist_ok=True)


def check_folder(flag, path):
    """Checks that `path` is a folder or can become one.

    Args:
        flag: Name of the flag that gave `path`, for the message.
        path: Local or remote path.

    Raises:
        ValueError: A file is in the way; names the flag and the file.
    """
    existing = os.fspath(path)
    while not is_remote(path) and existing and not exists(existing):
        existing = os.path.dirname(existing)
    if existing and exists(existing) and not is_dir(existing):
        raise ValueError(
            f"--{flag}={os.fspath(path)}: {existing!r} is a file, not a folder."
        )


@contextlib.contextmanager
def naming(origin):
    """Puts where something comes from before the message of an error.

    Args:
        origin: Such as "--input_dir=data".
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{origin}: {error}") from error


def remove(path):
    """Removes a file; one that does not exist is no error."""
    if is_remote(path):
        if exists(path):
            _gfile().remove(os.fspath(path))
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def remove_leftovers(folder, names):
    """Removes what killed runs left of files that have been written since.

    Args:
        folder: Where they are; one that does not exist is no error.
        names: Collection of the files' names.
    """
    names = frozenset(names)
    for name in list_names(folder):
        temporary = _TEMPORARY_NAME.match(name)
        if temporary and temporary["name"] in names:
            remove(os.path.join(folder, name))


def remove_folder(path):
    """Removes a folder and what is in it; none is no error."""
    if is_remote(path):
        if exists(path):
            _gfile().rmtree(os.fspath(path))
    else:
        shutil.rmtree(path, ignore_errors=True)


def check_settings(folder, settings):
    """Raises ValueError if `write_settings` left others in a folder."""
    if not has_settings(folder):
        return
    path = os.path.join(folder, _SETTINGS_FILE)
    if difference := describe_difference(read_json(path), settings):
        raise ValueError(
            f"{folder!r} holds a run with other settings: {difference}. Write "
            "to another folder, or delete this one first."
        )


def has_settings(folder):
    """Returns whether `write_settings` left some in a folder."""
    return exists(os.path.join(folder, _SETTINGS_FILE))


def write_settings(folder, settings):
    """Writes what a run in a folder depends on, a JSON-able dict."""
    write_json(os.path.join(folder, _SETTINGS_FILE), settings)


def describe_difference(before, now):
    """Returns how two configs differ, as "`a[0].b`: 1 before, 2 now; `c`: ...".

    Args:
        before: JSON-able dict, as read from a file.
        now: JSON-able dict; tuples count as lists, as JSON stores them.

    Returns:
        The empty string where they are equal. The first 20 differences are
        shown, further ones counted; lists of unequal lengths are one.
    """
    before, now = json.loads(json.dumps([before, now]))
    found = list(_differences(before, now, ""))
    if (more := len(found) - _MOST_DIFFERENCES) > 0:
        found[_MOST_DIFFERENCES:] = [f"and {more} more"]
    return "; ".join(found)


def _differences(before, now, name):
    """Yields how two values called `name` differ, part by part."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(
                before.get(key, _ABSENT),
                now.get(key, _ABSENT),
                f"{name}.{key}" if name else key,
            )
    elif (
        isinstance(before, list)
        and isinstance(now, list)
        and len(before) == len(now)
    ):
        for index, (old, new) in enumerate(zip(before, now)):
            yield from _differences(old, new, f"{name}[{index}]")
    elif before != now:
        old, new = (
            "absent" if value is _ABSENT else _SHORT.repr(value)
            for value in (before, now)
        )
        yield f"`{name}`: {old} before, {new} now"
