"""Tests of reading and counting TFRecord files."""

import os
import pathlib

import pytest
import tensorflow as tf

from data_prep import record_files, records


def _write(path, payloads):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)


def test_reading_gives_every_payload_in_order(tmp_path):
    payloads = [bytes([i]) * i for i in range(200)]
    _write(tmp_path / "a", payloads)
    assert list(records.read_records(tmp_path / "a")) == payloads
    assert records.count_records(tmp_path / "a") == 200
    size = sum(map(records.framed_size, payloads))
    assert size == (tmp_path / "a").stat().st_size


def test_an_empty_shard_has_no_records(tmp_path):
    _write(tmp_path / "a", [])
    assert list(records.read_records(tmp_path / "a")) == []
    assert records.count_records(tmp_path / "a") == 0


@pytest.mark.parametrize("cut", [1, 20, 32])
def test_truncation_is_located(tmp_path, cut):
    _write(tmp_path / "a", [b"0123456789"] * 70)
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-cut])
    index = 69 if cut < 26 else 68
    where = rf"a': record {index} \(byte offset {26 * index}\): .*truncated"
    with pytest.raises(records.RecordError, match=where):
        list(records.read_records(tmp_path / "a"))
    with pytest.raises(records.RecordError, match=where):
        records.count_records(tmp_path / "a")


def test_a_wrong_checksum_is_located(tmp_path):
    _write(tmp_path / "a", [b"0123456789"] * 70)
    content = bytearray((tmp_path / "a").read_bytes())
    content[26 * 66 + 15] ^= 1
    (tmp_path / "a").write_bytes(content)
    where = r"record 66 \(byte offset 1716\): wrong checksum"
    with pytest.raises(records.RecordError, match=where):
        list(records.read_records(tmp_path / "a"))


def _write_set(directory, num_records=3):
    writer = records.ShardedWriter(
        directory, "train", 2, kind="unlabeled", config={}
    )
    for index in writer.pending:
        with writer.open_shard(index) as shard:
            for number in range(num_records + index):
                shard.write(records.unlabeled_example(b"jpeg", b"%d" % number))
    return [pathlib.Path(writer.path(i)) for i in range(2)], writer.finish()


def test_a_set_is_counted_by_its_manifest(tmp_path, monkeypatch):
    paths, manifest = _write_set(tmp_path)
    assert manifest.num_bytes == tuple(path.stat().st_size for path in paths)
    with monkeypatch.context() as patch:
        patch.setattr(record_files, "count_records", None)
        counted = records.count_shards(tmp_path, "train")
    assert counted == ([str(path) for path in paths], [3, 4])
    (tmp_path / "train.manifest.json").unlink()
    assert records.count_shards(tmp_path, "train") == counted


@pytest.mark.parametrize(
    ("change", "problem"), [(-3, "truncated"), (16, "another file")]
)
def test_a_shard_that_is_not_the_manifests_is_named(tmp_path, change, problem):
    paths, manifest = _write_set(tmp_path)
    size = manifest.num_bytes[1]
    os.truncate(paths[1], size + change)
    message = (
        f"{paths[1]}' has {size + change} bytes, {size} by its manifest: it "
        f"is {problem}"
    )
    with pytest.raises(records.RecordError, match=message):
        records.count_shards(tmp_path, "train")
