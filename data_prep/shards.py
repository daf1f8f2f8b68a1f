"""Names of shards, how a set of them is found, and the manifest beside them."""

import collections
import dataclasses
import fnmatch
import os
import re

from data_prep import files

_SHARD_NAME = re.compile(
    r"^(?P<split>.+)-(?P<index>\d{5,})-of-(?P<total>\d{5,})"
    r"(?P<worker>-\d{5,})?$"
)
_GLOB_CHARACTERS = frozenset("*?[")


def shard_name(split, index, num_shards):
    """Returns the file name of an image shard: `train-00000-of-00004`."""
    return f"{split}-{index:05d}-of-{num_shards:05d}"


def prediction_name(split, index, num_shards, worker=0):
    """Returns the file name of the predictions for one image shard."""
    return f"{shard_name(f'{split}-info', index, num_shards)}-{worker:05d}"


def info_name(index, num_shards, worker=0):
    """Returns the name of the text file that counts a prediction shard."""
    return f"{shard_name('info', index, num_shards)}-{worker:05d}.txt"


def parse_name(name):
    """Splits the file name of a shard into its parts.

    Returns:
        Match with the str groups `split`, `index`, `total` and `worker` (None
        but for predictions), or None for any other file name.
    """
    return _SHARD_NAME.match(name)


def pattern_of(path):
    """Returns the pattern of the set a shard belongs to, None for others."""
    folder, name = os.path.split(path)
    parsed = parse_name(name)
    return os.path.join(folder, f"{parsed['split']}-*") if parsed else None


def list_shards(directory_or_pattern, split=None):
    """Finds the shards of a data set and checks that none is missing.

    Args:
        directory_or_pattern: A folder, a pattern (`/data/train-*`) or one file;
            several are separated by semicolons.
        split: Which split to take from a folder, such as "train"; of several,
            separated by semicolons, those that are there. None takes all. A
            pattern or a file already says it.

    Returns:
        Sorted list of paths. A pattern that asks for some shards only
        (`train-0000?-of-00128`) has to find all of those.

    Raises:
        FileNotFoundError: Nothing matches; names the pattern searched.
        ValueError: Shards are missing (named), or sets of different sizes
            are mixed.
    """
    sources = separate(os.fspath(directory_or_pattern))
    return sorted(path for source in sources for path in _list(source, split))


def separate(text):
    """Returns the parts of a text that semicolons separate."""
    return text.split(";")


def add_tasks(directory, split):
    """Takes the tasks of the original's filter for their split.

    Its task 0 calls the shards of train `train-0-00000-of-00128`.

    Args:
        directory: A folder; several are separated by semicolons.
        split: Prefix of the shards' names; several are separated likewise.

    Returns:
        `split`, or those prefixes, tasks included, that shards there have if
        some have one with a task.

    Raises:
        ValueError: A folder has shards with a task and without one.
    """
    splits = separate(split)
    task_name = re.compile(rf"(?:{'|'.join(map(re.escape, splits))})-\d+")
    found, has_tasks = set(), False
    for folder in separate(os.fspath(directory)):
        names = map(parse_name, files.list_names(folder))
        present = {name["split"] for name in names if name}
        plain = present.intersection(splits)
        tasks = set(filter(task_name.fullmatch, present))
        if plain and tasks:
            raise ValueError(
                f"{folder!r} has shards of both kinds, "
                f"{_first_names([f'{name}-*' for name in sorted(plain)])} and "
                f"{_first_names([f'{name}-*' for name in sorted(tasks)])}: "
                "name the prefix of those to take."
            )
        found |= plain | tasks
        has_tasks |= bool(tasks)
    return ";".join(sorted(found)) if has_tasks else split


def _list(source, split):
    if files.is_dir(source):
        splits = [None] if split is None else separate(split)
        searched = {
            os.path.join(source, f"{name or '*'}-*-of-*"): _in_folder(
                source, name
            )
            for name in splits
        }
    elif _GLOB_CHARACTERS.intersection(source):
        searched = {source: files.glob(source)}
    else:
        searched = {source: [source] if files.exists(source) else []}
    if not any(searched.values()):
        raise FileNotFoundError(
            f"No shards match {' or '.join(map(repr, searched))}."
        )
    for pattern, found in searched.items():
        _check_complete(found, pattern)
    return [path for found in searched.values() for path in found]


def _in_folder(folder, split):
    return [
        os.path.join(folder, name)
        for name in files.list_names(folder)
        if (parsed := parse_name(name)) and split in (None, parsed["split"])
    ]


def _check_complete(paths, pattern):
    totals = collections.defaultdict(set)
    for path in paths:
        if parsed := parse_name(os.path.basename(path)):
            worker = parsed["worker"] or ""
            totals[parsed["split"], worker].add(int(parsed["total"]))
    present = {os.path.basename(path) for path in paths}
    for (split, worker), sizes in totals.items():
        if len(sizes) > 1:
            raise ValueError(
                f"Shard sets of different sizes are mixed in {pattern!r}: "
                f"{split}-*-of-{sorted(sizes)}. Keep one of them."
            )
        total = sizes.pop()
        expected = (
            shard_name(split, index, total) + worker for index in range(total)
        )
        wanted = os.path.basename(pattern)
        missing = [
            name
            for name in expected
            if name not in present and fnmatch.fnmatch(name, wanted)
        ]
        if missing:
            raise ValueError(
                f"{len(missing)} of {total} shards that match {pattern!r} are "
                f"missing: {_first_names(missing)}."
            )


def list_predictions(directory, split, num_shards):
    """Finds the prediction files of every image shard.

    Args:
        directory: Folder of `<split>-info-%05d-of-%05d-%05d` files.
        split: Split of the image shards.
        num_shards: How many image shards there are.

    Returns:
        List (shard) of lists (worker) of paths. With w workers, image i of a
        shard is record i // w of worker i % w.

    Raises:
        FileNotFoundError: Prediction files are missing; names them.
    """
    directory = os.fspath(directory)
    found = [[] for _ in range(num_shards)]
    for name in files.list_names(directory):
        parsed = parse_name(name)
        if (
            parsed
            and parsed["worker"]
            and parsed["split"] == f"{split}-info"
            and int(parsed["total"]) == num_shards
            and int(parsed["index"]) < num_shards
        ):
            found[int(parsed["index"])].append(name)
    num_workers = max(1, *map(len, found))
    missing = [
        name
        for index, names in enumerate(found)
        for worker in range(num_workers)
        if (name := prediction_name(split, index, num_shards, worker))
        not in names
    ]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} prediction files are missing in {directory!r}: "
            f"{_first_names(missing)}."
        )
    return [
        [os.path.join(directory, name) for name in names] for names in found
    ]


def _first_names(names):
    return ", ".join(names[:5]) + (", ..." if names[5:] else "")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a finished set of shards holds and what made it.

    Attributes:
        kind: Record schema: labeled, unlabeled, pseudo_labeled or prediction.
        split: The shards' split.
        num_records: Tuple of int, records in each shard.
        num_bytes: Tuple of int, the size of each shard.
        counters: dict reason -> number of inputs; they add up to the input.
        label_min: Smallest stored label, None without labels.
        label_max: Largest stored label, None without labels.
        num_classes: Number of classes, None if unknown.
        class_names: Tuple of names in label order, None if unknown.
        config: JSON-able dict of the settings that made the shards.
    """

    kind: str
    split: str
    num_records: tuple
    num_bytes: tuple
    counters: dict
    label_min: int = None
    label_max: int = None
    num_classes: int = None
    class_names: tuple = None
    config: dict = dataclasses.field(default_factory=dict)

    @property
    def num_shards(self):
        """Number of shards."""
        return len(self.num_records)

    @property
    def total_records(self):
        """Records in all shards."""
        return sum(self.num_records)


def manifest_path(directory, split):
    """Returns where the manifest of a split lies."""
    return os.path.join(directory, f"{split}.manifest.json")


def read_manifest(directory, split):
    """Returns the `Manifest` of a finished split, or None if there is none."""
    path = manifest_path(directory, split)
    if not files.exists(path):
        return None
    try:
        values = files.read_json(path)
        values.pop("total_records")
        for name in ("num_records", "num_bytes"):
            values[name] = tuple(values[name])
        if values["class_names"] is not None:
            values["class_names"] = tuple(values["class_names"])
        return Manifest(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path!r} is not a manifest: {error!r}.") from error


def write_manifest(directory, manifest):
    """Writes `manifest` beside its shards, atomically."""
    values = dataclasses.asdict(manifest)
    values["total_records"] = manifest.total_records
    files.write_json(manifest_path(directory, manifest.split), values)
