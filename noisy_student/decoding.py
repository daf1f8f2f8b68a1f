"""From encoded images to their pixels, or those of a part."""

import tensorflow as tf

_END_OF_JPEG = b"\xff\xd9"


def decode_whole(image_bytes):
    """Returns a whole image, uint8 [height, width, 3].

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
    """
    return tf.image.decode_jpeg(image_bytes, channels=3)


def decode_small(image_bytes, image_size):
    """Returns a whole image, uint8 [image_size, image_size, 3].

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
        image_size: Height and width of the stored image in pixels; another
            size is an error.
    """
    return tf.ensure_shape(
        decode_whole(image_bytes), [image_size, image_size, 3]
    )


def decode_crop(image_bytes, choose_window, fused):
    """Returns a part of an image, uint8 [height, width, 3].

    Args:
        image_bytes: Scalar string tensor, JPEG or PNG bytes.
        choose_window: Function of the image's shape, an int32 tensor, that
            returns the part: int32 [4], (top, left, height, width).
        fused: Whether nothing else is decoded of a JPEG that has its end.
    """

    def decode_and_crop():
        image = decode_whole(image_bytes)
        top, left, height, width = tf.unstack(choose_window(tf.shape(image)))
        return tf.slice(image, [top, left, 0], [height, width, 3])

    def decode_part():
        window = choose_window(tf.io.extract_jpeg_shape(image_bytes))
        return tf.image.decode_and_crop_jpeg(image_bytes, window, channels=3)

    if not fused:
        return decode_and_crop()
    # Whether a JPEG was cut short shows only where all of it is decoded.
    length = tf.strings.length(image_bytes)
    end = tf.strings.substr(image_bytes, tf.maximum(length - 2, 0), 2)
    is_whole_jpeg = tf.io.is_jpeg(image_bytes) & (end == _END_OF_JPEG)
    return tf.cond(is_whole_jpeg, decode_part, decode_and_crop)
