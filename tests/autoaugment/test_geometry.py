"""Operations on places: by hand, and against TensorFlow's own transform."""

import math

import numpy as np
import pytest
import tensorflow as tf

from autoaugment import geometry
from tests.autoaugment import images

FILL = (1, 2, 3)


def transformed(image, matrix, fill):
    """The original's way: one channel of ones marks what is inside."""
    height, width, _ = image.shape
    marked = np.concatenate([image, np.full_like(image[..., :1], 1)], axis=-1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=marked[np.newaxis],
        transforms=tf.stack([*matrix, 0.0, 0.0])[tf.newaxis],
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0].numpy()
    return np.where(moved[..., 3:] == 1, moved[..., :3], np.uint8(fill))


def rotation(image, degrees):
    last_y, last_x = (np.float32(size - 1) for size in image.shape[:2])
    radians = tf.constant(degrees, tf.float32) * (math.pi / 180)
    cos, sin = tf.cos(radians), tf.sin(radians)
    offset_x = (last_x - (cos * last_x - sin * last_y)) / 2.0
    offset_y = (last_y - (sin * last_x + cos * last_y)) / 2.0
    return [cos, -sin, offset_x, sin, cos, offset_y]


def moved_row(pixels, *, width=6, replace=255):
    row = images.grey_row(*range(width))
    return geometry.translate_x(row, pixels, replace)[0, :, 0].numpy().tolist()


@pytest.mark.parametrize(
    ("pixels", "row"),
    [
        (0, [0, 1, 2, 3, 4, 5]),
        (2, [2, 3, 4, 5, 255, 255]),  # positive: to the left
        (-2, [255, 255, 0, 1, 2, 3]),
        (1.4, [1, 2, 3, 4, 5, 255]),
        (1.6, [2, 3, 4, 5, 255, 255]),
        (-1.6, [255, 255, 0, 1, 2, 3]),
        (2.5, [3, 4, 5, 255, 255, 255]),
        (-2.5, [255, 255, 255, 1, 2, 3]),  # a half away from zero, twice
        (-0.4, [0, 1, 2, 3, 4, 5]),
        (0.5, [1, 2, 3, 4, 5, 255]),
        (-0.5, [255, 1, 2, 3, 4, 5]),
        (6, [255] * 6),
        (-6, [255] * 6),
        (100, [255] * 6),
        (-100.5, [255] * 6),
    ],
)
def test_translate_x_by_hand(pixels, row):
    assert moved_row(pixels) == row


def test_translate_y_moves_up_by_a_positive_distance():
    column = images.grey_row(1, 2, 3).transpose(1, 0, 2)
    moved = geometry.translate_y(column, 1, 9)[:, 0, 0]
    assert moved.numpy().tolist() == [2, 3, 9]
    moved = geometry.translate_y(column, -1, 9)[:, 0, 0]
    assert moved.numpy().tolist() == [9, 1, 2]


def test_rotate_by_a_quarter_is_counter_clockwise():
    square = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    rotated = geometry.rotate(square, 90.0, 255)
    np.testing.assert_array_equal(rotated, np.rot90(square))


def test_shear_x_shifts_rows_to_the_left():
    image = np.repeat(images.grey_row(1, 2, 3, 4), 3, axis=0)
    sheared = geometry.shear_x(image, 1.0, 9)[..., 0].numpy()
    assert sheared.tolist() == [[1, 2, 3, 4], [2, 3, 4, 9], [3, 4, 9, 9]]


def test_shear_y_shifts_columns_up():
    image = np.repeat(images.grey_row(1, 2, 3), 3, axis=0).transpose(1, 0, 2)
    sheared = geometry.shear_y(image, 1.0, 9)[..., 0].numpy()
    assert sheared.tolist() == [[1, 2, 3], [2, 3, 9], [3, 9, 9]]


@pytest.mark.parametrize("shape", [*images.SHAPES, (64, 96), (225, 224)])
def test_rotations_equal_tensorflows_transform(shape):
    image = images.noise_image(*shape)
    for degrees in (0.0, 9.0, -15.0, 45.0, -81.0, 84.0, 90.0, 180.0, 247.3):
        np.testing.assert_array_equal(
            geometry.rotate(image, degrees, FILL),
            transformed(image, rotation(image, degrees), FILL),
        )


@pytest.mark.parametrize("shape", [*images.SHAPES, (64, 96), (225, 224)])
def test_shears_equal_tensorflows_transform(shape):
    image = images.noise_image(*shape)
    for level in (0.0, 0.03, -0.15, 0.3, 0.5, -0.5, 0.81, -0.84, 1.5):
        np.testing.assert_array_equal(
            geometry.shear_x(image, level, FILL),
            transformed(image, [1.0, level, 0.0, 0.0, 1.0, 0.0], FILL),
        )
        np.testing.assert_array_equal(
            geometry.shear_y(image, level, FILL),
            transformed(image, [1.0, 0.0, 0.0, level, 1.0, 0.0], FILL),
        )


@pytest.mark.parametrize("shape", images.SHAPES)
def test_translations_equal_tensorflows_transform(shape):
    image = images.noise_image(*shape)
    for pixels in (0, 0.3, -0.5, 0.5, 1.5, -1.5, 2.8, -7.5, 10.8, -270.0):
        np.testing.assert_array_equal(
            geometry.translate_x(image, pixels, FILL),
            transformed(image, [1.0, 0.0, pixels, 0.0, 1.0, 0.0], FILL),
        )
        np.testing.assert_array_equal(
            geometry.translate_y(image, pixels, FILL),
            transformed(image, [1.0, 0.0, 0.0, 0.0, 1.0, pixels], FILL),
        )


def covered(image, value):
    return np.argwhere(np.all(np.asarray(image) == value, axis=-1)).tolist()


def test_cutout_covers_a_square_of_twice_the_half_side():
    black = np.zeros((6, 8, 3), np.uint8)
    cut = geometry.cutout_at(black, 1, [3, 5], 7)
    assert covered(cut, 7) == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_cutout_is_cut_off_at_the_edges():
    black = np.zeros((4, 5, 3), np.uint8)
    assert covered(geometry.cutout_at(black, 1, [0, 4], 7), 7) == [
        [0, 3],
        [0, 4],
    ]
    assert np.all(geometry.cutout_at(black, 9, [3, 0], 7) == 7)


def test_cutout_of_half_side_0_covers_nothing():
    image = images.noise_image(5, 4)
    np.testing.assert_array_equal(geometry.cutout(image, 0, seed=1), image)


def test_cutout_fills_with_0_unless_told():
    white = np.full((6, 8, 3), 255, np.uint8)
    assert len(covered(geometry.cutout(white, 1, seed=1), 0)) > 0


def test_cutout_takes_one_fill_value_for_each_channel():
    black = np.zeros((6, 8, 3), np.uint8)
    cut = geometry.cutout_at(black, 1, [3, 5], FILL)
    assert len(covered(cut, FILL)) == 4


def test_cutout_centres_are_uniform_over_all_pixels():
    black = np.zeros((2, 3, 3), np.uint8)

    # Of half side 1, the square's last pixel is the centre.
    def centre(seed):
        cut = geometry.cutout(black, 1, 255, seed=(seed, 5))[..., 0]
        return tf.reduce_max(tf.where(cut == 255), axis=0)

    draws = tf.data.Dataset.range(1200).map(centre).as_numpy_iterator()
    counts = np.zeros((2, 3), int)
    for y, x in draws:
        counts[y, x] += 1
    # 200 each are expected; five standard deviations are 65.
    assert counts.min() > 135 and counts.max() < 265


def test_cutout_rejects_a_negative_half_side():
    with pytest.raises(ValueError, match="`pad_size` must be >= 0.*: -1"):
        geometry.cutout(images.noise_image(4, 4), -1, 128)


@pytest.mark.parametrize("replace", [256, -1, (1, 2), (1, 2, 256)])
def test_a_bad_fill_value_is_refused(replace):
    image = images.noise_image(4, 4)
    with pytest.raises(ValueError, match="`replace` must be an int or three"):
        geometry.rotate(image, 30.0, replace)
    with pytest.raises(ValueError, match="`replace` must be an int or three"):
        geometry.translate_x(image, 2.0, replace)
    with pytest.raises(ValueError, match="`replace` must be an int or three"):
        geometry.cutout(image, 2, replace)
