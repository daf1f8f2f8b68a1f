"""Turns a corpus like JFT, shards of encoded images, into unlabeled shards.

The input are TFRecord files of `tf.train.Example` or tar files, as webdataset
writes them; each becomes one output shard, so that any number of machines can
divide them. JPEG files in RGB or grey are kept byte by byte, and whatever is
left out is counted by reason. An image or a key that occurred before in the
same input shard is left out; those of different shards are not compared. The
keys of tar members begin with the tar file's name: each may hold a 000000.jpg.
"""

import collections
import dataclasses
import hashlib
import itertools
import os

from data_prep import (
    command_line,
    files,
    progress,
    shards,
    source_writer,
    tar_index,
)

_IMAGE_SUFFIXES = frozenset(
    ("bmp", "gif", "jfif", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp")
)
_DIGEST_BYTES = 16


@dataclasses.dataclass(frozen=True)
class JftConfig:
    """What to read and what to make of it.

    Attributes:
        input: Pattern of the input files, several separated by semicolons;
            those that end in .tar are tar files, others TFRecord files.
        output_dir: Folder of the shards.
        split: Split of the shards.
        image_feature: Name of the TFRecords' feature with the encoded image.
        key_feature: Name of the feature that identifies it, bytes or int64;
            without it, or where it is empty, "<file name>:<index>" does.
        image_size: Shorter side, in pixels, to which larger images shrink;
            None keeps their size.
    """

    input: str
    output_dir: str
    split: str = "train"
    image_feature: str = "image/encoded"
    key_feature: str = "image/filename"
    image_size: int = None

    def __post_init__(self):
        source_writer.check_needed(
            self, "input", "output_dir", "split", "image_feature"
        )
        source_writer.check_positive(self, "image_size")


def write(config):
    """Writes the shards; finished ones are kept.

    Args:
        config: `JftConfig`.

    Returns:
        dict split -> `shards.Manifest`.

    Raises:
        FileNotFoundError: A pattern matches nothing.
        ValueError: An input file is truncated or of another kind, two files
            have the same name, on which keys depend, or the output folder holds
            other shards or the input; nothing is written then.
    """
    source_writer.check_inputs(config)
    paths = _find(config.input)
    repeated = _repeated_names(paths)
    split = source_writer.Split(
        directory=config.output_dir,
        name=config.split,
        sizes=(None,) * len(paths),
        read_items=lambda number: _read(config, paths[number], repeated),
        prepare=lambda pending: _prepare(config, paths, repeated, pending),
        encode=source_writer.encode_jpeg(config.image_size),
        settings={
            "source": "jft",
            "image_feature": config.image_feature,
            "key_feature": config.key_feature,
            "image_size": config.image_size,
            "files_digest": files.fingerprint(paths),
        },
    )
    return source_writer.write([split], f"--input={config.input}")


def _find(patterns):
    paths = []
    for pattern in shards.separate(patterns):
        found = [p for p in files.glob(pattern) if not files.is_dir(p)]
        if not found:
            raise FileNotFoundError(f"--input={pattern}: no such files.")
        paths += found
    if len(set(paths)) != len(paths):
        raise ValueError(f"--input={patterns} names some files twice.")
    return sorted(paths)


def _repeated_names(paths):
    """Returns the names, without folders, that several files have; a set."""
    counts = collections.Counter(map(os.path.basename, paths))
    return {name for name, count in counts.items() if count > 1}


def _prepare(config, paths, repeated, pending):
    """Checks the input of the shards to write; returns dict index -> items."""
    for number in pending:
        if os.path.basename(paths[number]) in repeated:
            _check_keys(config, paths[number])
    return dict(zip(pending, _count([paths[number] for number in pending])))


def _check_keys(config, path):
    """Checks that a file whose name others share lends it to no key."""
    from data_prep import records

    if tar_index.is_tar(path):
        raise ValueError(
            f"--input={config.input}: other tar files are called like "
            f"{path!r}. "
            "Keys begin with these names; links with other names will do."
        )
    for first in itertools.islice(records.read_records(path), 1):
        _check_stored_key(path, 0, _unpack(config, first)[1])


def _check_stored_key(path, index, key):
    if not key:
        raise ValueError(
            f"{path!r}: record {index} stores no key, so that the file's name "
            "stands for it, which other files of --input have, too. Links with "
            "other names will do."
        )


def _count(paths):
    """Returns list of how many items each file holds, from headers alone."""
    from data_prep import records

    meter = progress.Progress("input shards checked", total=len(paths))
    is_tar = tar_index.is_tar
    record_files = records.count_each(p for p in paths if not is_tar(p))
    sizes = []
    for path in paths:
        if is_tar(path):
            sizes.append(sum(1 for _ in tar_index.list_members(path)))
        else:
            sizes.append(next(record_files))
        meter.advance()
    return sizes


def _read(config, path, repeated):
    """Yields the `source_writer.LoadedImage`s of one input file, in order."""
    if tar_index.is_tar(path):
        images = _read_tar(path)
    else:
        images = _read_records(
            config, path, os.path.basename(path) not in repeated
        )
    return _mark_repeated(images)


def _mark_repeated(images):
    keys, contents = set(), set()
    for image in images:
        content = hashlib.blake2b(
            image.data, digest_size=_DIGEST_BYTES
        ).digest()
        if image.dropped:
            yield image
        elif image.key in keys:
            yield image._replace(dropped="dropped:duplicate_key")
        elif content in contents:
            yield image._replace(dropped="dropped:duplicate_image")
        else:
            keys.add(image.key)
            contents.add(content)
            yield image


def _read_tar(path):
    file = os.path.basename(path)
    for member in tar_index.list_members(path):
        folder, name = os.path.split(os.fsdecode(member.key))
        stem, _, suffix = name.partition(".")
        dropped = member.dropped
        if suffix.rpartition(".")[2].lower() not in _IMAGE_SUFFIXES:
            dropped = dropped or "dropped:other_file"
        yield source_writer.LoadedImage(
            key=os.fsencode("/".join(filter(None, (file, folder, stem)))),
            data=b"" if dropped else source_writer.read(member),
            dropped=dropped,
        )


def _read_records(config, path, has_own_name):
    from data_prep import records

    for index, serialized in enumerate(records.read_records(path)):
        data, key, dropped = _unpack(config, serialized)
        if not (dropped or has_own_name):
            _check_stored_key(path, index, key)
        yield source_writer.LoadedImage(
            key or records.default_key(path, index), data, dropped=dropped
        )


def _unpack(config, serialized):
    """Returns (image bytes, key or b"", reason to drop the record or None)."""
    import tensorflow as tf
    from google.protobuf import message

    try:
        feature = tf.train.Example.FromString(serialized).features.feature
    except message.DecodeError:
        return b"", b"", "dropped:not_example"
    key = feature[config.key_feature]
    keys = list(key.bytes_list.value) or [
        str(number).encode() for number in key.int64_list.value
    ]
    images = feature[config.image_feature].bytes_list.value
    if not images:
        return b"", keys[0] if keys else b"", "dropped:no_image"
    return images[0], keys[0] if keys else b"", None


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(JftConfig)}
    group = command_line.FlagGroup("Input", flag_values)
    group.string(
        "input",
        None,
        "Pattern of the .tar or TFRecord files, several separated by ';'. Keys "
        "of tar members are '<tar file>/<member to its first dot>'.",
    )
    group.string(
        "image_feature",
        defaults["image_feature"],
        "Feature of the TFRecords that holds the encoded image.",
    )
    group.string(
        "key_feature",
        defaults["key_feature"],
        "Feature that identifies it; '' for file name and index.",
    )
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder to write the shards to.")
    group.string("split", defaults["split"], "Split, in the shards' names.")
    source_writer.define_image_size_flag(group)


def main(flag_values):
    """Writes the shards as the flags say."""
    config = source_writer.config_from_flags(JftConfig, flag_values)
    source_writer.log_manifests(write(config))


if __name__ == "__main__":
    command_line.run(main, define_flags)
