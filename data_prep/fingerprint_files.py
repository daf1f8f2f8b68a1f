"""First stage of deduplication: the fingerprints of each shard, in a file.

Images are decoded once; whatever is decided later reads these small files. They
are uncompressed .npz files: `rows` (`image_fingerprints.DTYPE`), `order`
(`image_fingerprints.order_of` each key), and `keys`, joined, with their
`key_ends`.
"""

import concurrent.futures
import dataclasses
import hashlib
import io
import itertools
import os

import numpy as np

from data_prep import cores, files, image_fingerprints, image_folder, shards

_BATCH = 256
_FILES_PER_PART = 1024


@dataclasses.dataclass(frozen=True)
class Source:
    """Images whose fingerprints go to one file.

    Attributes:
        path: Shard of records; None for image files.
        images: Tuple of (key, path) of image files.
    """

    path: str = None
    images: tuple = ()

    def read(self):
        """Yields (image bytes, key) in order.

        Raises:
            records.RecordError: The shard is damaged, or a record holds no
                image; names file and index.
        """
        if self.path is None:
            for key, path in self.images:
                yield files.read_bytes(path), key
            return
        # Imported here: what is finished needs no TensorFlow.
        from data_prep import records

        for index, serialized in enumerate(records.read_records(self.path)):
            image_bytes, key = records.unpack_image(serialized)
            if not image_bytes:
                raise records.RecordError(
                    f"{self.path!r}: record {index} holds no image in "
                    f"{records.IMAGE!r}."
                )
            yield image_bytes, key or records.default_key(self.path, index)


def find_corpus(directory, split):
    """Returns a `Source` for each shard; errors as `shards.list_shards`."""
    return [Source(path) for path in shards.list_shards(directory, split)]


def find_evaluation(places):
    """Finds evaluation images.

    Args:
        places: Folders of shards or of images, shards, or patterns of them;
            several are separated by semicolons.

    Returns:
        (list of `Source`, dict reason -> number of files left out).

    Raises:
        FileNotFoundError: A place holds no shard and no file; names it.
        ValueError: Shards are missing, or a place leaves out all its files.
    """
    sources, dropped = [], {}
    for place in shards.separate(places):
        if not files.is_dir(place) or _holds_shards(place):
            sources += [Source(path) for path in shards.list_shards(place)]
            continue
        try:
            found = image_folder.find_sources(place, None)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{place!r} holds no files.") from error
        images = sorted((f.key, f.path) for f in found if not f.dropped)
        for file in found:
            if file.dropped:
                dropped[file.dropped] = dropped.get(file.dropped, 0) + 1
        if not images:
            raise ValueError(f"{place!r} holds no images: {dropped}.")
        for start in range(0, len(images), _FILES_PER_PART):
            part = tuple(images[start : start + _FILES_PER_PART])
            sources.append(Source(images=part))
    return sources, dropped


def _holds_shards(folder):
    return any(map(shards.parse_name, files.list_names(folder)))


def digest(sources):
    """Returns a digest that tells these images from others; str."""
    paths = [source.path for source in sources if source.path]
    value = hashlib.blake2b(files.fingerprint(paths).encode(), digest_size=8)
    for source in sources:
        for key, path in source.images:
            value.update(b"%s\0%d\0" % (key, files.size(path)))
    return value.hexdigest()


def check_not_empty(flag, sources):
    """Raises ValueError if sources hold no image; names the flag."""
    if not any(source.images or files.size(source.path) for source in sources):
        raise ValueError(f"--{flag}: the shards hold no records.")


def check_records(flag, kinds, source):
    """Checks that a shard is whole and holds images, before all is read.

    Args:
        flag: Flag that gave the source, for messages.
        kinds: Kinds of records, if their manifest says it, that are accepted.
        source: `Source`; image files are not looked at.

    Raises:
        ValueError: The shard is of another kind; says which.
        records.RecordError: The shard is truncated, or its first record holds
            no image; names it.
    """
    from data_prep import records

    if source.path is not None:
        _check_kind(flag, source.path, kinds)
        if records.count_records(source.path):
            next(source.read())


def _check_kind(flag, path, kinds):
    folder, name = os.path.split(path)
    parsed = shards.parse_name(name)
    manifest = parsed and shards.read_manifest(folder, parsed["split"])
    if manifest and manifest.kind not in kinds:
        raise ValueError(
            f"--{flag}: {path!r} must hold {' or '.join(kinds)} records. "
            f"Received: {manifest.kind}."
        )


@dataclasses.dataclass(frozen=True)
class FingerprintFiles:
    """The fingerprints of a set of images, read a file at a time.

    Attributes:
        paths: Tuple of files, in the order of the sources.
    """

    paths: tuple

    def read(self, index, column):
        """Returns one column of a file: "rows", "order" or "keys", bytes."""
        path = self.paths[index]
        with files.open_file(path, "rb") as file, np.load(file) as table:
            if column == "keys" and "key_ends" in table:
                return _split(table["keys"], table["key_ends"])
            return table[column]

    def read_all(self, column):
        """Returns a column of all files together."""
        parts = [self.read(i, column) for i in range(len(self.paths))]
        return np.concatenate(parts)


def write(folder, name, sources, workers):
    """Writes the fingerprints of every source that has none yet.

    Args:
        folder: Where the files go.
        name: Start of their names.
        sources: List of `Source`.
        workers: `shard_work.InThisProcess`, or what stands in for it.

    Returns:
        `FingerprintFiles`.
    """
    paths = tuple(
        os.path.join(
            folder, f"{shards.shard_name(name, index, len(sources))}.npz"
        )
        for index in range(len(sources))
    )
    pending = [
        (path, source)
        for path, source in zip(paths, sources)
        if not files.exists(path)
    ]
    workers.for_each(
        f"{name}: fingerprints of shards", pending, _write, total=len(paths)
    )
    return FingerprintFiles(paths)


def _write(path_and_source):
    """Writes the fingerprints of a source."""
    path, source = path_and_source
    rows, keys = _fingerprints(source)
    buffer = io.BytesIO()
    order = [image_fingerprints.order_of(key) for key in keys]
    np.savez(
        buffer,
        rows=rows,
        order=np.array(order, "<u8"),
        # An array of bytes would be as wide as the longest, and lose zeros.
        keys=np.frombuffer(b"".join(keys), np.uint8),
        key_ends=np.cumsum([len(key) for key in keys], dtype="<i8"),
    )
    files.write_bytes(path, buffer.getvalue())


def _split(joined, ends):
    """Returns object array of the parts of bytes that end at some places."""
    joined, starts = joined.tobytes(), [0, *ends.tolist()]
    keys = np.empty(len(ends), object)
    keys[:] = [joined[start:end] for start, end in zip(starts, starts[1:])]
    return keys


def _fingerprints(source):
    rows, keys = [], []
    reader = source.read()
    # Pillow releases the interpreter's lock while it decodes.
    with concurrent.futures.ThreadPoolExecutor(cores.count()) as pool:
        while batch := list(itertools.islice(reader, _BATCH)):
            images, batch_keys = zip(*batch)
            rows += pool.map(image_fingerprints.fingerprint, images)
            keys += batch_keys
    return np.array(rows, image_fingerprints.DTYPE), keys
