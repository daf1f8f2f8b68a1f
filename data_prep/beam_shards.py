"""What all steps on Apache Beam share: pipelines of work by shard.

Every step reads shards and writes shards whole, on whichever machine: what is
done is not done again, by a run that is started again as by one whose workers
fail. A pipeline is handed numbers of shards only; what it finds out about all
of them together comes back, in a file, to the process that started it.
"""

import os
import pickle

import apache_beam as beam
import numpy as np
from apache_beam import metrics
from apache_beam.options import pipeline_options

from data_prep import files

# Not "DirectRunner", which first tries to download a runner of its own.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def open_pipeline(options):
    """Returns a `beam.Pipeline`, a context that runs it at its end.

    Args:
        options: Sequence of Beam's own options, such as
            "--runner=DataflowRunner"; without a runner the pipeline runs in
            this process.
    """
    return beam.Pipeline(
        options=pipeline_options.PipelineOptions(
            [f"--runner={LOCAL_RUNNER}", *options]
        )
    )


def elements(pipeline, values):
    """Returns a PCollection of few values whose work is spread over workers.

    Args:
        pipeline: `beam.Pipeline`.
        values: Sequence, such as the numbers of shards.
    """
    return (
        pipeline
        | "List shards" >> beam.Create(list(values))
        | "Spread shards" >> beam.Reshuffle()
    )


def count(reasons):
    """Adds to the counters that runners show while a pipeline runs.

    Args:
        reasons: dict reason -> number of inputs.
    """
    for reason, number in reasons.items():
        metrics.Metrics.counter("shards", reason).inc(int(number))


def for_each(options, name, values, work):
    """Calls a function with every value, on the workers.

    Args:
        options: As in `open_pipeline`.
        name: What is done, for the runner's pages.
        values: Sequence; a pipeline runs only if there are any.
        work: Function that can be pickled; what it returns is ignored.
    """
    if not values:
        return
    with open_pipeline(options) as pipeline:
        _ = elements(pipeline, values) | name >> beam.Map(_Quiet(work))


class _Quiet:
    """A function without its result."""

    def __init__(self, work):
        self._work = work

    def __call__(self, value):
        self._work(value)


def combine(options, name, values, work, combine_fn, path):
    """Returns what the workers find out about all values together.

    Args:
        options: As in `open_pipeline`.
        name: What is done, for the runner's pages.
        values: Sequence, not empty.
        work: Function of a value that can be pickled.
        combine_fn: `beam.CombineFn` of its results.
        path: File for the combined result, which is removed.
    """
    with open_pipeline(options) as pipeline:
        _ = (
            elements(pipeline, values)
            | name >> beam.Map(work)
            | "Combine" >> beam.CombineGlobally(combine_fn)
            | "Hand over" >> beam.Map(write_result, path)
        )
    return read_result(path)


def write_result(value, path):
    """Writes what a pipeline found, for `read_result`."""
    files.write_bytes(os.fspath(path), pickle.dumps(value))


def read_result(path):
    """Returns what a pipeline found, and removes its file."""
    try:
        return pickle.loads(files.read_bytes(path))
    finally:
        files.remove(path)


class Sum(beam.CombineFn):
    """Adds tuples of arrays, entry by entry."""

    def create_accumulator(self):
        """Returns what stands for no tuple."""
        return None

    def add_input(self, accumulator, element):
        """Adds one tuple."""
        if accumulator is None:
            return tuple(map(np.asarray, element))
        return tuple(a + b for a, b in zip(accumulator, element))

    def merge_accumulators(self, accumulators):
        """Adds several sums."""
        total = None
        for accumulator in accumulators:
            if accumulator is not None:
                total = self.add_input(total, accumulator)
        return total

    def extract_output(self, accumulator):
        """Returns the sum."""
        return accumulator


class Gather(beam.CombineFn):
    """Gathers numbers of all shards: how often each occurs, or rows of them.

    An input is a list of tuples of arrays, as functions for
    `counting.Tables.measure` return it; so is the output.
    """

    def create_accumulator(self):
        """Returns what stands for no input."""
        return []

    def add_input(self, accumulator, element):
        """Adds the list of one shard."""
        return self.merge_accumulators([accumulator, map(_counted, element)])

    def merge_accumulators(self, accumulators):
        """Adds the lists of several shards."""
        given = [list(accumulator) for accumulator in accumulators]
        given = [accumulator for accumulator in given if accumulator]
        if len(given) < 2:
            return given[0] if given else []
        return [_merge(answers) for answers in zip(*given)]

    def extract_output(self, accumulator):
        """Returns the list of all shards."""
        return [columns for _, columns in accumulator]


def _counted(columns):
    """Returns (whether it is counted, columns); counted ones with counts."""
    if len(columns) > 1:
        return False, columns
    return True, np.unique(columns[0], return_counts=True)


def _merge(answers):
    is_count = answers[0][0]
    joined = zip(*(columns for _, columns in answers))
    joined = tuple(map(np.concatenate, joined))
    if not is_count:
        return False, joined
    indices, place = np.unique(joined[0], return_inverse=True)
    counts = np.zeros(len(indices), np.int64)
    np.add.at(counts, place, joined[1])
    return True, (indices, counts)
