"""Time and memory of the models against Keras' own EfficientNets.

Ours and Keras' run in one process, by turns: the printed ratio is the median
of the ratios of neighbouring runs, so a machine that is busy with other work
slows both. Below 1 ours is faster. Needs a checkout: `python -m
benchmarks.model --help`.
"""

import concurrent.futures
import functools
import multiprocessing
import pathlib
import tempfile
import time

import numpy as np

from benchmarks import turns
from data_prep import command_line

_GB = 1e9
# Weights are float32.
_WEIGHT_BYTES = 4


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to measure", flag_values)
    group.enum(
        "part",
        "all",
        ["all", "inference", "training", "batch_norm", "l2"],
        "Inference and training compare B0 with Keras', batch_norm a layer; l2 "
        "builds an L2, then loads a checkpoint of it (4 GB of disk).",
    )
    group.integer("image_size", 224, "Height and width.", lower_bound=32)
    group.integer("batch_size", 16, "Images in a batch.", lower_bound=1)
    group.integer("runs", 20, "Measured runs of each.", lower_bound=1)


def main(flag_values):
    """Prints the figures of the parts that the flags name."""
    sizes = {
        "image_size": flag_values.image_size,
        "batch_size": flag_values.batch_size,
        "runs": flag_values.runs,
    }
    if flag_values.part in ("all", "inference"):
        compare_models("inference", inference_function, **sizes)
    if flag_values.part in ("all", "training"):
        compare_models("training step", training_function, **sizes)
    if flag_values.part in ("all", "batch_norm"):
        compare_batch_norm(**sizes)
    if flag_values.part in ("all", "l2"):
        with tempfile.TemporaryDirectory() as directory:
            print(describe(measure("built", _build, directory)))
            print(describe(measure("built and loaded", _load, directory)))


def compare_models(title, make_function, *, image_size, batch_size, runs):
    """Prints the times of our B0 and of Keras', and their ratio.

    Args:
        title: What is measured.
        make_function: A model -> a function of a batch of images.
        image_size: Height and width.
        batch_size: Images in a batch.
        runs: Measured runs of each.
    """
    functions = [make_function(model) for model in b0_models(image_size)]

    import tensorflow as tf

    images = tf.random.uniform([batch_size, image_size, image_size, 3], 0, 255)
    print_ratio(
        f"B0 {title}, {batch_size} x {image_size}x{image_size}",
        "tf.keras.applications",
        times_by_turns(functions, images, runs),
    )


def compare_batch_norm(*, image_size, batch_size, runs):
    """Prints the times of our batch norm and of Keras', and their ratio.

    Both take the outputs of B0's first expansion, forward and backward.

    Args:
        image_size: Height and width of the images.
        batch_size: Images in a batch.
        runs: Measured runs of each.
    """
    import efficientnet

    efficientnet.require_keras_2()
    import tensorflow as tf

    from efficientnet import normalization

    size = image_size // 2
    inputs = tf.random.normal([batch_size, size, size, 96])
    layers = (
        normalization.BatchNorm(),
        tf.keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3),
    )
    print_ratio(
        f"Batch norm, {batch_size} x {size}x{size} x 96",
        "tf.keras.layers.BatchNormalization",
        times_by_turns([gradient_function(x) for x in layers], inputs, runs),
    )


def print_ratio(title, peer, times):
    """Prints what `times_by_turns` measured of ours and of a peer."""
    import tensorflow as tf

    ours, others = 1000 * np.median(times, axis=0)
    ratio, low, high = turns.median_and_middle_half(times[:, 0] / times[:, 1])
    print(
        f"{title}, TensorFlow {tf.__version__}: ours {ours:.0f} ms, {peer} "
        f"{others:.0f} ms; ratio {ratio:.3f} (middle half {low:.3f} to "
        f"{high:.3f}, {len(times)} runs)"
    )


def b0_models(image_size):
    """Returns our B0 and Keras', both from pixels to 1000 logits."""
    import efficientnet

    efficientnet.require_keras_2()
    import tensorflow as tf

    return (
        efficientnet.build_model("efficientnet-b0", image_size=image_size),
        tf.keras.applications.EfficientNetB0(
            weights=None,
            input_shape=(image_size, image_size, 3),
            classifier_activation=None,
        ),
    )


def inference_function(model):
    """Returns images -> logits."""
    import tensorflow as tf

    return tf.function(
        lambda images: model(images, training=False), autograph=False
    )


def training_function(model):
    """Returns images -> loss, which also takes a step of RMSprop."""
    import tensorflow as tf

    from noisy_student import optimizers

    optimizer = optimizers.RMSprop(1e-3)
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(images):
        with tf.GradientTape() as tape:
            log_probs = tf.nn.log_softmax(model(images, training=True))
            loss = -tf.reduce_mean(log_probs[:, 0])
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables))
        return loss

    return step


def gradient_function(layer):
    """Returns inputs -> sum of the gradients of a layer in training."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def step(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(layer(inputs, training=True))
        gradients = tape.gradient(loss, [inputs, *layer.trainable_variables])
        return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

    return step


def times_by_turns(functions, images, runs):
    """Returns the seconds of each function in each run, [runs, functions].

    The functions go by turns, the first one first in every other run. Two
    runs before are not measured: they trace, and settle the memory.
    """

    def seconds(function):
        started = time.perf_counter()
        function(images).numpy()
        return time.perf_counter() - started

    return turns.by_turns(
        [functools.partial(seconds, function) for function in functions],
        runs,
        warm_ups=2,
    )


def measure(what, work, directory):
    """Does something with an L2 in a process of its own.

    Args:
        what: Says what, in the past tense.
        work: `_build` or `_load`.
        directory: Where the checkpoint lies.

    Returns:
        Dict of `what`, `num_weights`, `seconds` and, in bytes, the process'
        `level` after TensorFlow is imported and its `peak`.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return {"what": what, **executor.submit(work, directory).result()}


def _build(directory):
    """Builds an L2, and afterwards writes its checkpoint."""
    import efficientnet
    from efficientnet import model

    level = peak_memory()
    started = time.perf_counter()
    network = model.build_model("efficientnet-l2")
    figures = _figures(network, started, level)
    efficientnet.save_tf1_checkpoint(network, f"{directory}/model.ckpt")
    return figures


def _load(directory):
    """Builds an L2 and loads the averages of the checkpoint."""
    import efficientnet
    from efficientnet import model

    level = peak_memory()
    started = time.perf_counter()
    network = model.build_model("efficientnet-l2")
    efficientnet.load_tf1_checkpoint(network, directory)
    return _figures(network, started, level)


def _figures(network, started, level):
    return {
        "num_weights": network.count_params(),
        "seconds": time.perf_counter() - started,
        "level": level,
        "peak": peak_memory(),
    }


def peak_memory():
    """Returns the highest resident memory of this process so far, in bytes."""
    # Of this process alone; `ru_maxrss` starts with that of its parent.
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def describe(figures):
    """Returns a line about the figures of `measure`."""
    weights = _WEIGHT_BYTES * figures["num_weights"]
    grown = figures["peak"] - figures["level"]
    return (
        f"L2: {figures['what']} in {figures['seconds']:.1f} s; peak "
        f"{figures['peak'] / _GB:.2f} GB, {grown / _GB:.2f} GB over the "
        f"{figures['level'] / _GB:.2f} GB after importing TensorFlow, "
        f"{grown / weights:.2f} times its {weights / _GB:.2f} GB of weights"
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)
