"""Tests of making JPEGs of whatever Pillow reads."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_prep import image_encoding
from tests.data_prep import corpus


def _decode(data):
    # The default method is off by several grey levels.
    return tf.io.decode_jpeg(
        data, channels=3, dct_method="INTEGER_ACCURATE"
    ).numpy()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_files_are_kept_byte_by_byte(mode, progressive):
    encoded = io.BytesIO()
    Image.new(mode, (9, 7)).save(encoded, "JPEG", progressive=progressive)
    data = encoded.getvalue()
    assert image_encoding.to_jpeg(data) == (data, "kept")
    assert _decode(data).shape == (7, 9, 3)


@pytest.mark.parametrize(
    ("image_format", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("PNG", "LA"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("WEBP", "RGB"),
        ("TIFF", "CMYK"),
        ("JPEG", "CMYK"),
    ],
)
def test_other_formats_become_jpegs_of_the_same_pixels(image_format, mode):
    data = corpus.image_bytes(0, image_format, mode, size=(16, 16))
    encoded, reason = image_encoding.to_jpeg(data)
    assert reason == f"converted:{image_format.lower()}"
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert np.abs(_decode(encoded) - expected).mean() < 3


def test_16_bit_grey_is_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    encoded = io.BytesIO()
    Image.fromarray(ramp).save(encoded, "PNG")
    image, reason = image_encoding.to_jpeg(encoded.getvalue())
    assert reason == "converted:png"
    assert np.abs(_decode(image)[..., 0] - ramp / 257).max() < 6


@pytest.mark.parametrize(
    ("size", "expected"),
    [((40, 20), (20, 10)), ((20, 40), (10, 20)), ((33, 10), (33, 10))],
)
def test_larger_images_shrink_to_the_shorter_side(size, expected):
    data = corpus.image_bytes(0, size=size)
    encoded, reason = image_encoding.to_jpeg(data, image_size=10)
    assert Image.open(io.BytesIO(encoded)).size == expected
    assert reason == ("kept" if size == expected else "resized")


def test_files_that_are_no_images_are_dropped_by_reason(monkeypatch):
    good = corpus.image_bytes(0, size=(64, 64))
    png = corpus.image_bytes(0, "PNG", size=(64, 64))
    assert image_encoding.to_jpeg(b"") == (None, "dropped:empty")
    assert image_encoding.to_jpeg(b"text") == (None, "dropped:not_image")
    undecodable = (None, "dropped:undecodable")
    assert image_encoding.to_jpeg(good[: len(good) // 2]) == undecodable
    assert image_encoding.to_jpeg(png[: len(png) // 2]) == undecodable
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 3)
    assert image_encoding.to_jpeg(good) == (None, "dropped:too_large")
