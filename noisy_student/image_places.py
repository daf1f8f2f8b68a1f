"""Where images are, as `--label_data_dir` and its like name it.

Light: commands look at such values before TensorFlow is imported.
"""

from data_prep import files, shards

_TFDS = "tfds:"


def is_tfds(place):
    """Returns whether a place is a data set of tensorflow_datasets."""
    return place.startswith(_TFDS)


def tfds_name(place):
    """Returns the name of a data set, of a place that `is_tfds`."""
    return place[len(_TFDS) :]


def absolute(place):
    """Returns a place with absolute paths, however it was spelled."""
    if is_tfds(place):
        return place
    return ";".join(map(files.absolute, shards.separate(place)))
