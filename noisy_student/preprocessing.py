"""From encoded images to the pixels a model sees.

Everything here works on one image, inside `tf.data` or eagerly, and returns
float32 pixels in the range the model normalises itself, about [0, 255].

Source: noisystudent `preprocessing.py`.
"""

import functools

import tensorflow as tf

import autoaugment

CROP_PADDING = 32
PROPORTIONAL = "proportional"
_SMALL_IMAGE_PADDING = 4


def preprocess_for_eval(image_bytes, image_size, *, crop_padding=CROP_PADDING):
    """Decodes an image, takes its centre and resizes it.

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
        image_size: Height and width of the result in pixels.
        crop_padding: As in `center_crop_window`.

    Returns:
        float32 [image_size, image_size, 3]; bicubic overshoot leaves values
        slightly outside [0, 255].

    Source:
        noisystudent `preprocessing.py:_preprocess_for_eval`.
    """
    image = _decode(image_bytes)
    return _center_crop_and_resize(image, image_size, crop_padding)


def center_crop_window(shape, image_size, *, crop_padding=CROP_PADDING):
    """Returns which part of an image is evaluated.

    Args:
        shape: int32 tensor, (height, width, ...) of the image in pixels.
        image_size: Height and width the crop will be resized to.
        crop_padding: The crop is a square of `size / (size + crop_padding)`
            of the shorter side; `PROPORTIONAL` is a padding of `size / 7`,
            rounded, which crops about 0.875 at every size.

    Returns:
        int32 scalars (top, left, side) in pixels.

    Source:
        noisystudent and tensorflow/tpu `preprocessing.py:
        _decode_and_center_crop`; the first pads by 32, the second in
        proportion. They agree at 224.
    """
    if crop_padding == PROPORTIONAL:
        crop_padding = round(image_size / 7)
    shorter = tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)
    side = tf.cast(image_size / (image_size + crop_padding) * shorter, tf.int32)
    return (shape[0] - side + 1) // 2, (shape[1] - side + 1) // 2, side


def check_pixel_range(images):
    """Refuses pixels that were scaled to [0, 1] or [-1, 1].

    A batch is taken for scaled if it is floating and its largest value is
    above 0 and at most 1. An all-black batch passes; a batch of pixels that
    reaches 1 of 255 and no more is black to the eye, and is refused.

    Args:
        images: Tensor or array of the pixels of a whole batch.

    Raises:
        ValueError: The batch is scaled.
    """
    if not tf.as_dtype(images.dtype).is_floating:
        return
    largest = float(tf.reduce_max(images))
    if 0 < largest <= 1:
        raise ValueError(
            "Models take RGB pixels in [0, 255] and normalise them themselves: "
            "images in [0, 1] or [-1, 1] are to be scaled back. Received: a "
            f"batch whose largest value is {largest:g}."
        )


def preprocess_for_train(
    image_bytes,
    image_size,
    augment=None,
    num_layers=2,
    magnitude=27,
    seed=None,
    *,
    cutout=True,
    flip=True,
):
    """Decodes an image, crops it at random, flips and augments it.

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
        image_size: Height and width of the result in pixels.
        augment: None, `'randaugment'` or `'autoaugment'`.
        num_layers: RandAugment operations per image.
        magnitude: RandAugment magnitude.
        seed: int [2]; the same seed gives the same pixels. None draws a fresh
            seed at every call, inside `Dataset.map` for every element.
        cutout: Whether RandAugment may draw Cutout.
        flip: Whether to mirror half of the images.

    Returns:
        float32 [image_size, image_size, 3].

    Raises:
        ValueError: If `augment` is unknown.

    Source:
        noisystudent `preprocessing.py:_preprocess_for_train`.
    """
    seed = _seed_or_fresh(seed)
    image = _decode(image_bytes)
    image = _random_crop_and_resize(image, image_size, _fold_in(seed, 0))
    if flip:
        image = tf.image.stateless_random_flip_left_right(
            image, _fold_in(seed, 1)
        )
    return _augment(
        image,
        augment,
        num_layers=num_layers,
        magnitude=magnitude,
        cutout=cutout,
        seed=_fold_in(seed, 2),
    )


def preprocess_small_for_eval(image_bytes, image_size):
    """Decodes a small image that already has the model's size.

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
        image_size: Height and width of the stored image in pixels.

    Returns:
        float32 [image_size, image_size, 3] in [0, 255].
    """
    image = tf.cast(_decode(image_bytes), tf.float32)
    return tf.ensure_shape(image, [image_size, image_size, 3])


def preprocess_small_for_train(
    image_bytes,
    image_size,
    augment=None,
    num_layers=2,
    magnitude=27,
    seed=None,
    *,
    cutout=True,
    flip=True,
):
    """Augments a small image, then shifts it by up to four pixels.

    Arguments are those of `preprocess_for_train`; the stored image must have
    the size `image_size`.

    Returns:
        float32 [image_size, image_size, 3] in [0, 255].

    Quirk:
        Augmented images always get one more cutout, a quarter of the size to
        each side, before the shift. Kept, because the original trains so.

    Source:
        noisystudent `preprocessing.py:_cifar10_preprocess_for_train`.
    """
    seed = _seed_or_fresh(seed)
    image = preprocess_small_for_eval(image_bytes, image_size)
    image = _augment(
        image,
        augment,
        num_layers=num_layers,
        magnitude=magnitude,
        cutout=cutout,
        cutout_const=image_size // 8,
        translate_const=image_size // 8,
        final_cutout=image_size // 4,
        seed=_fold_in(seed, 2),
    )
    padding = _SMALL_IMAGE_PADDING
    image = tf.pad(
        image, [[padding, padding], [padding, padding], [0, 0]], "REFLECT"
    )
    offset = tf.random.stateless_uniform(
        [2], _fold_in(seed, 0), maxval=2 * padding + 1, dtype=tf.int32
    )
    image = tf.slice(
        image, tf.concat([offset, [0]], 0), [image_size, image_size, 3]
    )
    if flip:
        image = tf.image.stateless_random_flip_left_right(
            image, _fold_in(seed, 1)
        )
    return image


def eval_view(model):
    """Returns the clean view of a model: image_bytes -> pixels.

    Args:
        model: `config.ModelConfig` of the network that will look.
    """
    if model.small_image:
        return functools.partial(
            preprocess_small_for_eval, image_size=model.image_size
        )
    padding = model.crop_padding
    return functools.partial(
        preprocess_for_eval,
        image_size=model.image_size,
        crop_padding=padding if padding == PROPORTIONAL else int(padding),
    )


def train_view(model, augment):
    """Returns the noised view of a model: (image_bytes, seed) -> pixels.

    Args:
        model: `config.ModelConfig` of the network that will look.
        augment: `config.AugmentConfig`.
    """
    if not augment.random_crop:
        clean = eval_view(model)
        return lambda image_bytes, seed: clean(image_bytes)
    view = (
        preprocess_small_for_train
        if model.small_image
        else preprocess_for_train
    )

    def noised(image_bytes, seed):
        return view(
            image_bytes,
            model.image_size,
            None if augment.name == "none" else augment.name,
            augment.num_layers,
            augment.magnitude,
            seed,
            cutout=augment.cutout,
            flip=augment.flip,
        )

    return noised


def _decode(image_bytes):
    return tf.image.decode_jpeg(image_bytes, channels=3)


def _seed_or_fresh(seed):
    if seed is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    return tf.convert_to_tensor(seed)


def _fold_in(seed, number):
    # Distinct keys of the counter-based generator are independent streams.
    return seed + tf.constant([7919 * number, 0], seed.dtype)


def _resize(image, image_size):
    # The raw op is TF 1's `resize_bicubic`; `tf.image.resize` samples
    # elsewhere and antialiases.
    resized = tf.raw_ops.ResizeBicubic(
        images=image[tf.newaxis],
        size=[image_size, image_size],
        align_corners=False,
        half_pixel_centers=False,
    )[0]
    return tf.ensure_shape(resized, [image_size, image_size, 3])


def _center_crop_and_resize(image, image_size, crop_padding):
    top, left, side = center_crop_window(
        tf.shape(image), image_size, crop_padding=crop_padding
    )
    image = tf.slice(image, [top, left, 0], tf.stack([side, side, 3]))
    return _resize(image, image_size)


def _random_crop_and_resize(image, image_size, seed):
    shape = tf.shape(image)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed,
        min_object_covered=0.1,
        aspect_ratio_range=(3.0 / 4.0, 4.0 / 3.0),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    whole = tf.reduce_all(tf.equal(size[:2], shape[:2]))
    return tf.cond(
        whole,
        lambda: _center_crop_and_resize(image, image_size, CROP_PADDING),
        lambda: _resize(tf.slice(image, begin, size), image_size),
    )


def _augment(
    image,
    augment,
    *,
    num_layers,
    magnitude,
    cutout,
    seed,
    cutout_const=40,
    translate_const=100,
    final_cutout=None,
):
    if augment is None:
        return image
    image = tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
    if augment == "randaugment":
        image = autoaugment.randaugment(
            image,
            num_layers=num_layers,
            magnitude=magnitude,
            seed=seed,
            cutout=cutout,
            cutout_const=cutout_const,
            translate_const=translate_const,
        )
    elif augment == "autoaugment":
        image = autoaugment.autoaugment(image, policy="v0", seed=seed)
    else:
        raise ValueError(
            "`augment` must be None, 'randaugment' or 'autoaugment'. "
            f"Received: {augment!r}."
        )
    if final_cutout is not None:
        image = autoaugment.cutout(
            image, final_cutout, 128, seed=_fold_in(seed, 3)
        )
    return tf.cast(image, tf.float32)
