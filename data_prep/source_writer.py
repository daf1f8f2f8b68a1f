"""What all sources share: images in, shards of records and a manifest out.

A source says how many items each shard gets, how to read them and what image
an item becomes. Here they are encoded by several threads, written in order,
counted by what became of them, and reported with an estimate of the time left.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
import typing

from absl import logging

from data_prep import (
    cores,
    files,
    hashing,
    image_encoding,
    progress,
    shard_writer,
)
from data_prep import shards as shards_lib

IMAGES_PER_SHARD = 1024

# Images between reading and writing, per thread: what bounds the memory.
_WINDOW_PER_THREAD = 16


class Source(typing.NamedTuple):
    """One image file of the input; a tuple, as there may be millions.

    Attributes:
        key: bytes that identify it.
        path: Where it is: a file, or an archive that holds it uncompressed.
        size: Its size in bytes, None for a broken link.
        label: 1-based class, None without one.
        dropped: Reason why it is not used whatever it holds, else None.
        offset: Byte of the archive at which it begins, None for a file.
    """

    key: bytes
    path: str
    size: int
    label: int = None
    dropped: str = None
    offset: int = None


class LoadedImage(typing.NamedTuple):
    """One image of a stream; attributes as in `Source`, and its bytes."""

    key: bytes
    data: bytes
    label: int = None
    dropped: str = None


@dataclasses.dataclass(frozen=True)
class Split:
    """A set of shards to write.

    Attributes:
        directory: Output folder.
        name: The split, in the shards' names.
        sizes: Tuple of int, items of each shard; None where only `prepare`
            counts them.
        read_items: Called with a shard's index; gives its items in order, each
            with a `key` and a `label` (1-based, None without one).
        encode: Called with an item, by several threads; returns (image bytes
            or None, what was done: "kept", "dropped:undecodable" and so on).
        settings: JSON-able dict of all that the bytes depend on.
        class_names: Names in label order; None for unlabeled records.
        prepare: Called with the indices of the shards to write, if any, before
            anything is written; raises where their input is damaged. May return
            dict index -> int, their sizes.
    """

    directory: str
    name: str
    sizes: tuple
    read_items: typing.Callable
    encode: typing.Callable
    settings: dict
    class_names: tuple = None
    prepare: typing.Callable = lambda pending: None


def split_of_list(directory, name, items, *, num_shards, **others):
    """Returns the `Split` of a list of items, in its order, in even shards.

    Args:
        directory: Output folder.
        name: The split.
        items: List of items, as in `Split`.
        num_shards: Number of shards; None is one for every 1,024 items.
        **others: Further attributes of `Split`.
    """
    if num_shards is None:
        num_shards = -(-len(items) // IMAGES_PER_SHARD) or 1
    bounds = even_bounds(len(items), num_shards)
    return Split(
        directory=directory,
        name=name,
        sizes=tuple(end - start for start, end in bounds),
        read_items=lambda number: items[slice(*bounds[number])],
        **others,
    )


def even_bounds(num_items, num_shards):
    """Returns the (start, end) of each shard when items are divided evenly."""
    bounds = [n * num_items // num_shards for n in range(num_shards + 1)]
    return list(zip(bounds, bounds[1:]))


def write(splits, origin):
    """Writes sets of shards; finished shards are kept.

    Args:
        splits: List of `Split` with different names.
        origin: Flag and value that the items come from, for the message.

    Returns:
        dict name of the split -> `shards.Manifest`.

    Raises:
        ValueError: An output folder holds other shards (the difference is
            shown, and nothing is written), or no item became a record (nothing
            is left behind).
    """
    new = {s.directory for s in splits if not files.exists(s.directory)}
    writers = [_open_writer(split) for split in splits]
    splits = [_prepare(*pair) for pair in zip(splits, writers)]
    manifests = {
        split.name: _write_split(split, writer)
        for split, writer in zip(splits, writers)
    }
    if not any(manifest.total_records for manifest in manifests.values()):
        for split in splits:
            _discard(split.directory, manifests[split.name])
        for directory in new:
            _remove_empty(directory)
        counters = _add_counters(manifests)
        raise ValueError(
            f"{origin}: none of {sum(counters.values())} files became a "
            f"record: {counters}."
        )
    return manifests


def _prepare(split, writer):
    """Prepares the shards to write; returns the split with their sizes."""
    sizes = dict(enumerate(split.sizes))
    if pending := writer.pending:
        sizes.update(split.prepare(pending) or {})
    return dataclasses.replace(split, sizes=tuple(sizes.values()))


def _open_writer(split):
    names = split.class_names
    return shard_writer.ShardedWriter(
        split.directory,
        split.name,
        len(split.sizes),
        kind="unlabeled" if names is None else "labeled",
        config=split.settings,
        num_classes=None if names is None else len(names),
        class_names=names,
    )


def _write_split(split, writer):
    pending = writer.pending
    if not pending:
        return writer.finish()
    # Imported here, so that --help and finished runs need no TensorFlow; and
    # before the clock starts, as it takes seconds.
    from data_prep import records

    left = sum(split.sizes[number] for number in pending)
    # Of shards that are done sizes need not be known.
    done = sum(size or 0 for size in split.sizes) - left
    meter = progress.Progress(
        f"{split.name} images", total=done + left, done=done
    )
    for number in pending:
        with writer.open_shard(number, num_input=split.sizes[number]) as shard:
            _write_shard(shard, split, number, meter, records)
    return writer.finish()


def _write_shard(shard, split, number, meter, records):
    for item, (image, reason) in encode_all(
        split.read_items(number), split.encode
    ):
        shard.count(reason)
        if image is not None and split.class_names is None:
            shard.write(records.unlabeled_example(image, item.key))
        elif image is not None:
            example = records.labeled_example(image, item.label, item.key)
            shard.write(example, item.label)
        meter.advance()


def encode_all(items, encode):
    """Calls a function with items, on all cores.

    Args:
        items: Iterable, read a few items ahead.
        encode: Called with an item, by several threads.

    Yields:
        (item, what `encode` returns for it), in order.
    """
    items = iter(items)
    num_threads = cores.count()
    waiting = collections.deque()
    # Pillow releases the interpreter's lock while it decodes.
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:

        def submit(number):
            for item in itertools.islice(items, number):
                waiting.append((item, pool.submit(encode, item)))

        submit(num_threads * _WINDOW_PER_THREAD)
        while waiting:
            item, future = waiting.popleft()
            yield item, future.result()
            submit(1)


def encode_jpeg(image_size=None, check=None):
    """Returns the `encode` of image files that become JPEG.

    Args:
        image_size: Shorter side, in pixels, to which larger images shrink;
            None keeps their size.
        check: Called with the bytes of a file; returns the reason to drop it,
            else None.
    """

    def encode(item):
        if item.dropped:
            return None, item.dropped
        data = item.data if isinstance(item, LoadedImage) else read(item)
        if check and (reason := check(data)):
            return None, reason
        return image_encoding.to_jpeg(data, image_size)

    return encode


def read(source):
    """Returns the bytes of a `Source`.

    Raises:
        ValueError: The archive ends before the image does.
    """
    if source.offset is None:
        return files.read_bytes(source.path)
    with files.open_file(source.path, "rb") as file:
        file.seek(source.offset)
        data = file.read(source.size)
    if len(data) != source.size:
        raise ValueError(
            f"{source.path!r} ends inside {os.fsdecode(source.key)!r}."
        )
    return data


def sort_by_hash(items, salt):
    """Returns items in the order of the hashes of their keys."""
    return sorted(
        items, key=lambda item: (hashing.hash64(item.key, salt=salt), item.key)
    )


def digest(sources):
    """Returns a short digest of the keys, sizes and labels of `Source`s."""
    state = hashlib.blake2b(digest_size=8)
    for source in sources:
        numbers = (source.size or 0, source.label or 0)
        state.update(b"%s\0%d\0%d\0" % (source.key, *numbers))
    return state.hexdigest()


def _add_counters(manifests):
    total = collections.Counter()
    for manifest in manifests.values():
        total.update(manifest.counters)
    return dict(sorted(total.items()))


def _discard(directory, manifest):
    for index in range(manifest.num_shards):
        name = shards_lib.shard_name(manifest.split, index, manifest.num_shards)
        files.remove(os.path.join(directory, name))
    # Last: shards without it look like another's.
    files.remove(shards_lib.manifest_path(directory, manifest.split))


def _remove_empty(directory):
    if files.is_remote(directory) or files.list_names(directory):
        return
    if files.exists(directory):
        os.rmdir(directory)


def import_scipy_io(purpose):
    """Returns the module `scipy.io`, which reads MATLAB's files.

    Args:
        purpose: What has to be read, for the message.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import scipy.io
    except ImportError as error:
        raise ValueError(
            f"Reading {purpose} needs scipy, which is not installed: pip "
            "install 'noisy-student-training[svhn]', or scipy alone."
        ) from error
    return scipy.io


def check_needed(config, *names):
    """Raises ValueError if a flag that a config cannot do without is missing.

    Args:
        config: Dataclass whose fields are called like the flags.
        *names: Those that must not be empty.
    """
    for name in names:
        if not getattr(config, name):
            raise ValueError(f"--{name} is needed.")


def check_positive(config, *names):
    """Raises ValueError if a field is set, but not to a number >= 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be >= 1. Received: {value}.")


def check_inputs(config, *names):
    """Checks the output folder and that inputs exist.

    Args:
        config: Dataclass with an `output_dir`.
        *names: Fields that are paths, or None.

    Raises:
        ValueError: A file is where the output folder should be.
        FileNotFoundError: An input is missing; names its flag.
    """
    files.check_folder("output_dir", config.output_dir)
    for name in names:
        path = getattr(config, name)
        if path and not files.exists(path):
            raise FileNotFoundError(f"--{name}={path}: no such file or folder.")


def define_image_size_flag(group):
    """Declares `--image_size` in a `FlagGroup`."""
    group.integer(
        "image_size",
        None,
        "Shrink images whose shorter side is longer than this many pixels.",
        lower_bound=1,
    )


def config_from_flags(config_class, flag_values):
    """Returns the config whose fields the flags of the same names give."""
    names = [field.name for field in dataclasses.fields(config_class)]
    return config_class(**{n: flag_values[n].value for n in names})


def log_manifests(manifests):
    """Logs what each split holds and what became of the input."""
    for split, manifest in manifests.items():
        logging.info(
            "%s: %d records in %d shards; %s",
            split,
            manifest.total_records,
            manifest.num_shards,
            ", ".join(f"{k}: {v}" for k, v in manifest.counters.items()),
        )
