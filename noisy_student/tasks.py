"""Facts about the datasets the original code and this one know by name."""

import dataclasses
from typing import Optional

IMAGENET_MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)
SVHN_MEAN_RGB = (0.4376821 * 255, 0.4437697 * 255, 0.47280442 * 255)
SVHN_STDDEV_RGB = (0.19803012 * 255, 0.20101562 * 255, 0.19703614 * 255)


@dataclasses.dataclass(frozen=True)
class Task:
    """What follows from the choice of a dataset.

    Attributes:
        num_train_images: Labeled images per epoch; None counts the records.
        num_classes: Number of classes; None leaves it to the flag.
        image_size: Height and width in pixels; None asks the model's row.
        small_image: Whether images are used as they are, 32x32 or so.
        flip: Whether a mirrored image keeps its label.
        eval_split: Prefix of the labeled evaluation shards.
        mean_rgb: Per-channel mean, 0-255.
        stddev_rgb: Per-channel standard deviation, 0-255.
    """

    num_train_images: Optional[int] = None
    num_classes: Optional[int] = None
    image_size: Optional[int] = None
    small_image: bool = False
    flip: bool = True
    eval_split: str = "validation"
    mean_rgb: tuple = IMAGENET_MEAN_RGB
    stddev_rgb: tuple = IMAGENET_STDDEV_RGB


TASKS = {
    "imagenet": Task(num_train_images=1281167),
    "svhn": Task(
        num_train_images=69257,
        num_classes=10,
        image_size=32,
        small_image=True,
        flip=False,
        eval_split="test",
        mean_rgb=SVHN_MEAN_RGB,
        stddev_rgb=SVHN_STDDEV_RGB,
    ),
    "cifar10": Task(
        num_classes=10, image_size=32, small_image=True, eval_split="test"
    ),
    "digits": Task(
        num_classes=10,
        image_size=32,
        small_image=True,
        flip=False,
        eval_split="test",
    ),
    "custom": Task(),
}


def get_task(name):
    """Returns the `Task` of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in TASKS:
        raise ValueError(
            f"`task_name` must be one of {sorted(TASKS)}. Received: {name!r}."
        )
    return TASKS[name]
