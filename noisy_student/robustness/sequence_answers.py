"""What a network answers to the frames of sequences."""

import numpy as np
import tensorflow as tf

from noisy_student import labeled_images, predict, steps_ahead
from noisy_student.robustness import frames

_TOP_K = 5


class Answers:
    """A network that is loaded, and compiled once for all sequences.

    Args:
        network: `network.Network`.
    """

    def __init__(self, network):
        strategy = network.strategy
        self._view = network.view
        self._batch_size = predict.local_batch_size(
            strategy, network.config.batch_size
        )
        self._forward = predict.make_forward(network.load(), strategy)
        self._threads = steps_ahead.num_threads(strategy)

    def __call__(self, sequences):
        """Yields the five best classes of each frame, sequence by sequence.

        Args:
            sequences: `frames.Sequences`.

        Yields:
            (name of the sequence, int [frames, 5], the best first).

        Raises:
            ValueError: If a frame cannot be looked at; it is named.
        """
        try:
            yield from frames.group(self._frames(sequences))
        except tf.errors.InvalidArgumentError:
            self._explain_failure(sequences)
            raise

    def _explain_failure(self, sequences):
        """Raises ValueError with the place of the first frame that fails."""
        images, name, position = iter(sequences.frames()), None, 0
        while True:
            try:
                image = next(images, None)
                if image is None:
                    return
                sequence = image["sequence"].numpy().decode()
                position = position + 1 if sequence == name else 0
                name = sequence
                self._view(image["image_bytes"])
            except tf.errors.OpError as error:
                raise ValueError(
                    f"frame {position} of sequence {name!r}, or the next one, "
                    "cannot be looked at: "
                    f"{labeled_images.first_cause(error)}."
                ) from error

    def _frames(self, sequences):
        batches = frames.batches(sequences, self._view, self._batch_size)
        ahead = steps_ahead.StepsAhead(self._forward, self._threads)
        pairs = ((batch["sequence"], batch["images"]) for batch in batches)
        for names, outputs in ahead.run(pairs):
            probs = np.concatenate([output.numpy() for output in outputs])
            # As `argmax`, the first of equal ones is the best.
            top_5 = np.argsort(-probs, axis=-1, kind="stable")[:, :_TOP_K]
            for name, row in zip(names.numpy(), top_5):
                yield name.decode(), row
