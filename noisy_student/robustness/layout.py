"""How the released folders of ImageNet-C and ImageNet-P lie in each other."""

import collections
import os

from absl import logging

from data_prep import files
from efficientnet.messages import first_names


def folder_of(directory, name, groups):
    """Returns the folder of a corruption or perturbation.

    Args:
        directory: The value of `--label_data_dir`.
        name: Such as "gaussian_noise".
        groups: {archive: names in it}; a folder of the archive's name may
            stand between.
    """
    for group, names in groups.items():
        folder = os.path.join(directory, group, name)
        if name in names and files.is_dir(folder):
            return folder
    return os.path.join(directory, name)


def check_root(directory, groups):
    """Checks a folder as a whole.

    Args:
        directory: The value of `--label_data_dir`.
        groups: As in `folder_of`; other folders are told by a warning.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds nothing of the benchmark, or something twice.
    """
    if not files.is_dir(directory):
        raise FileNotFoundError(
            f"--label_data_dir={directory}: no such folder."
        )
    found = set(files.list_folders(directory))
    names = set().union(*groups.values())
    others = found - names - set(groups)
    if not found & (names | set(groups)):
        raise ValueError(
            f"--label_data_dir={directory}: no folder of this benchmark in it, "
            f"such as {sorted(names)[0]!r}, but: {first_names(sorted(found))}."
        )
    for group in found & set(groups):
        inside = set(files.list_folders(os.path.join(directory, group)))
        others |= {f"{group}/{name}" for name in inside - set(groups[group])}
        if twice := sorted(found & inside & set(groups[group])):
            raise ValueError(
                f"--label_data_dir={directory} has twice, in {group!r} and "
                f"beside it: {first_names(twice)}."
            )
    if others := sorted(others):
        logging.warning(
            "--label_data_dir=%s: ignored, not of this benchmark: %s.",
            directory,
            first_names(others),
        )


def compare(folder, found, wanted, what):
    """Returns how names in a folder differ from what is wanted, or None.

    Args:
        folder: Where they are.
        found: Set of str.
        wanted: Set of str.
        what: What they are names of, in the plural.
    """
    parts = []
    for word, names in (("without", wanted - found), ("also", found - wanted)):
        if names:
            parts.append(f"{word} {first_names(sorted(names))}")
    if not parts:
        return None
    return f"{folder!r} has {len(found)} {what}, {'; '.join(parts)}"


def most_usual(found):
    """Returns what most of some frozensets are, of as many the larger.

    Args:
        found: Iterable of frozensets; none gives an empty one.
    """
    counts = collections.Counter(found)
    return max(counts, key=lambda s: (counts[s], len(s)), default=frozenset())


def require_complete(directory, problems):
    """Raises ValueError if there are problems, a list of str; names them."""
    if problems:
        raise ValueError(
            f"--label_data_dir={directory} is not complete: "
            f"{first_names(problems)}."
        )


def walk(directory, follow_links=True):
    """Yields the paths of files below a folder in order, without hidden ones.

    Args:
        directory: Local folder.
        follow_links: Whether to follow links to folders right in it.
    """
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        # A class folder may be a link to where the images are; deeper links
        # are not followed, as they may lead in a circle.
        if entry.is_dir(follow_symlinks=follow_links):
            yield from walk(entry.path, follow_links=False)
        else:
            yield entry.path
