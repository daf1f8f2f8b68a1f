"""The evaluation view of both original repositories, to a thousandth.

`preprocessing_eval.npz` holds the original's eight JPEGs and, for each of them
at each of fourteen sizes, the crop window, statistics and three samples of the
view: 8x8 pixels of the first corner, of the last, and of a grid over all.
"""

import numpy as np
import pytest
import tensorflow as tf

from noisy_student import preprocessing
from tests import golden_data

GOLDEN = np.load(golden_data.path("preprocessing_eval.npz"))
RESIZED = np.load(golden_data.path("preprocessing_resize.npz"))
SIZES = GOLDEN["sizes"].tolist()
# The settings that make ours the view of each repository.
SETTINGS = {
    "ns": {},
    "tpu": {"crop_padding": preprocessing.PROPORTIONAL, "fused_decode": True},
}
TOLERANCE = {"atol": 1e-3, "rtol": 0}


def jpeg(number):
    return GOLDEN[f"jpeg_{number}"].tobytes()


def samples(image, size):
    image = np.asarray(image, np.float32)
    grid = GOLDEN["grids"][SIZES.index(size)]
    return np.stack([image[:8, :8], image[-8:, -8:], image[np.ix_(grid, grid)]])


def statistics(image):
    """Returns mean, deviation, minimum and maximum of each channel."""
    channels = np.asarray(image, np.float64).reshape(-1, 3).T.copy()
    return np.concatenate(
        [f(channels, axis=1) for f in (np.mean, np.std, np.min, np.max)]
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("repository", SETTINGS)
def test_eval_view_equals_the_original(repository, size):
    for number in range(8):
        image = preprocessing.preprocess_for_eval(
            jpeg(number), size, **SETTINGS[repository]
        )
        assert image.shape == (size, size, 3)
        at = number, SIZES.index(size)
        np.testing.assert_allclose(
            samples(image, size),
            GOLDEN[f"{repository}_samples"][at],
            **TOLERANCE,
            err_msg=f"image {number}",
        )
        np.testing.assert_allclose(
            statistics(image),
            GOLDEN[f"{repository}_statistics"][at],
            **TOLERANCE,
            err_msg=f"image {number}",
        )


@pytest.mark.parametrize("repository", SETTINGS)
def test_crop_windows_equal_the_original(repository):
    settings = dict(SETTINGS[repository])
    settings.pop("fused_decode", None)
    for number in range(8):
        shape = tf.io.extract_jpeg_shape(jpeg(number))
        for size, window in zip(SIZES, GOLDEN[f"{repository}_windows"][number]):
            top, left, side = preprocessing.center_crop_window(
                shape, size, **settings
            )
            assert [top, left, side, side] == window.tolist(), (number, size)


@pytest.mark.parametrize("repository", SETTINGS)
def test_eval_view_in_bfloat16_equals_the_original(repository):
    for number in (0, 1):
        image = preprocessing.preprocess_for_eval(
            jpeg(number), 224, **SETTINGS[repository]
        )
        expected = GOLDEN[f"{repository}_bfloat16_samples"][number]
        rounded = samples(tf.cast(image, tf.bfloat16), 224)
        # A difference within the tolerance may round to the next number.
        np.testing.assert_allclose(rounded, expected, rtol=2**-7, atol=1e-3)
        assert np.mean(rounded == expected) > 0.99


def test_the_two_settings_of_evaluation_are_not_the_same_view():
    """What the tolerance must tell apart: the window, then its decoding."""
    padding = preprocessing.PROPORTIONAL
    whole, fused = (
        preprocessing.preprocess_for_eval(
            jpeg(0), 224, crop_padding=padding, fused_decode=fused_decode
        ).numpy()
        for fused_decode in (False, True)
    )
    difference = np.abs(whole - fused)
    # Only what is near the right edge of the crop differs.
    assert 7 < difference[:, -3:].max() < 11
    assert difference[:, :-3].max() == 0
    windows = GOLDEN["ns_windows"] == GOLDEN["tpu_windows"]
    agree = windows.all(axis=(0, 2))
    assert [size for size, same in zip(SIZES, agree) if same] == [224]


@pytest.mark.parametrize(
    "name", [name for name in RESIZED.files if "_to_" in name]
)
def test_resizing_equals_the_original(name):
    source, size = name.split("_to_")
    resized = preprocessing.resize(tf.constant(RESIZED[source]), int(size))
    np.testing.assert_allclose(resized, RESIZED[name], atol=1e-4, rtol=0)


def test_all_of_the_golden_data_is_here():
    assert len(SIZES) == 14 and SIZES[0] == 32 and SIZES[-1] == 800
    for repository in SETTINGS:
        assert GOLDEN[f"{repository}_samples"].shape == (8, 14, 3, 8, 8, 3)
        assert GOLDEN[f"{repository}_windows"].shape == (8, 14, 4)
        assert GOLDEN[f"{repository}_statistics"].shape == (8, 14, 12)
    assert sum("_to_" in name for name in RESIZED.files) == 20
