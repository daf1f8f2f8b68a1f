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


@pytest.mark.parametrize("damage", ["no end", "leads past its end"])
def test_a_jpeg_that_tensorflow_refuses_is_encoded_anew(damage, tmp_path):
    data = corpus.image_bytes(0, size=(33, 32))
    end = data.rindex(b"\xff\xd9")
    if damage == "no end":
        cut = data[:end] + bytes(50)
    else:
        # A marker among the pixels, with a length.
        cut = data[: end - 4] + b"\xff\xef\xff\xff" + data[end:]
    # Pillow reads all of its pixels.
    with pytest.raises(tf.errors.InvalidArgumentError):
        _decode(cut)
    made, reason = image_encoding.to_jpeg(cut)
    assert reason == "converted:jpeg"
    difference = _decode(made).astype(int) - _decode(data)
    assert np.abs(difference).mean() < 2
    assert image_encoding.to_lossless(cut)[1] == "converted:jpeg"
    if damage == "no end":
        (tmp_path / "image").write_bytes(cut)
        assert image_encoding.inspect(tmp_path / "image") == reason


def test_bytes_behind_the_end_of_a_jpeg_are_no_damage():
    data = corpus.image_bytes(0, size=(33, 32))
    for whole in (data + bytes(50), data * 2):
        assert image_encoding.to_jpeg(whole) == (whole, "kept")
        assert _decode(whole).shape == (32, 33, 3)


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


def _encode(image, image_format, **options):
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()


def _noise(mode, seed=0):
    return Image.open(io.BytesIO(corpus.image_bytes(seed, "PNG"))).convert(mode)


def _deep_png(mode):
    ramp = np.linspace(0, 65535, 96).reshape(8, 12).astype(np.uint16)
    if mode == "I;16":
        return _encode(Image.fromarray(ramp), "PNG"), ramp >> 8
    # Pillow writes no 16-bit colour, TensorFlow does.
    colour = np.stack([ramp, ramp[::-1], ramp.T.reshape(8, 12)], -1)
    return tf.io.encode_png(colour).numpy(), colour >> 8


PLAIN = {
    "JPEG RGB": lambda: corpus.image_bytes(0),
    "JPEG grey": lambda: corpus.image_bytes(0, mode="L"),
    "JPEG progressive": lambda: _encode(
        _noise("RGB"), "JPEG", progressive=True
    ),
    "PNG RGB": lambda: corpus.image_bytes(0, "PNG"),
    "PNG grey": lambda: corpus.image_bytes(0, "PNG", "L"),
    "PNG with a transparent colour": lambda: _encode(
        _noise("RGB"), "PNG", transparency=(1, 2, 3)
    ),
    "MPO": lambda: _encode(
        _noise("RGB"), "MPO", save_all=True, append_images=[_noise("RGB", 1)]
    ),
}
CONVERTED = {
    "JPEG CMYK": lambda: corpus.image_bytes(0, "JPEG", "CMYK"),
    "PNG palette": lambda: corpus.image_bytes(0, "PNG", "P"),
    "PNG alpha": lambda: corpus.image_bytes(0, "PNG", "RGBA"),
    "PNG black and white": lambda: corpus.image_bytes(0, "PNG", "1"),
    "PNG animated": lambda: _encode(
        _noise("RGB"), "PNG", save_all=True, append_images=[_noise("RGB", 1)]
    ),
    "GIF": lambda: corpus.image_bytes(0, "GIF", "P"),
    "GIF animated": lambda: _encode(
        _noise("P"), "GIF", save_all=True, append_images=[_noise("P", 1)]
    ),
    "BMP": lambda: corpus.image_bytes(0, "BMP"),
    "WEBP": lambda: corpus.image_bytes(0, "WEBP"),
    "TIFF CMYK": lambda: corpus.image_bytes(0, "TIFF", "CMYK"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_are_kept_and_decode_alike_in_tensorflow(name, tmp_path):
    data = PLAIN[name]()
    assert image_encoding.to_lossless(data) == (data, "kept")
    (tmp_path / "image").write_bytes(data)
    assert image_encoding.inspect(tmp_path / "image") == "kept"
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert np.abs(_decode(data) - expected).max() <= 2


@pytest.mark.parametrize("name", CONVERTED)
def test_others_become_lossless_pngs_of_the_first_frame(name, tmp_path):
    data, reason = CONVERTED[name](), f"converted:{name.split()[0].lower()}"
    encoded, told = image_encoding.to_lossless(data)
    assert told == reason
    (tmp_path / "image").write_bytes(data)
    assert image_encoding.inspect(tmp_path / "image") == reason
    first_frame = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(
        tf.io.decode_png(encoded), np.asarray(first_frame)
    )


@pytest.mark.parametrize("mode", ["I;16", "RGB"])
def test_16_bit_pngs_keep_their_high_byte(mode):
    data, expected = _deep_png(mode)
    encoded, reason = image_encoding.to_lossless(data)
    assert reason == "converted:png"
    expected = expected.reshape(8, 12, -1)
    np.testing.assert_array_equal(
        tf.io.decode_png(encoded, channels=3),
        np.broadcast_to(expected, (8, 12, 3)),
    )


def test_transparency_is_dropped_and_not_blended():
    data = _encode(Image.new("RGBA", (2, 2), (200, 100, 50, 0)), "PNG")
    encoded, _ = image_encoding.to_lossless(data)
    assert tf.io.decode_png(encoded).numpy()[0, 0].tolist() == [200, 100, 50]


def test_the_orientation_a_camera_noted_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6
    for image_format in ("JPEG", "PNG", "WEBP"):
        data = _encode(_noise("RGB"), image_format, exif=exif)
        encoded, _ = image_encoding.to_lossless(data)
        pixels = tf.io.decode_image(encoded, channels=3)
        assert pixels.shape == (8, 12, 3)


def _bad_files(folder):
    good = corpus.image_bytes(0, size=(64, 64))
    png = corpus.image_bytes(0, "PNG", size=(64, 64))
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"these are words",
        "half.jpg": good[: len(good) // 2],
        "half.png": png[: len(png) // 2],
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    return [*contents, "folder.jpg", "none.jpg"]


def test_unreadable_files_are_found_without_decoding_the_others(
    tmp_path, monkeypatch
):
    names = _bad_files(tmp_path)
    (tmp_path / "good.jpg").write_bytes(corpus.image_bytes(0))
    # Bytes behind the end, as some programs leave them, are no damage.
    (tmp_path / "tail.jpg").write_bytes(corpus.image_bytes(1) + b"tail")
    paths = [str(tmp_path / name) for name in [*names, "good.jpg", "tail.jpg"]]
    whys = [
        "an empty file",
        "no image",
        "truncated or damaged",
        "truncated or damaged",
        "a folder",
        "no such file",
    ]
    assert image_encoding.find_unreadable(paths) == [
        f"{path} ({why})" for path, why in zip(paths, whys)
    ]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12 * 8 // 3)
    assert image_encoding.find_unreadable(paths[-2:-1]) == [
        f"{paths[-2]} (too many pixels)"
    ]


def test_what_cannot_be_decoded_is_not_converted_either():
    gif = corpus.image_bytes(0, "GIF", "P", size=(64, 64))
    assert image_encoding.to_lossless(b"") == (None, "dropped:empty")
    assert image_encoding.to_lossless(b"words") == (None, "dropped:not_image")
    assert image_encoding.to_lossless(gif[: len(gif) // 2]) == (
        None,
        "dropped:undecodable",
    )


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_unknown_range_are_refused(mode):
    data = io.BytesIO()
    Image.new(mode, (4, 4), 1).save(data, "TIFF")
    for convert in (image_encoding.to_jpeg, image_encoding.to_lossless):
        assert convert(data.getvalue()) == (None, "dropped:no_integers")
    reason = image_encoding.describe_reason("dropped:no_integers")
    assert reason == "pixels that are not 8 or 16 bits"


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_decoding_gives_the_pixels_in_rgb(mode):
    data = corpus.image_bytes(0, "PNG", mode)
    image, reason = image_encoding.decode(data)
    assert (image.mode, reason) == ("RGB", "decoded")
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    assert image.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "dropped:empty"),
        (b"text", "dropped:not_image"),
        (corpus.image_bytes(0)[:-40], "dropped:undecodable"),
    ],
)
def test_decoding_says_why_there_are_no_pixels(data, reason):
    assert image_encoding.decode(data) == (None, reason)
