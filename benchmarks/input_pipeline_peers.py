"""What the input pipeline is measured against.

Views, (image_bytes, seed) -> pixels of one image, for `tf.data`; and Pillow in
a pool of processes. Importing this imports no TensorFlow, which the
processes of the pool do without.
"""

import contextlib
import io
import itertools
import math
import multiprocessing
import os
import pathlib
import random
import time

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_LAYERS = 2
_MAGNITUDE = 27
_GREY = (128, 128, 128)
# Images that a worker hands over at once. Of 4, 8, 16, 32 and 64 the fastest.
_POOL_CHUNK = 16


def original_view(image_size):
    """Returns the train view as the original program structures it.

    It decodes the whole image, and every operation stands behind a `tf.cond`.

    Raises:
        ImportError: If tensorflow-addons does not work here.
    """
    import tensorflow as tf

    from benchmarks import original_randaugment

    def view(image_bytes, seed):
        del seed
        image = tf.image.decode_jpeg(image_bytes, channels=3)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image), **_window_ranges()
        )
        image = tf.cond(
            tf.reduce_all(tf.equal(size[:2], tf.shape(image)[:2])),
            lambda: _centre(image, image_size),
            lambda: tf.slice(image, begin, size),
        )
        image = tf.image.random_flip_left_right(resize(image, image_size))
        image = tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
        image = original_randaugment.randaugment(image, _LAYERS, _MAGNITUDE)
        return tf.cast(image, tf.float32)

    return view


def original_small_view(image_size):
    """Returns the train view of small images, structured likewise."""
    import tensorflow as tf

    from benchmarks import original_randaugment

    def view(image_bytes, seed):
        del seed
        image = tf.image.decode_jpeg(image_bytes, channels=3)
        image = tf.reshape(image, [image_size, image_size, 3])
        image = original_randaugment.randaugment(
            image,
            _LAYERS,
            _MAGNITUDE,
            cutout_const=image_size // 8,
            translate_const=image_size // 8,
        )
        image = original_randaugment.cutout(image, image_size // 4)
        image = tf.cast(image, tf.float32)
        image = tf.pad(image, [[4, 4], [4, 4], [0, 0]], "REFLECT")
        image = tf.image.random_crop(image, [image_size, image_size, 3])
        return tf.image.random_flip_left_right(image)

    return view


def cropped_view(image_size):
    """Returns the least there is to do: decode a random window, resize it."""
    return lambda image_bytes, seed: resize(
        decode_window(image_bytes, seed), image_size
    )


def keras_cv_batches(image_size):
    """Returns a pipeline of `cropped_view` and keras_cv's RandAugment.

    It takes batches, which is faster than images one by one.

    Raises:
        ImportError: If keras_cv does not work here.
    """
    import keras_cv
    import tensorflow as tf

    augment = keras_cv.layers.RandAugment(
        value_range=(0, 255),
        augmentations_per_image=_LAYERS,
        # Its own scale, 0 to 1.
        magnitude=0.9,
        rate=1.0,
    )
    cropped = batches_of(cropped_view(image_size))

    def batches(examples, batch_size):
        return cropped(examples, batch_size).map(
            # It does not bear what bicubic leaves outside this range.
            lambda images: augment(tf.clip_by_value(images, 0.0, 255.0)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    return batches


def batches_of(view):
    """Returns a pipeline: (dataset of (index, JPEG), batch size) -> batches.

    Args:
        view: (image_bytes, seed=int64 [2] of its own) -> pixels.
    """
    import tensorflow as tf

    def batches(examples, batch_size):
        return examples.map(
            lambda index, image_bytes: view(
                image_bytes, seed=tf.stack([index, 0])
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        ).batch(batch_size)

    return batches


def decode_window(image_bytes, seed):
    """Returns a random window, uint8 [height, width, 3].

    The JPEG is decoded only where the window lies.
    """
    import tensorflow as tf

    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(image_bytes), seed=seed, **_window_ranges()
    )
    window = tf.concat([begin[:2], size[:2]], axis=0)
    return tf.image.decode_and_crop_jpeg(image_bytes, window, channels=3)


def resize(image, image_size):
    """Returns float32 [image_size, image_size, 3], as TF 1 resized."""
    import tensorflow as tf

    image = tf.raw_ops.ResizeBicubic(
        images=image[tf.newaxis], size=[image_size, image_size]
    )[0]
    return tf.ensure_shape(image, [image_size, image_size, 3])


def _centre(image, image_size):
    import tensorflow as tf

    from noisy_student import preprocessing

    top, left, side = preprocessing.center_crop_window(
        tf.shape(image), image_size
    )
    return tf.slice(image, [top, left, 0], tf.stack([side, side, 3]))


def _window_ranges():
    return {
        "bounding_boxes": np.array([[[0, 0, 1, 1]]], np.float32),
        "min_object_covered": 0.1,
        "aspect_ratio_range": (3 / 4, 4 / 3),
        "area_range": (0.08, 1.0),
        "max_attempts": 10,
        "use_image_if_no_bounding_boxes": True,
    }


@contextlib.contextmanager
def pillow_pass(images, image_size, num_images, processes):
    """Yields a measurement of Pillow in a pool of processes.

    Each process holds all encoded images; a task names some of them and comes
    back as their pixels, uint8 [images, image_size, image_size, 3].

    Args:
        images: JPEGs, a sequence of bytes.
        image_size: Height and width of the result.
        num_images: Images of a pass.
        processes: Size of the pool.

    Yields:
        A function that makes one pass and returns (seconds, seconds of
        processor time); its first tasks, one a process, are not counted.
    """
    chunk = min(_POOL_CHUNK, max(num_images // processes, 1))
    tasks = [
        [(i + j) % len(images) for j in range(min(chunk, num_images - i))]
        for i in range(0, num_images, chunk)
    ]
    warm_up = tasks[:1] * processes
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _hold, (images, image_size)) as pool:
        workers = [child.pid for child in multiprocessing.active_children()]

        def measure():
            batches = pool.imap(_pillow_batch, warm_up + tasks)
            for _ in itertools.islice(batches, processes):
                pass
            cpu, started = _cpu_seconds(workers), time.perf_counter()
            for _ in batches:
                pass
            seconds = time.perf_counter() - started
            return seconds, _cpu_seconds(workers) - cpu

        yield measure


def _cpu_seconds(workers):
    """Returns the processor time of this process and of others by number."""
    ticks = 0
    for worker in workers:
        status = pathlib.Path(f"/proc/{worker}/stat").read_text()
        # The name of the program, in brackets, may hold blanks.
        fields = status.rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _hold(images, image_size):
    global _held
    _held = images, image_size


def _pillow_batch(indices):
    images, image_size = _held
    return np.stack([pillow_view(images[i], image_size) for i in indices])


def pillow_view(image_bytes, image_size):
    """Returns one image cropped, flipped and augmented by Pillow.

    Args:
        image_bytes: JPEG bytes.
        image_size: Height and width of the result.

    Returns:
        uint8 [image_size, image_size, 3].
    """
    image = Image.open(io.BytesIO(image_bytes)).convert("RGB")
    box = _random_window(*image.size)
    image = image.resize((image_size,) * 2, Image.Resampling.BICUBIC, box)
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    for operation in random.choices(list(PILLOW_OPS.values()), k=_LAYERS):
        image = operation(image)
    return np.asarray(image)


def _random_window(width, height):
    """Returns (left, top, right, bottom) of 8 to 100 % of an image's area."""
    for _ in range(10):
        area = random.uniform(0.08, 1.0) * width * height
        aspect = random.uniform(3 / 4, 4 / 3)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w <= width and h <= height:
            left = random.randint(0, width - w)
            top = random.randint(0, height - h)
            return left, top, left + w, top + h
    return 0, 0, width, height


def _sign():
    return random.choice((-1, 1))


def _affine(image, *matrix):
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, fillcolor=_GREY
    )


def _pillow_cutout(image):
    x, y = (random.randrange(size) for size in image.size)
    image = image.copy()
    image.paste(_GREY, (x - 108, y - 108, x + 108, y + 108))
    return image


# What magnitude 27 amounts to: factor 4.96, shear 0.81, 270 pixels.
PILLOW_OPS = {
    "AutoContrast": ImageOps.autocontrast,
    "Equalize": ImageOps.equalize,
    "Invert": ImageOps.invert,
    "Rotate": lambda x: x.rotate(81 * _sign(), fillcolor=_GREY),
    "Posterize": lambda x: ImageOps.posterize(x, 1),
    "Solarize": lambda x: ImageOps.solarize(x, 179),
    "Color": lambda x: ImageEnhance.Color(x).enhance(4.96),
    "Contrast": lambda x: ImageEnhance.Contrast(x).enhance(4.96),
    "Brightness": lambda x: ImageEnhance.Brightness(x).enhance(4.96),
    "Sharpness": lambda x: ImageEnhance.Sharpness(x).enhance(4.96),
    "ShearX": lambda x: _affine(x, 1, 0.81 * _sign(), 0, 0, 1, 0),
    "ShearY": lambda x: _affine(x, 1, 0, 0, 0.81 * _sign(), 1, 0),
    "TranslateX": lambda x: _affine(x, 1, 0, 270 * _sign(), 0, 1, 0),
    "TranslateY": lambda x: _affine(x, 1, 0, 0, 0, 1, 270 * _sign()),
    "SolarizeAdd": lambda x: x.point(
        [255 if v < 128 else v for v in range(256)] * 3
    ),
    "Cutout": _pillow_cutout,
}
