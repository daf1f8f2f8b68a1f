"""Makes ImageNet-C, or ImageNet-P, of one's own images.

    python -m noisy_student.robustness.corruptions --input=photos/test \
        --image_size=224 --output_dir=photos-c

The output has the layout of the released sets: a folder for each corruption,
in it one for each severity, in it the class folders. A run that is killed goes
on, a finished one does nothing, and further corruptions may be added later.
Images are what `--label_data_dir` of evaluations takes, too.

Source:
    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", ICLR 2019; github.com/hendrycks/robustness
    (Apache-2.0). What differs is told in `docs/corruptions.md`.
"""

import dataclasses
from typing import Optional

from absl import logging

from data_prep import command_line, files, source_writer
from noisy_student import image_places
from noisy_student.robustness import corrupted_layout
from noisy_student.robustness.distortions.distort import (
    CORRUPTIONS,
    EXTRA_CORRUPTIONS,
    PERTURBATIONS,
    SMALLEST_SIDE,
    check_name,
    check_severity,
    corrupt,
    load,
    perturb,
)
from noisy_student.robustness.distortions.severities import NUM_SEVERITIES

__all__ = [
    "CORRUPTIONS",
    "EXTRA_CORRUPTIONS",
    "PERTURBATIONS",
    "CorruptionsConfig",
    "corrupt",
    "perturb",
    "write",
]

_KINDS = ("corruptions", "perturbations")
# Flags that only some runs read: which other flag decides, and its value then.
_READ_WITH = {
    "corruptions": ("what", "corruptions"),
    "severities": ("what", "corruptions"),
    "frost_textures": ("what", "corruptions"),
    "perturbations": ("what", "perturbations"),
    "jpeg_quality": ("format", "jpeg"),
}


@dataclasses.dataclass(frozen=True)
class CorruptionsConfig:
    """What to corrupt, how, and where the result goes.

    Attributes:
        input: A directory of shards, an image folder, a list of images, or
            `tfds:NAME`.
        output_dir: Folder of the corruptions.
        what: `'corruptions'` or `'perturbations'`.
        corruptions: Names, of `CORRUPTIONS` and `EXTRA_CORRUPTIONS`.
        severities: Numbers in 1..5.
        perturbations: Names, of `PERTURBATIONS`.
        eval_split: Prefix of the shards, or the split of a tfds data set.
        num_classes: Number of classes; None is what the input says.
        num_images: Images to take, evenly spread over all; None takes all.
        image_size: Side in pixels to which images are resized and cropped
            before; None keeps their pixels.
        format: `'jpeg'` or `'png'`.
        jpeg_quality: 1 to 95.
        frost_textures: Folder of photographs of ice, or None.
        seed: Of all that is left to chance.
    """

    input: str
    output_dir: str
    what: str = "corruptions"
    corruptions: tuple = CORRUPTIONS
    severities: tuple = tuple(range(1, NUM_SEVERITIES + 1))
    perturbations: tuple = PERTURBATIONS
    eval_split: str = "validation"
    num_classes: Optional[int] = None
    num_images: Optional[int] = None
    image_size: Optional[int] = None
    format: str = "jpeg"
    jpeg_quality: int = 85
    frost_textures: Optional[str] = None
    seed: int = 0

    def __post_init__(self):
        source_writer.check_needed(self, "input", "output_dir")
        for name in self.corruptions:
            check_name(name, CORRUPTIONS + EXTRA_CORRUPTIONS, "corruption")
        for name in self.perturbations:
            check_name(name, PERTURBATIONS, "perturbation")
        for severity in self.severities:
            check_severity(severity)
        for name in ("corruptions", "severities", "perturbations"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"`{name}` must be one or more different values. "
                    f"Received: {', '.join(map(str, values)) or 'none'}."
                )
        if self.what not in _KINDS:
            raise ValueError(
                f"`what` must be one of {_KINDS}. Received: {self.what!r}."
            )
        if self.format not in corrupted_layout.EXTENSIONS:
            raise ValueError(
                f"`format` must be one of {tuple(corrupted_layout.EXTENSIONS)}."
                f" Received: {self.format!r}."
            )
        if self.image_size is not None and self.image_size < SMALLEST_SIDE:
            raise ValueError(
                f"`image_size` must be >= {SMALLEST_SIDE}. Received: "
                f"{self.image_size}."
            )

    def settings(self):
        """Returns what the bytes of each file depend on, a JSON-able dict."""
        textures = None
        if self.frost_textures:
            folder = load("frost_textures")
            textures = files.fingerprint(folder.paths(self.frost_textures))
        return {
            "what": self.what,
            "input": image_places.absolute(self.input),
            "eval_split": self.eval_split,
            "num_classes": self.num_classes,
            "num_images": self.num_images,
            "image_size": self.image_size,
            "format": self.format,
            "jpeg_quality": self.jpeg_quality
            if self.format == "jpeg"
            else None,
            "frost_textures": textures,
            "seed": self.seed,
        }


def write(config):
    """Writes all parts that are not there; see the module's docstring.

    Args:
        config: `CorruptionsConfig`.

    Returns:
        (number of parts, how many of them were written now).

    Raises:
        FileNotFoundError: The input, or a folder of textures, is not there.
        ValueError: The output folder holds something else, an image cannot be
            corrupted, or SciPy is missing.
    """
    files.check_folder("output_dir", config.output_dir)
    settings = config.settings()
    files.check_settings(config.output_dir, settings)
    parts = _list_parts(config)
    pending = corrupted_layout.find_pending(config.output_dir, parts)
    if pending:
        textures = load("frost_textures").read(config.frost_textures)
        # Imported here, so that wrong flags and finished runs need no
        # TensorFlow.
        from noisy_student.robustness import corrupted_folders

        corrupted_folders.write(config, parts, settings, textures)
    return len(parts), len(pending)


def _list_parts(config):
    """Returns the parts in the order of the flags, a list."""
    if config.what == "perturbations":
        return [corrupted_layout.Part(name) for name in config.perturbations]
    return [
        corrupted_layout.Part(name, severity)
        for name in config.corruptions
        for severity in config.severities
    ]


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("Images", flag_values)
    group.string(
        "input",
        None,
        "Image folder with class folders, directory of shards, list of images, "
        "or tfds:NAME.",
    )
    group.string(
        "eval_split",
        CorruptionsConfig.eval_split,
        "Prefix of the shards, or the split of a tfds data set.",
    )
    group.integer(
        "num_classes",
        None,
        "Number of classes; none is what the input says. A list needs it.",
        lower_bound=1,
    )
    group.integer(
        "num_images",
        None,
        "Images to take, evenly spread over all; none takes all.",
        lower_bound=1,
    )
    group.integer(
        "image_size",
        None,
        "Resize the shorter side to 256 / 224 of this many pixels and crop the "
        "middle, as the released sets (224, 299) were; none keeps the pixels.",
        lower_bound=SMALLEST_SIDE,
    )
    group = command_line.FlagGroup("What to do with them", flag_values)
    group.enum(
        "what",
        CorruptionsConfig.what,
        _KINDS,
        "Single corrupted images, or sequences of frames.",
    )
    group.list(
        "corruptions",
        list(CORRUPTIONS),
        "Names; there are also " + ", ".join(EXTRA_CORRUPTIONS) + ".",
    )
    group.list(
        "severities",
        list(map(str, CorruptionsConfig.severities)),
        f"Of the corruptions, 1 to {NUM_SEVERITIES}.",
    )
    group.list("perturbations", list(PERTURBATIONS), "Names of sequences.")
    group.string(
        "frost_textures",
        None,
        "Folder of photographs of ice for frost; none draws ice.",
    )
    group.integer(
        "seed",
        CorruptionsConfig.seed,
        "Of all that is left to chance.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )
    _define_output_flags(flag_values)


def _define_output_flags(flag_values):
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder of the corruptions.")
    group.enum(
        "format",
        CorruptionsConfig.format,
        list(corrupted_layout.EXTENSIONS),
        "Files to write; png keeps the pixels, the released sets are jpeg.",
    )
    group.integer(
        "jpeg_quality",
        CorruptionsConfig.jpeg_quality,
        "Of JPEG files.",
        lower_bound=1,
        upper_bound=95,
    )


def config_from_flags(flag_values):
    """Returns the `CorruptionsConfig` that flags describe.

    Raises:
        ValueError: If a flag is given that would not be read, or has a wrong
            value.
    """
    for name, (other, value) in _READ_WITH.items():
        found = flag_values[other].value
        if flag_values[name].present and found != value:
            raise ValueError(
                f"--{name} is of --{other}={value}, not of {found}."
            )
    try:
        severities = tuple(map(int, flag_values.severities))
    except ValueError as error:
        raise ValueError(
            f"--severities must be numbers. Received: {flag_values.severities}."
        ) from error
    lists = {
        "corruptions": tuple(flag_values.corruptions),
        "severities": severities,
        "perturbations": tuple(flag_values.perturbations),
    }
    others = {
        field.name: flag_values[field.name].value
        for field in dataclasses.fields(CorruptionsConfig)
        if field.name not in lists
    }
    return CorruptionsConfig(**lists, **others)


def main(flag_values):
    """Makes what the flags ask for."""
    config = config_from_flags(flag_values)
    num_parts, num_written = write(config)
    logging.info(
        "%s: %d parts, %d of them written now.",
        config.output_dir,
        num_parts,
        num_written,
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)
