"""Operations on values: by hand, and against plain definitions in numpy."""

import numpy as np
import pytest
import tensorflow as tf

from autoaugment import image_ops
from tests.autoaugment import images

FACTORS = [0.0, 0.1, 0.64, 1.0, 1.9, 4.96]


def assert_row(result, *values):
    np.testing.assert_array_equal(result, images.grey_row(*values))


def test_invert_by_hand():
    assert_row(
        image_ops.invert(images.grey_row(0, 1, 200, 255)), 255, 254, 55, 0
    )


@pytest.mark.parametrize(
    ("bits", "values"),
    [
        (4, (0, 0, 16, 192, 240)),
        (8, (0, 15, 16, 200, 255)),  # all bits: the identity
        (1, (0, 0, 0, 128, 128)),
        (0, (0, 0, 0, 128, 128)),  # one bit stays even then
        (9, (0, 0, 0, 128, 128)),  # the shift wraps
        (12, (0, 0, 0, 128, 128)),
    ],
)
def test_posterize_by_hand(bits, values):
    row = images.grey_row(0, 15, 16, 200, 255)
    assert_row(image_ops.posterize(row, bits), *values)


@pytest.mark.parametrize(
    ("threshold", "values"),
    [
        (128, (0, 127, 127, 55, 0)),
        (0, (255, 128, 127, 55, 0)),
        (256, (255, 128, 127, 55, 0)),  # wraps to 0
        (255, (0, 127, 128, 200, 0)),
        (691, (0, 127, 128, 55, 0)),  # wraps to 179
    ],
)
def test_solarize_by_hand(threshold, values):
    row = images.grey_row(0, 127, 128, 200, 255)
    assert_row(image_ops.solarize(row, threshold), *values)


def test_solarize_inverts_the_upper_half_by_default():
    row = images.grey_row(127, 128)
    assert_row(image_ops.solarize(row), 127, 127)


@pytest.mark.parametrize(
    ("addition", "values"),
    [
        (0, (0, 100, 127, 128, 255)),
        (110, (110, 210, 237, 128, 255)),
        (200, (200, 255, 255, 128, 255)),
        (297, (255, 255, 255, 128, 255)),  # saturates, does not wrap
        (-110, (0, 0, 17, 128, 255)),
        (-300, (0, 0, 0, 128, 255)),
    ],
)
def test_solarize_add_by_hand(addition, values):
    row = images.grey_row(0, 100, 127, 128, 255)
    assert_row(image_ops.solarize_add(row, addition), *values)


def test_solarize_add_takes_a_threshold():
    row = images.grey_row(49, 50)
    assert_row(image_ops.solarize_add(row, 10, threshold=50), 59, 50)


def test_brightness_truncates_and_clips():
    row = images.grey_row(0, 3, 100, 200)
    assert_row(image_ops.brightness(row, 0.5), 0, 1, 50, 100)
    assert_row(image_ops.brightness(row, 1.9), 0, 5, 190, 255)


@pytest.mark.parametrize(
    ("height", "width", "level"), [(16, 16, 1), (33, 47, 6), (300, 300, 255)]
)
def test_contrast_mixes_with_a_level_that_depends_on_the_size(
    height, width, level
):
    image = np.full((height, width, 3), 100, np.uint8)
    assert np.all(image_ops.contrast(image, 0.0) == level)
    assert np.all(image_ops.contrast(image, 1.0) == 100)
    half = int(level + 0.5 * (100 - level))
    assert np.all(image_ops.contrast(image, 0.5) == half)


def test_color_at_0_is_grey_and_at_1_the_image():
    image = np.array([[[255, 0, 0], [0, 255, 0], [10, 20, 30]]], np.uint8)
    grey = image_ops.color(image, 0.0).numpy()
    assert grey[0].tolist() == [[76] * 3, [149] * 3, [18] * 3]
    np.testing.assert_array_equal(image_ops.color(image, 1.0), image)


def test_grey_equals_tensorflows_where_the_order_of_the_sum_decides():
    colours = np.array(
        [
            [[5, 49, 41], [41, 208, 231], [91, 117, 157], [126, 175, 73]],
            [[150, 186, 76], [160, 151, 230], [188, 232, 186], [208, 173, 236]],
        ],
        np.uint8,
    )
    grey = image_ops.color(colours, 0.0)
    expected = tf.image.rgb_to_grayscale(colours)
    assert expected[..., 0].numpy().tolist() == [
        [34, 160, 113, 148],
        [163, 163, 213, 190],
    ]
    np.testing.assert_array_equal(grey, tf.repeat(expected, 3, axis=-1))


def test_autocontrast_by_hand():
    assert_row(
        image_ops.autocontrast(images.grey_row(100, 110, 151)), 0, 50, 255
    )


def test_autocontrast_truncates_and_may_miss_255():
    assert_row(image_ops.autocontrast(images.grey_row(0, 7)), 0, 254)


def test_autocontrast_stretches_each_channel_by_itself():
    image = np.array([[[10, 0, 7], [20, 255, 7]]], np.uint8)
    stretched = image_ops.autocontrast(image).numpy()
    assert stretched.tolist() == [[[0, 0, 7], [255, 255, 7]]]


def plain_equalize(channel):
    counts = np.bincount(channel.reshape(-1), minlength=256)
    step = (counts.sum() - counts[np.nonzero(counts)[0][-1]]) // 255
    if step == 0:
        return channel
    table = (np.cumsum(counts) + step // 2) // step
    return np.clip(np.r_[0, table[:-1]], 0, 255)[channel].astype(np.uint8)


@pytest.mark.parametrize("make", [images.random_image, images.noise_image])
@pytest.mark.parametrize(("height", "width"), [(33, 47), (20, 13), (15, 17)])
def test_equalize_equals_a_plain_one(make, height, width):
    image = make(height, width, seed=height)
    expected = [plain_equalize(image[..., c]) for c in range(3)]
    np.testing.assert_array_equal(
        image_ops.equalize(image), np.stack(expected, axis=-1)
    )


def test_equalize_keeps_a_channel_of_few_pixels_below_its_maximum():
    image = np.full((16, 17, 3), 200, np.uint8)
    image.reshape(-1, 3)[:254, :] = 10  # 254 // 255 is no step
    np.testing.assert_array_equal(image_ops.equalize(image), image)
    image.reshape(-1, 3)[:255, 1] = 10
    equalized = image_ops.equalize(image).numpy()
    assert set(equalized[..., 0].flat) == {10, 200}
    assert set(equalized[..., 1].flat) == {0, 255}


def plain_sharpness(image, factor):
    pixels = image.astype(np.float32)
    total = np.zeros_like(pixels[2:, 2:])
    rows, columns = total.shape[:2]
    for down in range(3):
        for right in range(3):
            weight = np.float32(5 if down == right == 1 else 1)
            window = pixels[down : down + rows, right : right + columns]
            total = total + window * (weight / np.float32(13))
    smooth = pixels.copy()
    smooth[1:-1, 1:-1] = np.floor(np.minimum(total, 255))
    mixed = smooth + np.float32(factor) * (pixels - smooth)
    return np.clip(mixed, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(("height", "width"), [(33, 47), (3, 3), (3, 20)])
def test_sharpness_equals_a_plain_one(factor, height, width):
    image = images.noise_image(height, width)
    np.testing.assert_array_equal(
        image_ops.sharpness(image, factor), plain_sharpness(image, factor)
    )


def test_sharpness_truncates_a_sum_just_below_a_whole_number():
    image = np.full((3, 3, 3), 36, np.uint8)
    smooth = image_ops.sharpness(image, 0.0).numpy()[..., 0]
    assert smooth.tolist() == [[36, 36, 36], [36, 35, 36], [36, 36, 36]]


@pytest.mark.parametrize("shape", [(2, 9), (9, 2), (1, 1), (2, 2)])
def test_sharpness_keeps_an_image_that_is_all_border(shape):
    image = images.noise_image(*shape)
    np.testing.assert_array_equal(image_ops.sharpness(image, 4.96), image)


@pytest.mark.parametrize("operation", ["color", "contrast", "sharpness"])
def test_a_factor_of_1_is_the_identity(operation):
    image = images.noise_image(33, 47)
    result = getattr(image_ops, operation)(image, 1.0)
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("factor", FACTORS)
def test_color_mixes_with_the_grey_image(factor):
    image = images.noise_image(33, 47)
    pixels = image.astype(np.float32)
    grey = tf.image.rgb_to_grayscale(image).numpy().astype(np.float32)
    mixed = grey + np.float32(factor) * (pixels - grey)
    np.testing.assert_array_equal(
        image_ops.color(image, factor), np.clip(mixed, 0, 255).astype(np.uint8)
    )
