"""TFRecord files: read, counted, and found damaged; whatever their records are.

Part of `records.py`, whose names these are for everybody else.
"""

import functools
import os

import tensorflow as tf

from data_prep import files, shards, tf_data

# A TFRecord frames its payload: length and its crc before, the payload's after.
_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_READ_BATCH = 64
# How files begin that are often taken for TFRecord files.
_COMPRESSED = {
    "gzip": b"\x1f\x8b",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zip": b"PK\x03\x04",
    "zstd": b"\x28\xb5\x2f\xfd",
}


class RecordError(ValueError):
    """A record or a shard is malformed; the message says which and where."""


def framed_size(payload):
    """Returns the bytes a record takes in an uncompressed TFRecord file."""
    return _HEADER_BYTES + len(payload) + _FOOTER_BYTES


def read_records(path):
    """Yields the payloads of a TFRecord file, in order, checksums verified.

    Args:
        path: Local or remote file.

    Yields:
        bytes, one serialized example each.

    Raises:
        RecordError: The file is truncated or a checksum is wrong; names the
            file, the record's index and its byte offset.
    """
    dataset = tf.data.TFRecordDataset(os.fspath(path)).batch(_READ_BATCH)
    dataset = tf_data.fixed(dataset)
    index = offset = 0
    try:
        for batch in dataset.as_numpy_iterator():
            for payload in batch.tolist():
                yield payload
                index += 1
                offset += framed_size(payload)
    except tf.errors.DataLossError as error:
        raise _locate_damage(os.fspath(path)) from error
    # TensorFlow takes a file that ends inside a header for complete.
    if offset != files.size(path):
        where = describe_position(path, index, offset)
        raise RecordError(f"{where}the file is truncated.")


def _locate_damage(path):
    """Returns the error for a file whose reading failed: where it failed."""
    index = offset = 0
    try:
        for payload in tf.data.TFRecordDataset(path).as_numpy_iterator():
            index += 1
            offset += framed_size(payload)
    except tf.errors.DataLossError as error:
        truncated = "truncated" in error.message
        problem = "the file is truncated" if truncated else "wrong checksum"
        return RecordError(
            describe_position(path, index, offset) + f"{problem}."
        )
    return RecordError(f"{path!r}: reading it failed, but only once.")


def describe_position(path, index, offset):
    """Returns how error messages say where a record is."""
    return f"{os.fspath(path)!r}: record {index} (byte offset {offset}): "


def count_records(path):
    """Returns how many records a TFRecord file holds, without reading them.

    Raises:
        RecordError: The file ends inside a record.
    """
    total = files.size(path)
    index = offset = 0
    with files.open_file(path, "rb") as file:
        while offset < total:
            file.seek(offset)
            header = file.read(_HEADER_BYTES)
            length = int.from_bytes(header[:8], "little")
            end = offset + _HEADER_BYTES + length + _FOOTER_BYTES
            if len(header) < _HEADER_BYTES or end > total:
                problem = "the file is truncated, or is no TFRecord file"
                if kind := _compressed(header if index == 0 else b""):
                    problem = f"the file is compressed ({kind}): unpack it"
                raise RecordError(
                    f"{describe_position(path, index, offset)}{problem}."
                )
            offset = end
            index += 1
    return index


def _compressed(header):
    """Returns the kind of compressed file that begins so, or None."""
    for kind, magic in _COMPRESSED.items():
        if header.startswith(magic):
            return kind
    return None


def count_shards(directory, split):
    """Finds the shards of a split and how many records each holds.

    The manifest is believed where there is one, if shards have the sizes it
    says: a large corpus is not read to be counted.

    Args:
        directory: Folder of the shards; it and the split as in `list_shards`.
        split: Prefix of their names.

    Returns:
        (sorted list of paths, list of int).

    Raises:
        FileNotFoundError: There is no shard.
        ValueError: Shards are missing, or the manifest is none.
        RecordError: A file has another size than its manifest says, or ends
            inside a record.
    """
    paths = shards.list_shards(directory, split)
    return paths, list(count_each(paths))


def count_each(paths):
    """Yields how many records each file holds, as `count_shards` finds it.

    Args:
        paths: Iterable of TFRecord files, those of one folder together.

    Raises:
        ValueError: As there.
    """
    read_manifest = functools.lru_cache(maxsize=16)(shards.read_manifest)
    for path in map(os.fspath, paths):
        folder, name = os.path.split(path)
        parsed = shards.parse_name(name)
        manifest = parsed and read_manifest(folder, parsed["split"])
        if _is_listed(parsed, manifest):
            yield _stated_count(path, manifest, int(parsed["index"]))
        else:
            yield count_records(path)


def _is_listed(parsed, manifest):
    """Returns whether a manifest says how many records a shard holds."""
    if not manifest or int(parsed["total"]) != manifest.num_shards:
        return False
    if parsed["worker"] and manifest.config.get("num_workers", 1) > 1:
        # It has the sums over all workers.
        return False
    return int(parsed["index"]) < manifest.num_shards


def _stated_count(path, manifest, index):
    size, stated = files.size(path), manifest.num_bytes[index]
    if size != stated:
        raise RecordError(
            f"{path!r} has {size} bytes, {stated} by its manifest: it is "
            f"{'truncated' if size < stated else 'another file'}. Make it "
            "anew, or delete the manifest if this is what it should be."
        )
    return manifest.num_records[index]
