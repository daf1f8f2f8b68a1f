"""Tests of turning shards of encoded images into unlabeled shards."""

import os

import pytest
import tensorflow as tf

from data_prep import jft, records
from tests.data_prep import corpus, source_checks


def _example(image=None, key=None, image_name="img", key_name="id"):
    feature = {}
    if image is not None:
        feature[image_name] = tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[image])
        )
    if isinstance(key, int):
        feature[key_name] = tf.train.Feature(
            int64_list=tf.train.Int64List(value=[key])
        )
    elif key is not None:
        feature[key_name] = tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[key])
        )
    features = tf.train.Features(feature=feature)
    return tf.train.Example(features=features).SerializeToString()


def _write_records(path, payloads):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)


IMAGES = [corpus.image_bytes(seed) for seed in range(40)]


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """Three TFRecord files and two tar files with ten good images each."""
    folder = tmp_path_factory.mktemp("jft")
    for shard in range(3):
        numbers = range(10 * shard, 10 * shard + 10)
        _write_records(
            folder / f"part-{shard}.tfrecord",
            [
                *(_example(IMAGES[i], f"id/{i}".encode()) for i in numbers),
                _example(IMAGES[10 * shard], b"again"),
                _example(IMAGES[39], f"id/{10 * shard}".encode()),
                _example(b"damaged", b"bad"),
                _example(b"", b"empty"),
                _example(None, b"none"),
                b"\xff no example",
            ],
        )
    for shard in range(2):
        numbers = range(10 * shard, 10 * shard + 10)
        members = [
            ("./a/1.5.png", corpus.image_bytes(50 + shard, "PNG")),
            *((f"{i:04d}.JPG", IMAGES[i]) for i in numbers),
            *((f"{i:04d}.cls", b"7") for i in numbers),
            (f"{numbers[0]:04d}.json", b"{}"),
            (f"{numbers[0]:04d}.png", IMAGES[38]),
        ]
        (folder / f"w-{shard}.tar").write_bytes(
            source_checks.tar_bytes(members)
        )
    return folder


def _config(folder, output_dir, pattern="part-*", **changes):
    return jft.JftConfig(
        f"{folder}/{pattern}",
        str(output_dir),
        **{"image_feature": "img", "key_feature": "id", **changes},
    )


def test_every_record_is_written_or_has_a_reason(folder, tmp_path):
    manifest = jft.write(_config(folder, tmp_path))["train"]
    assert manifest.counters == {
        "dropped:duplicate_image": 3,
        "dropped:duplicate_key": 3,
        "dropped:empty": 3,
        "dropped:no_image": 3,
        "dropped:not_example": 3,
        "dropped:not_image": 3,
        "kept": 30,
    }
    assert (manifest.kind, manifest.num_records) == ("unlabeled", (10, 10, 10))
    rows = source_checks.rows(tmp_path, "train")
    # Each input shard is an output shard, in its order.
    assert list(rows) == [f"id/{i}" for i in range(30)]
    for i in range(30):
        assert rows[f"id/{i}"]["image/encoded"] == [IMAGES[i]]


def test_tar_shards_give_the_images_and_count_what_is_beside_them(
    folder, tmp_path
):
    manifest = jft.write(_config(folder, tmp_path, "w-*.tar"))["train"]
    assert manifest.counters == {
        "converted:png": 2,
        "dropped:duplicate_key": 2,
        "dropped:other_file": 22,
        "kept": 20,
    }
    rows = corpus.read_features([str(tmp_path / "train-00000-of-00002")])
    keys = [row["image/filename"][0] for row in rows]
    assert keys == [
        b"w-0.tar/./a/1",
        *(f"w-0.tar/{i:04d}".encode() for i in range(10)),
    ]
    assert rows[3]["image/encoded"] == [IMAGES[2]]


def test_equal_names_in_several_tar_files_give_different_keys(tmp_path):
    for shard in range(2):
        members = [("000000.jpg", IMAGES[shard])]
        (tmp_path / f"{shard}.tar").write_bytes(
            source_checks.tar_bytes(members)
        )
    jft.write(_config(tmp_path, tmp_path / "out", "*.tar"))
    rows = source_checks.rows(tmp_path / "out", "train")
    assert list(rows) == ["0.tar/000000", "1.tar/000000"]


def test_tar_files_of_the_same_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.tar").write_bytes(
            source_checks.tar_bytes([("000000.jpg", IMAGES[0])])
        )
    with pytest.raises(ValueError, match="1 names of tar .* such as '0.tar'"):
        jft.write(_config(tmp_path, tmp_path / "out", "*/0.tar"))
    assert not (tmp_path / "out").exists()


def test_both_kinds_mix_and_images_shrink(folder, tmp_path):
    config = _config(
        folder,
        tmp_path,
        f"part-0.tfrecord;{folder}/w-1.tar",
        image_size=4,
        split="extra",
    )
    manifest = jft.write(config)["extra"]
    assert manifest.counters["resized"] == 20
    assert manifest.num_records == (10, 11)


@pytest.mark.parametrize(
    ("key", "key_feature", "expected"),
    [
        (b"\xff\x00 any bytes", "id", b"\xff\x00 any bytes"),
        (17, "id", b"17"),
        (b"", "id", b"a.tfrecord:0"),
        (None, "id", b"a.tfrecord:0"),
        (b"k", "", b"a.tfrecord:0"),
    ],
)
def test_keys_are_arbitrary(tmp_path, key, key_feature, expected):
    _write_records(tmp_path / "a.tfrecord", [_example(IMAGES[0], key)])
    config = _config(
        tmp_path, tmp_path / "out", "a.tfrecord", key_feature=key_feature
    )
    jft.write(config)
    (row,) = corpus.read_features([str(tmp_path / "out/train-00000-of-00001")])
    assert row["image/filename"] == [expected]


def test_our_own_records_need_no_flags(tmp_path):
    _write_records(
        tmp_path / "a", [records.labeled_example(IMAGES[0], 3, b"key")]
    )
    jft.write(jft.JftConfig(str(tmp_path / "a"), str(tmp_path / "out")))
    assert list(source_checks.rows(tmp_path / "out", "train")) == ["key"]


@pytest.mark.parametrize("pattern", ["part-*", "w-*"])
def test_a_killed_run_continues_to_the_same_bytes(
    folder, tmp_path, monkeypatch, pattern
):
    source_checks.check_restart(
        jft.write,
        _config(folder, "any", pattern),
        tmp_path,
        monkeypatch,
        fail_at=17,
    )


@pytest.mark.parametrize("name", ["part-2.tfrecord", "w-1.tar"])
def test_a_truncated_shard_is_named_before_anything_is_written(
    folder, tmp_path, name
):
    for path in folder.iterdir():
        os.link(path, tmp_path / path.name)
    data = (folder / name).read_bytes()
    os.remove(tmp_path / name)
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    pattern = f"part-*;{tmp_path}/w-*"
    with pytest.raises(ValueError, match=f"{name}'.* truncated"):
        jft.write(_config(tmp_path, tmp_path / "out", pattern))
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_named_and_the_others_stay(folder, tmp_path):
    for path in folder.glob("part-*"):
        data = bytearray(path.read_bytes())
        if path.name == "part-1.tfrecord":
            data[len(data) // 2] ^= 1
        (tmp_path / path.name).write_bytes(data)
    with pytest.raises(ValueError, match=r"part-1.tfrecord': record .*chec"):
        jft.write(_config(tmp_path, tmp_path / "out"))
    assert (tmp_path / "out" / "train-00000-of-00003").exists()
    assert not (tmp_path / "out" / "train-00001-of-00003").exists()
    os.remove(tmp_path / "part-1.tfrecord")
    with pytest.raises(ValueError, match="already holds other shards"):
        jft.write(_config(tmp_path, tmp_path / "out"))


def test_missing_and_repeated_inputs_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no-\\*: no such files"):
        jft.write(_config(folder, tmp_path, f"part-*;{folder}/no-*"))
    with pytest.raises(ValueError, match="names some files twice"):
        jft.write(_config(folder, tmp_path, f"part-*;{folder}/part-0*"))


def test_a_wrong_feature_name_leaves_nothing(folder, tmp_path):
    config = _config(folder, tmp_path / "out", image_feature="other")
    with pytest.raises(ValueError, match="none of 48 .*'dropped:no_image': 45"):
        jft.write(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": ""}, "--input is needed"),
        ({"output_dir": ""}, "--output_dir is needed"),
        ({"split": ""}, "--split is needed"),
        ({"image_feature": ""}, "--image_feature is needed"),
        ({"image_size": 0}, "`image_size` must be >= 1. Received: 0"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        jft.JftConfig(**{"input": "in", "output_dir": "out", **changes})


def test_no_flag_is_dead():
    source_checks.check_flags(
        jft,
        jft.JftConfig,
        {
            "input": {"input": "other"},
            "output_dir": {"output_dir": "other"},
            "split": {"split": "other"},
            "image_feature": {"image_feature": "other"},
            "key_feature": {"key_feature": ""},
            "image_size": {"image_size": 7},
        },
    )
