import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from noisy_student import config, models, preprocessing

pytestmark = pytest.mark.slow


def noise_jpeg(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return tf.io.encode_jpeg(tf.constant(pixels, tf.uint8)).numpy()


def test_crop_rules_agree_at_224_only():
    shape = tf.constant([1000, 1200, 3])
    for size in (96, 224, 600):
        windows = [
            [
                int(number)
                for number in preprocessing.center_crop_window(
                    shape, size, crop_padding=padding
                )
            ]
            for padding in (32, preprocessing.PROPORTIONAL)
        ]
        assert (windows[0] == windows[1]) == (size == 224)
    # 1000 * 600 / (600 + 86) and 1000 * 600 / (600 + 32).
    assert (windows[1][2], windows[0][2]) == (874, 949)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_progressive_and_grey_images_are_handled(options):
    grey = tf.io.encode_jpeg(np.full((20, 30, 1), 77, np.uint8), **options)
    image = preprocessing.preprocess_for_eval(grey, 8).numpy()
    np.testing.assert_allclose(image, np.full((8, 8, 3), 77), atol=1e-3)


def test_statistics_of_advprop_scale_pixels_to_minus_one_to_one():
    network = models.build(
        config.ModelConfig(
            "efficientnet-b0",
            2,
            32,
            width_coefficient=0.1,
            depth_coefficient=0.1,
            mean_rgb=(127.5,) * 3,
            stddev_rgb=(127.5,) * 3,
        )
    )
    pixels = np.linspace(-6, 259, 300, dtype=np.float32).reshape(1, 10, 10, 3)
    np.testing.assert_allclose(
        network.get_layer("normalization")(pixels),
        pixels * 2 / 255 - 1,
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_scaled_pixels_are_refused(dtype, low):
    images = np.linspace(low, 0.75, 48).reshape(1, 4, 4, 3).astype(dtype)
    with pytest.raises(ValueError, match=r"in \[0, 255\].* Received: .* 0.75"):
        preprocessing.check_pixel_range(tf.constant(images))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 4, 4, 3), np.float32),
        np.ones((2, 4, 4, 3), np.uint8),
        np.array([-6.0, 1.5], np.float32),
        np.array([0.0, 259.0], np.float32),
    ],
    ids=["all black", "integers", "dark", "overshoot"],
)
def test_pixels_are_not_taken_for_scaled(images):
    assert preprocessing.check_pixel_range(images) is None


VIEWS = {
    "train": lambda data, seed: preprocessing.preprocess_for_train(
        data, 24, "randaugment", 2, 9, seed
    ),
    "train without augmentation": lambda data, seed: (
        preprocessing.preprocess_for_train(data, 24, seed=seed)
    ),
    "train with autoaugment": lambda data, seed: (
        preprocessing.preprocess_for_train(data, 24, "autoaugment", seed=seed)
    ),
    "small train": lambda data, seed: preprocessing.preprocess_small_for_train(
        data, 24, "randaugment", 2, 9, seed
    ),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_depend_on_the_seed_alone_eagerly_and_in_tf_data(name):
    view, data = VIEWS[name], noise_jpeg(24, 24)
    seeds = tf.constant([[5, i] for i in range(6)], tf.int64)
    mapped = list(
        tf.data.Dataset.from_tensor_slices(seeds)
        .map(lambda seed: view(data, seed))
        .as_numpy_iterator()
    )
    for seed, image in zip(seeds, mapped):
        assert image.shape == (24, 24, 3)
        assert image.dtype == np.float32
        np.testing.assert_array_equal(view(data, seed), image)
    assert len({image.tobytes() for image in mapped}) > 1


def test_without_a_seed_every_element_is_drawn_afresh():
    data = noise_jpeg(24, 24)
    images = tf.data.Dataset.range(8).map(
        lambda _: preprocessing.preprocess_for_train(data, 16)
    )
    drawn = {image.tobytes() for image in images.as_numpy_iterator()}
    assert len(drawn) > 4


def test_static_shapes_are_known_in_tf_data():
    dataset = tf.data.Dataset.from_tensors(noise_jpeg(40, 30))
    for view in (
        lambda data: preprocessing.preprocess_for_eval(data, 16),
        lambda data: preprocessing.preprocess_for_train(data, 16),
        lambda data: preprocessing.preprocess_for_train(
            data, 16, "randaugment"
        ),
    ):
        assert dataset.map(view).element_spec.shape == (16, 16, 3)


def test_augmentation_starts_from_the_view_cut_off_at_0_and_255():
    extremes = 255 * np.random.default_rng(0).integers(0, 2, (48, 40, 3))
    data = tf.io.encode_png(extremes.astype(np.uint8))
    for seed in range(6):
        plain = preprocessing.preprocess_for_train(data, 24, seed=seed).numpy()
        assert plain.min() < 0 and plain.max() > 255
        augmented = preprocessing.preprocess_for_train(
            data, 24, "randaugment", 0, seed=seed
        )
        expected = np.trunc(np.clip(plain, 0, 255))
        np.testing.assert_array_equal(augmented, expected)


@pytest.mark.parametrize("flip", [True, False])
def test_small_images_are_shifted_to_all_places_alike(flip):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3))
    pixels = pixels.astype(np.uint8)
    data = tf.io.encode_png(pixels)
    padded = np.pad(pixels, [(4, 4), (4, 4), (0, 0)], "reflect")
    places = {}
    for y in range(9):
        for x in range(9):
            cropped = padded[y : y + 12, x : x + 12].astype(np.float32)
            places[cropped.tobytes()] = y, x, False
            if flip:
                places[cropped[:, ::-1].tobytes()] = y, x, True
    assert len(places) == (162 if flip else 81)
    count = 30 * len(places)
    views = tf.data.Dataset.range(count).map(
        lambda seed: preprocessing.preprocess_small_for_train(
            data, 12, seed=seed, flip=flip
        )
    )
    found = [places[view.tobytes()] for view in views.as_numpy_iterator()]
    # 30 are expected of each place; five standard deviations are 27.
    assert max(abs(found.count(p) - 30) for p in set(places.values())) < 28


def test_small_image_is_cut_shifted_and_not_flipped_unless_asked():
    ramp = np.tile(np.arange(32, dtype=np.uint8)[None, :, None] * 8, (32, 1, 3))
    data = tf.io.encode_png(ramp).numpy()
    for i in range(20):
        image = preprocessing.preprocess_small_for_train(
            data, 32, seed=tf.constant([1, i]), flip=False
        ).numpy()
        # Columns rise by 8, but for the reflected border.
        assert (np.diff(image[0, 4:28, 0]) == 8).all()


def test_small_image_flip_mirrors_about_half_of_the_images():
    ramp = np.tile(np.arange(32, dtype=np.uint8)[None, :, None] * 8, (32, 1, 3))
    data = tf.io.encode_png(ramp).numpy()
    rising = [
        np.diff(
            preprocessing.preprocess_small_for_train(
                data, 32, seed=tf.constant([1, i])
            ).numpy()[0, 4:28, 0]
        )[0]
        > 0
        for i in range(60)
    ]
    assert 15 < sum(rising) < 45


def test_augmented_small_images_get_the_final_cutout():
    data = tf.io.encode_png(np.zeros([32, 32, 3], np.uint8)).numpy()
    areas = [
        np.mean(
            preprocessing.preprocess_small_for_train(
                data, 32, "randaugment", 1, 0, seed=tf.constant([3, i])
            )
            == 128
        )
        for i in range(40)
    ]
    # Half-size 8: a 16x16 hole is a quarter of the image unless it hangs over
    # the edge.
    assert np.median(areas) > 0.1


def test_random_crops_keep_the_aspect_ratio_bounds():
    # A vertical ramp shows the crop's height, a horizontal one its width.
    size = 240
    ramp = np.broadcast_to(np.arange(size, dtype=np.uint8), (size, size))
    image = np.stack([ramp, ramp.T, np.zeros_like(ramp)], -1)
    data = tf.io.encode_png(image).numpy()
    for i in range(30):
        crop = preprocessing.preprocess_for_train(
            data, 64, seed=tf.constant([2, i]), flip=False
        ).numpy()
        width = (crop[32, 63, 0] - crop[32, 0, 0]) * 64 / 63
        height = (crop[63, 32, 1] - crop[0, 32, 1]) * 64 / 63
        assert 0.7 < width / height < 1.43
        assert width * height > 0.07 * size * size


@pytest.mark.parametrize("augment", ["randaugment", "autoaugment", None])
@pytest.mark.parametrize("small", [False, True])
def test_whole_numbers_can_stay_uint8(small, augment):
    view = preprocessing.preprocess_for_train
    if small:
        view = preprocessing.preprocess_small_for_train
    arguments = {"augment": augment, "magnitude": 9, "seed": (2, 3)}
    data = noise_jpeg(16, 16)
    if augment is None and not small:
        with pytest.raises(ValueError, match="`dtype` must be float32 without"):
            view(data, 16, dtype=tf.uint8, **arguments)
        return
    pixels = view(data, 16, dtype=tf.uint8, **arguments)
    assert pixels.dtype == tf.uint8
    np.testing.assert_array_equal(pixels, view(data, 16, **arguments))


@pytest.mark.parametrize(
    ("small", "name", "dtype"),
    [
        (False, "randaugment", tf.uint8),
        (False, "autoaugment", tf.uint8),
        (False, "none", tf.float32),
        (True, "randaugment", tf.uint8),
        (True, "none", tf.uint8),
    ],
)
def test_training_views_are_uint8_where_that_loses_nothing(small, name, dtype):
    model = config.ModelConfig("efficientnet-b0", 10, 16, small_image=small)
    view = preprocessing.train_view(model, config.AugmentConfig(name))
    assert view(noise_jpeg(16, 16), tf.constant([0, 1])).dtype == dtype


def test_unknown_augmentation_is_refused():
    with pytest.raises(ValueError, match="Received: 'mixup'"):
        preprocessing.preprocess_for_train(noise_jpeg(9, 9), 8, "mixup")


def test_views_of_a_model_follow_its_configuration():
    model = config.ModelConfig("efficientnet-b0", 10, 16)
    data = noise_jpeg(48, 40)
    clean = preprocessing.eval_view(model)(data)
    np.testing.assert_array_equal(
        clean, preprocessing.preprocess_for_eval(data, 16)
    )
    proportional = dataclasses.replace(model, crop_padding="proportional")
    np.testing.assert_array_equal(
        preprocessing.eval_view(proportional)(data),
        preprocessing.preprocess_for_eval(
            data, 16, crop_padding=preprocessing.PROPORTIONAL
        ),
    )
    still = preprocessing.train_view(
        model, config.AugmentConfig(random_crop=False)
    )
    np.testing.assert_array_equal(still(data, tf.constant([0, 1])), clean)
    noised = preprocessing.train_view(
        model,
        config.AugmentConfig("randaugment", 1, 5, cutout=False, flip=False),
    )
    np.testing.assert_array_equal(
        noised(data, tf.constant([0, 1])),
        preprocessing.preprocess_for_train(
            data,
            16,
            "randaugment",
            1,
            5,
            tf.constant([0, 1]),
            cutout=False,
            flip=False,
        ),
    )


def test_small_image_of_another_size_is_an_error():
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        preprocessing.preprocess_small_for_eval(noise_jpeg(16, 16), 32)


def test_a_small_image_is_enlarged_whole_by_the_bicubic_of_evaluation():
    data = noise_jpeg(16, 16)
    larger = preprocessing.preprocess_small_for_eval(data, 24, stored_size=16)
    expected = tf.raw_ops.ResizeBicubic(
        images=tf.image.decode_jpeg(data, channels=3)[tf.newaxis],
        size=[24, 24],
    )[0]
    np.testing.assert_array_equal(larger, expected)
    same = preprocessing.preprocess_small_for_eval(data, 16, stored_size=16)
    np.testing.assert_array_equal(
        same, preprocessing.preprocess_small_for_eval(data, 16)
    )


def test_small_images_are_augmented_before_they_are_enlarged():
    small = config.ModelConfig("efficientnet-b0", 3, 16, small_image=True)
    large = dataclasses.replace(small, image_size=24, stored_size=16)
    data, seed = noise_jpeg(16, 16), tf.constant([3, 4])
    augment = config.AugmentConfig("randaugment", 1, 5)
    pixels = preprocessing.train_view(small, augment)(data, seed)
    enlarged = preprocessing.train_view(large, augment)(data, seed)
    np.testing.assert_array_equal(
        enlarged,
        tf.raw_ops.ResizeBicubic(images=pixels[tf.newaxis], size=[24, 24])[0],
    )
    clean = preprocessing.eval_view(large)(data)
    still = dataclasses.replace(augment, random_crop=False)
    np.testing.assert_array_equal(
        preprocessing.train_view(large, still)(data, seed), clean
    )
    assert clean.shape == (24, 24, 3)
