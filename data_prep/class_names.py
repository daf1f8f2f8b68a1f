"""Names of classes: ImageNet's thousand, or those in a file.

`imagenet_classes.txt` holds a line `synset<TAB>name` per class, in the order of
the logits, which is the alphabetical order of the synset ids. A name is the
synset's list of words in WordNet 3.0, Copyright 2006 by Princeton University;
its licence allows any use that keeps the notice.
"""

import functools
import json
import os

from data_prep import files

NUM_IMAGENET_CLASSES = 1000

_IMAGENET_FILE = os.path.join(os.path.dirname(__file__), "imagenet_classes.txt")


@functools.lru_cache(maxsize=1)
def imagenet_classes():
    """Returns the classes of ImageNet in label order.

    Returns:
        Tuple of 1000 pairs (synset id, name), such as
        ("n01440764", "tench, Tinca tinca"). Two names are equal: a crane is a
        bird and a machine.
    """
    with open(_IMAGENET_FILE, encoding="utf-8") as file:
        return tuple(tuple(line.rstrip("\n").split("\t")) for line in file)


@functools.lru_cache(maxsize=1)
def imagenet_labels():
    """Returns a dict from the synset ids of ImageNet to labels, 0-based."""
    return {synset: i for i, (synset, _) in enumerate(imagenet_classes())}


def numbers(num_classes):
    """Returns the names of classes that are their labels, from "0" up."""
    return tuple(map(str, range(num_classes)))


def in_label_order(names):
    """Returns names of class folders, a tuple, in the order of their labels.

    That of the text, but numbers from 0 up, each once, are the labels.

    Args:
        names: Iterable of str.
    """
    names = sorted(names)
    wanted = numbers(len(names))
    return wanted if set(names) == set(wanted) else tuple(names)


def read_class_names(path):
    """Reads the names of classes in label order.

    Args:
        path: A JSON list of strings if it ends in `.json`, else text with a
            class per line; of `synset<TAB>name` the name is taken. Blank
            lines do not count.

    Returns:
        Tuple of str.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no list of names.
    """
    path = os.fspath(path)
    if not files.exists(path) or files.is_dir(path):
        raise FileNotFoundError(f"Class names: no file {path!r}.")
    if path.endswith(".json"):
        names = files.read_json(path)
    else:
        names = _read_lines(path)
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            f"Class names: {path!r} must hold a list of names. Received: "
            f"{json.dumps(names)[:60]}."
        )
    return tuple(names)


def _read_lines(path):
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Class names: {path!r} is not text: {error}."
        ) from error
    lines = (line.strip() for line in text.splitlines())
    return [line.split("\t")[-1] for line in lines if line]
