"""Tests of what all sources share."""

import os
import signal
import subprocess
import sys
import time

import pytest

from data_prep import files, image_folder, source_writer
from tests.data_prep import corpus, source_checks

NUM_IMAGES = 30
NUM_SHARDS = 6


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """Images that take long enough for a run to be killed between two."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(NUM_IMAGES):
        data = corpus.image_bytes(i, "BMP", size=(400, 400))
        files.write_bytes(folder / "a" / f"{i}.bmp", data)
    return folder


def _images(number, **changes):
    return [
        source_writer.LoadedImage(
            f"{i}".encode(), corpus.image_bytes(i), **changes
        )
        for i in range(number)
    ]


def _split(folder, items, **changes):
    settings = {
        "num_shards": 3,
        "encode": source_writer.encode_jpeg(),
        "settings": {},
        **changes,
    }
    return source_writer.split_of_list(str(folder), "train", items, **settings)


@pytest.mark.slow
def test_a_run_killed_hard_continues_to_the_same_bytes(folder, tmp_path):
    killed = tmp_path / "killed"
    command = [
        *(sys.executable, "-m", "data_prep.image_folder"),
        *(f"--input_dir={folder}", f"--output_dir={killed}"),
        f"--num_shards={NUM_SHARDS}",
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    first = killed / f"train-00000-of-{NUM_SHARDS:05d}"
    deadline = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.002)
    # Something of the next shard is there, under its temporary name.
    while not list(killed.glob(".train-00001*.tmp")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "train.manifest.json").exists()
    before = os.stat(first).st_mtime_ns
    for output_dir in (killed, tmp_path / "whole"):
        image_folder.write(
            image_folder.ImageFolderConfig(
                str(folder), str(output_dir), num_shards=NUM_SHARDS
            )
        )
    assert os.stat(first).st_mtime_ns == before
    whole = source_checks.content(tmp_path / "whole")
    assert source_checks.content(killed) == whole


def test_lists_are_divided_evenly_and_in_order(tmp_path):
    manifest = source_writer.write([_split(tmp_path, _images(8))], "x")["train"]
    assert manifest.num_records == (2, 3, 3)
    rows = source_checks.rows(tmp_path, "train")
    assert list(rows) == [str(i) for i in range(8)]


def test_the_number_of_shards_follows_the_number_of_items(tmp_path):
    items = _images(1) * 2049
    split = _split(tmp_path, items, num_shards=None)
    assert split.sizes == (683, 683, 683)
    assert _split(tmp_path, [], num_shards=None).sizes == (0,)


def test_few_items_are_in_memory_at_a_time(tmp_path):
    read, encoded = [], []
    most = []

    def stream(number):
        for image in _images(400):
            read.append(image)
            yield image

    def encode(image):
        encoded.append(image)
        most.append(len(read) - len(encoded))
        return image.data, "kept"

    split = source_writer.Split(
        str(tmp_path), "train", (400,), stream, encode, {}
    )
    source_writer.write([split], "x")
    assert len(encoded) == 400
    assert max(most) <= 20 * os.cpu_count()


def test_reasons_of_items_and_of_checks_are_counted(tmp_path):
    items = [
        *_images(3),
        *_images(2, dropped="dropped:hidden"),
        source_writer.LoadedImage(b"bad", b"no image"),
    ]
    encode = source_writer.encode_jpeg(
        check=lambda data: (
            "dropped:chosen" if data == corpus.image_bytes(1) else None
        )
    )
    manifest = source_writer.write([_split(tmp_path, items, encode=encode)], "")
    assert manifest["train"].counters == {
        "dropped:chosen": 1,
        "dropped:hidden": 2,
        "dropped:not_image": 1,
        "kept": 2,
    }


def test_other_shards_are_refused_before_anything_is_written(tmp_path):
    source_writer.write([_split(tmp_path / "b", _images(3))], "x")
    splits = [
        _split(tmp_path / "a", _images(3)),
        _split(tmp_path / "b", _images(3), settings={"size": 3}),
    ]
    with pytest.raises(ValueError, match="`size`: absent before, 3 now"):
        source_writer.write(splits, "x")
    assert not (tmp_path / "a").exists()


def test_without_any_record_nothing_is_left(tmp_path):
    split = _split(tmp_path / "a", _images(3, dropped="dropped:hidden"))
    message = "--input=y: none of 3 files became a record: .*hidden': 3"
    with pytest.raises(ValueError, match=message):
        source_writer.write([split], "--input=y")
    assert not (tmp_path / "a").exists()
