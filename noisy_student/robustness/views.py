"""How a network sees the images of a benchmark that are cropped already."""

from noisy_student import decoding, preprocessing


def whole_view(model):
    """Returns a view of whole images: image_bytes -> float32 pixels.

    The released images of ImageNet-C and ImageNet-P are crops of 224x224 or
    299x299 pixels; the paper resizes them to the size that a network was
    trained at.

    Args:
        model: `config.ModelConfig` of the network that will look.
    """
    return lambda image_bytes: preprocessing.resize(
        decoding.decode_whole(image_bytes), model.image_size
    )


def stored_size(images):
    """Returns [height, width] of the first image of a data set, in pixels.

    Args:
        images: `tf.data.Dataset` of dicts with `image_bytes`.
    """
    first = next(iter(images))
    return list(decoding.decode_whole(first["image_bytes"]).shape[:2])
