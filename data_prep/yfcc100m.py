"""Turns the photos of YFCC100M into unlabeled shards.

Reads the metadata (--metadata: lines, plain or bz2, or SQLite) and the images
(--images): the released tree, abc/def/abcdef....jpg by the photo's hash, or
archives named by the first one to three digits of the hashes in them (0a1.zip,
f.tar). Videos, repeated rows and broken downloads are counted by reason. An
output shard holds a range of hashes, so that it opens few archives.
"""

import dataclasses
import hashlib
import os
import re

from data_prep import (
    command_line,
    files,
    shards,
    source_writer,
    yfcc100m_archives,
)
from data_prep import yfcc100m_metadata as metadata

_ORDER_SALT = b"yfcc100m/order"
_TREE_FOLDER = re.compile(r"^[0-9a-f]{3}$")
_MD5 = re.compile(r"^[0-9a-f]{32}$")
_HTML_STARTS = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")
_START_BYTES = 256


@dataclasses.dataclass(frozen=True)
class YfccConfig:
    """What to read and what to make of it.

    Attributes:
        metadata: Pattern of the metadata files, several separated by
            semicolons.
        images: Folder of the tree (the one with abc/), or of the archives.
            More archives in a later run are refused; more files in a tree are
            not noticed, so that it must be complete.
        output_dir: Folder of the shards.
        split: Split of the shards.
        index_dir: Local folder for the rows sorted by hash and the lists of
            the archives' members, which are kept for restarts; None is a
            hidden one in `output_dir`.
        num_shards: Number of shards, at most 4,096; None is one for every
            1,024 rows.
        image_size: Shorter side, in pixels, to which larger images shrink;
            None keeps their size.
        placeholder_md5: MD5 digests, separated by commas, of files that stand
            for a photo that is no longer available.
    """

    metadata: str
    images: str
    output_dir: str
    split: str = "train"
    index_dir: str = None
    num_shards: int = None
    image_size: int = None
    placeholder_md5: str = None

    def __post_init__(self):
        source_writer.check_needed(
            self, "metadata", "images", "output_dir", "split"
        )
        source_writer.check_positive(self, "num_shards", "image_size")
        if (self.num_shards or 1) > metadata.NUM_BUCKETS:
            raise ValueError(
                f"`num_shards` must be <= {metadata.NUM_BUCKETS}. Received: "
                f"{self.num_shards}."
            )
        for digest in self.placeholders:
            if not _MD5.match(digest):
                raise ValueError(
                    "`placeholder_md5` must be digests of 32 hexadecimal "
                    f"digits. Received: {digest!r}."
                )
        if files.is_remote(self.output_dir) and not self.index_dir:
            raise ValueError(
                "--index_dir, a local folder, is needed for "
                f"--output_dir={self.output_dir}."
            )

    @property
    def placeholders(self):
        """Sorted list of the digests."""
        return sorted(
            set((self.placeholder_md5 or "").lower().split(",")) - {""}
        )


def write(config):
    """Writes the shards; finished ones are kept.

    Args:
        config: `YfccConfig`.

    Returns:
        dict split -> `shards.Manifest`. A row of the metadata is an input.

    Raises:
        FileNotFoundError: There is no metadata or no image folder.
        ValueError: Metadata or an archive is truncated, or the output folder
            holds other shards.
    """
    source_writer.check_inputs(config, "images")
    paths = _find_metadata(config.metadata)
    index_dir = config.index_dir or os.path.join(
        config.output_dir, f".{config.split}.index"
    )
    archives = _find_archives(config.images, index_dir)
    index = metadata.Index(paths, index_dir)
    ranges = _ranges(config.num_shards, sum(index.num_rows))
    split = source_writer.Split(
        directory=config.output_dir,
        name=config.split,
        sizes=tuple(sum(index.num_rows[slice(*r)]) for r in ranges),
        prepare=lambda pending: archives.list_members(
            range(*ranges[number]) for number in pending
        ),
        read_items=lambda number: _read(
            config.images, archives, index, range(*ranges[number])
        ),
        encode=_encoder(config),
        settings={
            "source": "yfcc100m",
            "image_size": config.image_size,
            "placeholders": config.placeholders,
            "metadata_digest": files.fingerprint(paths),
            # A tree of 100 million files is not listed.
            "images": (
                archives.digest()
                if archives
                else os.path.basename(os.path.normpath(config.images))
            ),
        },
    )
    return source_writer.write([split], f"--metadata={config.metadata}")


def _find_metadata(patterns):
    paths = []
    for pattern in shards.separate(patterns):
        found = files.glob(pattern)
        if not found:
            raise FileNotFoundError(f"--metadata={pattern}: no such files.")
        paths += found
    return paths


def _find_archives(folder, index_dir):
    """Returns the `Archives` of a folder, none for the tree."""
    archives = yfcc100m_archives.Archives(folder, index_dir)
    names = files.list_names(folder)
    if not archives and not any(map(_TREE_FOLDER.match, names)):
        raise FileNotFoundError(
            f"--images={folder}: neither folders such as 0a1 nor archives such "
            "as 0a1.zip, 0a.tar or 0.tar."
        )
    return archives


def _ranges(num_shards, num_rows):
    """Returns the (first, past the last) bucket of each shard."""
    if num_shards is None:
        wanted = -(-num_rows // source_writer.IMAGES_PER_SHARD) or 1
        num_shards = min(wanted, metadata.NUM_BUCKETS)
    return source_writer.even_bounds(metadata.NUM_BUCKETS, num_shards)


def _read(folder, archives, index, buckets):
    """Yields the items of a shard, in the order of the hashes of their keys."""
    rows = [row for bucket in buckets for row in index.read(bucket)]
    items = []
    seen = set()
    for row in rows:
        dropped = None
        if row.kind != metadata.PHOTO:
            dropped = f"dropped:{row.kind}"
        elif row.key in seen:
            dropped = "dropped:repeated_row"
        seen.add(row.key)
        path = os.path.join(folder, row.key[:3], row.key[3:6], f"{row.key}.jpg")
        items.append(
            source_writer.Source(row.key.encode(), path, None, dropped=dropped)
        )
    items = source_writer.sort_by_hash(items, _ORDER_SALT)
    if not archives:
        yield from items
        return
    members = archives.find(buckets)
    for item in items:
        yield item if item.dropped else _member(item, members)


def _member(item, members):
    name = item.key.decode()
    if name not in members:
        return item._replace(dropped="dropped:missing")
    return members[name](item)


def _encoder(config):
    placeholders = frozenset(config.placeholders)

    def check(data):
        if data[:_START_BYTES].lstrip().lower().startswith(_HTML_STARTS):
            return "dropped:html"
        if placeholders:
            digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if digest in placeholders:
                return "dropped:placeholder"
        return None

    to_jpeg = source_writer.encode_jpeg(config.image_size, check)

    def encode(item):
        try:
            return to_jpeg(item)
        except FileNotFoundError:
            return None, "dropped:missing"

    return encode


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(YfccConfig)}
    group = command_line.FlagGroup("Input", flag_values)
    group.string(
        "metadata",
        None,
        "Pattern of the metadata (yfcc100m_dataset-*.bz2, lines of 23 or 25 "
        "columns; or SQLite), several separated by ';'.",
    )
    group.string(
        "images",
        None,
        "Folder of the tree, or of the archives. It must be complete: files "
        "that are added to a tree later are not noticed.",
    )
    group.string(
        "placeholder_md5",
        None,
        "MD5 digests, separated by commas, of files that say that a photo is "
        "unavailable.",
    )
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder to write the shards to.")
    group.string("split", defaults["split"], "Split, in the shards' names.")
    group.string(
        "index_dir",
        None,
        "Local folder for the sorted metadata and the lists of the archives; "
        "without it, one in --output_dir. It is kept for restarts.",
    )
    group.integer(
        "num_shards",
        None,
        "Number of shards; without it, one for "
        f"{source_writer.IMAGES_PER_SHARD} rows.",
        lower_bound=1,
        upper_bound=metadata.NUM_BUCKETS,
    )
    source_writer.define_image_size_flag(group)


def main(flag_values):
    """Writes the shards as the flags say."""
    config = source_writer.config_from_flags(YfccConfig, flag_values)
    source_writer.log_manifests(write(config))


if __name__ == "__main__":
    command_line.run(main, define_flags)
