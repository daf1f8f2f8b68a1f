"""Writes folders of corrupted images, part by part, on all cores."""

import collections
import functools
import itertools
import os
import shutil
import typing

from absl import logging

from data_prep import files, image_encoding, progress, source_writer
from noisy_student import labeled_images
from noisy_student.robustness import clean_images, corrupted_layout
from noisy_student.robustness.distortions import distort, severities

# Images on which the size of the output is estimated.
_NUM_SAMPLED = 4


class _Image(typing.NamedTuple):
    """An image on its way: `class/image`, its origin, bytes of a file."""

    name: str
    origin: str
    data: bytes


def write(config, parts, settings, textures):
    """Writes parts, one after the other; those that are complete are kept.

    Args:
        config: `corruptions.CorruptionsConfig`.
        parts: List of `corrupted_layout.Part`.
        settings: JSON-able dict of what the bytes depend on.
        textures: Tuple of uint8 [height, width, 3], as `corrupt` takes them.

    Raises:
        ValueError: An image cannot be read or corrupted, or the images are not
            those of the complete parts.
    """
    pending = corrupted_layout.find_pending(config.output_dir, parts)
    images = clean_images.open_images(
        config.input,
        split=config.eval_split,
        num_classes=config.num_classes,
        num_images=config.num_images,
    )
    _check_images(config.output_dir, images.describe())
    _announce(config, images, pending, textures)
    files.write_settings(config.output_dir, settings)
    path = corrupted_layout.images_path(config.output_dir)
    files.write_json(path, images.describe())
    num_images = images.source.num_images
    meter = progress.Progress(
        "corrupted images",
        total=len(parts) * num_images,
        done=(len(parts) - len(pending)) * num_images,
    )
    for part in pending:
        _write_part(config, images, part, textures, meter)


def _check_images(output_dir, described):
    """Raises ValueError if a folder was begun with other images."""
    path = corrupted_layout.images_path(output_dir)
    if not files.exists(path):
        return
    before = files.read_json(path)
    if difference := files.describe_difference(before, described):
        raise ValueError(
            f"{output_dir!r} was begun with other images: {difference}. Write "
            "to another folder, or delete this one first."
        )


def _announce(config, images, pending, textures):
    """Logs how much there is to do and how much room it needs."""
    samples = [
        _Image(*image)
        for image in itertools.islice(images.read(), _NUM_SAMPLED)
    ]
    # Each part on one image, so that it takes no time to speak of.
    sizes = [
        sum(map(len, _make(config, part, textures, image)))
        for part, image in zip(pending, itertools.cycle(samples))
    ]
    needed = sum(sizes) * images.source.num_images
    logging.info(
        "%d images, %d parts to write, about %s on disk; constants of %s.",
        images.source.num_images,
        len(pending),
        _describe_bytes(needed),
        _describe_constants(config, samples),
    )
    if files.is_remote(config.output_dir):
        return
    files.make_dirs(config.output_dir)
    free = shutil.disk_usage(config.output_dir).free
    if needed > free:
        logging.warning(
            "--output_dir=%s has %s left: not enough.",
            config.output_dir,
            _describe_bytes(free),
        )


def _describe_constants(config, samples):
    """Returns of which published sets the constants are, by some images."""
    if config.image_size is not None:
        sizes = {(config.image_size, config.image_size)}
    else:
        sizes = {clean_images.decode(s.data).shape[:2] for s in samples}
    kind = "C" if config.what == "corruptions" else "P"
    small = f"CIFAR-10-{kind} below {severities.SMALLEST_LARGE_SIZE} pixels"
    names = {
        small if severities.is_small(*size) else f"ImageNet-{kind}"
        for size in sizes
    }
    return " and ".join(sorted(names))


def _describe_bytes(number):
    return (
        f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
    )


def _write_part(config, images, part, textures, meter):
    folder = os.path.join(config.output_dir, part.folder)
    if images.listed:
        path = os.path.join(folder, labeled_images.CLASSES_FILE)
        files.write_json(path, list(images.folders))
    written = collections.defaultdict(set)

    def write_image(image):
        path_of = functools.partial(
            part.path, folder, image.name, config.format
        )
        if files.exists(path_of(0)):
            return []
        made = _make(config, part, textures, image)
        paths = [path_of(number) for number in range(len(made))]
        # The first frame comes last: where it is, all are.
        for path, data in reversed(list(zip(paths, made))):
            files.write_bytes(path, data)
        return paths

    items = (_Image(*image) for image in images.read())
    for _, paths in source_writer.encode_all(items, write_image):
        for path in paths:
            directory, name = os.path.split(path)
            written[directory].add(name)
        meter.advance(note=part.folder)
    for directory, names in written.items():
        files.remove_leftovers(directory, names)
    number = images.source.num_images
    marker = corrupted_layout.marker_path(config.output_dir, part)
    files.write_json(marker, {"num_images": number})


def _make(config, part, textures, image):
    """Returns the files made of an image, a list of bytes."""
    with files.naming(image.origin):
        pixels = clean_images.decode(image.data)
        crop = config.image_size
        if crop is not None:
            pixels = clean_images.resize(pixels, crop)
        options = {"seed": config.seed, "key": os.fsencode(image.name)}
        if part.severity is None:
            made = distort.perturb(pixels, part.name, crop=crop, **options)
        else:
            made = [
                distort.corrupt(
                    distort.crop_middle(pixels, crop),
                    part.name,
                    part.severity,
                    frost_textures=textures,
                    **options,
                )
            ]
    return [_encode(frame, config) for frame in made]


def _encode(pixels, config):
    if config.format == "png":
        return image_encoding.pixels_to_png(pixels)
    return image_encoding.pixels_to_jpeg(pixels, config.jpeg_quality)
