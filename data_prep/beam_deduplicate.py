"""Deduplication on Apache Beam: `deduplicate.py` on many machines.

Images of equal bytes are found by ranges of their hashes, not by image: one
that the corpus holds a million times is the key of no group, and each shard
names it once.
"""

import dataclasses
import functools
import io
import os

import apache_beam as beam
import numpy as np

from data_prep import beam_shards, deduplicate, files

_HALF = np.uint64(32)


def run(config, options):
    """Removes evaluation images as `deduplicate.run`, with the same bytes.

    Args:
        config: `deduplicate.DeduplicateConfig`.
        options: Beam's options, as in `beam_shards.open_pipeline`.

    Returns:
        dict, the content of report.json.

    Raises:
        FileNotFoundError: There are no shards or no evaluation images.
        ValueError: Inputs are of a wrong kind or damaged, or the output folder
            holds a run with other settings; says which.
    """
    folder = os.path.join(config.output_dir, ".repeated")
    report = deduplicate.run(config, workers=OnBeam(tuple(options), folder))
    files.remove_folder(folder)
    return report


@dataclasses.dataclass(frozen=True)
class OnBeam:
    """Has work done on Beam's workers; see `shard_work.InThisProcess`.

    Attributes:
        options: Tuple of Beam's options.
        folder: Folder for what workers tell each other.
    """

    options: tuple
    folder: str

    def for_each(self, name, values, work, *, total):
        """Calls a function with each of the values, on the workers."""
        del total
        beam_shards.for_each(self.options, name, values, work)

    def find_in_corpus(self, corpus):
        """Returns `Repeated`, what `corpus_duplicates.find` finds."""
        repeated = Repeated(corpus, self.folder)
        num_shards = len(corpus.paths)
        work = functools.partial(_hash_ranges, corpus)
        with beam_shards.open_pipeline(self.options) as pipeline:
            _ = (
                beam_shards.elements(pipeline, range(num_shards))
                | "Hashes" >> beam.FlatMap(work)
                | "By range" >> beam.GroupByKey()
                | "Find repeated" >> beam.FlatMapTuple(_repeated)
                | "By shard" >> beam.GroupByKey()
                | "Write" >> beam.MapTuple(repeated.write)
            )
        return repeated


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Which images the corpus holds already: files of rows, one a shard.

    Attributes:
        corpus: `fingerprint_files.FingerprintFiles`.
        folder: Folder of the files.
    """

    corpus: object
    folder: str

    def _path(self, shard):
        return os.path.join(self.folder, f"{shard:05d}.npy")

    def write(self, shard, parts):
        """Writes the rows of a shard, an iterable of arrays."""
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate(list(parts)))
        files.write_bytes(self._path(shard), buffer.getvalue())

    def __getitem__(self, shard):
        """Returns bool [images] of a shard."""
        marks = np.ones(len(self.corpus.read(shard, "order")), bool)
        marks[_first_rows(*_columns(self.corpus, shard))] = False
        if files.exists(self._path(shard)):
            rows = np.load(io.BytesIO(files.read_bytes(self._path(shard))))
            marks[rows] = True
        return marks


def _columns(corpus, shard):
    """Returns uint64 [images] twice: hashes of bytes, and of keys."""
    return corpus.read(shard, "rows")["encoded"], corpus.read(shard, "order")


def _first_rows(encoded, order, *further):
    """Returns the rows to keep, by hash: of equal hashes the least order's.

    Args:
        encoded: uint64 [images], hashes of the bytes.
        order: uint64 [images], hashes of the keys.
        *further: Arrays [images] that decide where these are equal; after
            them the first row does.
    """
    by_hash = np.lexsort((*further, order, encoded))
    is_first = np.ones(len(by_hash), bool)
    is_first[1:] = encoded[by_hash[1:]] != encoded[by_hash[:-1]]
    return by_hash[is_first]


def _hash_ranges(corpus, shard):
    """Yields (range of hashes, its columns) of the different images."""
    encoded, order = _columns(corpus, shard)
    rows = _first_rows(encoded, order)
    encoded, order = encoded[rows], order[rows]
    num_ranges = np.uint64(len(corpus.paths))
    ranges = (encoded >> _HALF) * num_ranges >> _HALF
    present, starts = np.unique(ranges, return_index=True)
    shards = np.full(len(rows), shard)
    parts = (np.split(c, starts[1:]) for c in (encoded, order, shards, rows))
    yield from zip(present.tolist(), zip(*parts))


def _repeated(hash_range, parts):
    """Yields (shard, rows) of the images that are not kept."""
    del hash_range
    encoded, order, shards, rows = map(np.concatenate, zip(*parts))
    repeated = np.ones(len(rows), bool)
    repeated[_first_rows(encoded, order, shards)] = False
    for shard in np.unique(shards[repeated]).tolist():
        yield shard, rows[repeated & (shards == shard)]
