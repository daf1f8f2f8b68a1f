"""Memory of the training stream while it delivers many images."""

import os
import tempfile
import time

from data_prep import records
from noisy_student import config, input_pipeline

_NUM_RECORDS = 4000
_NUM_SHARDS = 8
_BATCH_SIZE = 100
_NUM_REPORTS = 10


def report_memory(jpegs, image_size, num_images, *, small_image=False):
    """Prints the resident memory of this process as batches go by.

    Args:
        jpegs: Encoded images; they are repeated to 4,000 records.
        image_size: Height and width of the views in pixels.
        num_images: Images to deliver.
        small_image: Whether the views are those of small images.
    """
    with tempfile.TemporaryDirectory() as directory:
        _write(directory, jpegs)
        augment = config.AugmentConfig("randaugment", 2, 27)
        train = config.TrainConfig(
            model=config.ModelConfig(
                "efficientnet-b0", 2, image_size, small_image=small_image
            ),
            data=config.DataConfig(label_data_dir=directory),
            labeled_augment=augment,
            unlabeled_augment=augment,
            step=config.StepConfig(num_classes=2),
            optimizer=config.OptimizerConfig(),
            batch_size=_BATCH_SIZE,
            num_train_images=_NUM_RECORDS,
        )
        batches = iter(input_pipeline.train_batches(train))
        every = max(1, num_images // _BATCH_SIZE // _NUM_REPORTS)
        started = time.monotonic()
        print(f"Memory of the stream of {image_size}x{image_size} views")
        for step in range(1, every * _NUM_REPORTS + 1):
            next(batches)
            if step % every == 0:
                print(
                    f"{step * _BATCH_SIZE:9d} images{_resident_mb():8.0f} MB"
                    f"{time.monotonic() - started:8.0f} s",
                    flush=True,
                )


def _write(directory, jpegs):
    writer = records.ShardedWriter(
        directory, "train", _NUM_SHARDS, kind="labeled", config={}
    )
    for shard in range(_NUM_SHARDS):
        with writer.open_shard(shard) as out:
            for index in range(shard, _NUM_RECORDS, _NUM_SHARDS):
                jpeg = jpegs[index % len(jpegs)]
                out.write(records.labeled_example(jpeg, 1, str(index)), 1)
    writer.finish()


def _resident_mb():
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
