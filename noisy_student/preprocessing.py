"""From encoded images to the pixels a model sees.

Everything here works on one image, inside `tf.data` or eagerly, and returns
pixels in the range the model normalises itself, about [0, 255].

Source: noisystudent `preprocessing.py`.
"""

import functools

import tensorflow as tf

import autoaugment
from autoaugment import geometry, image_ops
from autoaugment.seeds import as_seed, uniform
from noisy_student import decoding

CROP_PADDING = 32
PROPORTIONAL = "proportional"
_SMALL_IMAGE_PADDING = 4


def preprocess_for_eval(
    image_bytes, image_size, *, crop_padding=CROP_PADDING, fused_decode=False
):
    """Decodes an image, takes its centre and resizes it.

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
        image_size: Height and width of the result in pixels.
        crop_padding: As in `center_crop_window`.
        fused_decode: Whether a JPEG is decoded only where it is cropped. That
            is faster and moves pixels near the crop's edges, mostly by up to
            11 levels.

    Returns:
        float32 [image_size, image_size, 3]; bicubic overshoot leaves values
        slightly outside [0, 255].

    Source:
        noisystudent `preprocessing.py:_preprocess_for_eval`; fused and with
        `PROPORTIONAL` padding, tensorflow/tpu `preprocessing.py:
        preprocess_for_eval`.
    """

    def choose_window(shape):
        top, left, side = center_crop_window(
            shape, image_size, crop_padding=crop_padding
        )
        return tf.stack([top, left, side, side])

    crop = decoding.decode_crop(image_bytes, choose_window, fused_decode)
    return resize(crop, image_size)


def center_crop_window(shape, image_size, *, crop_padding=CROP_PADDING):
    """Returns which part of an image is evaluated.

    Args:
        shape: int32 tensor, (height, width, ...) of the image in pixels.
        image_size: Height and width the crop will be resized to.
        crop_padding: The crop is a square of `size / (size + crop_padding)`
            of the shorter side; `PROPORTIONAL` is a padding of `size / 7`,
            rounded, which crops about 0.875 at every size.

    Returns:
        int32 scalars (top, left, side) in pixels; the side is at least 1.

    Source:
        noisystudent and tensorflow/tpu `preprocessing.py:
        _decode_and_center_crop`; the first pads by 32, the second in
        proportion. They agree at 224.
    """
    if crop_padding == PROPORTIONAL:
        crop_padding = round(image_size / 7)
    shorter = tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)
    side = tf.cast(image_size / (image_size + crop_padding) * shorter, tf.int32)
    side = tf.maximum(side, 1)
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
    crop_padding=CROP_PADDING,
    fused_decode=True,
    dtype=tf.float32,
):
    """Decodes an image, crops it at random, flips and augments it.

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
        image_size: Height and width of the result in pixels.
        augment: None, `'randaugment'` or `'autoaugment'`.
        num_layers: RandAugment operations per image.
        magnitude: RandAugment magnitude.
        seed: Integers of shape [2], or one integer: the same seed gives the
            same pixels. None draws a fresh one at every call, inside
            `Dataset.map` for every element.
        cutout: Whether RandAugment may draw Cutout.
        flip: Whether to mirror half of the images.
        crop_padding: As in `center_crop_window`, for the few images on which
            no random crop succeeds.
        fused_decode: As in `preprocess_for_eval`.
        dtype: Of the result; an augmented image may stay `tf.uint8`, a quarter
            of the bytes.

    Returns:
        `dtype` [image_size, image_size, 3]: whole numbers in [0, 255] if
        augmented, else with the overshoot of the bicubic.

    Raises:
        ValueError: If `augment` is unknown, or None with a `dtype` of uint8.

    Source:
        noisystudent `preprocessing.py:_preprocess_for_train`.
    """
    if augment is None and dtype == tf.uint8:
        raise ValueError(
            "`dtype` must be float32 without `augment`: the bicubic leaves no "
            f"whole numbers in [0, 255]. Received: {dtype}."
        )
    seed = as_seed(seed)
    crop = decoding.decode_crop(
        image_bytes,
        lambda shape: _random_window(
            shape, image_size, seed, crop_padding=crop_padding
        ),
        fused_decode,
    )
    image = resize(crop, image_size)
    if augment is not None:
        # Mirroring commutes with this, and then moves a quarter of the bytes.
        image = _to_uint8(image)
    if flip:
        draw = uniform([], _fold_in(seed, 1))
        image = tf.cond(
            draw < 0.5, lambda: tf.reverse(image, [1]), lambda: image
        )
    image = _augment(
        image,
        augment,
        num_layers=num_layers,
        magnitude=magnitude,
        cutout=cutout,
        seed=_fold_in(seed, 2),
    )
    return tf.cast(image, dtype)


def preprocess_small_for_eval(image_bytes, image_size, stored_size=None):
    """Decodes a small image, whole, and enlarges it if that is asked for.

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
        image_size: Height and width of the result in pixels.
        stored_size: Height and width of the stored image in pixels; None is
            `image_size`.

    Returns:
        float32 [image_size, image_size, 3] in [0, 255]; of an image that is
        resized, with the overshoot of the bicubic.
    """
    if stored_size is None:
        stored_size = image_size
    image = decoding.decode_small(image_bytes, stored_size)
    return _enlarge(tf.cast(image, tf.float32), stored_size, image_size)


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
    dtype=tf.float32,
):
    """Augments a small image, then shifts it by up to four pixels.

    Arguments are those of `preprocess_for_train`; the stored image must have
    the size `image_size`.

    Returns:
        `dtype` [image_size, image_size, 3], whole numbers in [0, 255].

    Quirk:
        Augmented images always get one more cutout, a quarter of the size to
        each side, before the shift. Kept, because the original trains so.

    Source:
        noisystudent `preprocessing.py:_cifar10_preprocess_for_train`.
    """
    seed = as_seed(seed)
    image = _augment(
        decoding.decode_small(image_bytes, image_size),
        augment,
        num_layers=num_layers,
        magnitude=magnitude,
        cutout=cutout,
        cutout_const=image_size // 8,
        translate_const=image_size // 8,
        seed=_fold_in(seed, 2),
    )
    shift, centre = tf.unstack(uniform([2, 2], _fold_in(seed, 1)))
    if augment is not None:
        pixel = geometry.centre_at(image, centre)
        image = geometry.cutout_at(image, image_size // 4, pixel, 128)
    return tf.cast(_shift(image, image_size, shift, flip), dtype)


def eval_view(model):
    """Returns the clean view of a model: image_bytes -> pixels.

    Args:
        model: `config.ModelConfig` of the network that will look.
    """
    if model.small_image:
        return functools.partial(
            preprocess_small_for_eval,
            image_size=model.image_size,
            stored_size=model.stored_size,
        )
    return functools.partial(
        preprocess_for_eval,
        image_size=model.image_size,
        crop_padding=_crop_padding(model),
        fused_decode=model.fused_decode,
    )


def train_view(model, augment):
    """Returns the noised view of a model: (image_bytes, seed) -> pixels.

    Pixels that are whole numbers are uint8, for the sake of the bytes that are
    batched and sent to a device, and float32 otherwise. Small images that are
    enlarged are augmented before.

    Args:
        model: `config.ModelConfig` of the network that will look.
        augment: `config.AugmentConfig`.
    """
    if not augment.random_crop:
        clean = eval_view(model)
        return lambda image_bytes, seed: clean(image_bytes)
    name = None if augment.name == "none" else augment.name
    size = model.image_size
    if model.small_image:
        if model.stored_size is not None:
            size = model.stored_size
        view, dtype = preprocess_small_for_train, tf.uint8
    else:
        view = functools.partial(
            preprocess_for_train,
            crop_padding=_crop_padding(model),
            fused_decode=augment.fused_decode,
        )
        dtype = tf.float32 if name is None else tf.uint8
    view = functools.partial(
        view,
        image_size=size,
        augment=name,
        num_layers=augment.num_layers,
        magnitude=augment.magnitude,
        cutout=augment.cutout,
        flip=augment.flip,
        dtype=dtype,
    )
    return lambda image_bytes, seed: _enlarge(
        view(image_bytes, seed=seed), size, model.image_size
    )


def _crop_padding(model):
    padding = model.crop_padding
    return padding if padding == PROPORTIONAL else int(padding)


def _random_window(shape, image_size, seed, *, crop_padding):
    """Returns a random part of an image, int32 (top, left, height, width).

    Where no attempt succeeds, it is the centre crop of evaluation.
    """
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
    top, left, side = center_crop_window(
        shape, image_size, crop_padding=crop_padding
    )
    return tf.where(
        tf.reduce_all(size[:2] == shape[:2]),
        tf.stack([top, left, side, side]),
        tf.concat([begin[:2], size[:2]], 0),
    )


def resize(image, image_size):
    """Returns the bicubic of an image, float32 [image_size, image_size, 3].

    It overshoots: values may lie slightly outside [0, 255].

    Args:
        image: uint8 or float32 [height, width, 3].
        image_size: Height and width of the result in pixels.
    """
    # The raw op is TF 1's `resize_bicubic`; `tf.image.resize` samples
    # elsewhere and antialiases.
    resized = tf.raw_ops.ResizeBicubic(
        images=tf.expand_dims(image, 0),
        size=[image_size, image_size],
        align_corners=False,
        half_pixel_centers=False,
    )
    return tf.ensure_shape(tf.squeeze(resized, 0), [image_size, image_size, 3])


def _enlarge(image, size, image_size):
    """Returns an image of `size` at `image_size`: itself, or its bicubic."""
    return image if size == image_size else resize(image, image_size)


def _to_uint8(image):
    return tf.cast(image_ops.clip(image), tf.uint8)


def _shift(image, image_size, draws, flip):
    """Reflects an image at its edges, crops it at random and may mirror it.

    Args:
        image: uint8 [image_size, image_size, 3].
        image_size: Its height and width in pixels.
        draws: float32 [2], uniform in [0, 1): the shift down, and right.
        flip: Whether half of the draws of the second mirror the image.

    Returns:
        uint8 [image_size, image_size, 3].
    """
    # All it can do is to pick rows and columns, which takes two steps where
    # padding, slicing and mirroring take many.
    last = image_size - 1
    shifted = [
        [last - abs(last - abs(i + shift)) for i in range(image_size)]
        for shift in range(-_SMALL_IMAGE_PADDING, _SMALL_IMAGE_PADDING + 1)
    ]
    mirrored = [indices[::-1] for indices in shifted] if flip else []
    choices = [len(shifted), len(shifted + mirrored)]
    drawn = tf.cast(draws * tf.constant(choices, tf.float32), tf.int32)
    rows, columns = tf.unstack(tf.gather(shifted + mirrored, drawn))
    return tf.gather(tf.gather(image, rows), columns, axis=1)


def _fold_in(seed, number):
    # Seeds so far apart that no other image's meets them.
    return seed + tf.constant([0, number * 0x1E3779B9], seed.dtype)


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
):
    if augment is None:
        return image
    if augment == "randaugment":
        return autoaugment.randaugment(
            image,
            num_layers=num_layers,
            magnitude=magnitude,
            seed=seed,
            cutout=cutout,
            cutout_const=cutout_const,
            translate_const=translate_const,
        )
    if augment == "autoaugment":
        return autoaugment.autoaugment(image, policy="v0", seed=seed)
    raise ValueError(
        "`augment` must be None, 'randaugment' or 'autoaugment'. "
        f"Received: {augment!r}."
    )
