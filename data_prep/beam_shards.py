"""What all steps on Apache Beam share: a pipeline, and work by shard.

Every step reads shards and writes shards through `ShardedWriter`, on whichever
machine: a shard that is done is not made again, in a run that is started again
as in one whose workers fail.
"""

import apache_beam as beam
from apache_beam import metrics
from apache_beam.options import pipeline_options

# Not "DirectRunner", which first tries to download a runner of its own.
LOCAL_RUNNER = "FnApiRunner"


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
