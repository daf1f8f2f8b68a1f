"""Tests of turning CIFAR-10's archives into shards."""

import collections
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from data_prep import cifar10
from tests.data_prep import source_checks

PER_BATCH = 20
BATCHES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


def _batch(name):
    """Returns (uint8 [images, 3072], list of labels 0..9) of a batch."""
    rng = np.random.default_rng(BATCHES.index(name))
    pixels = rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8)
    return pixels, [int(i) for i in rng.permutation(PER_BATCH) % 10]


class _Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as Python 2 wrote its strings."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        data = value.encode() if isinstance(value, str) else value
        length = len(data).to_bytes(4, "little")
        self.write(pickle.BINSTRING + length + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def _python_batch(name):
    pixels, labels = _batch(name)
    content = {
        "batch_label": f"batch {name}",
        "labels": labels,
        "data": pixels,
        "filenames": [f"image_{i}.png" for i in range(PER_BATCH)],
    }
    written = io.BytesIO()
    _Python2Pickler(written, protocol=2).dump(content)
    # As the released files name it; NumPy 2 has moved it.
    return written.getvalue().replace(
        b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    )


def _binary_batch(name):
    pixels, labels = _batch(name)
    rows = np.concatenate([np.uint8(labels)[:, None], pixels], axis=1)
    return rows.tobytes()


def _members(version):
    """Returns the files of an archive, as they are called in it."""
    if version == "python":
        top = "cifar-10-batches-py"
        batches = [(f"{top}/{n}", _python_batch(n)) for n in BATCHES]
        return [(f"{top}/batches.meta", b"not read"), *batches]
    top = "cifar-10-batches-bin"
    batches = [(f"{top}/{n}.bin", _binary_batch(n)) for n in BATCHES]
    return [(f"{top}/batches.meta.txt", b"not read"), *batches]


def _pack(path, members):
    data = source_checks.tar_bytes(members)
    with tarfile.open(path, "w:gz") as tar:
        tar.fileobj.write(data)
    return path


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar")
    for version in ("python", "binary"):
        _pack(folder / f"cifar-10-{version}.tar.gz", _members(version))
    return folder


def _config(path, output_dir, **changes):
    settings = {"num_shards": 3, **changes}
    return cifar10.Cifar10Config(str(path), str(output_dir), **settings)


@pytest.mark.parametrize("version", ["python", "binary"])
def test_pixels_and_labels_stay_as_they_are(folder, tmp_path, version):
    path = folder / f"cifar-10-{version}.tar.gz"
    manifests = cifar10.write(_config(path, tmp_path))
    assert manifests["train"].counters == {"kept": 5 * PER_BATCH}
    assert manifests["test"].counters == {"kept": PER_BATCH}
    assert manifests["train"].class_names[:2] == ("airplane", "automobile")
    for split, batches in (("train", BATCHES[:5]), ("test", BATCHES[5:])):
        rows = source_checks.rows(tmp_path, split)
        assert len(rows) == len(batches) * PER_BATCH
        for number, name in enumerate(batches):
            pixels, labels = _batch(name)
            for i, label in enumerate(labels):
                row = rows[f"cifar10/{split}/{number * PER_BATCH + i:05d}"]
                image = Image.open(io.BytesIO(row["image/encoded"][0]))
                assert image.format == "PNG"
                # Red, green and blue planes, each row by row.
                expected = pixels[i].reshape(3, 32, 32).transpose(1, 2, 0)
                np.testing.assert_array_equal(image, expected)
                assert row["image/class/label"] == [label + 1]


def test_both_versions_packed_or_not_give_the_same_bytes(folder, tmp_path):
    inputs = []
    for version in ("python", "binary"):
        path = folder / f"cifar-10-{version}.tar.gz"
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path / "in")
        top = os.path.dirname(_members(version)[0][0])
        inputs += [path, tmp_path / "in" / top]
    contents = []
    for number, path in enumerate(inputs):
        output_dir = tmp_path / str(number)
        cifar10.write(_config(path, output_dir, num_labeled=30, dev_size=10))
        contents.append(source_checks.content(output_dir))
    assert contents[1:] == contents[:1] * 3


def test_labeled_and_development_images_are_even_and_the_rest_unlabeled(
    folder, tmp_path
):
    path = folder / "cifar-10-binary.tar.gz"
    manifests = cifar10.write(
        _config(path, tmp_path, num_labeled=35, dev_size=20)
    )
    sizes = {name: m.total_records for name, m in manifests.items()}
    assert sizes == {"dev": 20, "train": 35, "unlabeled": 45, "test": 20}
    assert manifests["unlabeled"].kind == "unlabeled"
    parts = {name: source_checks.rows(tmp_path, name) for name in sizes}
    counts = {
        name: collections.Counter(
            row["image/class/label"][0] for row in parts[name].values()
        )
        for name in ("dev", "train")
    }
    assert set(counts["dev"].values()) == {2}
    assert sorted(counts["train"].values()) == [3] * 5 + [4] * 5
    keys = [key for name in parts for key in parts[name] if name != "test"]
    assert len(keys) == len(set(keys)) == 100
    # Another seed labels other images and keeps `dev`.
    cifar10.write(
        _config(path, tmp_path / "b", num_labeled=35, dev_size=20, seed=1)
    )
    other = {n: source_checks.rows(tmp_path / "b", n) for n in counts}
    assert other["dev"] == parts["dev"]
    assert set(other["train"]) != set(parts["train"])


def test_a_killed_run_continues_to_the_same_bytes(
    folder, tmp_path, monkeypatch
):
    config = _config(folder / "cifar-10-binary.tar.gz", "any", num_labeled=40)
    source_checks.check_restart(
        cifar10.write, config, tmp_path, monkeypatch, fail_at=50
    )


class _Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_that_calls_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    members = dict(_members("python"))
    name = "cifar-10-batches-py/data_batch_3"
    members[name] = pickle.dumps(_Malicious(), protocol=2)
    path = _pack(tmp_path / "a.tar.gz", list(members.items()))
    with pytest.raises(ValueError, match="'data_batch_3' .* asks for .*mkdir"):
        cifar10.write(_config(path, tmp_path / "out"))
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz"]


def test_a_missing_batch_is_named(tmp_path):
    members = [m for m in _members("binary") if "batch_4" not in m[0]]
    path = _pack(tmp_path / "a.tar.gz", members)
    with pytest.raises(FileNotFoundError, match="no batch 'data_batch_4.bin'"):
        cifar10.write(_config(path, tmp_path / "out"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes(3073 * 2 - 1), "6145 bytes, is no multiple of 3073"),
        (b"", "0 bytes, is no multiple"),
        (bytes([10]) + bytes(3072), "labels must be in 0..9. Received: 10..10"),
    ],
)
def test_a_wrong_binary_batch_is_named(tmp_path, data, message):
    members = dict(_members("binary"))
    members["cifar-10-batches-bin/test_batch.bin"] = data
    path = _pack(tmp_path / "a.tar.gz", list(members.items()))
    with pytest.raises(ValueError, match=f"'test_batch.bin' .*{message}"):
        cifar10.write(_config(path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"labels": [0]}, "'data'"),
        (
            {b"data": np.zeros((2, 5), np.uint8), b"labels": [0, 1]},
            r"uint8 \[2, 3072\]. Received: uint8 \[2, 5\]",
        ),
        (
            {b"data": np.zeros((1, 3072)), b"labels": [0]},
            "Received: float64",
        ),
    ],
)
def test_a_wrong_python_batch_is_named(tmp_path, content, message):
    members = dict(_members("python"))
    members["cifar-10-batches-py/test_batch"] = pickle.dumps(content, 3)
    path = _pack(tmp_path / "a.tar.gz", list(members.items()))
    with pytest.raises(ValueError, match=f"'test_batch' .*{message}"):
        cifar10.write(_config(path, tmp_path / "out"))


def test_a_truncated_or_missing_archive_is_named(folder, tmp_path):
    data = (folder / "cifar-10-binary.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cut.tar.gz is truncated"):
        cifar10.write(_config(tmp_path / "cut.tar.gz", tmp_path / "out"))
    with pytest.raises(FileNotFoundError, match="--input=.*nowhere: no such"):
        cifar10.write(_config(tmp_path / "nowhere", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no batch 'data_batch_1'"):
        cifar10.write(_config(tmp_path / "empty", tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_labeled": 101}, r"must be <= 100.*Received: 101 \+ 0"),
        ({"num_labeled": 60, "dev_size": 50}, r"Received: 60 \+ 50"),
        ({"dev_size": 100}, r"Received: None \+ 100"),
    ],
)
def test_sizes_must_fit(folder, tmp_path, changes, message):
    path = folder / "cifar-10-binary.tar.gz"
    with pytest.raises(ValueError, match=message):
        cifar10.write(_config(path, tmp_path / "out", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": ""}, "--input is needed"),
        ({"output_dir": ""}, "--output_dir is needed"),
        ({"dev_size": -1}, "`dev_size` must be >= 0. Received: -1"),
        ({"num_labeled": 0}, "`num_labeled` must be >= 1. Received: 0"),
        ({"num_shards": 0}, "`num_shards` must be >= 1. Received: 0"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        cifar10.Cifar10Config(**{"input": "in", "output_dir": "o", **changes})


def test_no_flag_is_dead():
    source_checks.check_flags(
        cifar10,
        cifar10.Cifar10Config,
        {
            "input": {"input": "other"},
            "output_dir": {"output_dir": "other"},
            "num_labeled": {"num_labeled": 7},
            "dev_size": {"dev_size": 7},
            "seed": {"seed": 7},
            "num_shards": {"num_shards": 7},
        },
    )
