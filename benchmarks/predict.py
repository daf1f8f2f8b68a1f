"""Whether labelling and evaluation waste anything: speed against the parts.

In one process, by turns: the processor time of decoding an image in memory and
of the forward pass, and the speed of labelling shards from disk to disk and of
evaluating them. Two processor cores. Needs a checkout:
`python -m benchmarks.predict --help`.
"""

import os
import tempfile
import time
from concurrent import futures

import numpy as np

from benchmarks import input_pipeline, turns
from data_prep import command_line

_CORES = 2
_NUM_CLASSES = 1000
_IMAGES_PER_SHARD = 128


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to measure", flag_values)
    group.string(
        "data_dir",
        None,
        "Folder of JPEGs, searched recursively; without it, smooth noise of "
        "500x375 pixels.",
    )
    group.integer(
        "images", 1024, "Images in a turn, whole steps.", lower_bound=1
    )
    group.integer("batch_size", 32, "Images of a step.", lower_bound=1)
    group.integer("image_size", 224, "Their size in pixels.", lower_bound=32)
    group.integer("runs", 4, "Measured turns of each.", lower_bound=1)


def main(flag_values):
    """Prints the figures."""
    # Before TensorFlow starts its threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    if flag_values.images % flag_values.batch_size:
        raise ValueError(
            "--images must be a multiple of --batch_size="
            f"{flag_values.batch_size}. Received: {flag_values.images}."
        )
    jpegs = input_pipeline.load_jpegs(
        flag_values.data_dir, width=500, height=375
    )
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(
            jpegs,
            folder,
            num_images=flag_values.images,
            batch_size=flag_values.batch_size,
            image_size=flag_values.image_size,
        )
        times = turns.by_turns(
            [
                parts.decode,
                parts.forward,
                parts.label,
                parts.label_cached,
                parts.evaluate,
            ],
            flag_values.runs,
        )
    print(describe(times, flag_values.images))


def describe(times, num_images):
    """Returns the figures as text.

    Args:
        times: float [runs, 5, 3] of what the methods of `Parts` return.
        num_images: Images of a turn.
    """
    decode, forward = times[:, 0, 1], times[:, 1, 1]
    labelling, evaluation = times[:, 2, 0], times[:, 4, 0]
    parts = decode / _CORES + times[:, 1, 0]
    lines = [
        f"decoding, CPU ms/image:   {_spread(1e3 * decode / num_images)}",
        f"forward, CPU ms/image:    {_spread(1e3 * forward / num_images)}",
        f"labelling, images/s:      {_spread(num_images / labelling)}",
        f"labelling, CPU ms/image:  "
        f"{_spread(1e3 * times[:, 2, 1] / num_images)}",
        f"speed * (decoding + forward), CPU: "
        f"{_spread((decode + forward) / labelling)}",
        f"the same / {_CORES} cores: "
        f"{_spread((decode + forward) / labelling / _CORES)}",
        f"(decoding, CPU / {_CORES} cores + forward, seconds) / labelling: "
        f"{_spread(parts / labelling)}",
        f"CPU of labelling / (decoding + forward): "
        f"{_spread(times[:, 2, 1] / (decode + forward))}",
        f"of the step, waiting for cached pixels: "
        f"{_spread(100 * times[:, 3, 2] / times[:, 3, 0])} %",
        f"evaluation, images/s:     {_spread(num_images / evaluation)}",
        f"(decoding, CPU / {_CORES} cores + forward, seconds) / evaluation: "
        f"{_spread(parts / evaluation)}",
    ]
    return "\n".join(lines)


def _spread(values):
    median, low, high = turns.median_and_middle_half(values)
    return f"{median:.4g} ({low:.4g} to {high:.4g})"


class Parts:
    """What labelling and evaluation do, alone and together.

    Each method returns (seconds, seconds of processor time, seconds of waiting
    for images).

    Args:
        jpegs: Encoded images.
        folder: Place for shards.
        num_images: Images of a turn.
        batch_size: Images of a step.
        image_size: Their size in pixels.
    """

    def __init__(self, jpegs, folder, *, num_images, batch_size, image_size):
        import tensorflow as tf

        import efficientnet
        from noisy_student import (
            config,
            evaluate,
            predict,
            preprocessing,
            steps_ahead,
        )

        self._tf = tf
        self._folder = folder
        self._num_images = num_images
        self._batch_size = batch_size
        self._strategy = tf.distribute.get_strategy()
        self._model_config = config.ModelConfig(
            "efficientnet-b0", _NUM_CLASSES, image_size
        )
        # Traced once, not in every turn.
        self._view = tf.function(
            preprocessing.eval_view(self._model_config), autograph=False
        ).get_concrete_function(tf.TensorSpec([], tf.string))
        self._jpegs = [tf.constant(jpeg) for jpeg in jpegs]
        self._paths = write_shards(jpegs, folder, num_images)
        network = efficientnet.build_model(
            "efficientnet-b0", num_classes=_NUM_CLASSES
        )
        self._network = network
        self._count = evaluate.counter(network)
        self._forward = predict.make_forward(network, self._strategy)
        self._threads = steps_ahead.num_threads(self._strategy)
        self._pixels = tf.stack(
            [self._view(tf.constant(jpeg)) for jpeg in jpegs[:batch_size]]
        )
        self._turn = 0

    def decode(self):
        """Decodes as many images as there are, all in memory, one by one."""

        def view_all():
            for number in range(self._num_images):
                self._view(self._jpegs[number % len(self._jpegs)])
            return 0.0

        return _timed(view_all)

    def forward(self):
        """Computes as many images, all in memory, as labelling does."""
        batch = self._tf.repeat(self._pixels, self._batch_size, axis=0)
        batch = batch[: self._batch_size]

        def step(_):
            for part in self._forward(batch):
                part.numpy()

        def compute():
            steps = range(self._num_images // self._batch_size)
            with futures.ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(step, steps))
            return 0.0

        return _timed(compute)

    def label(self):
        """Labels the shards, from JPEGs on disk to files on disk."""
        return _timed(lambda: self._label(self._view))

    def label_cached(self):
        """The same, but for decoding: the pixels are in memory."""
        pixels, count = self._pixels, len(self._pixels)

        def view(image_bytes):
            # Which of them does not matter.
            return pixels[self._tf.strings.length(image_bytes) % count]

        return _timed(lambda: self._label(view))

    def evaluate(self):
        """Evaluates the shards."""
        from noisy_student import evaluate, labeled_images

        def evaluate_all():
            source = labeled_images.open_source(
                self._folder, split="train", num_classes=_NUM_CLASSES
            )
            evaluate.evaluate_source(
                self._network,
                self._model_config,
                source,
                strategy=self._strategy,
                batch_size=self._batch_size,
                view=self._view,
                count=self._count,
            )
            return 0.0

        return _timed(evaluate_all)

    def _stream(self, view):
        from data_prep import records
        from noisy_student import labelling_stream

        counts = list(map(records.count_records, self._paths))
        return labelling_stream.ImageStream(
            parts=tuple(labelling_stream.divide(self._paths, counts)),
            view=view,
            batch_size=self._batch_size,
        )

    def _label(self, view):
        from data_prep import progress, records
        from noisy_student import labelling_output, labelling_stream, predict

        self._turn += 1
        output_dir = os.path.join(self._folder, f"labels_{self._turn}")
        config = predict.PredictConfig(
            model=self._model_config,
            checkpoint="",
            input_dir=self._folder,
            split="train",
            output_dir=output_dir,
        )
        writer = records.ShardedWriter(
            output_dir, "train", len(self._paths), kind="prediction", config={}
        )
        stream = self._stream(view)
        waiting = labelling_stream.Waiting()
        labelling_output.write(
            config,
            writer,
            stream.parts,
            stream.rows(self._forward, waiting, self._threads),
            progress.Progress("labeled", total=self._num_images),
        )
        return waiting.seconds


def write_shards(jpegs, folder, num_images):
    """Writes labeled shards of repeated images; returns their paths."""
    from data_prep import records

    num_shards = -(-num_images // _IMAGES_PER_SHARD)
    writer = records.ShardedWriter(
        folder, "train", num_shards, kind="labeled", config={}
    )
    for index in range(num_shards):
        with writer.open_shard(index) as shard:
            for number in range(index, num_images, num_shards):
                image_bytes = jpegs[number % len(jpegs)]
                label = number % _NUM_CLASSES + 1
                example = records.labeled_example(
                    image_bytes, label, f"{number}"
                )
                shard.write(example, label)
    writer.finish()
    return records.list_shards(folder, "train")


def _timed(function):
    cpu, started = time.process_time(), time.perf_counter()
    waited = function()
    seconds = time.perf_counter() - started
    return np.array([seconds, time.process_time() - cpu, waited])


if __name__ == "__main__":
    command_line.run(main, define_flags)
