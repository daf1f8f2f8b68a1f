"""Small pictures of a few images out of shards."""

import itertools

from PIL import Image, ImageOps

from data_prep import image_encoding

_SIZE = 96
_GAP = 6


def read(places):
    """Reads a few images of shards as square thumbnails.

    Args:
        places: Iterable of (path of the shard, index of the record).

    Returns:
        {(path, index): PIL image}. What cannot be decoded is missing.
    """
    # Imported here: importing this module needs no TensorFlow.
    from data_prep import records

    wanted = {}
    for path, index in places:
        wanted.setdefault(path, set()).add(index)
    images = {}
    for path, indices in wanted.items():
        reader = map(records.unpack_image, records.read_records(path))
        for index, image in pick(reader, indices).items():
            images[path, index] = image
    return images


def pick(reader, indices, *, whole=False, size=_SIZE):
    """Makes thumbnails of some of a sequence of images.

    Args:
        reader: Iterable of (image bytes, key); read up to the last index.
        indices: Non-empty set of int.
        whole: As in `make`.
        size: As in `make`.

    Returns:
        {index: PIL image}. What cannot be decoded is missing.
    """
    images = {}
    for index, (image_bytes, _) in enumerate(
        itertools.islice(reader, max(indices) + 1)
    ):
        if index in indices:
            images[index] = make(image_bytes, whole=whole, size=size)
    return {i: image for i, image in images.items() if image is not None}


def make(image_bytes, *, whole=False, size=_SIZE):
    """Returns a thumbnail, or None for what cannot be decoded.

    Args:
        image_bytes: bytes of an image file.
        whole: Whether to show the whole image; else its middle, as a square.
        size: Its longer side in pixels; of smaller images it is theirs.
    """
    image, _ = image_encoding.decode(image_bytes)
    if image is None:
        return None
    if whole:
        image.thumbnail((size, size), Image.BICUBIC)
        return image
    side = min(size, *image.size)
    return ImageOps.fit(image, (side, side), Image.BICUBIC)


def sheet(rows):
    """Returns thumbnails in rows, on white, as one PIL image.

    Args:
        rows: Non-empty sequence of sequences of PIL images; small ones are
            enlarged.
    """
    step = _SIZE + _GAP
    width = max(1, *map(len, rows)) * step + _GAP
    result = Image.new("RGB", (width, len(rows) * step + _GAP), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            tile = image.resize((_SIZE, _SIZE), Image.NEAREST)
            result.paste(tile, (x * step + _GAP, y * step + _GAP))
    return result
