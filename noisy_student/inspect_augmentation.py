"""Draws what augmentation does to an image, on one sheet.

    python -m noisy_student.inspect_augmentation --image=photo.jpg

The sheet, a PNG file, shows the evaluation view, each operation of RandAugment
on it at a few magnitudes with the argument that a magnitude becomes, and the
views that training would draw. The image is what Pillow reads.
"""

import dataclasses
import io
import json
import os
from typing import Optional

import numpy as np
from absl import logging
from PIL import Image, PngImagePlugin

from autoaugment import magnitudes as magnitudes_lib
from data_prep import command_line, files, image_encoding
from noisy_student import config as config_lib
from noisy_student import contact_sheet, data_config, flag_declarations

_IMAGE_SIZE = 224
_SMALL_IMAGE_SIZE = 32
_MOST_MAGNITUDES = 8
_LONGEST_NAME = 30
_FILL = 128

# How an argument is written, and what it does.
_ARGUMENTS = {
    "AutoContrast": ("", ""),
    "Equalize": ("", ""),
    "Invert": ("", ""),
    "Rotate": ("{:+.4g}°", "counter-clockwise where positive"),
    "Posterize": ("{} bits", "keeps the top bits; one if above 8"),
    "Solarize": ("from {}", "inverts values from here on, modulo 256"),
    "Color": ("{:.4g}", "0: grey, 1: no change"),
    "Contrast": ("{:.4g}", "0: one grey level, 1: no change"),
    "Brightness": ("{:.4g}", "0: black, 1: no change"),
    "Sharpness": ("{:.4g}", "0: blurred, 1: no change"),
    "ShearX": ("{:+.4g}", "each row so many pixels left of the one above"),
    "ShearY": ("{:+.4g}", "each column so many pixels above the one before"),
    "TranslateX": ("{:+.4g} px", "to the left where positive"),
    "TranslateY": ("{:+.4g} px", "up where positive"),
    "SolarizeAdd": ("+{}", "brightens values below 128"),
    "Cutout": ("{} px", "half the side of the grey square"),
}

# Tells a sheet from other PNG files; its settings stand behind it.
_KEY = "noisy_student.inspect_augmentation"
_HEADER_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class SheetConfig:
    """What to draw.

    Attributes:
        image: Path of an image file.
        output: Path of the PNG file to write. A sheet that is there is
            replaced, any other file is not.
        augment: `'none'`, `'randaugment'` or `'autoaugment'`: what is done
            to a training view after crop and flip.
        num_layers: RandAugment operations per training view.
        magnitude: RandAugment magnitude of the training views, in [0, 100].
        image_size: Height and width in pixels the model sees; None is 224, or
            32 for small images.
        small_image: Whether the image is seen as it is stored, with the
            augmentation of 32x32 images.
        magnitudes: Magnitudes at which each operation is shown, 1 to 8 numbers
            in [0, 100].
        num_samples: Training views to show.
        seed: View i is drawn with the seed (seed, i).
    """

    image: str
    output: str = "augmentation.png"
    augment: str = "randaugment"
    num_layers: int = 2
    magnitude: float = 27
    image_size: Optional[int] = None
    small_image: bool = False
    magnitudes: tuple = (5, 9, 15, 27)
    num_samples: int = 16
    seed: int = 0

    def __post_init__(self):
        if not self.image:
            raise ValueError("--image is needed: an image file to look at.")
        if not self.output.lower().endswith(".png"):
            raise ValueError(
                f"`output` must end in .png. Received: {self.output!r}."
            )
        if not 1 <= len(self.magnitudes) <= _MOST_MAGNITUDES:
            raise ValueError(
                f"`magnitudes` must be 1 to {_MOST_MAGNITUDES} numbers. "
                f"Received: {self.magnitudes}."
            )
        config_lib.AugmentConfig(self.augment, self.num_layers, self.magnitude)
        for magnitude in self.magnitudes:
            if not 0 <= magnitude <= data_config.LARGEST_MAGNITUDE:
                raise ValueError(
                    f"`magnitudes` must be in [0, "
                    f"{data_config.LARGEST_MAGNITUDE}]. Received: {magnitude}."
                )
        if self.image_size is None:
            size = _SMALL_IMAGE_SIZE if self.small_image else _IMAGE_SIZE
            object.__setattr__(self, "image_size", size)


def write(config):
    """Draws a sheet and writes it.

    Args:
        config: `SheetConfig`.

    Returns:
        (width, height) of the sheet in pixels.

    Raises:
        ValueError: The image cannot be read or seen, or `output` names a file
            that is no sheet.
        OSError: The sheet cannot be written.
    """
    _check_output(config.output)
    encoded, stored_size = _read(config)
    # TensorFlow is imported only now: a wrong path must not wait for it.
    import tensorflow as tf

    from noisy_student import labeled_images

    try:
        clean = evaluation_view(encoded, config)
        training = training_strip(encoded, config)
    except tf.errors.InvalidArgumentError as error:
        cause = labeled_images.first_cause(error)
        raise ValueError(
            f"--image={config.image} cannot be seen at image size "
            f"{config.image_size}: {cause}"
        ) from error
    operations = operation_strips(clean, config)
    reference = contact_sheet.Strip(
        (contact_sheet.Tile(clean),), "Evaluation view"
    )
    sheet = contact_sheet.draw(
        "What a model sees",
        _introduce(config, stored_size),
        [[reference, *operations], [training]],
        group=len(config.magnitudes),
    )
    _save(sheet, config)
    return sheet.size


def evaluation_view(encoded, config):
    """Returns what an evaluation sees, uint8 [size, size, 3].

    Args:
        encoded: bytes of a JPEG or PNG file.
        config: `SheetConfig`.
    """
    from noisy_student import preprocessing

    view = preprocessing.preprocess_for_eval
    if config.small_image:
        view = preprocessing.preprocess_small_for_eval
    return _to_uint8(view(encoded, config.image_size))


def training_strip(encoded, config):
    """Returns the `Strip` of what training would see; arguments as above."""
    from noisy_student import preprocessing

    view = preprocessing.preprocess_for_train
    if config.small_image:
        view = preprocessing.preprocess_small_for_train
    tiles = []
    for number in range(config.num_samples):
        pixels = view(
            encoded,
            config.image_size,
            None if config.augment == "none" else config.augment,
            config.num_layers,
            config.magnitude,
            (config.seed, number),
        )
        label = f"seed {config.seed}, {number}"
        tiles.append(contact_sheet.Tile(_to_uint8(pixels), label))
    return contact_sheet.Strip(
        tuple(tiles), "Training views", _describe_training(config)
    )


def _describe_training(config):
    noise = {
        "none": [],
        "autoaugment": ["a sub-policy of AutoAugment"],
        "randaugment": [
            f"RandAugment (operations: {config.num_layers}, magnitude: "
            f"{config.magnitude:g})"
        ],
    }[config.augment]
    if not config.small_image:
        return ", ".join(["random crop", "flip", *noise])
    if noise:
        noise.append("cutout")
    return ", ".join([*noise, "shift", "flip"])


def operation_strips(image, config):
    """Returns a `Strip` for each operation, those of few tiles first.

    Args:
        image: uint8 [size, size, 3].
        config: `SheetConfig`.
    """
    import autoaugment

    strips = [_operation_strip(image, name, config) for name in autoaugment.OPS]
    return sorted(strips, key=lambda strip: len(strip.tiles))


def _operation_strip(image, name, config):
    import autoaugment

    written, about = _ARGUMENTS[name]
    constants = {}
    if config.small_image:
        constants["cutout_const"] = config.image_size // 8
        constants["translate_const"] = config.image_size // 8
    tiles = []
    for magnitude in config.magnitudes if written else (0,):
        args = autoaugment.level_to_args(name, magnitude, **constants)
        label = f"M {magnitude:g}" if written else ""
        tiles.append(_operation_tile(image, name, args, label, config.seed))
        if name in magnitudes_lib.SIGNED_OPS:
            # From the strongest to the left to the strongest to the right.
            args = tuple(-arg for arg in args)
            tile = _operation_tile(image, name, args, label, config.seed)
            tiles.insert(0, tile)
    return contact_sheet.Strip(tuple(tiles), name, about)


def _operation_tile(image, name, args, label, seed):
    import autoaugment

    operation = autoaugment.OPS[name]
    fill = (_FILL,) if name in magnitudes_lib.FILLED_OPS else ()
    settings = {"seed": seed} if name == "Cutout" else {}
    pixels = operation(image, *args, *fill, **settings)
    written, _ = _ARGUMENTS[name]
    return contact_sheet.Tile(pixels.numpy(), label, written.format(*args))


def _to_uint8(pixels):
    """Returns float pixels as augmentation takes them: clipped, truncated."""
    return np.clip(pixels.numpy(), 0, 255).astype(np.uint8)


def _read(config):
    """Returns (bytes of a JPEG or PNG file, (width, height))."""
    reason = image_encoding.inspect(config.image)
    encoded = None
    if not reason.startswith("dropped:"):
        data = files.read_bytes(config.image)
        encoded, reason = image_encoding.to_lossless(data)
    if encoded is None:
        why = image_encoding.describe_reason(reason)
        raise ValueError(f"--image={config.image} cannot be read: {why}.")
    width, height = Image.open(io.BytesIO(encoded)).size
    if config.small_image and (width, height) != (config.image_size,) * 2:
        raise ValueError(
            f"--image={config.image} has {width} x {height} pixels, and small "
            "images are seen as they are stored, here at image size "
            f"{config.image_size}."
        )
    return encoded, (width, height)


def _introduce(config, stored_size):
    """Returns the paragraphs of the sheet's introduction."""
    name = os.path.basename(config.image)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 3]}..."
    width, height = stored_size
    size = config.image_size
    return (
        f"{name}, {width} x {height} pixels, seen at {size} x {size}.",
        "Each operation of RandAugment, on the evaluation view: M is the "
        "magnitude, beside it stands the argument that it becomes. Signed "
        "arguments are as often negative as positive. What comes from outside "
        "the image is grey.",
    )


def _check_output(path):
    files.check_folder("output", os.path.dirname(path))
    if not files.exists(path):
        return
    head = b""
    if not files.is_dir(path):
        with files.open_file(path, "rb") as file:
            head = file.read(_HEADER_BYTES)
    if b"tEXt" + _KEY.encode() not in head:
        raise ValueError(
            f"--output={path} exists and is no sheet of this command; name "
            "another file."
        )


def _save(sheet, config):
    settings = PngImagePlugin.PngInfo()
    settings.add_text(_KEY, json.dumps(dataclasses.asdict(config)))
    data = io.BytesIO()
    sheet.save(data, "PNG", optimize=True, pnginfo=settings)
    try:
        files.write_bytes(config.output, data.getvalue())
    except OSError as error:
        raise OSError(
            f"--output={config.output} cannot be written: {error.strerror}."
        ) from error


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to look at", flag_values)
    group.string("image", None, "Image file.")
    group.integer(
        "input_image_size",
        None,
        f"Height and width the model sees; none is {_IMAGE_SIZE}, or "
        f"{_SMALL_IMAGE_SIZE} for small images.",
        lower_bound=8,
        upper_bound=2048,
    )
    group.boolean(
        "small_image_model",
        SheetConfig.small_image,
        "See the image as it is stored, with the augmentation of 32x32 images.",
    )
    group.string("output", SheetConfig.output, "PNG file to write.")
    group = command_line.FlagGroup("What to show", flag_values)
    group.list(
        "magnitudes",
        list(map(str, SheetConfig.magnitudes)),
        "Magnitudes of the single operations.",
    )
    group.integer(
        "num_samples",
        SheetConfig.num_samples,
        "Training views.",
        lower_bound=0,
        upper_bound=256,
    )
    group.enum(
        "augment_name",
        SheetConfig.augment,
        sorted(flag_declarations.AUGMENT_NAMES),
        "Augmentation of the training views; v1 is RandAugment.",
    )
    group.integer(
        "randaug_layer",
        SheetConfig.num_layers,
        "RandAugment operations per training view.",
        lower_bound=1,
    )
    group.float(
        "randaug_mag",
        SheetConfig.magnitude,
        "RandAugment magnitude of the training views.",
        lower_bound=0.0,
        upper_bound=data_config.LARGEST_MAGNITUDE,
    )
    group.integer(
        "seed",
        SheetConfig.seed,
        "Seed of the training views.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )


def main(flag_values):
    """Draws the sheet that the flags ask for."""
    try:
        magnitudes = tuple(map(float, flag_values.magnitudes))
    except ValueError as error:
        raise ValueError(
            f"--magnitudes must be numbers. Received: {flag_values.magnitudes}."
        ) from error
    config = SheetConfig(
        image=flag_values.image,
        output=flag_values.output,
        augment=flag_declarations.AUGMENT_NAMES[flag_values.augment_name],
        num_layers=flag_values.randaug_layer,
        magnitude=flag_values.randaug_mag,
        image_size=flag_values.input_image_size,
        small_image=flag_values.small_image_model,
        magnitudes=magnitudes,
        num_samples=flag_values.num_samples,
        seed=flag_values.seed,
    )
    width, height = write(config)
    logging.info("%s: %d x %d pixels", config.output, width, height)


if __name__ == "__main__":
    command_line.run(main, define_flags)
