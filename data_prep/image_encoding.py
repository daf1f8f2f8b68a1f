"""Makes files that TensorFlow decodes of whatever Pillow reads.

What TensorFlow decodes to the same pixels anyway is kept byte by byte: JPEG
files in RGB or grey and, for evaluation, still PNG files of 8 bits in RGB or
grey. A JPEG file without its end marker is not, though Pillow may read all of
its pixels. Whatever else is converted to 8-bit RGB by one rule: the first frame
of an animation; palettes looked up; transparency dropped, not blended; 16-bit
grey and colour by their high byte; CMYK and other colour spaces as
`PIL.Image.Image.convert` does. EXIF orientation is ignored, as TensorFlow and
the original code ignore it; a TIFF alone is turned as its tag says, since
Pillow does that while it decodes.
"""

import concurrent.futures
import io
import re

import numpy as np
from PIL import Image

from data_prep import files

# Modes of JPEG files that `tf.io.decode_jpeg(channels=3)` turns into RGB.
_PLAIN_JPEG_MODES = ("RGB", "L")
# A photo with further pictures behind it, as telephones write, is "MPO".
_JPEG_FORMATS = ("JPEG", "MPO")
_JPEG_QUALITY = 100
_WHY_DROPPED = {
    "dropped:missing": "no such file",
    "dropped:folder": "a folder",
    "dropped:empty": "an empty file",
    "dropped:not_image": "no image",
    "dropped:undecodable": "truncated or damaged",
    "dropped:too_large": "too many pixels",
    "dropped:no_integers": "pixels that are not 8 or 16 bits",
}
# Opening a file waits for the disk or the network, not for the processor.
_READERS = 16
_HEADER_BYTES = 26
# A PNG's header ends in depth and colour type: grey and RGB at 8 bits.
_PLAIN_PNG_HEADERS = (bytes([8, 0]), bytes([8, 2]))
# Whatever follows 0xFF in a JPEG file, but for stuffed bytes and restarts.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_JPEG_END = b"\xd9"
# What a complete file ends with.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


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
        pixels than Pillow takes for an honest image), "dropped:no_integers"
        (floating-point or 32-bit pixels).
    """
    image, reason = _open(io.BytesIO(data))
    if image is None:
        return None, reason
    try:
        image.load()
        shrink = image_size is not None and min(image.size) > image_size
        plain = _is_plain_jpeg(image) and _is_whole(image, data)
        if plain and not shrink:
            return data, "kept"
        reason = "resized" if plain else _converted(image)
        rgb = _to_rgb(image)
        if shrink:
            rgb = _shrink(rgb, image_size)
        return _encode(
            rgb, "JPEG", quality=_JPEG_QUALITY, subsampling=0
        ), reason
    except Exception:  # Pillow's plug-ins raise anything on malformed pixels.
        return None, "dropped:undecodable"


def to_lossless(data):
    """Returns an image as a plain JPEG or PNG file of unchanged pixels.

    Args:
        data: bytes of an image file.

    Returns:
        (bytes or None, reason), reasons as in `to_jpeg`: "kept" for what is
        plain already and thus not decoded here, "converted:<format>" for a
        PNG made of anything else.
    """
    image, reason = _open(io.BytesIO(data))
    if image is None:
        return None, reason
    if _is_plain(image, data) and _is_whole(image, data):
        return data, "kept"
    try:
        # Fast compression: the file lives as long as one batch.
        encoded = _encode(_to_rgb(image), "PNG", compress_level=1)
        return encoded, _converted(image)
    except Exception:  # As above.
        return None, "dropped:undecodable"


def pixels_to_png(pixels):
    """Returns uint8 [height, width, 3] as the bytes of a PNG file."""
    return _encode(Image.fromarray(pixels), "PNG")


def pixels_to_jpeg(pixels, quality):
    """Returns uint8 [height, width, 3] as the bytes of a JPEG file.

    Args:
        pixels: The image.
        quality: 1 to 95; colours have half the resolution, Pillow's default.
    """
    return _encode(
        Image.fromarray(pixels), "JPEG", quality=quality, optimize=True
    )


def decode(data):
    """Returns the pixels of an image, by the rule above.

    Args:
        data: bytes of an image file.

    Returns:
        (`PIL.Image.Image` in RGB or None, reason): "decoded" or, with None, a
        "dropped:..." reason as in `to_jpeg`.
    """
    image, reason = _open(io.BytesIO(data))
    if image is None:
        return None, reason
    try:
        return _to_rgb(image), "decoded"
    except Exception:  # As above.
        return None, "dropped:undecodable"


def inspect(path):
    """Returns the reason `to_lossless` would give, without decoding the image.

    Reads the header and the end of the file; only a plain file that does not
    end as its format does is decoded. Damage further inside stays unseen.

    Args:
        path: Local or remote file.

    Returns:
        "kept", "converted:<format>", or "dropped:<why>", where "missing" and
        "folder" join the reasons of `to_jpeg`.
    """
    if files.is_dir(path):
        return "dropped:folder"
    if not files.exists(path):
        return "dropped:missing"
    with files.open_file(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
        file.seek(0)
        image, reason = _open(file)
        if image is None:
            return reason
        is_whole, end = True, _ENDS.get(image.format, b"")
        file.seek(files.size(path) - len(end))
        if file.read(len(end)) != end:
            file.seek(0)
            data = file.read()
            pixels, reason = decode(data)
            if pixels is None:
                return reason
            is_whole = _is_whole(image, data)
    is_plain = is_whole and _is_plain(image, header)
    return "kept" if is_plain else _converted(image)


def find_unreadable(paths):
    """Inspects image files; see `inspect` for what that finds.

    Args:
        paths: Local or remote files.

    Returns:
        List of "path (why)" of those that cannot be read, in the same order.
    """
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        reasons = list(pool.map(inspect, paths))
    return [
        f"{path} ({describe_reason(reason)})"
        for path, reason in zip(paths, reasons)
        if reason in _WHY_DROPPED
    ]


def describe_reason(reason):
    """Returns a "dropped:..." reason in words."""
    return _WHY_DROPPED[reason]


def _open(file):
    """Returns (lazily read image or None, reason why there is none)."""
    if not file.read(1):
        return None, "dropped:empty"
    file.seek(0)
    try:
        image = Image.open(file)
    except Image.DecompressionBombError:
        return None, "dropped:too_large"
    except Exception:  # Pillow's plug-ins raise anything on malformed headers.
        return None, "dropped:not_image"
    # Nobody knows which of their numbers is white. A PNG in "I" has 16 bits.
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        return None, "dropped:no_integers"
    return image, None


def _is_plain_jpeg(image):
    return image.format in _JPEG_FORMATS and image.mode in _PLAIN_JPEG_MODES


def _is_whole(image, data):
    """Returns whether a JPEG's markers, one after the other, reach the end's.

    TensorFlow refuses the file otherwise. Other formats are taken for whole.
    """
    if image.format not in _JPEG_FORMATS:
        return True
    position = 0
    while match := _JPEG_MARKER.search(data, position):
        if match[1] == _JPEG_END:
            return True
        # The first marker, of the start, is not followed by a length.
        start = match.end()
        length = int.from_bytes(data[start : start + 2], "big")
        position = start + length if position else start
    return False


def _is_plain(image, data):
    if image.format != "PNG":
        return _is_plain_jpeg(image)
    # Pillow's mode does not tell 16-bit colour from 8-bit colour.
    header = data[:_HEADER_BYTES]
    return header.endswith(_PLAIN_PNG_HEADERS) and not image.is_animated


def _converted(image):
    return f"converted:{image.format.lower()}"


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


def _encode(image, image_format, **options):
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()
