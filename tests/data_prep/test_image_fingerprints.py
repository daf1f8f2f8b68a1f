"""Tests of `data_prep.image_fingerprints`."""

import io

import numpy as np
import pytest
from PIL import Image

from data_prep import fingerprint_index, image_fingerprints
from data_prep.image_fingerprints import PLAIN, STRUCTURED, UNDECODABLE
from tests.data_prep import corpus


def photo(seed, size=(120, 90)):
    """Returns a PIL image with structure at all scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells in (2, 4, 8, 16):
        coarse = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.BICUBIC)
        total += np.asarray(image) / 4
    return Image.fromarray(total.astype(np.uint8))


def encode(image, image_format="PNG", **options):
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()


def distance(first, second, column="perceptual"):
    rows = [image_fingerprints.fingerprint(x) for x in (first, second)]
    assert all(row["state"] == STRUCTURED for row in rows)
    return fingerprint_index.distances(
        rows[0]["perceptual"][None], rows[1][column][None]
    )[0]


CHANGES = {
    "encoded": lambda image: encode(image, "JPEG", quality=50),
    "half": lambda image: encode(image.resize((60, 45), Image.BICUBIC)),
    "double": lambda image: encode(image.resize((240, 180), Image.BICUBIC)),
    "cropped": lambda image: encode(image.crop((1, 1, 119, 89))),
    "grey": lambda image: encode(image.convert("L")),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", range(8))
def test_a_changed_image_stays_near(change, seed):
    image = photo(seed)
    assert distance(encode(image), CHANGES[change](image)) <= 8


def test_other_images_are_far():
    hashes = np.array(
        [
            image_fingerprints.fingerprint(encode(photo(seed)))["perceptual"]
            for seed in range(30)
        ]
    )
    first, second = np.triu_indices(len(hashes), 1)
    assert fingerprint_index.distances(hashes[first], hashes[second]).min() > 12


def test_a_mirrored_image_is_near_the_mirrored_hash_only():
    image = photo(0)
    mirrored = encode(image.transpose(Image.FLIP_LEFT_RIGHT))
    assert distance(mirrored, encode(image), "mirrored") <= 2
    assert distance(mirrored, encode(image)) > 12


def test_equal_pixels_in_another_file_have_one_hash():
    jpeg = encode(photo(0), "JPEG")
    png = encode(Image.open(io.BytesIO(jpeg)))
    ours, other = map(image_fingerprints.fingerprint, (jpeg, png))
    assert ours["pixels"] == other["pixels"]
    assert ours["encoded"] != other["encoded"]


def test_the_hash_of_pixels_knows_the_size():
    wide, high = (
        image_fingerprints.fingerprint(encode(Image.new("RGB", size)))
        for size in ((8, 2), (2, 8))
    )
    assert wide["pixels"] != high["pixels"]


def test_one_other_pixel_is_another_hash_of_pixels():
    image = photo(0)
    before = image_fingerprints.fingerprint(encode(image))
    image.putpixel((5, 5), (1, 2, 3))
    after = image_fingerprints.fingerprint(encode(image))
    assert before["pixels"] != after["pixels"]


def gradient():
    row = np.linspace(0, 255, 64).astype(np.uint8)
    return Image.fromarray(np.tile(row, (48, 1))).convert("RGB")


def noise():
    rng = np.random.default_rng(0)
    pixels = rng.normal(128, 3, (200, 300, 3)).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


PLAIN_IMAGES = {
    "black": lambda: Image.new("RGB", (40, 30)),
    "white": lambda: Image.new("RGB", (40, 30), "white"),
    "gradient": gradient,
    "noise": noise,
    "one pixel": lambda: Image.new("RGB", (1, 1), "red"),
}


@pytest.mark.parametrize("name", PLAIN_IMAGES)
def test_an_image_without_structure_has_no_perceptual_hash(name):
    row = image_fingerprints.fingerprint(encode(PLAIN_IMAGES[name]()))
    assert row["state"] == PLAIN
    assert row["perceptual"] == row["mirrored"] == 0
    assert row["pixels"] != 0


def test_what_cannot_be_decoded_has_the_hash_of_its_bytes_only():
    row = image_fingerprints.fingerprint(corpus.JPEG)
    assert row["state"] == UNDECODABLE
    assert row["encoded"] != 0
    assert row["pixels"] == row["perceptual"] == 0


def test_the_bits_say_which_frequencies_are_above_the_median():
    image = photo(3, size=(32, 32)).convert("L")
    grey = np.asarray(image, np.float64)
    frequency, place = np.mgrid[:32, :32]
    cosines = np.cos(np.pi * frequency * (2 * place + 1) / 64)
    lowest = (cosines @ grey @ cosines.T)[:8, :8].ravel()
    bits = "".join(str(int(c > np.median(lowest[1:]))) for c in lowest)
    row = image_fingerprints.fingerprint(encode(image))
    assert f"{row['perceptual']:064b}" == bits
