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

    for index in shard_ids:
        workers = inputs.predictions[index]
        counts = []
        for path in workers:
            count = records.count_records(path)
            _check_info(_info_path(info_dir, path), path, count)
            _check_table(path, count)
            _check_classes(path, count, num_classes)
            counts.append(count)
        _check_counts(inputs.images[index], workers, counts)


def _check_counts(image_path, workers, counts):
    """Checks that workers took the images of a shard by turns, all of them."""
    from data_prep import records

    num_images = records.count_records(image_path)
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


def _check_info(info_path, path, count):
    if not files.exists(info_path):
        raise FileNotFoundError(
            f"{info_path!r} is missing: the labelling of {path!r} has not "
            "been finished."
        )
    stated = files.read_json(info_path).get("image_num")
    if stated != count:
        raise ValueError(
            f"{path!r} holds {count} predictions, but {info_path!r} says "
            f"{stated}."
        )


def _check_table(path, count):
    table_path = prediction_table.path_beside(path)
    if not files.exists(table_path):
        return
    for name, column in zip(
        prediction_table.COLUMNS, prediction_table.read(table_path)
    ):
        if len(column) != count:
            raise ValueError(
                f"{path!r} holds {count} predictions, but column {name!r} of "
                f"{table_path!r} has {len(column)} rows."
            )


def _check_classes(path, count, num_classes):
    from data_prep import records

    if not count:
        return
    probs = records.unpack_prediction(next(records.read_records(path)))[0]
    if len(probs) != num_classes:
        raise ValueError(
            f"{path!r} holds distributions over {len(probs)} classes. "
            f"Received: --num_label_classes={num_classes}."
        )
