"""Filtering on Apache Beam: the stages of `filter_stages.py`, on many machines.

No class, image or key is ever the key of a group, so none is too large for a
worker. Counts of classes are taken by shard and added; the plan, a table of all
classes, is read by every worker; records are grouped by the shard they go to,
which the hash of their keys says.
"""

import dataclasses
import functools
import os

import apache_beam as beam
import numpy as np

from data_prep import (
    beam_shards,
    counting,
    duplicate_keys,
    filter_report,
    filter_stages,
    prediction_table,
)

# Hashes that are sorted together, on a worker.
_RANGE_SIZE = 1 << 22
_HALF = np.uint64(32)


def run(config, options):
    """Filters as `filter_unlabel.run`, with the same bytes of all files.

    Args:
        config: `filter_unlabel.FilterConfig` without `shard_id`.
        options: Beam's options, as in `beam_shards.open_pipeline`.

    Returns:
        `filter_report.FilterReport`.

    Raises:
        FileNotFoundError: Shards are missing; names them.
        ValueError: Inputs do not fit together, a record is malformed, keys are
            not unique, or the output folder holds a run with other settings;
            says which.
    """
    if config.shard_id is not None:
        raise ValueError(
            "--shard_id is for commands that share the work; on Beam the "
            f"workers do. Received: {config.shard_id}."
        )
    return BeamStages(config, tuple(options)).run(only_get_stats=False)


@dataclasses.dataclass(frozen=True)
class BeamTables(counting.Tables):
    """The tables of all shards, read on the workers.

    Attributes:
        options: Tuple of Beam's options.
        result_path: Where a pipeline leaves what it found.
    """

    options: tuple = ()
    result_path: str = ""

    def measure(self, function, columns=prediction_table.COLUMNS):
        """Yields the answers of all tables together."""
        yield self._combine(function, columns, beam_shards.Gather())

    def sum(self, function):
        """Returns the sums of function(table, shard), a tuple of arrays."""
        columns = prediction_table.COLUMNS
        return self._combine(function, columns, beam_shards.Sum())

    def repeated_hashes(self, num_images, range_size):
        """Returns uint64 array, ascending: the hashes several images have."""
        num_ranges = max(1, -(-num_images // min(range_size, _RANGE_SIZE)))
        work = functools.partial(_hash_ranges, self._local, num_ranges)
        with beam_shards.open_pipeline(self.options) as pipeline:
            _ = (
                beam_shards.elements(pipeline, range(len(self.paths)))
                | "Hashes" >> beam.FlatMap(work)
                | "By range" >> beam.GroupByKey()
                | "Find repeated" >> beam.MapTuple(_repeated)
                | "Join" >> beam.CombineGlobally(beam_shards.Gather())
                | "Hand over"
                >> beam.Map(beam_shards.write_result, self.result_path)
            )
        ((hashes, _),) = beam_shards.read_result(self.result_path)
        return hashes

    @property
    def _local(self):
        return counting.Tables(self.paths)

    def _combine(self, function, columns, combine_fn):
        return beam_shards.combine(
            self.options,
            "Read tables",
            range(len(self.paths)),
            functools.partial(_apply, self._local, function, columns),
            combine_fn,
            self.result_path,
        )


def _apply(tables, function, columns, shard):
    return function(tables.read(shard, columns), shard)


def _hash_ranges(tables, num_ranges, shard):
    """Yields (int range, its hashes) of a shard."""
    hashes = np.sort(tables.read(shard, ("hash",)).hash)
    # Of a key that most images share, a range would hold all.
    hashes = duplicate_keys.at_most_two(hashes)
    ranges = (hashes >> _HALF) * np.uint64(num_ranges) >> _HALF
    present, starts = np.unique(ranges, return_index=True)
    yield from zip(present.tolist(), np.split(hashes, starts[1:]))


def _repeated(hash_range, parts):
    """Returns the hashes that occur several times, for `beam_shards.Gather`."""
    del hash_range
    hashes, counts = np.unique(np.concatenate(list(parts)), return_counts=True)
    return [(hashes[counts > 1],)]


class BeamStages(filter_stages.Stages):
    """The stages of a run, whose work by shard is done on the workers.

    Args:
        config: `filter_unlabel.FilterConfig`.
        options: Tuple of Beam's options.
    """

    def __init__(self, config, options):
        super().__init__(config)
        self._options = options

    def _on_shards(self, name, work, shard_ids):
        beam_shards.for_each(
            self._options,
            name,
            [[shard] for shard in sorted(shard_ids)],
            work,
        )

    def _open_tables(self, paths):
        return BeamTables(
            paths,
            options=self._options,
            result_path=os.path.join(self._config.output_dir, ".result"),
        )

    def _spill(self):
        """Does nothing: records go from worker to worker."""

    def _write(self):
        if pending := frozenset(self._writer.pending):
            with beam_shards.open_pipeline(self._options) as pipeline:
                filtered = beam_shards.elements(
                    pipeline, self._shard_ids
                ) | "Filter" >> beam.FlatMap(
                    self._filter_tagged, pending
                ).with_outputs("counters", main="records")
                counters = filtered.counters | "Add" >> beam.CombinePerKey(
                    beam_shards.Sum()
                )
                _ = (
                    {"records": filtered.records, "counters": counters}
                    | "By output shard" >> beam.CoGroupByKey()
                    | "Write" >> beam.MapTuple(self._write_group)
                )
        self._writer.finish()
        return True

    def _filter_tagged(self, index, pending):
        """Yields what an input shard gives to the output shards `pending`."""
        found, counters = self._filter(index, self._read_plan())
        for output in pending:
            yield beam.pvalue.TaggedOutput(
                "counters", (output, (counters[output],))
            )
        for output, order, label, example in found:
            if output in pending:
                yield output, (order, example, label)

    def _write_group(self, output, group):
        ((counters,),) = group["counters"]
        self._write_shard(output, list(group["records"]), counters)
        beam_shards.count(filter_report.name_reasons(counters))
