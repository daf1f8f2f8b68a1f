"""The flags that describe images and networks; see `flag_declarations.py`."""

from data_prep import command_line
from efficientnet import config as efficientnet_config
from noisy_student import config as config_lib
from noisy_student import tasks


def define_data_flags(flag_values):
    """Declares the flags that say which images a run sees."""
    group = command_line.FlagGroup("Data", flag_values)
    group.string(
        "preset",
        None,
        "Named recipe, or a .json file of flag values; explicit flags "
        "override it.",
    )
    group.enum(
        "task_name",
        "imagenet",
        sorted(tasks.TASKS),
        "Dataset; it sets image statistics, sizes and splits.",
    )
    group.string(
        "label_data_dir",
        None,
        "Directory of the labeled shards, several are separated by semicolons; "
        "to evaluate, also a folder of class folders, a text file of paths "
        "and labels, or tfds:NAME.",
    )
    group.string(
        "unlabel_data_dir",
        "",
        "Directory of the unlabeled or pseudo-labeled shards; to train also "
        "several, separated by semicolons.",
    )
    group.string(
        "file_prefix",
        "train",
        "Prefix of the unlabeled shards' names; without this flag training "
        "takes those of train and of extra, or of tasks of the original's "
        "filter, such as train-0.",
    )
    group.string(
        "eval_split",
        None,
        "Prefix of the shards to evaluate, or a split of tfds:NAME; none takes "
        "the task's.",
    )
    group.integer(
        "num_label_classes", 1000, "Number of classes.", lower_bound=2
    )
    group.integer(
        "num_train_images",
        None,
        "Labeled images per epoch; none takes the task's number or counts "
        "the records.",
        lower_bound=1,
    )
    group.integer(
        "num_train_shards",
        None,
        "Train on that many of the labeled shards, the first ones; epochs "
        "keep num_train_images.",
        lower_bound=1,
    )
    group.integer(
        "num_eval_images",
        None,
        "Evaluate that many images, the first ones, of any split but test; "
        "none takes all.",
        lower_bound=1,
    )
    group.integer(
        "num_test_images",
        None,
        "The same of the split test.",
        lower_bound=1,
    )
    group.integer(
        "shuffle_buffer",
        1024,
        "Records held in memory to shuffle each stream.",
        lower_bound=1,
    )
    group.boolean(
        "use_cache",
        False,
        "Hold all training records in memory, and shuffle all of them.",
    )
    group.float(
        "max_damaged_fraction",
        0.001,
        "Share of the training records that may be left out as damaged; each "
        "is reported.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    group.boolean(
        "fused_decode",
        None,
        "Decode only the part of a JPEG that is looked at, faster and a "
        "little different near its edges; none does in training alone.",
    )


def define_model_flags(flag_values):
    """Declares the flags that say which network looks at them."""
    group = command_line.FlagGroup("Model", flag_values)
    group.enum(
        "model_name",
        "efficientnet-b0",
        efficientnet_config.MODEL_NAMES,
        "Network to train, evaluate or label with.",
    )
    group.integer(
        "input_image_size",
        None,
        "Input height and width in pixels; none takes the task's or the "
        "model's, which may be larger for evaluation than for training.",
        lower_bound=8,
    )
    group.float(
        "width_coefficient",
        None,
        "Multiplies the number of filters; none takes the model's.",
        lower_bound=0.01,
    )
    group.float(
        "depth_coefficient",
        None,
        "Multiplies the number of blocks; none takes the model's.",
        lower_bound=0.01,
    )
    group.boolean(
        "small_image_model",
        False,
        "Use the variant for 32x32 images, on images as they are stored.",
    )
    group.integer(
        "num_shards_per_group",
        -1,
        "Replicas that share batch norm statistics: a number, -2 for all, -1 "
        "for each alone up to 8 and groups of an eighth of them beyond.",
        lower_bound=-2,
    )
    group.enum(
        "crop_padding",
        "32",
        config_lib.CROP_PADDINGS,
        "Evaluate the centre, size / (size + padding) of the shorter side; "
        "proportional pads by a seventh of the size.",
    )
    group.boolean(
        "advprop_preprocessing",
        False,
        "Scale pixels to [-1, 1], as AdvProp's checkpoints need.",
    )
