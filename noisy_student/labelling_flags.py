"""What the flags of labelling, and those of old scripts, ask for.

Part of `flags.py`.

Source: noisystudent `predict_label.py`.
"""

from absl import logging

from noisy_student import flag_declarations_labelling
from noisy_student.labelling_config import LabellingConfig


def warn_of_legacy_flags(flag_values):
    """Names the given flags that only scripts of the original code need."""
    given = [
        f"--{name}"
        for name in flag_declarations_labelling.LEGACY_NO_EFFECT
        if not flag_values[name].using_default_value
    ]
    if given:
        logging.warning(
            "Accepted for old scripts, without effect: %s.", ", ".join(given)
        )


def checkpoint(values):
    """Returns the checkpoint that is asked for; None takes the latest."""
    predicted = values.predict_ckpt_path or None
    if values.mode != "predict" or predicted is None:
        return values.checkpoint
    if values.checkpoint not in (None, predicted):
        raise ValueError(
            f"--checkpoint={values.checkpoint} and --predict_ckpt_path="
            f"{predicted} say the same: give one of them."
        )
    return predicted


def labelling_config(values):
    """Returns the `LabellingConfig` of flag values.

    The original names the images by `--label_data_dir`.
    """
    labeled, unlabeled = values.label_data_dir, values.unlabel_data_dir
    both = labeled and unlabeled and labeled != unlabeled
    if values.mode == "predict" and both:
        raise ValueError(
            "--mode=predict labels one directory: give --unlabel_data_dir or, "
            "as the original code, --label_data_dir. Received: "
            f"{unlabeled} and {labeled}."
        )
    reassign = values.reassign_label
    # Its defaults hold as soon as one of the two is given.
    some = not (
        values.given("shard_id") is None and values.given("num_shards") is None
    )
    return LabellingConfig(
        input_dir=unlabeled or labeled,
        split=_split(values),
        shard_ids=_shard_ids(values.shard_id) if some else None,
        num_shards=values.num_shards if some else None,
        num_workers=1 if reassign else values.total_replicas,
        worker=0 if reassign else values.worker_id,
        reassign=reassign,
        info_dir=values.info_dir or None,
        storage=flag_declarations_labelling.storage(values),
    )


def _split(values):
    # The original's filter has its task in the names of its shards.
    task = values.given("worker_id")
    if values.reassign_label and task is not None:
        return f"{values.file_prefix}-{task}"
    return values.file_prefix


def _shard_ids(text):
    try:
        return tuple(map(int, text.split(",")))
    except ValueError as error:
        raise ValueError(
            "--shard_id must be numbers separated by commas. "
            f"Received: {text!r}."
        ) from error
