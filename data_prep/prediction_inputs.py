"""Finds image shards and the predictions for them."""

import dataclasses
import itertools

from data_prep import files, shards


@dataclasses.dataclass(frozen=True)
class PredictionInputs:
    """Image shards, paired with the predictions for them.

    Attributes:
        images: Tuple of paths.
        predictions: Tuple (shard) of tuples (worker) of paths.
    """

    images: tuple
    predictions: tuple

    def first(self, number):
        """Returns the first shards alone; None takes all."""
        return PredictionInputs(self.images[:number], self.predictions[:number])

    def settings(self):
        """Returns dict of digests that tell these inputs from others."""
        predictions = itertools.chain.from_iterable(self.predictions)
        return {
            "image_shards": files.fingerprint(self.images),
            "prediction_shards": files.fingerprint(predictions),
        }


def find(input_dir, prediction_dir, split, num_shards=None):
    """Finds and pairs all shards.

    Args:
        input_dir: Folder of the image shards.
        prediction_dir: Folder of the prediction shards.
        split: Split of the image shards.
        num_shards: How many image shards to expect; None takes what is there.

    Returns:
        `PredictionInputs`.

    Raises:
        FileNotFoundError: There are no image shards, or prediction files are
            missing; names them and the flag.
        ValueError: Image shards are missing, or not `num_shards`.
    """
    with files.naming(f"--input_dir={input_dir}"):
        images = shards.list_shards(input_dir, split)
    if num_shards not in (None, len(images)):
        raise ValueError(
            f"--num_shards={num_shards}, but there are {len(images)} "
            f"{split!r} shards in {input_dir!r}."
        )
    predictions = find_predictions(prediction_dir, split, len(images))
    return PredictionInputs(tuple(images), predictions)


def find_predictions(prediction_dir, split, num_shards):
    """Finds the predictions for all image shards.

    Args:
        prediction_dir: Folder of the prediction shards.
        split: Split of the image shards.
        num_shards: How many image shards there are.

    Returns:
        Tuple (shard) of tuples (worker) of paths.

    Raises:
        FileNotFoundError: Prediction files are missing; names them and the
            flag.
    """
    with files.naming(f"--prediction_dir={prediction_dir}"):
        found = shards.list_predictions(prediction_dir, split, num_shards)
    return tuple(map(tuple, found))


def read_predictions(paths):
    """Yields serialized predictions in the order of the image shard.

    Args:
        paths: Prediction files of one shard, one per worker. Image i is record
            i // w of worker i % w, as each of w workers takes every w-th image.
    """
    # Imported here: finding files needs no TensorFlow.
    from data_prep import records

    readers = [records.read_records(path) for path in paths]
    for reader in itertools.cycle(readers):
        serialized = next(reader, None)
        if serialized is None:
            return
        yield serialized


class ImageKeys:
    """The keys of a shard's images, of which predictions may store none.

    The image shard is read only as far as predictions without a key go.

    Args:
        image_path: Image shard.
    """

    def __init__(self, image_path):
        # Imported here: finding files needs no TensorFlow.
        from data_prep import records

        self._path = image_path
        self._images = enumerate(records.read_records(image_path))

    def find(self, index, key):
        """Returns the key of an image, as bytes.

        Args:
            index: int, its place in the shard; ascending from call to call.
            key: bytes, what the prediction for it stores, or empty.
        """
        from data_prep import records

        if not key:
            later = itertools.dropwhile(lambda p: p[0] < index, self._images)
            for _, image in itertools.islice(later, 1):
                key = records.unpack_image(image)[1]
        return key or records.default_key(self._path, index)
