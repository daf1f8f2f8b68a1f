"""Where the processor time of our train views goes, step by step."""

import functools

import numpy as np
import tensorflow as tf

import autoaugment
from autoaugment import dispatch, magnitudes
from benchmarks import input_pipeline_peers as peers
from benchmarks import turns
from noisy_student import preprocessing

_BATCH_SIZE = 64
_EMPTY = "an empty step"


def profile_train_view(jpegs, image_size, num_images, runs, **augment):
    """Prints the processor time of each step of the train view.

    Args:
        jpegs: Encoded images.
        image_size: Height and width of the view.
        num_images: Images of a pass.
        runs: Passes of each step.
        **augment: Settings of `preprocessing.preprocess_for_train`.
    """
    encoded = tf.data.Dataset.from_tensor_slices(jpegs)
    windows = _cached(encoded, peers.decode_window)
    floats = _cached(encoded, peers.cropped_view(image_size))
    pixels = _cached(floats, _to_uint8)
    view = functools.partial(
        preprocessing.preprocess_for_train,
        image_size=image_size,
        dtype=tf.uint8,
        **augment,
    )
    whole = functools.partial(tf.image.decode_jpeg, channels=3)
    steps = {
        "the whole view": (encoded, view),
        "decoding the whole JPEG": (encoded, lambda jpeg, seed: whole(jpeg)),
        "decoding a random window": (encoded, peers.decode_window),
        "resizing the window": (
            windows,
            lambda image, seed: peers.resize(image, image_size),
        ),
        "mirroring every image": (
            pixels,
            lambda image, seed: tf.reverse(image, [1]),
        ),
        "casting to uint8": (floats, _to_uint8),
        **_augment_steps(pixels, augment, {}),
    }
    _print_steps(f"{image_size}x{image_size}", pixels, steps, num_images, runs)


def profile_small_view(jpegs, image_size, num_images, runs, **augment):
    """Prints the processor time of each step of the view of small images.

    Arguments are those of `profile_train_view`.
    """
    encoded = tf.data.Dataset.from_tensor_slices(jpegs)
    pixels = _cached(
        encoded, lambda jpeg, seed: tf.image.decode_jpeg(jpeg, channels=3)
    )
    view = functools.partial(
        preprocessing.preprocess_small_for_train,
        image_size=image_size,
        dtype=tf.uint8,
        **augment,
    )
    shifted = functools.partial(
        preprocessing.preprocess_small_for_train,
        image_size=image_size,
        dtype=tf.uint8,
    )
    constants = {
        "cutout_const": image_size // 8,
        "translate_const": image_size // 8,
    }
    steps = {
        "the whole view": (encoded, view),
        "the view without RandAugment": (
            encoded,
            lambda jpeg, seed: shifted(jpeg, seed=seed),
        ),
        "decoding the JPEG": (
            encoded,
            lambda jpeg, seed: tf.image.decode_jpeg(jpeg, channels=3),
        ),
        **_augment_steps(pixels, augment, constants),
    }
    _print_steps(f"{image_size}x{image_size}", pixels, steps, num_images, runs)


def _cached(source, step):
    # Computed in the first pass, which is not counted.
    return (
        source.enumerate()
        .map(lambda index, element: step(element, seed=tf.stack([index, 0])))
        .cache()
    )


def _to_uint8(image, seed=None):
    del seed
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)


def _augment_steps(images, augment, constants):
    """Returns RandAugment, and each of its operations called as it does."""
    magnitude = augment["magnitude"]

    def apply(image, seed, choice):
        # The graph must not know the index.
        index = tf.cast(tf.minimum(seed[0], 0), tf.int32)
        return dispatch.apply_one_of(
            image, [choice, dispatch.IDENTITY], index, tf.constant([0.5, 0.5])
        )

    steps = {
        "RandAugment": (
            images,
            lambda image, seed: autoaugment.randaugment(
                image,
                num_layers=augment["num_layers"],
                magnitude=magnitude,
                seed=seed,
                **constants,
            ),
        )
    }
    for name in autoaugment.OPS:
        args = magnitudes.level_to_args(name, magnitude, **constants)
        steps[name] = images, functools.partial(apply, choice=(name, args))
    return steps


def _print_steps(title, pixels, steps, num_images, runs):
    """Measures and prints each step, less what an empty one takes.

    Args:
        title: What is profiled.
        pixels: Dataset of what an empty step takes, and a batch is made of.
        steps: Dict of (dataset, (element, seed=int64 [2]) -> tensor).
        num_images: Images of a pass.
        runs: Passes of each step.
    """
    passes = {
        name: _pass(source, _one_value(step), num_images)
        for name, (source, step) in steps.items()
    }
    passes["joining a batch"] = _pass(pixels, _same, num_images)
    passes[_EMPTY] = _pass(pixels, _one_value(_same), num_images)
    times = turns.by_turns(list(passes.values()), runs)[..., 1]
    medians = np.median(times, axis=0) / num_images * 1e6
    micros = dict(zip(passes, medians - medians[-1]))
    del micros[_EMPTY]
    micros["the operations in the mean"] = np.mean(
        [micros[name] for name in autoaugment.OPS]
    )
    print(f"CPU us/image of the steps, {title}, TensorFlow {tf.__version__}")
    for name, value in micros.items():
        print(f"  {name:30}{value:7.0f}")


def _same(image, seed):
    del seed
    return image


def _one_value(step):
    """Returns a step whose result costs nothing to hand on."""
    return lambda image, seed: tf.reshape(step(image, seed=seed), [-1])[0]


def _pass(source, step, num_images):
    """Returns a measurement of a step, as `turns.pass_over` does."""
    batch_size = min(_BATCH_SIZE, num_images)
    return turns.pass_over(
        source.repeat()
        .take(batch_size + num_images)
        .enumerate()
        .map(
            lambda index, element: step(element, seed=tf.stack([index, 0])),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .batch(batch_size)
    )
