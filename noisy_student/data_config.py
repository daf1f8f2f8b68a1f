"""The images of a run: where they come from and how they are noised.

Part of `config.py`, whose names these are for everybody else.
"""

import dataclasses
from typing import Optional

# What unlabeled shards are called where nothing else is said; perhaps with the
# number of a filter's task, which `preflight.check_training_data` looks for.
UNLABELED_SPLITS = "train;extra"
AUGMENTATIONS = ("none", "randaugment", "autoaugment")
# Far beyond any use; arguments of operations overflow somewhere.
LARGEST_MAGNITUDE = 100


def require(condition, name, rule, value):
    """Raises a ValueError that names a setting unless its rule holds."""
    if not condition:
        raise ValueError(f"`{name}` must be {rule}. Received: {value!r}.")


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """The input noise of training images.

    Attributes:
        name: `'none'`, `'randaugment'` or `'autoaugment'`, after the random
            crop and flip.
        num_layers: RandAugment operations per image.
        magnitude: RandAugment magnitude, 10 is the nominal maximum and
            `LARGEST_MAGNITUDE` the largest.
        cutout: Whether RandAugment may draw Cutout.
        random_crop: False trains on the evaluation view (no crop, no flip).
        flip: Whether images are flipped at random.
        fused_decode: Whether only the random crop of a JPEG is decoded; see
            `preprocessing.preprocess_for_train`.
    """

    name: str = "none"
    num_layers: int = 2
    magnitude: float = 27
    cutout: bool = True
    random_crop: bool = True
    flip: bool = True
    fused_decode: bool = True

    def __post_init__(self):
        require(
            self.name in AUGMENTATIONS,
            "augment",
            f"one of {AUGMENTATIONS}",
            self.name,
        )
        require(self.num_layers >= 1, "num_layers", ">= 1", self.num_layers)
        require(
            0 <= self.magnitude <= LARGEST_MAGNITUDE,
            "magnitude",
            f"in [0, {LARGEST_MAGNITUDE}]",
            self.magnitude,
        )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where images come from, and in which order training sees them.

    Attributes:
        label_data_dir: Directory of labeled shards; several are separated by
            semicolons, and those of unlabeled ones, too.
        train_split: Prefix of the labeled training shards.
        num_train_shards: How many of them training reads, the first ones;
            None reads all.
        unlabel_data_dir: Directory of unlabeled or pseudo-labeled shards.
        unlabel_split: Prefix of those shards; of several, separated by
            semicolons, those that are there.
        eval_split: Prefix of the labeled evaluation shards.
        num_eval_images: How many of their images are evaluated, the first
            ones; None takes all.
        shuffle_buffer: Records held for shuffling, per stream.
        cache: Whether training holds all records in memory, encoded, and
            shuffles all of them.
        max_damaged_fraction: Share of a stream's records, in [0, 1], that
            training may leave out because they cannot be used.
    """

    label_data_dir: Optional[str] = None
    train_split: str = "train"
    num_train_shards: Optional[int] = None
    unlabel_data_dir: Optional[str] = None
    unlabel_split: str = "train"
    eval_split: str = "validation"
    num_eval_images: Optional[int] = None
    shuffle_buffer: int = 1024
    cache: bool = False
    max_damaged_fraction: float = 0.001

    def __post_init__(self):
        for name in ("num_train_shards", "num_eval_images"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, ">= 1", value)
        require(
            self.shuffle_buffer >= 1,
            "shuffle_buffer",
            ">= 1",
            self.shuffle_buffer,
        )
        require(
            0 <= self.max_damaged_fraction <= 1,
            "max_damaged_fraction",
            "in [0, 1]",
            self.max_damaged_fraction,
        )
