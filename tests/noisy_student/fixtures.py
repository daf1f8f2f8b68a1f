"""Small data sets and configurations for the tests of this package."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl import flags

from data_prep import records
from noisy_student import config, main, run_dir
from noisy_student import flags as flags_lib

NUM_CLASSES = 3
IMAGE_SIZE = 16
MODEL = config.ModelConfig(
    "efficientnet-b0",
    NUM_CLASSES,
    IMAGE_SIZE,
    width_coefficient=0.1,
    depth_coefficient=0.1,
    small_image=True,
)


def image_bytes(label, number):
    """Returns a PNG whose brightness tells its class."""
    rng = np.random.default_rng([label, number])
    low = 80 * label
    pixels = rng.integers(low, low + 90, (IMAGE_SIZE, IMAGE_SIZE, 3))
    return tf.io.encode_png(pixels.astype(np.uint8)).numpy()


def write_labeled(directory, split, num_images, *, num_shards=2):
    """Writes labeled shards; image i has class i % NUM_CLASSES."""

    def record(i):
        label = i % NUM_CLASSES + 1
        image = image_bytes(label - 1, i)
        return records.labeled_example(image, label, f"{split}{i}"), label

    return _write(directory, split, num_images, num_shards, "labeled", record)


def write_unlabeled(directory, split, num_images, *, num_shards=2):
    """Writes unlabeled shards of images like the labeled ones."""

    def record(i):
        image = image_bytes(i % NUM_CLASSES, 1000 + i)
        return records.unlabeled_example(image, f"{split}{i}"), None

    return _write(directory, split, num_images, num_shards, "unlabeled", record)


def write_pseudo_labeled(directory, split, num_images, *, num_shards=2):
    """Writes pseudo-labeled shards whose labels are right."""

    def record(i):
        label = i % NUM_CLASSES
        probs = np.full(NUM_CLASSES, 0.1, np.float32)
        probs[label] = 0.8
        image = image_bytes(label, 2000 + i)
        example = records.pseudo_labeled_example(
            image, label, 0.8, probs, f"p{i}"
        )
        return example, label

    return _write(
        directory, split, num_images, num_shards, "pseudo_labeled", record
    )


def _write(directory, split, num_images, num_shards, kind, record):
    writer = records.ShardedWriter(
        str(directory), split, num_shards, kind=kind, config={}
    )
    for shard in range(num_shards):
        with writer.open_shard(shard) as out:
            for i in range(shard, num_images, num_shards):
                out.write(*record(i))
    return writer.finish()


def train_config(data_dir, *, unlabel_data_dir=None, **changes):
    """Returns a tiny `TrainConfig`; soft stored labels if a dir is given."""
    pseudo = config.PseudoLabelConfig(
        unlabeled_ratio=0 if unlabel_data_dir is None else 2,
        label_type="soft",
    )
    augment = config.AugmentConfig("randaugment", 1, 3)
    base = config.TrainConfig(
        model=MODEL,
        data=config.DataConfig(
            label_data_dir=str(data_dir),
            unlabel_data_dir=unlabel_data_dir and str(unlabel_data_dir),
            shuffle_buffer=8,
        ),
        labeled_augment=augment,
        unlabeled_augment=augment,
        step=config.StepConfig(num_classes=NUM_CLASSES, pseudo_labels=pseudo),
        optimizer=config.OptimizerConfig(
            base_learning_rate=0.3, moving_average_decay=0.9, warmup_epochs=0
        ),
        batch_size=4,
        train_steps=6,
        num_train_images=10,
        iterations_per_loop=2,
        save_checkpoints_steps=4,
        steps_per_eval=3,
        eval_batch_size=4,
    )
    return dataclasses.replace(base, **changes)


def run_main(*arguments):
    """Runs `noisy_student.main` with these arguments."""
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(["main", *arguments])
    main.main(flag_values)


def untimed_lines(model_dir):
    """Returns the lines of a run's metrics without what a clock tells."""
    return [
        {k: v for k, v in line.items() if not k.startswith("timing/")}
        for line in run_dir.read_metrics(str(model_dir))
    ]
