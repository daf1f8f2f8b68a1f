"""Makes a JPEG that TensorFlow decodes of whatever Pillow reads."""

import io

import numpy as np
from PIL import Image

# Modes of JPEG files that `tf.io.decode_jpeg(channels=3)` turns into RGB.
_PLAIN_JPEG_MODES = ("RGB", "L")
_JPEG_QUALITY = 100


def to_jpeg(data, image_size=None):
    """Returns an image as JPEG, and what was done to it.

    Args:
        data: bytes of an image file.
        image_size: Shorter side, in pixels, to which a larger image shrinks;
            None keeps the size.

    Returns:
        (bytes or None, reason). Reasons: "kept" (the bytes are `data`),
        "resized", "converted:<format>", and with None "dropped:empty",
        "dropped:not_image", "dropped:undecodable", "dropped:too_large" (more
        pixels than Pillow takes for an honest image).
    """
    if not data:
        return None, "dropped:empty"
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        return None, "dropped:too_large"
    except Exception:  # Pillow's plug-ins raise anything on malformed headers.
        return None, "dropped:not_image"
    try:
        image.load()
        shrink = image_size is not None and min(image.size) > image_size
        plain = image.format == "JPEG" and image.mode in _PLAIN_JPEG_MODES
        if plain and not shrink:
            return data, "kept"
        reason = "resized" if plain else f"converted:{image.format.lower()}"
        rgb = _to_rgb(image)
        if shrink:
            rgb = _shrink(rgb, image_size)
        encoded = io.BytesIO()
        rgb.save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        return encoded.getvalue(), reason
    except Exception:  # As above, for malformed pixels.
        return None, "dropped:undecodable"


def _to_rgb(image):
    if image.mode.startswith("I"):
        # 16-bit grey; Pillow's own conversion would clip it at 255.
        grey = np.clip(np.asarray(image) // 256, 0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    return image.convert("RGB")


def _shrink(image, image_size):
    scale = image_size / min(image.size)
    size = [max(image_size, round(side * scale)) for side in image.size]
    return image.resize(size, Image.BICUBIC)
