"""Last stage of filtering: the records of one output shard."""

from data_prep import counting, hashing, records


def examples(image_path, prediction_paths, copies, *, salt):
    """Returns the pseudo-labeled records of a shard, shuffled by hash.

    Args:
        image_path: Image shard.
        prediction_paths: Its prediction files, one per worker.
        copies: int [images], how many records each image gives.
        salt: bytes; seeds the order.

    Returns:
        List of (serialized record, label). The copies of an image are equal.

    Raises:
        records.RecordError: An image and its prediction have different keys.
    """
    ordered = []
    pairs = zip(
        records.read_records(image_path),
        counting.read_predictions(prediction_paths),
    )
    for index, (image, prediction) in enumerate(pairs):
        if not copies[index]:
            continue
        image_bytes, image_key = records.unpack_image(image)
        probs, label, key = records.unpack_prediction(prediction)
        if key and image_key and key != image_key:
            raise records.RecordError(
                f"{image_path!r}: record {index} has the key {image_key!r}, "
                f"but its prediction in {prediction_paths[0]!r} is for {key!r}."
            )
        key = image_key or key or records.default_key(image_path, index)
        example = records.pseudo_labeled_example(
            image_bytes, label, probs[label], probs, key
        )
        for copy in range(copies[index]):
            order = hashing.hash64(b"%s#%d" % (key, copy), salt=salt)
            ordered.append((order, index, copy, example, label))
    return [(example, label) for *_, example, label in sorted(ordered)]
