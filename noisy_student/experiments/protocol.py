"""The images of the experiments: how many of each kind, and how chosen."""

import dataclasses

from data_prep import cifar10


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How many images there are of each kind, and how labels are chosen.

    Attributes:
        num_labeled: Images that keep their labels.
        dev_size: Training images held out for the choice of recipes.
        num_shards: Shards that the images lie in.
        selections: {name: flags of `data_prep.filter_unlabel`}.
        train_flags: Flags that override those of every arm that is trained.
        tune_flags: Those of every arm that is tuned.
    """

    num_labeled: int
    dev_size: int
    num_shards: int
    selections: dict
    train_flags: dict = dataclasses.field(default_factory=dict)
    tune_flags: dict = dataclasses.field(default_factory=dict)


# Of 25,000 training images about 20,000 are unlabeled, 2,000 of each class.
FULL = Protocol(
    num_labeled=2500,
    dev_size=2500,
    num_shards=8,
    selections={
        # The paper's rule: the most confident of each class, copies of those
        # of classes that have fewer.
        "balanced": {"num_image": 2000, "min_threshold": 0.3},
        "unbalanced": {
            "num_image": 20000,
            "min_threshold": 0.3,
            "upsample": 0,
        },
        "quarter": {
            "num_image": 500,
            "min_threshold": 0.3,
            "only_use_num_shards": 2,
        },
        # Unlabeled images of three classes under seven labels.
        "out_of_domain": {"num_image": 1000, "min_threshold": 0.3},
    },
)
# To see that everything runs.
SMOKE = Protocol(
    num_labeled=40,
    dev_size=40,
    num_shards=4,
    selections={
        name: {**flags, "num_image": 20, "min_threshold": 0}
        for name, flags in FULL.selections.items()
    },
    train_flags={
        "train_steps": 2,
        "train_batch_size": 4,
        "warmup_epochs": 0,
        "width_coefficient": 0.1,
        "depth_coefficient": 0.1,
    },
    tune_flags={"train_steps": 20, "train_batch_size": 20, "warmup_epochs": 0},
)

# Flags of `data_prep.divide`. The last three classes by name, of which there
# are unlabeled images only, and of the others none.
DATA = {
    "all_classes": {},
    "seven_classes": {
        "labeled_classes": cifar10.CLASS_NAMES[:7],
        "unlabeled_classes": cifar10.CLASS_NAMES[7:],
    },
}
