"""Small corpora for the tests of data preparation."""

import io

import numpy as np
from PIL import Image

from data_prep import records, shard_writer

JPEG = b"\xff\xd8\xff\xe0 as far as a signature tells"


def image_bytes(seed, image_format="JPEG", mode="RGB", size=(12, 8)):
    """Returns an encoded image of random blocks, (width, height) `size`."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(encoded, image_format)
    return encoded.getvalue()


def random_probs(num_images, num_classes, seed, step=None):
    """Returns float32 [images, classes]; with `step` confidences often tie."""
    rng = np.random.default_rng(seed)
    skew = np.arange(num_classes, 0, -1) ** 2.0
    probs = rng.dirichlet(0.5 * skew / skew.sum() * num_classes, num_images)
    if step:
        probs = np.round(probs / step) * step
    return probs.astype(np.float32)


def forget_manifests(folder):
    """Removes what would tell that shards of a corpus were changed."""
    for path in folder.glob("*/*.manifest.json"):
        path.unlink()


def write_corpus(folder, probs, keys, bounds, prediction_keys=None):
    """Writes image shards to `folder`/images, predictions to `folder`/probs.

    Args:
        folder: `pathlib.Path`.
        probs: float32 [images, classes].
        keys: List of bytes; empty ones are left out.
        bounds: Image indices where a shard begins or ends.
        prediction_keys: As `keys`, of the predictions; None takes `keys`.
    """
    prediction_keys = prediction_keys or keys
    num_shards = len(bounds) - 1
    images = shard_writer.ShardedWriter(
        folder / "images", "train", num_shards, kind="unlabeled", config={}
    )
    predictions = shard_writer.ShardedWriter(
        folder / "probs", "train", num_shards, kind="prediction", config={}
    )
    for shard in range(num_shards):
        with (
            images.open_shard(shard) as image_shard,
            predictions.open_shard(shard) as prediction_shard,
        ):
            for i in range(bounds[shard], bounds[shard + 1]):
                image = JPEG + keys[i]
                image_shard.write(records.unlabeled_example(image, keys[i]))
                prediction_shard.write(
                    records.prediction_example(probs[i], prediction_keys[i])
                )
    images.finish()
    predictions.finish()


def read_features(paths):
    """Returns list of dict field -> value or list, of all records in order."""
    found = []
    for path in paths:
        for serialized in records.read_records(path):
            example = records.tf.train.Example.FromString(serialized)
            found.append(
                {
                    name: list(getattr(value, value.WhichOneof("kind")).value)
                    for name, value in example.features.feature.items()
                }
            )
    return found
