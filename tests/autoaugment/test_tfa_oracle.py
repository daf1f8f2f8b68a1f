"""The same pixels as tensorflow-addons, where it installs."""

import math

import numpy as np
import pytest
import tensorflow as tf

from autoaugment import geometry, image_ops
from tests.autoaugment import images

pytest.importorskip("tensorflow_addons")
from tensorflow_addons import image as tfa_image  # noqa: E402

SHAPES = [(32, 32), (33, 47), (96, 64)]
CONSTANT = {"fill_mode": "constant", "fill_value": 200.0}


@pytest.fixture(params=SHAPES, ids=str)
def image(request):
    return images.noise_image(*request.param, seed=11)


@pytest.mark.parametrize("degrees", [9.0, -30.0, 81.0, -84.0])
def test_rotate(image, degrees):
    angle = np.float32(degrees) * np.float32(math.pi / 180)
    expected = tfa_image.rotate(image, angle, "nearest", **CONSTANT)
    np.testing.assert_array_equal(
        geometry.rotate(image, degrees, 200), expected
    )


@pytest.mark.parametrize("level", [0.09, -0.3, 0.81])
def test_shear(image, level):
    along_x = [1.0, level, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    along_y = [1.0, 0.0, 0.0, level, 1.0, 0.0, 0.0, 0.0]
    for operation, matrix in (
        (geometry.shear_x, along_x),
        (geometry.shear_y, along_y),
    ):
        expected = tfa_image.transform(image, matrix, "nearest", **CONSTANT)
        np.testing.assert_array_equal(operation(image, level, 200), expected)


@pytest.mark.parametrize("pixels", [3.0, -10.8, 2.5, -2.5, 100.0])
def test_translate(image, pixels):
    for operation, vector in (
        (geometry.translate_x, [-pixels, 0.0]),
        (geometry.translate_y, [0.0, -pixels]),
    ):
        expected = tfa_image.translate(image, vector, "nearest", **CONSTANT)
        np.testing.assert_array_equal(operation(image, pixels, 200), expected)


def test_equalize(image):
    for pixels in (image, images.random_image(*image.shape[:2], seed=3)):
        expected = tfa_image.equalize(pixels)
        np.testing.assert_array_equal(image_ops.equalize(pixels), expected)


@pytest.mark.parametrize("centre", [(16, 16), (2, 30), (31, 0)])
def test_cutout(image, centre):
    expected = tfa_image.cutout(
        tf.constant(image)[tf.newaxis], (8, 8), centre, constant_values=200
    )
    np.testing.assert_array_equal(
        geometry.cutout_at(image, 4, centre, 200), expected[0]
    )
