"""The teacher labels unlabeled shards on the workers of Apache Beam.

The same prediction shards as those of `predict.predict`, byte for byte.
"""

import apache_beam as beam
import tensorflow as tf
from apache_beam.utils import shared

from data_prep import beam_shards, progress
from noisy_student import labelling_output, predict


class LabelShard(beam.DoFn):
    """Labels image shards, `labelling_stream.ShardPart`s, one at a time.

    The network is loaded once in each process of a worker, whose devices it
    computes on; its threads share it.

    Args:
        config: `predict.PredictConfig`.
        writer: `predict.open_writer(config)`.
    """

    def __init__(self, config, writer):
        self._config = config
        self._writer = writer
        self._shared = shared.Shared()

    def setup(self):
        """Loads the teacher, unless the process has it."""
        self._labeller = self._shared.acquire(
            lambda: predict.Labeller(self._config, tf.distribute.get_strategy())
        )

    def process(self, part):
        """Writes the predictions for a shard; yields the number of images."""
        meter = progress.Progress("images labeled", total=part.num_images)
        self._labeller.write(self._writer, [part], meter)
        beam_shards.count({"labeled": part.num_images})
        yield part.num_images


def predict_on_beam(config, options):
    """Writes one prediction shard per unlabeled shard; skips finished ones.

    Args:
        config: `predict.PredictConfig`; its `shard_ids` must be None.
        options: Beam's options, as in `beam_shards.open_pipeline`.

    Returns:
        The `shards.Manifest` of the prediction shards.

    Raises:
        FileNotFoundError: If shards or checkpoint are missing.
        ValueError: If the checkpoint does not fit the model, or the output
            directory holds predictions of another run.
    """
    writer = predict.open_writer(config)
    if pending := writer.pending:
        parts = predict.find_parts(config)
        total = sum(part.num_images for part in parts)
        labelling_output.log_size(config, [part.path for part in parts], total)
        with beam_shards.open_pipeline(options) as pipeline:
            _ = beam_shards.elements(
                pipeline, [parts[index] for index in pending]
            ) | "Label" >> beam.ParDo(LabelShard(config, writer))
    return predict.finish(config, writer)
