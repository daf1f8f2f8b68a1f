"""Tests of the handwritten digits as a small semi-supervised task."""

import collections
import io
import json
import os
import sys

import numpy as np
import pytest
from absl import flags
from PIL import Image

from data_prep import digits, records, shards, validation
from tests.data_prep import corpus

DigitsConfig = digits.DigitsConfig
datasets = pytest.importorskip("sklearn.datasets")
LABELS = datasets.load_digits().target


def _choose(**changes):
    return digits.choose_splits(LABELS, DigitsConfig("unused", **changes))


def _per_class(indices):
    return np.bincount(LABELS[indices], minlength=10)


def test_splits_have_their_sizes_and_no_image_in_common():
    splits = _choose()
    sizes = {split: len(indices) for split, indices in splits.items()}
    assert sizes == {"train": 60, "unlabeled": 1287, "test": 450}
    assert sorted(sum(splits.values(), [])) == list(range(1797))


def test_dev_takes_the_place_of_test():
    splits, without = _choose(dev_size=300), _choose()
    sizes = {split: len(indices) for split, indices in splits.items()}
    assert sizes == {"train": 60, "unlabeled": 987, "dev": 300}
    everything = sum(splits.values(), [])
    assert len(set(everything)) == 1347
    assert not set(everything) & set(without["test"])


def test_evaluation_images_do_not_depend_on_the_seed():
    for sizes in ({}, {"dev_size": 300}):
        first, second = _choose(seed=1, **sizes), _choose(seed=2, **sizes)
        last = "dev" if sizes else "test"
        assert first[last] == second[last]
        assert set(first["train"]) != set(second["train"])


def test_evaluation_images_are_stratified():
    shares = _per_class(_choose()["test"]) / np.bincount(LABELS)
    np.testing.assert_allclose(shares, 450 / 1797, atol=0.004)
    shares = _per_class(_choose(dev_size=300)["dev"]) / np.bincount(LABELS)
    np.testing.assert_allclose(shares, 300 / 1797, atol=0.006)


@pytest.mark.parametrize("num_labeled", [10, 57, 60, 1000])
def test_labeled_images_are_as_even_as_possible(num_labeled):
    counts = _per_class(_choose(num_labeled=num_labeled)["train"])
    assert counts.sum() == num_labeled
    assert counts.max() - counts.min() == (num_labeled % 10 > 0)


def test_classes_that_run_out_leave_their_share_to_the_others():
    assert digits._even(10, [1, 20, 4]) == [1, 5, 4]


def test_proportional_shares_add_up():
    assert digits._proportional(10, [1, 1, 1]) == [4, 3, 3]
    assert digits._proportional(0, [5, 6]) == [0, 0]


def test_written_shards_are_valid_and_hold_the_scans(tmp_path):
    manifests = digits.write(DigitsConfig(str(tmp_path)))
    assert {
        s: (m.num_shards, m.total_records) for s, m in manifests.items()
    } == {
        "train": (1, 60),
        "unlabeled": (4, 1287),
        "test": (1, 450),
    }
    for split, kind in (
        ("train", "labeled"),
        ("test", "labeled"),
        ("unlabeled", "unlabeled"),
    ):
        validation.validate(tmp_path / f"{split}-*", kind, 10)
        assert manifests[split].kind == kind
    counts = validation.validate(tmp_path / "train-*", "labeled", 10)
    assert counts.label_counts == {label: 6 for label in range(1, 11)}
    for row in corpus.read_features(shards.list_shards(tmp_path, "train")):
        index = int(row["image/filename"][0].decode().split("/")[1])
        assert row["image/class/label"] == [LABELS[index] + 1]


def test_truth_covers_the_unlabeled_images_and_no_others(tmp_path):
    digits.write(DigitsConfig(str(tmp_path), dev_size=300))
    truth = json.loads((tmp_path / "unlabeled_truth.json").read_text())
    keys = [
        records.unpack_image(serialized)[1].decode()
        for path in shards.list_shards(tmp_path, "unlabeled")
        for serialized in records.read_records(path)
    ]
    assert sorted(keys) == sorted(truth)
    for key, label in truth.items():
        assert label == LABELS[int(key.split("/")[1])]
    with pytest.raises(FileNotFoundError):
        shards.list_shards(tmp_path, "test")


def test_scans_become_enlarged_grey_jpegs():
    scan = datasets.load_digits().images[0]
    image = Image.open(io.BytesIO(digits.encode_scan(scan)))
    assert (image.size, image.mode, image.format) == ((32, 32), "RGB", "JPEG")
    pixels = np.asarray(image, float)
    assert pixels.std(axis=2).max() < 3
    blocks = pixels[..., 0].reshape(8, 4, 8, 4).mean(axis=(1, 3))
    assert np.corrcoef(blocks.ravel(), scan.ravel())[0, 1] > 0.97
    full = digits.encode_scan(np.full((8, 8), 16.0))
    assert np.asarray(Image.open(io.BytesIO(full))).min() >= 254


def test_a_second_run_gives_the_same_bytes_and_repeats_nothing(tmp_path):
    for name in ("a", "b"):
        digits.write(DigitsConfig(str(tmp_path / name)))
    content = collections.defaultdict(set)
    for name in ("a", "b"):
        for file in os.listdir(tmp_path / name):
            content[file].add((tmp_path / name / file).read_bytes())
    assert {len(values) for values in content.values()} == {1}
    path = tmp_path / "a" / "train-00000-of-00001"
    written = path.stat().st_mtime_ns
    digits.write(DigitsConfig(str(tmp_path / "a")))
    assert path.stat().st_mtime_ns == written


def test_another_division_is_refused(tmp_path):
    digits.write(DigitsConfig(str(tmp_path)))
    truth = (tmp_path / "unlabeled_truth.json").read_bytes()
    with pytest.raises(ValueError, match="`seed`: 0 before, 1 now"):
        digits.write(DigitsConfig(str(tmp_path), seed=1))
    assert (tmp_path / "unlabeled_truth.json").read_bytes() == truth


def test_an_output_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="--output_dir=.*out' is a file"):
        digits.write(DigitsConfig(str(tmp_path / "out")))


def test_missing_scikit_learn_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"scikit-learn.*\[quickstart\]"):
        digits.write(DigitsConfig(str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_dir": ""}, "--output_dir is needed"),
        ({"num_labeled": 9}, "`num_labeled` must be >= 10.*Received: 9"),
        ({"dev_size": -1}, "`dev_size` must be >= 0. Received: -1"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DigitsConfig(**{"output_dir": "a", **changes})


def test_some_images_must_stay_unlabeled():
    with pytest.raises(
        ValueError, match="must be < 1347.*Received: 1047 . 300"
    ):
        _choose(num_labeled=1047, dev_size=300)
    assert len(_choose(num_labeled=1046, dev_size=300)["unlabeled"]) == 1


def _flags(**values):
    flag_values = flags.FlagValues()
    digits.define_flags(flag_values)
    given = {"output_dir": "out", **values}
    flag_values(["program", *(f"--{k}={v}" for k, v in given.items())])
    return flag_values


NON_DEFAULT = {"output_dir": "b", "seed": 1, "num_labeled": 20, "dev_size": 1}


@pytest.mark.parametrize("name", NON_DEFAULT)
def test_no_flag_is_dead(name):
    changed = _flags(**{name: NON_DEFAULT[name]})
    default = digits.config_from_flags(_flags())
    assert default == DigitsConfig("out")
    assert digits.config_from_flags(changed) != default
    assert set(changed) == set(NON_DEFAULT)


def test_main_writes_as_the_flags_say(tmp_path):
    digits.main(_flags(output_dir=tmp_path, num_labeled=20))
    assert shards.read_manifest(tmp_path, "train").total_records == 20
