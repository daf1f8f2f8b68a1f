"""Time and memory of our training step against plain ones.

By turns in one process, as in `benchmarks.model`; ratios of neighbouring runs,
below 1 ours is faster. Needs a checkout: `python -m benchmarks.train_step
--help`.

- `bare`: one step of our loop (`train.make_train_loop`, the iterator included)
  over the bare step of the same network at the same shapes: forward pass, cross
  entropy, weight decay, gradient, an RMSprop and a moving average of all
  weights, written out in one `tf.function`. What ours adds is the noise's seed,
  the metrics and all that makes it run on replicas.
- `fit`: the same step of ours over `model.fit` on
  `tf.keras.applications.EfficientNetB0`, whose optimizer is Keras' RMSprop with
  its own moving average (`use_ema`), which takes in the trainable weights
  alone. Both read one batch that lies in memory.
- `memory`: the highest resident memory of one step of ours, in processes of
  their own: as it is, with recomputation, and in four parts.
"""

import concurrent.futures
import functools
import multiprocessing
import time

import numpy as np

from benchmarks import model as model_benchmark
from benchmarks import turns
from data_prep import command_line

_GB = 1e9
_CLASSES = 1000
_MEMORY_SETTINGS = {
    "as it is": {},
    "--recompute_activations": {"recompute_activations": True},
    "--accumulate_steps=4": {"accumulate_steps": 4},
}


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to measure", flag_values)
    group.enum(
        "part", "all", ["all", "bare", "fit", "memory"], "What is compared."
    )
    group.integer("image_size", 224, "Height and width.", lower_bound=32)
    group.integer("batch_size", 16, "Images in a batch.", lower_bound=4)
    group.integer("steps", 2, "Steps of one run.", lower_bound=1)
    group.integer("runs", 20, "Measured runs of each.", lower_bound=1)


def main(flag_values):
    """Prints the figures of the parts that the flags name."""
    size, count = flag_values.image_size, flag_values.batch_size
    peers = {"bare": bare_steps, "fit": fit_steps}
    for part, make_peer in peers.items():
        if flag_values.part in ("all", part):
            batch = make_batch(size, count)
            measurements = [
                functools.partial(seconds, run, flag_values.steps)
                for run in (our_steps(batch), make_peer(batch))
            ]
            print_ratio(
                f"B0 step, {count} x {size}x{size}",
                part,
                turns.by_turns(measurements, flag_values.runs, warm_ups=2),
                flag_values.steps,
            )
    if flag_values.part in ("all", "memory"):
        for name, changes in _MEMORY_SETTINGS.items():
            level, peak = in_a_process(peak_of_a_step, size, count, changes)
            print(
                f"B0 step, {count} x {size}x{size}, {name}: peak "
                f"{(peak - level) / _GB:.2f} GB over the {level / _GB:.2f} GB "
                "of the built network"
            )


def seconds(run, steps):
    """Returns the seconds that some steps take."""
    started = time.perf_counter()
    run(steps)
    return time.perf_counter() - started


def print_ratio(title, peer, times, steps):
    """Prints what `turns.by_turns` measured of ours and of a peer."""
    import tensorflow as tf

    ours, others = 1000 * np.median(times, axis=0) / steps
    ratio, low, high = turns.median_and_middle_half(times[:, 0] / times[:, 1])
    print(
        f"{title}, TensorFlow {tf.__version__}: ours {ours:.0f} ms, {peer} "
        f"{others:.0f} ms; ratio {ratio:.3f} (middle half {low:.3f} to "
        f"{high:.3f}, {len(times)} runs)"
    )


def make_batch(image_size, batch_size):
    """Returns a batch of labeled images for `train.train_step`."""
    import efficientnet

    efficientnet.require_keras_2()
    import tensorflow as tf

    shape = [batch_size, image_size, image_size, 3]
    return {
        "labeled_images": tf.random.uniform(shape, 0, 255),
        "labeled_labels": tf.random.uniform(
            [batch_size], 0, _CLASSES, tf.int64
        ),
    }


def _b0(batch):
    import efficientnet

    return efficientnet.build_model(
        "efficientnet-b0", image_size=batch["labeled_images"].shape[1]
    )


def _optimizer():
    from noisy_student import optimizers, schedules

    return optimizers.RMSprop(
        schedules.WarmupExponentialDecay(1e-3, steps_per_epoch=100)
    )


def our_steps(batch, **changes):
    """Returns a function that takes so many steps of our loop on a batch.

    Args:
        batch: As `make_batch`'s.
        **changes: Fields of `config.StepConfig`.
    """
    import tensorflow as tf

    from noisy_student import config, train

    state = train.create_state(_b0(batch), _optimizer())
    settings = config.StepConfig(num_classes=_CLASSES, **changes)
    run_steps = train.make_train_loop(state, settings)
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())

    def run(steps):
        metrics = run_steps(iterator, tf.constant(steps, tf.int64))
        return float(metrics["loss"])

    return run


def bare_steps(batch):
    """Returns the same for a step written out, without our training code."""
    import tensorflow as tf

    network, optimizer = _b0(batch), _optimizer()
    weights, variables = network.weights, network.trainable_variables
    optimizer.build(variables)
    averages = [tf.Variable(weight, trainable=False) for weight in weights]
    decayed = [v for v in variables if "batch_normalization" not in v.name]

    @tf.function(autograph=False)
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = network(images, training=True)
            targets = tf.one_hot(labels, _CLASSES) * 0.9 + 0.1 / _CLASSES
            loss = tf.reduce_mean(
                tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            )
            loss += 1e-5 * tf.add_n([tf.nn.l2_loss(v) for v in decayed])
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables))
        for average, weight in zip(averages, weights):
            average.assign_sub(1e-4 * (average - weight))
        return loss

    def run(steps):
        for _ in range(steps):
            loss = step(batch["labeled_images"], batch["labeled_labels"])
        return float(loss)

    return run


def fit_steps(batch):
    """Returns the same for `model.fit` on Keras' own B0."""
    import tensorflow as tf

    images, labels = batch["labeled_images"], batch["labeled_labels"]
    network = tf.keras.applications.EfficientNetB0(
        weights=None,
        input_shape=tuple(images.shape[1:]),
        classifier_activation=None,
    )
    network.compile(
        tf.keras.optimizers.RMSprop(
            1e-3, momentum=0.9, use_ema=True, jit_compile=False
        ),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    dataset = tf.data.Dataset.from_tensors((images, labels)).repeat()

    def run(steps):
        history = network.fit(dataset, steps_per_epoch=steps, verbose=0)
        return history.history["loss"][-1]

    return run


def in_a_process(function, *arguments):
    """Returns what a function does in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return executor.submit(function, *arguments).result()


def peak_of_a_step(image_size, batch_size, changes):
    """Returns the peak memory before and after a step of ours, in bytes."""
    run = our_steps(make_batch(image_size, batch_size), **changes)
    level = model_benchmark.peak_memory()
    run(1)
    return level, model_benchmark.peak_memory()


if __name__ == "__main__":
    command_line.run(main, define_flags)
