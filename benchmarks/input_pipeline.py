"""Speed of the train view against other ways to compute one.

All contenders see the same JPEGs, held in memory, and two processor cores; they
go by turns, and the ratios are those of neighbouring turns. Needs a checkout:
`python -m benchmarks.input_pipeline --help`.
"""

import functools
import io
import os
import pathlib

import numpy as np
from PIL import Image

from benchmarks import input_pipeline_peers as peers
from benchmarks import turns
from data_prep import command_line

_CORES = 2
_BATCH_SIZE = 64
_IMAGE_SIZE = 224
_SMALL_SIZE = 32
# A small image takes about a tenth of the time.
_SMALL_PER_IMAGE = 8
_MAX_JPEGS = 2000
_PROFILE_RUNS = 3
_AUGMENT = {"augment": "randaugment", "num_layers": 2, "magnitude": 27}


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to measure", flag_values)
    group.enum(
        "part",
        "all",
        ["all", "train", "small", "profile", "memory"],
        "Train is the view of 224x224 pixels, small that of 32x32, profile the "
        "steps of both; memory, of a long stream, is not in all.",
    )
    group.string(
        "data_dir",
        None,
        "Folder of JPEGs, searched recursively; without it, smooth noise of "
        "500x375 pixels.",
    )
    group.string(
        "small_data_dir",
        None,
        "Folder of JPEGs of 32x32 pixels, likewise.",
    )
    group.integer(
        "images",
        320,
        f"Images in a turn; of small ones {_SMALL_PER_IMAGE} times as many.",
        lower_bound=1,
    )
    group.integer(
        "runs", 12, "Measured turns of each contender.", lower_bound=1
    )
    group.integer(
        "memory_images", 200_000, "Images of the long streams.", lower_bound=1
    )


def main(flag_values):
    """Prints the figures of the parts that the flags name."""
    # Before TensorFlow starts its threads; processes inherit it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    photos = load_jpegs(flag_values.data_dir, width=500, height=375)
    small = load_jpegs(
        flag_values.small_data_dir, width=_SMALL_SIZE, height=_SMALL_SIZE
    )
    check_small(small)
    count, runs = flag_values.images, flag_values.runs
    small_count = _SMALL_PER_IMAGE * count
    if flag_values.part in ("all", "train"):
        compare_train_views(photos, count, runs)
    if flag_values.part in ("all", "small"):
        compare_small_views(small, small_count, runs)
    if flag_values.part in ("all", "profile"):
        from benchmarks import input_pipeline_profile as profile

        # Nothing is compared here, so that fewer will do.
        runs = min(runs, _PROFILE_RUNS)
        profile.profile_train_view(photos, _IMAGE_SIZE, count, runs, **_AUGMENT)
        profile.profile_small_view(
            small, _SMALL_SIZE, small_count, runs, **_AUGMENT
        )
    if flag_values.part == "memory":
        from benchmarks import input_pipeline_memory as memory

        count = flag_values.memory_images
        memory.report_memory(small, _SMALL_SIZE, count, small_image=True)
        memory.report_memory(photos, _IMAGE_SIZE, count)


def load_jpegs(folder, *, width, height):
    """Returns encoded images, a list of bytes.

    Args:
        folder: Folder of JPEGs, searched recursively; of more than 2,000 files
            only every nth is taken. None generates 64.
        width: Of generated images, in pixels.
        height: Likewise.

    Raises:
        FileNotFoundError: If the folder holds no JPEGs.
    """
    if folder is None:
        rng = np.random.default_rng(0)
        return [_smooth_noise(rng, width, height) for _ in range(64)]
    paths = sorted(
        path
        for path in pathlib.Path(folder).rglob("*")
        if path.suffix.lower() in (".jpg", ".jpeg")
    )
    if not paths:
        raise FileNotFoundError(f"No *.jpg or *.jpeg under {folder}.")
    # Evenly, since folders often stand for classes.
    step = -(-len(paths) // _MAX_JPEGS)
    return [path.read_bytes() for path in paths[::step]]


def _smooth_noise(rng, width, height):
    """Returns a JPEG whose detail is about that of a photo."""
    size = (width, height)
    pixels = np.zeros([height, width, 3])
    for scale, amplitude in ((40, 160), (8, 60), (2, 80)):
        small = (-(-height // scale) + 1, -(-width // scale) + 1, 3)
        noise = Image.fromarray(rng.integers(0, 256, small, np.uint8))
        noise = noise.resize(size, Image.Resampling.BICUBIC)
        pixels += (np.asarray(noise) / 255 - 0.5) * amplitude
    pixels = np.clip(pixels + 128, 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def check_small(jpegs):
    """Raises ValueError unless all JPEGs are small images."""
    for jpeg in jpegs:
        size = Image.open(io.BytesIO(jpeg)).size
        if size != (_SMALL_SIZE, _SMALL_SIZE):
            raise ValueError(
                "`--small_data_dir` must hold images of 32x32 pixels. "
                f"Received: one of {size[0]}x{size[1]}."
            )


def compare_train_views(jpegs, num_images, runs):
    """Prints the speed of our train view and of its peers.

    Args:
        jpegs: Encoded images.
        num_images: Images in a turn.
        runs: Turns of each.
    """
    import tensorflow as tf

    from noisy_student import preprocessing

    ours = functools.partial(
        preprocessing.preprocess_for_train,
        image_size=_IMAGE_SIZE,
        dtype=tf.uint8,
        **_AUGMENT,
    )
    makers = {
        "ours": lambda: peers.batches_of(ours),
        "ours, as float32": lambda: peers.batches_of(
            functools.partial(ours, dtype=tf.float32)
        ),
        "ours, whole decode": lambda: peers.batches_of(
            functools.partial(ours, fused_decode=False)
        ),
        "the original's structure": lambda: peers.batches_of(
            peers.original_view(_IMAGE_SIZE)
        ),
        "keras_cv": lambda: peers.keras_cv_batches(_IMAGE_SIZE),
        "floor": lambda: peers.batches_of(peers.cropped_view(_IMAGE_SIZE)),
    }
    passes = tf_data_passes(makers, jpegs, num_images)
    with peers.pillow_pass(jpegs, _IMAGE_SIZE, num_images, _CORES) as measure:
        passes[f"Pillow in {_CORES} processes"] = measure
        print_table("Train view, 224x224", jpegs, passes, num_images, runs)


def compare_small_views(jpegs, num_images, runs):
    """Prints the speed of our train view of small images and of its peer.

    Args:
        jpegs: Encoded images.
        num_images: Images in a turn.
        runs: Turns of each.
    """
    import tensorflow as tf

    from noisy_student import preprocessing

    ours = functools.partial(
        preprocessing.preprocess_small_for_train,
        image_size=_SMALL_SIZE,
        dtype=tf.uint8,
        **_AUGMENT,
    )
    makers = {
        "ours": lambda: peers.batches_of(ours),
        "the original's structure": lambda: peers.batches_of(
            peers.original_small_view(_SMALL_SIZE)
        ),
    }
    passes = tf_data_passes(makers, jpegs, num_images)
    print_table("Train view, 32x32", jpegs, passes, num_images, runs)


def tf_data_passes(makers, jpegs, num_images):
    """Returns a measurement for each pipeline that can be had.

    Args:
        makers: Dict of functions without arguments, each of which returns a
            pipeline as `peers.batches_of` does.
        jpegs: Encoded images.
        num_images: Images of a pass.
    """
    passes = {}
    for name, make in makers.items():
        try:
            passes[name] = tf_data_pass(make(), jpegs, num_images)
        except ImportError as error:
            print(f"{name}: left out: {error}")
    return passes


def tf_data_pass(pipeline, jpegs, num_images):
    """Returns a measurement of a pipeline.

    Args:
        pipeline: As `peers.batches_of` returns it.
        jpegs: Encoded images; they are repeated as often as needed.
        num_images: Images of a pass.

    Returns:
        What `turns.pass_over` does; a batch before the pass is not counted.
    """
    import tensorflow as tf

    batch_size = min(_BATCH_SIZE, num_images)
    examples = tf.data.Dataset.from_tensor_slices(jpegs).repeat()
    examples = examples.take(batch_size + num_images).enumerate()
    batches = pipeline(examples, batch_size)
    return turns.pass_over(batches.prefetch(tf.data.AUTOTUNE))


def print_table(title, jpegs, passes, num_images, runs):
    """Measures by turns and prints a line about each contender.

    Args:
        title: What is measured.
        jpegs: Encoded images.
        passes: Dict of functions that return (seconds, seconds of processor
            time); one is "ours".
        num_images: Images of a pass.
        runs: Turns of each.
    """
    import tensorflow as tf

    times = turns.by_turns(list(passes.values()), runs)
    ours = times[:, list(passes).index("ours")]
    print(
        f"{title}, N = 2, M = 27: {len(jpegs)} JPEGs of "
        f"{np.mean([len(jpeg) for jpeg in jpegs]) / 1000:.1f} kB, {runs} turns "
        f"of {num_images} images, {_CORES} cores, TensorFlow {tf.__version__}"
    )
    print(
        f"{'':26}{'images/s':>9}{'CPU us/image':>14}"
        f"{'speed of ours / its':>28}{'CPU of ours / its':>28}"
    )
    for index, name in enumerate(passes):
        seconds, cpu = np.median(times[:, index], axis=0)
        line = f"{name:26}{num_images / seconds:9.0f}"
        line += f"{1e6 * cpu / num_images:14.0f}"
        if name != "ours":
            ratios = ours / times[:, index]
            for ratio in (1 / ratios[:, 0], ratios[:, 1]):
                median, low, high = turns.median_and_middle_half(ratio)
                line += f"{median:10.2f} ({low:.2f} to {high:.2f})"
        print(line)


if __name__ == "__main__":
    command_line.run(main, define_flags)
