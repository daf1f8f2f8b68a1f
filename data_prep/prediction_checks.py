"""Checks, before anything is written, that the inputs of filtering agree."""

import os

from data_prep import files, prediction_table, shards


def check_inputs(inputs, info_dir, num_classes, shard_ids):
    """Checks, without reading images, that predictions fit their shards.

    Args:
        inputs: `prediction_inputs.PredictionInputs`.
        info_dir: Folder of the counts beside the predictions.
        num_classes: int.
        shard_ids: Iterable of int, the shards to check.

    Raises:
        FileNotFoundError: The count beside a prediction shard is missing.
        ValueError: A shard is truncated, images, predictions, their count and
            their table disagree, or distributions do not have `num_classes`
            entries; names the file.
    """
    # Imported here: records need TensorFlow, which takes seconds.
    from data_prep import records

    shard_ids = list(shard_ids)
    images = records.count_each(inputs.images[index] for index in shard_ids)
    for index, num_images in zip(shard_ids, images):
        workers = inputs.predictions[index]
        counts = [_count(path, info_dir, num_classes) for path in workers]
        _check_counts(inputs.images[index], num_images, workers, counts)


def _count(path, info_dir, num_classes):
    """Returns how many predictions a file holds; checks what lies beside it."""
    from data_prep import records

    info_path = _info_path(info_dir, path)
    stated = _read_info(info_path, path)
    if files.exists(prediction_table.path_beside(path)):
        _check_table(path, info_path, stated, num_classes)
        return stated
    (count,) = records.count_each([path])
    if stated != count:
        raise ValueError(
            f"{path!r} holds {count} predictions, but {info_path!r} says "
            f"{stated}."
        )
    _check_classes(path, count, num_classes)
    return count


def _check_counts(image_path, num_images, workers, counts):
    """Checks that workers took the images of a shard by turns, all of them."""
    if sum(counts) != num_images:
        raise ValueError(
            f"{image_path!r} holds {num_images} images, but there are "
            f"{sum(counts)} predictions in {', '.join(map(repr, workers))}."
        )
    for worker, count in enumerate(counts):
        expected = len(range(worker, num_images, len(workers)))
        if count != expected:
            raise ValueError(
                f"{workers[worker]!r} must hold {expected} predictions, every "
                f"{len(workers)}th of {num_images}. Received: {count}."
            )


def _info_path(info_dir, path):
    parsed = shards.parse_name(os.path.basename(path))
    index, total, worker = (
        int(parsed[name].lstrip("-")) for name in ("index", "total", "worker")
    )
    return os.path.join(info_dir, shards.info_name(index, total, worker))


def _read_info(info_path, path):
    if not files.exists(info_path):
        raise FileNotFoundError(
            f"{info_path!r} is missing: the labelling of {path!r} has not "
            "been finished."
        )
    info = files.read_json(info_path)
    stated = info.get("image_num") if isinstance(info, dict) else None
    if not isinstance(stated, int):
        raise ValueError(
            f'{info_path!r} must hold {{"image_num": <records>}}. Received: '
            f"{info!r}."
        )
    return stated


def _check_table(path, info_path, count, num_classes):
    """Checks that the table beside a prediction file is that of the file.

    It is known by the file's size, and says the length of all distributions,
    so that the predictions need not be read.
    """
    table_path = prediction_table.path_beside(path)
    rows, origin = prediction_table.describe(table_path)
    if origin is None:
        raise ValueError(
            f"{table_path!r} does not say which predictions it is of: an older "
            "version wrote it. Delete it, and the predictions are counted "
            "anew."
        )
    if (size := files.size(path)) != origin.num_bytes:
        raise ValueError(
            f"{path!r} has {size} bytes, {origin.num_bytes} by {table_path!r}: "
            "it is truncated or was changed. Label the shard anew, or delete "
            "the table if the predictions are what they should be."
        )
    for name, number in rows.items():
        if number != count:
            raise ValueError(
                f"{path!r} holds {count} predictions by {info_path!r}, but "
                f"column {name!r} of {table_path!r} has {number} rows."
            )
    _check_num_classes(path, origin.num_classes, num_classes)


def _check_classes(path, count, num_classes):
    from data_prep import records

    if not count:
        return
    first = next(records.read_records(path))
    with files.naming(f"{path!r}: record 0"):
        probs = records.unpack_prediction(first)[0]
    _check_num_classes(path, len(probs), num_classes)


def _check_num_classes(path, found, expected):
    if found != expected:
        raise ValueError(
            f"{path!r} holds distributions over {found} classes. Received: "
            f"--num_label_classes={expected}."
        )
