"""Tests of reading prepared data sets of tensorflow_datasets."""

import os

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_prep import tfds_dataset
from tests.data_prep import source_checks, tfds_sets


@pytest.fixture(autouse=True, scope="module")
def _prepared(tmp_path_factory):
    with tfds_sets.prepared(tmp_path_factory.mktemp("tfds")):
        yield


def test_images_are_undecoded_in_a_fixed_order_with_their_labels():
    elements, num_images, names = tfds_dataset.open_labeled(
        "three_shades", "test"
    )
    assert (num_images, names) == (40, ("0", "1", "2"))
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
        ("mnist", "test", FileNotFoundError, "--name=mnist --prepare"),
    ],
)
def test_what_is_not_there_is_named(name, split, kind, message):
    with pytest.raises(kind, match=message):
        tfds_dataset.open_labeled(name, split)


def _config(output_dir, **changes):
    settings = {"name": "three_shades", "split": "test", "num_shards": 3}
    return tfds_dataset.TfdsConfig(
        output_dir=str(output_dir), **{**settings, **changes}
    )


def test_a_data_set_becomes_labeled_shards_of_the_same_files(tmp_path):
    manifest = tfds_dataset.write(_config(tmp_path))["test"]
    assert manifest.num_records == (13, 13, 14)
    assert manifest.class_names == ("0", "1", "2")
    assert manifest.counters == {"kept": 40}
    rows = source_checks.rows(tmp_path, "test")
    elements, _, _ = tfds_dataset.open_labeled("three_shades", "test")
    assert [
        (row["image/encoded"][0], row["image/class/label"][0] - 1)
        for row in rows.values()
    ] == [tuple(row.values()) for row in elements.as_numpy_iterator()]
    # Where it lies in the prepared files identifies an image.
    assert list(rows)[0].startswith("three_shades-test.tfrecord-00000-of-")


def test_labels_can_be_left_out_and_part_of_a_split_taken(tmp_path):
    config = _config(
        tmp_path,
        split="test[10:30]",
        output_split="extra",
        unlabeled=True,
        image_size=2,
        num_shards=None,
    )
    manifest = tfds_dataset.write(config)["extra"]
    assert (manifest.kind, manifest.num_records) == ("unlabeled", (20,))
    assert manifest.counters == {"converted:png": 20}
    row = list(source_checks.rows(tmp_path, "extra").values())[0]
    assert "image/class/label" not in row
    assert tf.io.decode_jpeg(row["image/encoded"][0]).shape == (2, 2, 3)


def test_images_without_labels_are_counted_or_taken_unlabeled(tmp_path):
    config = _config(tmp_path / "labeled", name="half_labeled")
    manifest = tfds_dataset.write(config)["test"]
    assert manifest.counters == {"dropped:no_label": 20, "kept": 20}
    assert (manifest.label_min, manifest.label_max) == (1, 3)
    config = _config(tmp_path / "b", name="half_labeled", unlabeled=True)
    assert tfds_dataset.write(config)["test"].counters == {"kept": 40}


def test_a_killed_run_continues_to_the_same_bytes(tmp_path, monkeypatch):
    source_checks.check_restart(
        tfds_dataset.write,
        _config("any", num_shards=6),
        tmp_path,
        monkeypatch,
        fail_at=22,
    )


def test_a_deleted_shard_alone_is_written_again(tmp_path):
    tfds_dataset.write(_config(tmp_path))
    before = source_checks.content(tmp_path)
    os.remove(tmp_path / "test-00001-of-00003")
    tfds_dataset.write(_config(tmp_path))
    assert source_checks.content(tmp_path) == before


def test_a_data_set_without_images_is_refused(tmp_path):
    config = _config(tmp_path / "out", name="only_text", unlabeled=True)
    with pytest.raises(ValueError, match="an `image`. Received: text"):
        tfds_dataset.write(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "--name is needed"),
        ({"split": None}, "--split is needed"),
        ({"output_dir": ""}, "--output_dir is needed"),
        ({"split": "a[:1]"}, r"--output_split is needed for --split=a\[:1\]"),
        ({"num_shards": 0}, "`num_shards` must be >= 1. Received: 0"),
        ({"image_size": 0}, "`image_size` must be >= 1. Received: 0"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tfds_dataset.TfdsConfig(
            **{"name": "n", "split": "s", "output_dir": "o", **changes}
        )


def test_no_flag_is_dead():
    source_checks.check_flags(
        tfds_dataset,
        tfds_dataset.TfdsConfig,
        {
            "name": {"name": "other"},
            "split": {"split": "other"},
            "output_dir": {"output_dir": "other"},
            "output_split": {"output_split": "other"},
            "unlabeled": {"unlabeled": True},
            "image_size": {"image_size": 7},
            "num_shards": {"num_shards": 7},
            "prepare": {"prepare": True},
        },
    )


def test_files_to_fetch_by_hand_are_asked_for(tmp_path, monkeypatch):
    class ByHand(tfds_sets.ThreeShades):
        def _split_generators(self, dl_manager):
            raise AssertionError("Manual directory is empty.")

    builder = ByHand(data_dir=str(tmp_path / "fresh"))
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    config = _config(tmp_path / "shards", prepare=True)
    with pytest.raises(ValueError, match="'three_shades' cannot .*: Manual"):
        tfds_dataset.write(config)


def test_a_data_set_is_prepared_on_request(tmp_path, monkeypatch):
    builder = tfds_sets.ThreeShades(data_dir=str(tmp_path / "fresh"))
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    with pytest.raises(FileNotFoundError, match="not prepared"):
        tfds_dataset.write(_config(tmp_path / "shards"))
    config = _config(tmp_path / "shards", prepare=True)
    assert tfds_dataset.write(config)["test"].counters == {"kept": 40}
