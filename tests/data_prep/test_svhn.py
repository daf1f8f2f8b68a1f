"""Tests of turning SVHN's .mat files into shards."""

import io

import numpy as np
import pytest
from PIL import Image

from data_prep import files, svhn
from tests.data_prep import source_checks

scipy_io = pytest.importorskip("scipy.io")

SIZES = {"train": 60, "test": 20, "extra": 30}
DEV_SIZE = 10


def _arrays(name):
    """Returns X and y of a file, as released: images last, digit 0 is 10."""
    rng = np.random.default_rng(len(name))
    pixels = rng.integers(0, 256, (32, 32, 3, SIZES[name]), dtype=np.uint8)
    digits = rng.integers(1, 11, (SIZES[name], 1), dtype=np.uint8)
    return pixels, digits


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("svhn")
    for name in SIZES:
        pixels, digits = _arrays(name)
        scipy_io.savemat(
            folder / f"{name}_32x32.mat",
            {"X": pixels, "y": digits},
            do_compression=True,
        )
    return folder


def _config(folder, output_dir, **changes):
    settings = {"dev_size": DEV_SIZE, "num_shards": 4, **changes}
    return svhn.SvhnConfig(str(folder), str(output_dir), **settings)


def test_every_image_is_in_one_split_with_its_pixels_and_digit(
    folder, tmp_path
):
    manifests = svhn.write(_config(folder, tmp_path))
    sizes = {name: m.total_records for name, m in manifests.items()}
    assert sizes == {"train": 50, "dev": 10, "test": 20, "extra": 30}
    assert manifests["train"].class_names == tuple("0123456789")
    train = source_checks.rows(tmp_path, "train")
    dev = source_checks.rows(tmp_path, "dev")
    assert len({*train, *dev}) == 60
    for name, rows in [
        ("train", {**train, **dev}),
        ("test", source_checks.rows(tmp_path, "test")),
        ("extra", source_checks.rows(tmp_path / "unlabeled", "extra")),
    ]:
        pixels, digits = _arrays(name)
        for i in range(SIZES[name]):
            row = rows[f"svhn/{name}/{i:06d}"]
            image = Image.open(io.BytesIO(row["image/encoded"][0]))
            assert image.format == "PNG"
            np.testing.assert_array_equal(image, pixels[..., i])
            label = [int(digits[i, 0]) % 10 + 1]
            assert row.get("image/class/label", label) == label
            assert ("image/class/label" in row) == (name != "extra")


def test_the_development_images_are_those_of_the_original(folder, tmp_path):
    svhn.write(_config(folder, tmp_path))
    # The original permutes the images with NumPy's generator seeded with 0
    # and takes the first.
    np.random.seed(0)
    order = np.arange(60)
    np.random.shuffle(order)
    extra = np.arange(30)
    np.random.shuffle(extra)
    dev = [f"svhn/train/{i:06d}" for i in order[:DEV_SIZE]]
    train = [f"svhn/train/{i:06d}" for i in order[DEV_SIZE:]]
    unlabeled = [f"svhn/extra/{i:06d}" for i in extra]
    rows = source_checks.rows
    assert list(rows(tmp_path, "dev")) == dev
    assert list(rows(tmp_path, "train")) == train
    assert list(rows(tmp_path / "unlabeled", "extra")) == unlabeled


def test_the_default_shards_are_those_of_the_original(folder, tmp_path):
    config = svhn.SvhnConfig(str(folder), str(tmp_path))
    assert (config.dev_size, config.num_shards) == (4000, 128)
    manifests = svhn.write(_config(folder, tmp_path))
    assert {name: m.num_shards for name, m in manifests.items()} == {
        "train": 4,
        "dev": 2,
        "test": 2,
        "extra": 4,
    }


def test_without_development_images_or_extra_file_there_are_no_such_shards(
    folder, tmp_path
):
    for name in ("train", "test"):
        data = (folder / f"{name}_32x32.mat").read_bytes()
        files.write_bytes(tmp_path / "in" / f"{name}_32x32.mat", data)
    manifests = svhn.write(_config(tmp_path / "in", tmp_path / "o", dev_size=0))
    assert set(manifests) == {"train", "test"}
    assert manifests["train"].total_records == 60
    assert not (tmp_path / "o" / "unlabeled").exists()


def test_a_killed_run_continues_to_the_same_bytes(
    folder, tmp_path, monkeypatch
):
    source_checks.check_restart(
        svhn.write, _config(folder, "any"), tmp_path, monkeypatch, fail_at=70
    )


def test_a_finished_run_reads_no_images(folder, tmp_path, monkeypatch):
    config = _config(folder, tmp_path)
    manifests = svhn.write(config)
    monkeypatch.delattr(scipy_io, "loadmat")
    assert svhn.write(config) == manifests


def _without_labels(folder):
    pixels, _ = _arrays("train")
    scipy_io.savemat(folder / "train_32x32.mat", {"X": pixels})


def _other_shape(folder):
    scipy_io.savemat(
        folder / "train_32x32.mat",
        {"X": np.zeros((3, 32, 32, 5)), "y": np.zeros((5, 1))},
    )


def _other_labels(folder):
    pixels, digits = _arrays("train")
    scipy_io.savemat(folder / "train_32x32.mat", {"X": pixels, "y": digits - 1})


def _no_matlab(folder):
    (folder / "train_32x32.mat").write_bytes(b"text" * 100)


def _truncated(folder):
    data = (folder / "train_32x32.mat").read_bytes()
    (folder / "train_32x32.mat").write_bytes(data[:-20])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _without_labels,
            r"train_32x32.mat' must hold X \[32, 32, 3, images\]",
        ),
        (_other_shape, "must hold X .* Received: .*'X': .3, 32, 32, 5"),
        (_other_labels, r"labels must be in 1..10. Received: 0..9"),
        (_no_matlab, "train_32x32.mat' is no MATLAB file"),
        (_truncated, "train_32x32.mat' is truncated or damaged"),
    ],
)
def test_other_files_are_named_before_anything_is_written(
    folder, tmp_path, change, message
):
    for name in SIZES:
        data = (folder / f"{name}_32x32.mat").read_bytes()
        files.write_bytes(tmp_path / "in" / f"{name}_32x32.mat", data)
    change(tmp_path / "in")
    with pytest.raises(ValueError, match=message):
        svhn.write(_config(tmp_path / "in", tmp_path / "out"))
    assert source_checks.content(tmp_path / "out") == {}


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="--input_dir=.*no such"):
        svhn.write(_config(tmp_path / "nowhere", tmp_path / "out"))
    data = (folder / "train_32x32.mat").read_bytes()
    files.write_bytes(tmp_path / "in" / "train_32x32.mat", data)
    with pytest.raises(FileNotFoundError, match="no file 'test_32x32.mat'"):
        svhn.write(_config(tmp_path / "in", tmp_path / "out"))


def test_development_images_must_leave_some_to_train_on(folder, tmp_path):
    with pytest.raises(ValueError, match="must be < 60.*Received: 60"):
        svhn.write(_config(folder, tmp_path, dev_size=60))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_dir": ""}, "--input_dir is needed"),
        ({"output_dir": ""}, "--output_dir is needed"),
        ({"dev_size": -1}, "`dev_size` must be >= 0. Received: -1"),
        ({"num_shards": 0}, "`num_shards` must be >= 1. Received: 0"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        svhn.SvhnConfig(**{"input_dir": "in", "output_dir": "out", **changes})


def test_no_flag_is_dead():
    source_checks.check_flags(
        svhn,
        svhn.SvhnConfig,
        {
            "input_dir": {"input_dir": "other"},
            "output_dir": {"output_dir": "other"},
            "dev_size": {"dev_size": 0},
            "num_shards": {"num_shards": 7},
        },
    )
