"""Decoding only the crop of a JPEG, and whole whatever else comes."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from noisy_student import config, preprocessing
from tests import golden_data

GOLDEN = np.load(golden_data.path("preprocessing_eval.npz"))
JPEG = GOLDEN["jpeg_0"].tobytes()
PIXELS = tf.image.decode_jpeg(JPEG, channels=3)
ENCODERS = {"jpeg": tf.io.encode_jpeg, "png": tf.io.encode_png}
SHAPES = [(1, 1), (1, 7), (2, 3), (20000, 10), (10, 20000)]


def noise(height, width):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return values.astype(np.uint8)


def train_view(data, seed, **keywords):
    view = preprocessing.preprocess_for_train(data, 64, seed=seed, **keywords)
    return view.numpy()


def test_training_decodes_the_crop_and_evaluation_the_whole_by_default():
    seed = 3
    default = train_view(JPEG, seed)
    fused = train_view(JPEG, seed, fused_decode=True)
    np.testing.assert_array_equal(default, fused)
    assert np.any(default != train_view(JPEG, seed, fused_decode=False))
    default = preprocessing.preprocess_for_eval(JPEG, 224).numpy()
    whole = preprocessing.preprocess_for_eval(JPEG, 224, fused_decode=False)
    fused = preprocessing.preprocess_for_eval(JPEG, 224, fused_decode=True)
    np.testing.assert_array_equal(default, whole)
    assert np.any(default != fused)


def test_either_way_a_seed_crops_and_mirrors_alike():
    mirrored = 0
    for seed in range(12):
        fused, whole = (
            train_view(JPEG, seed, fused_decode=fused_decode)
            for fused_decode in (True, False)
        )
        # They differ near the edges alone.
        difference = np.abs(fused - whole)
        assert np.mean(difference) < 0.5
        assert np.median(difference) == 0
        upright = train_view(JPEG, seed, flip=False)
        mirrored += np.array_equal(fused, upright[:, ::-1])
        assert np.array_equal(fused, upright) != np.array_equal(
            fused, upright[:, ::-1]
        )
    assert 0 < mirrored < 12


@pytest.mark.parametrize("seed", range(3))
def test_png_bytes_are_decoded_whole(seed):
    png = tf.io.encode_png(PIXELS)
    expected = train_view(JPEG, seed, fused_decode=False)
    np.testing.assert_array_equal(train_view(png, seed), expected)
    dataset = tf.data.Dataset.from_tensors(png).map(
        lambda data: preprocessing.preprocess_for_train(data, 64, seed=seed)
    )
    np.testing.assert_array_equal(next(iter(dataset)), expected)
    np.testing.assert_array_equal(
        preprocessing.preprocess_for_eval(png, 64, fused_decode=True),
        preprocessing.preprocess_for_eval(JPEG, 64),
    )


@pytest.mark.parametrize("fused_decode", [True, False])
@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_of_extreme_sizes_have_a_view(shape, encoding, fused_decode):
    data = ENCODERS[encoding](noise(*shape))
    for padding in (32, preprocessing.PROPORTIONAL):
        view = preprocessing.preprocess_for_eval(
            data, 16, crop_padding=padding, fused_decode=fused_decode
        )
        assert view.shape == (16, 16, 3)
        assert np.ptp(view) > 0 or shape in [(1, 1), (1, 7), (2, 3)]
    for seed in range(4):
        view = preprocessing.preprocess_for_train(
            data, 16, "randaugment", seed=seed, fused_decode=fused_decode
        )
        assert view.shape == (16, 16, 3)


def test_an_evaluated_crop_has_a_pixel_at_least():
    # 16 / 48 of one or two pixels is less than one.
    for shape, window in (
        ((1, 1), [0, 0, 1]),
        ((1, 7), [0, 3, 1]),
        ((2, 3), [1, 1, 1]),
        ((20000, 10), [9999, 4, 3]),
    ):
        found = preprocessing.center_crop_window([*shape, 3], 16)
        assert [int(number) for number in found] == window
    pixel = tf.io.encode_png(np.full((1, 1, 3), 77, np.uint8))
    view = preprocessing.preprocess_for_eval(pixel, 16)
    np.testing.assert_allclose(view, np.full((16, 16, 3), 77), atol=1e-3)


@pytest.mark.parametrize("fused_decode", [True, False])
def test_where_no_random_crop_fits_the_centre_is_taken(fused_decode):
    data = tf.io.encode_jpeg(noise(2000, 10))
    centres = []
    for padding in (32, preprocessing.PROPORTIONAL):
        options = {"crop_padding": padding, "fused_decode": fused_decode}
        centre = preprocessing.preprocess_for_eval(data, 16, **options)
        for seed in range(4):
            view = preprocessing.preprocess_for_train(
                data, 16, seed=seed, flip=False, **options
            )
            np.testing.assert_array_equal(view, centre)
        centres.append(centre)
    assert np.any(centres[0] != centres[1])


def test_the_centre_of_training_follows_the_models_padding():
    data = tf.io.encode_jpeg(noise(2000, 10))
    augment = config.AugmentConfig(flip=False)
    for padding in config.CROP_PADDINGS:
        model = config.ModelConfig(
            "efficientnet-b0", 10, 16, crop_padding=padding, fused_decode=True
        )
        np.testing.assert_array_equal(
            preprocessing.train_view(model, augment)(data, tf.constant([0, 1])),
            preprocessing.eval_view(model)(data),
        )


@pytest.mark.parametrize("fused_decode", [True, False])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Input is empty"),
        (b"\0" * 50, "Unknown image file format"),
        (JPEG[:30], "Invalid JPEG data"),
        (JPEG[:2000], "Invalid JPEG data"),
    ],
    ids=["empty", "zeros", "header", "truncated"],
)
def test_bytes_that_do_not_decode_are_an_error(data, message, fused_decode):
    for view in (
        preprocessing.preprocess_for_train,
        preprocessing.preprocess_for_eval,
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            view(data, 16, fused_decode=fused_decode)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_jpeg_cut_short_is_noticed_wherever_the_crop_lies(kept):
    data = JPEG[: int(kept * len(JPEG))]
    for seed in range(8):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="Invalid JPEG"
        ):
            train_view(data, seed)


def test_bytes_behind_a_jpeg_do_no_harm():
    np.testing.assert_array_equal(
        train_view(JPEG + b"\0\0", 3), train_view(JPEG, 3, fused_decode=False)
    )


def test_views_of_a_model_decode_as_configured():
    model = config.ModelConfig("efficientnet-b0", 10, 224)
    for fused_decode in (True, False):
        network = dataclasses.replace(model, fused_decode=fused_decode)
        np.testing.assert_array_equal(
            preprocessing.eval_view(network)(JPEG),
            preprocessing.preprocess_for_eval(
                JPEG, 224, fused_decode=fused_decode
            ),
        )
        augment = config.AugmentConfig(fused_decode=fused_decode)
        view = preprocessing.train_view(model, augment)
        np.testing.assert_array_equal(
            view(JPEG, tf.constant([3, 0])),
            preprocessing.preprocess_for_train(
                JPEG, 224, seed=3, fused_decode=fused_decode
            ),
        )
