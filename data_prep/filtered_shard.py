"""The records that filtering writes, and where each of them goes.

The output is in one order over all its shards, that of a hash of key and copy;
so it depends on neither the order nor the sharding of the input. Where a corpus
may hold copies of an image, the place in the input stands for the key, or these
would be neighbours.
"""

import numpy as np

from data_prep import (
    files,
    hashing,
    prediction_inputs,
    prediction_table,
    records,
)

_HALF = np.uint64(32)


def place_hashes(shard, num_images):
    """Returns uint64 [images] of an input shard, in the place of keys' hashes.

    Args:
        shard: int, its index.
        num_images: int.
    """
    return (np.uint64(shard) << _HALF) + np.arange(num_images, dtype=np.uint64)


def output_order(hashes, copies, seed):
    """Returns every copy of some images, with its place in the output's order.

    Args:
        hashes: uint64 [images], `prediction_table.hash_of` their keys.
        copies: int [images], how many records each image gives.
        seed: int, the rule's.

    Returns:
        (int64 [records] row of the image, uint64 [records] order), ascending
        in the order.
    """
    rows = np.repeat(np.arange(len(copies)), copies)
    # The copies of an image are numbered from 0.
    ends = np.cumsum(copies)
    number = np.arange(len(rows)) - np.repeat(ends - copies, copies)
    order = order_of(np.asarray(hashes, np.uint64)[rows], seed, number)
    ascending = np.lexsort((rows, order))
    return rows[ascending], order[ascending]


def order_of(hashes, seed, number=0):
    """Returns uint64, the place in the output's order of copies of images.

    Args:
        hashes: uint64 array, `prediction_table.hash_of` the keys.
        seed: int, the rule's.
        number: int or int array, which copy; the first is 0.
    """
    salt = f"shuffle/{seed}".encode()
    return hashing.mix(hashes, salt=salt, number=number)


def output_shard(order, num_shards):
    """Returns int64, the output shards of uint64 places in the order.

    Shards are ranges of the order, ascending.
    """
    # The upper half is enough, and the product stays below 2**64.
    scaled = (np.asarray(order, np.uint64) >> _HALF) * np.uint64(num_shards)
    return (scaled >> _HALF).astype(np.int64)


def make_record(image, prediction, default_key, num_classes, where):
    """Returns the pseudo-labeled record of an image.

    Args:
        image: bytes, the serialized record with the image.
        prediction: bytes, the serialized prediction for it.
        default_key: bytes, its key if neither has one.
        num_classes: int, of the teacher.
        where: str, files and index, for the message.

    Returns:
        (serialized record, label, confidence, key).

    Raises:
        records.RecordError: One is malformed or holds no image, the two have
            different keys, or class or length of the distribution do not fit
            `num_classes`.
    """
    with files.naming(where):
        image_bytes, image_key = records.unpack_image(image)
        probs, label, key = records.unpack_prediction(prediction)
    if not image_bytes:
        raise records.RecordError(f"{where} has no image in {records.IMAGE!r}.")
    if len(probs) != num_classes:
        raise records.RecordError(
            f"{where} has a prediction over {len(probs)} classes. Received: "
            f"--num_label_classes={num_classes}."
        )
    if not 0 <= label < num_classes:
        raise records.RecordError(
            f"{where} has a prediction for class {label} of {num_classes}."
        )
    if key and image_key and key != image_key:
        raise records.RecordError(
            f"{where} has the key {image_key!r}, but its prediction is for "
            f"{key!r}."
        )
    key = image_key or key or default_key
    example = records.labeled_by_prediction(
        image_bytes, label, probs[label], prediction, key
    )
    return example, label, probs[label], key


def examples(image_path, prediction_paths, table, copies, num_classes):
    """Reads the records that a shard gives.

    Args:
        image_path: Image shard.
        prediction_paths: Its prediction files, one per worker.
        table: `balancing.Table` of the shard.
        copies: int [images], how many records each image gives.
        num_classes: int, of the teacher.

    Returns:
        dict row -> (serialized record, label), of images with copies.

    Raises:
        records.RecordError: As in `make_record`, or a prediction is not the one
            in the table; names files and record.
    """
    found = {}
    pairs = zip(
        records.read_records(image_path),
        prediction_inputs.read_predictions(prediction_paths),
    )
    for row, (image, prediction) in enumerate(pairs):
        if not copies[row]:
            continue
        source = prediction_paths[row % len(prediction_paths)]
        where = f"{image_path!r} with {source!r}: record {row}"
        default_key = records.default_key(image_path, row)
        example, label, confidence, key = make_record(
            image, prediction, default_key, num_classes, where
        )
        expected = (table.label[row], table.hash[row])
        if (label, prediction_table.hash_of(key)) != expected or not _agrees(
            confidence, table.confidence[row], prediction
        ):
            raise records.RecordError(
                f"{where} has the prediction {label} with {confidence:.7g} and "
                f"the key {key!r}, but the table of predictions says "
                "otherwise. Delete the table, or label the shard anew."
            )
        found[row] = example, label
    return found


def _agrees(stored, confidence, prediction):
    """Returns whether storing a confidence can have made of it what is stored.

    Args:
        stored: float32, as a prediction holds it.
        confidence: float32, as its table holds it.
        prediction: bytes, the serialized prediction.
    """
    if stored == confidence:
        return True
    error = records.confidence_error(prediction) * float(confidence)
    return abs(float(stored) - float(confidence)) <= error
