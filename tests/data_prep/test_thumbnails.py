"""Tests of `data_prep.thumbnails`."""

import io

import pytest
from PIL import Image

from data_prep import records, shard_writer, thumbnails
from tests.data_prep import corpus


def png(size, mode="L"):
    encoded = io.BytesIO()
    Image.new(mode, size, 77).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.fixture(name="shard")
def _shard(tmp_path):
    writer = shard_writer.ShardedWriter(
        tmp_path, "extra", 1, kind="unlabeled", config={}
    )
    with writer.open_shard(0) as shard:
        for image in (png((300, 200)), corpus.JPEG, png((20, 10))):
            shard.write(records.unlabeled_example(image, "key"))
    writer.finish()
    return writer.path(0)


def test_thumbnails_are_square_and_small(shard):
    images = thumbnails.read([(shard, 0), (shard, 2)])
    assert {place: image.size for place, image in images.items()} == {
        (shard, 0): (96, 96),
        (shard, 2): (10, 10),
    }
    assert images[shard, 0].mode == "RGB"


def test_thumbnails_may_be_larger():
    image = (png((300, 200)), "key")
    assert thumbnails.pick([image], {0}, size=150)[0].size == (150, 150)
    whole = thumbnails.pick([image], {0}, whole=True, size=150)
    assert whole[0].size == (150, 100)


def test_what_cannot_be_decoded_is_missing(shard):
    assert set(thumbnails.read([(shard, 1), (shard, 2)])) == {(shard, 2)}


def test_a_whole_image_keeps_its_shape():
    assert thumbnails.make(png((300, 200)), whole=True).size == (96, 64)
    assert thumbnails.make(png((20, 10)), whole=True).size == (20, 10)


def test_nothing_is_read_behind_the_last_image():
    def reader():
        yield png((20, 10)), b"a"
        yield png((30, 10)), b"b"
        pytest.fail("read on")

    [(index, image)] = thumbnails.pick(reader(), {1}).items()
    assert (index, image.size) == (1, (10, 10))
