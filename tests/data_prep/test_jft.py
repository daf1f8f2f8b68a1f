"""Tests of turning shards of encoded images into unlabeled shards."""

import os

import pytest
import tensorflow as tf

from data_prep import jft, record_files, records
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
    with pytest.raises(ValueError, match="other tar files .* like .*/a/0.tar"):
        jft.write(_config(tmp_path, tmp_path / "out", "*/0.tar"))
    assert not (tmp_path / "out").exists()


def test_names_that_stand_for_keys_must_differ(tmp_path):
    for folder in ("a", "b"):
        images = IMAGES[:2] if folder == "a" else IMAGES[2:4]
        _write_records(
            tmp_path / folder / "0",
            [_example(images[0], folder.encode()), _example(images[1], b"")],
        )
    config = _config(tmp_path, tmp_path / "out", "*/0", key_feature="")
    with pytest.raises(ValueError, match="a/0': record 0 stores no key"):
        jft.write(config)
    assert not (tmp_path / "out").exists()
    # Later ones are found when they are read.
    with pytest.raises(ValueError, match="a/0': record 1 stores no key"):
        jft.write(_config(tmp_path, tmp_path / "out", "*/0"))
    assert not list((tmp_path / "out").glob("train-*"))
    for folder in ("a", "b"):
        _write_records(
            tmp_path / folder / "0", [_example(IMAGES[0], folder.encode())]
        )
    jft.write(_config(tmp_path, tmp_path / "keys", "*/0"))
    assert list(source_checks.rows(tmp_path / "keys", "train")) == ["a", "b"]


def test_shards_are_never_written_over_the_input(tmp_path):
    names = [f"train-0000{i}-of-00002" for i in range(2)]
    for number, name in enumerate(names):
        _write_records(tmp_path / name, [_example(IMAGES[number], b"k")])
    before = [(tmp_path / name).read_bytes() for name in names]
    with pytest.raises(
        ValueError, match="would be overwritten and may be an input"
    ):
        jft.write(_config(tmp_path, tmp_path, "train-*"))
    assert [(tmp_path / name).read_bytes() for name in names] == before
    assert sorted(os.listdir(tmp_path)) == names


def test_a_finished_set_is_not_counted_again(folder, tmp_path, monkeypatch):
    manifest = jft.write(_config(folder, tmp_path))
    monkeypatch.setattr(records, "count_each", None)
    assert jft.write(_config(folder, tmp_path)) == manifest


def test_a_set_with_a_manifest_is_counted_by_it(tmp_path, monkeypatch):
    writer = records.ShardedWriter(
        tmp_path / "in", "train", 2, kind="unlabeled", config={}
    )
    for number in range(2):
        with writer.open_shard(number) as shard:
            shard.write(records.unlabeled_example(IMAGES[number], b"k"))
    writer.finish()
    monkeypatch.setattr(record_files, "count_records", None)
    pattern = f"{tmp_path}/in/train-*"
    manifest = jft.write(jft.JftConfig(pattern, str(tmp_path / "out")))
    assert manifest["train"].num_records == (1, 1)


def test_a_compressed_file_is_called_so(tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"\x1f\x8b" + bytes(500))
    with pytest.raises(ValueError, match="a.tgz': .*compressed .gzip.: unpack"):
        jft.write(_config(tmp_path, tmp_path / "out", "*.tgz"))


def test_it_takes_images_away_that_no_teacher_could_label(tmp_path):
    images = {b"good": IMAGES[0], b"cut": IMAGES[1][:-60], b"no": b"image"}
    writer = records.ShardedWriter(
        tmp_path / "in", "extra", 1, kind="unlabeled", config={}
    )
    with writer.open_shard(0) as shard:
        for key, image in images.items():
            shard.write(records.unlabeled_example(image, key))
    writer.finish()
    manifest = jft.write(
        jft.JftConfig(
            f"{tmp_path}/in/extra-*", str(tmp_path / "out"), split="extra"
        )
    )["extra"]
    assert manifest.counters == {
        "dropped:not_image": 1,
        "dropped:undecodable": 1,
        "kept": 1,
    }
    rows = source_checks.rows(tmp_path / "out", "extra")
    assert rows["good"]["image/encoded"] == [IMAGES[0]]


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
