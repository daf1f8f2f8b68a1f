"""Tests of reading prepared data sets of tensorflow_datasets."""

import pytest
import tensorflow as tf

from data_prep import tfds_dataset
from tests.data_prep import tfds_sets


@pytest.fixture(autouse=True, scope="module")
def _prepared(tmp_path_factory):
    with tfds_sets.prepared(tmp_path_factory.mktemp("tfds")):
        yield


def test_images_are_undecoded_in_a_fixed_order_with_their_labels():
    elements, num_images, num_classes = tfds_dataset.open_labeled(
        "three_shades", "test"
    )
    assert (num_images, num_classes) == (40, 3)
    assert elements.element_spec == {
        "image_bytes": tf.TensorSpec([], tf.string),
        "label": tf.TensorSpec([], tf.int64),
    }
    first, second = (
        [tuple(row.values()) for row in elements.as_numpy_iterator()]
        for _ in range(2)
    )
    assert first == second
    shades = [tf.io.decode_png(data).numpy()[0, 0, 0] for data, _ in first]
    assert sorted(shades) == list(range(40))
    assert [label for _, label in first] == [shade % 3 for shade in shades]


def test_a_split_is_taken_as_it_is_written():
    elements, num_images, _ = tfds_dataset.open_labeled(
        "three_shades:1.0.0", "test[:25%]"
    )
    assert num_images == len(list(elements)) == 10


@pytest.mark.parametrize(
    ("name", "split", "kind", "message"),
    [
        ("no_such_set", "test", ValueError, "has no data set 'no_such_set'"),
        ("Not A Name", "test", ValueError, "has no data set 'Not A Name'"),
        ("three_shades", "train", ValueError, "no split 'train', but test"),
        ("only_text", "test", ValueError, "a `label`. Received: text"),
        ("mnist:99.0.0", "test", ValueError, "at version 99.0.0, only"),
        ("mnist", "test", FileNotFoundError, "'mnist' is not prepared in .*"),
        ("mnist", "test", FileNotFoundError, "`tfds build mnist` prepares it"),
    ],
)
def test_what_is_not_there_is_named(name, split, kind, message):
    with pytest.raises(kind, match=message):
        tfds_dataset.open_labeled(name, split)
