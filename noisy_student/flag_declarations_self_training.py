"""The flags of the self-training loop that no training run has.

Part of `self_training.py`, which reads them.
"""

from data_prep import command_line
from noisy_student import chains


def define_self_training_flags(flag_values):
    """Declares what the loop does around its training runs."""
    group = command_line.FlagGroup("Self-training", flag_values)
    group.string("work_dir", None, "Directory of everything the loop makes.")
    group.enum(
        "chain",
        None,
        sorted(chains.CHAINS),
        "Recipes of the first teacher and of all students; the flags below "
        "override them.",
    )
    group.integer(
        "rounds",
        2,
        "Number of students; that of --chain, where one is given.",
        lower_bound=1,
    )
    group.string(
        "teacher_preset",
        None,
        "Recipe of the first teacher; none takes --preset.",
    )
    group.list(
        "student_preset",
        [],
        "Recipes of the students, one for all rounds or one per round, "
        "separated by commas; none takes --preset.",
    )
    group.string(
        "fixres_preset",
        None,
        "Recipe of --mode=fixres_finetune, for the last student; none takes "
        "that of --chain, an empty one tunes nothing.",
    )
    group.string(
        "teacher_model_path",
        None,
        "Checkpoint or run directory of a teacher you have; none trains one.",
    )
    group.string(
        "filter_teacher",
        None,
        "Checkpoint of a teacher that filters once; each round relabels what "
        "it kept. None filters in every round.",
    )
    group.float(
        "min_threshold",
        0.3,
        "Least confidence of a kept pseudo label.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    group.integer(
        "num_image", 130000, "Images per class after balancing.", lower_bound=1
    )
    group.boolean(
        "upsample", True, "Fill classes that have fewer images with copies."
    )
    group.enum(
        "selection",
        "exact",
        ["exact", "binned"],
        "Keep exactly the most confident images (the paper) or the original "
        "code's approximation.",
    )
    group.string(
        "unlabel_truth",
        None,
        "JSON file of the unlabeled images' labels, for the report only.",
    )
    _define_plan_flags(group)


def _define_plan_flags(group):
    group.boolean(
        "dry_run",
        False,
        "Print the stages, their steps, images, storage and device-hours, and "
        "run nothing.",
    )
    group.integer(
        "planned_images",
        None,
        "Unlabeled images that the plan reckons with; none counts those of "
        "unlabel_data_dir.",
        lower_bound=1,
    )
    group.integer(
        "planned_image_bytes",
        100000,
        "Bytes of one of these planned_images.",
        lower_bound=1,
    )
