"""Finds what is wrong with a command before anything slow or lasting.

Errors name the flag and its value.
"""

import dataclasses
import itertools
import os

from absl import logging

from data_prep import files
from data_prep import shards as shards_lib
from efficientnet import checkpoint_names
from noisy_student.data_config import UNLABELED_SPLITS
from noisy_student.flag_declarations import FIXRES_MODE, TRAINING_MODES

_CHECKED_RECORDS = 1000


def check_paths(run):
    """Checks that the files and directories the flags name are there.

    Args:
        run: `flags.RunConfig`.

    Raises:
        ValueError: If a needed flag is missing.
        FileNotFoundError: If a path does not exist.
    """
    train = run.train
    if run.mode in TRAINING_MODES:
        _require_given("model_dir", run.model_dir, run.mode)
        files.check_folder("model_dir", run.model_dir)
        _check_no_pattern("model_dir", run.model_dir)
        check_training_paths(train)
    elif run.mode != "info" or run.weights_path is not None:
        flag = "model_dir" if run.checkpoint is None else "checkpoint"
        require_checkpoint(flag, run.weights_path, run.mode)
    if run.mode == "eval":
        _require_given("label_data_dir", train.data.label_data_dir, run.mode)
    if run.mode == "predict":
        require_directory(_labelling_flag(run), run.labelling.input_dir)
    if run.mode in ("predict", "export"):
        _require_given("output_dir", run.output_dir, run.mode)
    if run.mode == "predict":
        _check_labels(run)
    if run.output_dir is not None:
        files.check_folder("output_dir", run.output_dir)


def _check_labels(run):
    """Refuses labels that would destroy images, or cannot be stored."""
    labelling = run.labelling
    if labelling.reassign and _is_same(labelling.input_dir, run.output_dir):
        raise ValueError(
            f"--output_dir={run.output_dir} holds the shards that "
            "--reassign_label reads: write to another directory."
        )
    try:
        labelling.storage.check_classes(run.train.model.num_classes)
    except ValueError as error:
        raise ValueError(
            f"--num_stored_classes={labelling.storage.num_stored}: {error}"
        ) from error


def _is_same(directory, other):
    return os.path.abspath(directory) == os.path.abspath(other)


def _check_no_pattern(flag, path):
    if found := set("[]*?") & set(path):
        raise ValueError(
            f"--{flag}={path}: TensorFlow takes the name of a directory with "
            f"{' '.join(sorted(found))} for a pattern and loses sight of the "
            "checkpoints in it. Use another name."
        )


def check_training_paths(train):
    """The same for one `config.TrainConfig`."""
    for folder in shards_lib.separate(train.data.label_data_dir or ""):
        require_directory("label_data_dir", folder)
    if train.step.pseudo_labels.unlabeled_ratio:
        for folder in shards_lib.separate(train.data.unlabel_data_dir or ""):
            require_directory("unlabel_data_dir", folder)
    if train.teacher is not None:
        require_checkpoint("teacher_model_path", train.teacher_checkpoint)
    if train.init_checkpoint is not None:
        require_checkpoint("init_model_path", train.init_checkpoint)


def check_data(run):
    """Checks that the records fit the configuration.

    Args:
        run: `flags.RunConfig`.

    Returns:
        The `config.TrainConfig` of `run`, its `num_train_images` counted
        where neither flag nor task gave it, and its `unlabel_split` that of the
        shards there.

    Raises:
        FileNotFoundError: If there are no shards.
        ValueError: If labels are out of range or records malformed.
    """
    train = run.train
    if run.mode in TRAINING_MODES:
        train = check_training_data(train)
    if run.mode in ("train_and_eval", FIXRES_MODE):
        check_labeled(train, train.data.eval_split)
    if run.mode == "eval":
        _check_labeled_images(train)
    if run.mode == "predict":
        _check_labelling_shards(run)
    return train


def _labelling_flag(run):
    """Returns which flag names the images to label."""
    named = run.labelling.input_dir
    if named and named == run.train.data.label_data_dir:
        return "label_data_dir"
    return "unlabel_data_dir"


def _check_labelling_shards(run):
    labelling = run.labelling
    paths = find_shards(
        _labelling_flag(run), labelling.input_dir, labelling.split
    )
    if labelling.num_shards not in (None, len(paths)):
        raise ValueError(
            f"--num_shards={labelling.num_shards}: there are {len(paths)} "
            f"shards {labelling.split}-* in {labelling.input_dir}."
        )


def _check_labeled_images(train):
    """Checks the labels of shards; other sources are checked when opened."""
    from noisy_student import labeled_images

    if labeled_images.is_shards(train.data.label_data_dir):
        check_labeled(train, train.data.eval_split)


def check_training_data(train):
    """The same for the training shards of one `config.TrainConfig`."""
    from data_prep import records

    check_labeled(train, train.data.train_split)
    _check_num_train_shards(train.data)
    pseudo = train.step.pseudo_labels
    if pseudo.unlabeled_ratio:
        train = _with_unlabel_split(train)
        directory, split = train.data.unlabel_data_dir, train.data.unlabel_split
        unlabeled = find_shards("unlabel_data_dir", directory, split)
        if not pseudo.online:
            _check_records(
                "unlabel_data_dir",
                train,
                directory,
                unlabeled,
                lambda serialized: _checked_pseudo_label(train, serialized),
            )
        elif _stores_labels(unlabeled[0]):
            logging.warning(
                "--teacher_model_name=%s labels inside the step: the labels "
                "stored in --unlabel_data_dir=%s are ignored. Leave the "
                "teacher out to train on them.",
                train.teacher.model_name,
                directory,
            )
    if train.num_train_images is None:
        _, counts = records.count_shards(
            train.data.label_data_dir, train.data.train_split
        )
        count = sum(counts[: train.data.num_train_shards])
        if not count:
            raise ValueError(
                f"--label_data_dir={train.data.label_data_dir}: no records in "
                f"{train.data.train_split}-*."
            )
        train = dataclasses.replace(train, num_train_images=count)
    return train


def _with_unlabel_split(train):
    """Returns the settings with the names that unlabeled shards have."""
    data = train.data
    if data.unlabel_split != UNLABELED_SPLITS:
        return train
    with files.naming(
        f"--unlabel_data_dir={data.unlabel_data_dir}, no --file_prefix"
    ):
        split = shards_lib.add_tasks(data.unlabel_data_dir, data.unlabel_split)
    data = dataclasses.replace(data, unlabel_split=split)
    return dataclasses.replace(train, data=data)


def _check_num_train_shards(data):
    paths = find_shards("label_data_dir", data.label_data_dir, data.train_split)
    if data.num_train_shards is not None and data.num_train_shards > len(paths):
        raise ValueError(
            f"--num_train_shards={data.num_train_shards}: there are "
            f"{len(paths)} shards {data.train_split}-* in "
            f"--label_data_dir={data.label_data_dir}."
        )


def _stores_labels(path):
    """Returns whether the first record of a shard has a teacher's labels."""
    from data_prep import records

    first = next(iter(records.read_records(path)), None)
    return first is not None and records.stores_probs(first)


def check_labeled(train, split):
    """Checks the labels of a split."""
    directory = train.data.label_data_dir
    paths = find_shards("label_data_dir", directory, split)
    classes = train.model.num_classes
    manifest = shards_lib.read_manifest(directory, split)
    if manifest is not None:
        if manifest.label_min is None:
            raise ValueError(
                f"--label_data_dir={directory}: no labels in {split}-*."
            )
        if manifest.num_classes not in (None, classes):
            raise ValueError(
                f"--num_label_classes={classes} does not fit the records: "
                f"{os.path.join(directory, split)}-* has "
                f"{manifest.num_classes} classes."
            )
        # The manifest knows the range of all labels.
        _check_label_range(directory, split, manifest.label_min, classes)
        _check_label_range(directory, split, manifest.label_max, classes)
        if manifest.label_max < classes:
            logging.warning(
                "--num_label_classes=%d: the largest label of %s-* is %d, so "
                "that the classes beyond it have no image there.",
                classes,
                os.path.join(directory, split),
                manifest.label_max,
            )
        return

    from data_prep import records

    def check(serialized):
        label = int(records.parse_labeled(serialized)["label"])
        _check_label_range(directory, split, label, classes)

    _check_records("label_data_dir", train, directory, paths, check)


def _check_label_range(directory, split, label, num_classes):
    if not 1 <= label <= num_classes:
        raise ValueError(
            f"--num_label_classes={num_classes} does not fit the records: "
            f"{os.path.join(directory, split)}-* holds the label {label}; "
            f"labels are stored as 1 to {num_classes}."
        )


def _checked_pseudo_label(train, serialized):
    from data_prep import records

    classes = train.model.num_classes
    label = int(records.parse_pseudo_labeled(serialized, classes)["label"])
    if not 0 <= label < classes:
        raise ValueError(f"the pseudo label {label} is not below {classes}.")


def _check_records(flag, train, directory, paths, check):
    """Calls `check` on the first records, naming the file where it fails.

    As many may fail as the run may leave out.
    """
    import tensorflow as tf

    from data_prep import records
    from noisy_student import damaged_records, labeled_images

    first = itertools.islice(records.read_records(paths[0]), _CHECKED_RECORDS)
    problems = []
    for index, serialized in enumerate(first):
        try:
            check(serialized)
        except tf.errors.InvalidArgumentError as error:
            cause = labeled_images.first_cause(error)
            problems.append(
                f"record {index} does not have the fields needed: {cause}."
            )
        except ValueError as error:
            problems.append(f"record {index}: {error}")
    if not problems:
        return
    # Counted only now: without a manifest it takes a look at every record.
    num_records = sum(map(records.count_records, paths))
    fraction = train.data.max_damaged_fraction
    allowed = damaged_records.num_allowed(fraction, num_records)
    if len(problems) > allowed:
        raise ValueError(
            f"--{flag}={directory}: {paths[0]!r}, {problems[0]} "
            f"--max_damaged_fraction={fraction:g} leaves out {allowed} of the "
            "records at most."
        )


def find_shards(flag, directory, split):
    """Returns the shards of a split; an error names the flag."""
    with files.naming(f"--{flag}={directory}"):
        return shards_lib.list_shards(directory, split)


def _require_given(flag, value, mode):
    if not value:
        raise ValueError(f"--{flag} is needed for --mode={mode}.")


def require_directory(flag, path):
    """Raises an error that names the flag unless `path` is a directory."""
    if not path:
        raise ValueError(f"--{flag} is needed: a directory of shards.")
    if not files.is_dir(path):
        raise FileNotFoundError(f"--{flag}={path}: no such directory.")


def require_run_dir(model_dir):
    """Raises an error unless `--follow` has a run directory to look into."""
    _require_given("model_dir", model_dir, "eval")
    files.check_folder("model_dir", model_dir)


def require_checkpoint(flag, path, mode=None):
    """Raises an error that names the flag unless a checkpoint is there."""
    if not path:
        raise ValueError(
            f"--{flag} is needed{f' for --mode={mode}' if mode else ''}: a "
            "checkpoint or a run directory."
        )
    if not has_checkpoint(path):
        raise FileNotFoundError(
            f"--{flag}={path}: no checkpoint there; wanted a run directory, a "
            "prefix without .index, or a .tar.gz."
        )


def has_checkpoint(path):
    """Returns whether a run, a prefix or an archive with weights is there."""
    if checkpoint_names.is_archive(path):
        return files.exists(path)
    return files.exists(path + checkpoint_names.INDEX_SUFFIX) or any(
        map(checkpoint_names.is_index, files.list_names(path))
    )
