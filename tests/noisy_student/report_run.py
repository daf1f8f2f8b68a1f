"""What a small self-training run leaves for its report."""

import copy
import json

import numpy as np

from data_prep import digits, records, shard_writer
from noisy_student import run_dir

NUM_CLASSES = 3
NUM_IMAGES = 80
NAMES = ("<b>ant</b>", "bee", "cat & dog")
ODD_KEY = '"><script>alert(1)</script>'
REPORT = {
    "eval_split": "test",
    "num_classes": NUM_CLASSES,
    "unlabeled": {
        "directory": None,
        "split": "extra",
        "num_images": NUM_IMAGES,
        "truth": None,
    },
    "rounds": [
        {
            "round": 0,
            "role": "teacher",
            "test_top_1": 0.9,
            "num_images": 400,
            "train_steps": 200,
            "seconds": 60.0,
        },
        {
            "round": 1,
            "role": "student",
            "test_top_1": 0.925,
            "num_images": 400,
            "train_steps": 200,
            "seconds": 120.0,
            "pseudo_labels": {
                "num_kept": 60,
                "num_written": 90,
                "coverage": 0.75,
                "accuracy": 0.9875,
                "min_threshold": 0.5,
                "kept_per_class": [30, 30, 0],
                "written_per_class": [45, 45, 0],
            },
        },
    ],
    "made_with": {"python": "3.11.0", "commit": None},
}


def changed(*, top_1=None, **unlabeled):
    """Returns a copy of REPORT with another student, or other images."""
    report = copy.deepcopy(REPORT)
    report["unlabeled"].update(unlabeled)
    if top_1 is not None:
        report["rounds"][-1]["test_top_1"] = top_1
    return report


def confidence(index):
    """Returns the teacher's confidence in image `index`, all different."""
    place = index * 37 % NUM_IMAGES
    # Records hold float32.
    return float(np.float32(0.5 + place / (2 * NUM_IMAGES)))


def label(index):
    return index % 2


def key(index):
    return ODD_KEY if index == 0 else f"image/{index}"


def write_images(directory, split, keys):
    """Writes unlabeled images; those with an odd index go to shard 1."""
    writer = shard_writer.ShardedWriter(
        directory, split, 2, kind="unlabeled", config={}
    )
    for number in writer.pending:
        with writer.open_shard(number) as shard:
            for index in range(number, len(keys), 2):
                image = digits.encode_scan(np.full((8, 8), index % 17))
                shard.write(records.unlabeled_example(image, keys[index]))
    writer.finish()


def write_labels(directory, images_dir, split, keys):
    """Writes predictions for what `write_images` wrote."""
    writer = shard_writer.ShardedWriter(
        directory,
        split,
        2,
        kind="prediction",
        config={"input_dir": str(images_dir)},
    )
    for number in writer.pending:
        with writer.open_shard(number) as shard:
            for index in range(number, len(keys), 2):
                rest = (1 - confidence(index)) / 2
                probs = np.full(NUM_CLASSES, rest)
                probs[label(index)] = confidence(index)
                shard.write(records.prediction_example(probs, keys[index]))
    writer.finish()


def write_metrics(directory, names):
    log = run_dir.MetricsLog(str(directory), start_step=0)
    for step in (100, 200):
        log.write(step, {f"train/{name}": 1 / step for name in names})


def write_config(work_dir, data_dir):
    data = {"label_data_dir": str(data_dir), "train_split": "train"}
    run_dir.claim(work_dir, {"rounds": [{"data": data}], "note": "</pre>"})
    writer = shard_writer.ShardedWriter(
        data_dir,
        "train",
        1,
        kind="labeled",
        config={},
        num_classes=NUM_CLASSES,
        class_names=NAMES,
    )
    with writer.open_shard(0) as shard:
        shard.write(records.labeled_example(b"", 1, "a"), 1)
    writer.finish()


def write(directory):
    """Writes a small run as the loop does.

    Returns:
        (work_dir, report).
    """
    data_dir, work_dir = directory / "data", directory / "work"
    keys = [key(i) for i in range(NUM_IMAGES)]
    write_images(data_dir, "extra", keys)
    write_labels(work_dir / "round_1" / "labels", data_dir, "extra", keys)
    write_metrics(
        work_dir / "round_0" / "model", ("labeled_loss", "labeled_accuracy")
    )
    write_metrics(
        work_dir / "round_1" / "model",
        (
            "labeled_loss",
            "labeled_accuracy",
            "unlabeled_loss",
            "unlabeled_agreement",
        ),
    )
    # Every tenth label is wrong, the two of images 0 and 10 among them.
    truth = {key(i): label(i) + (i % 10 == 0) for i in range(NUM_IMAGES)}
    truth_path = directory / "truth.json"
    truth_path.write_text(json.dumps(truth))
    report = changed(directory=str(data_dir), truth=str(truth_path))
    return str(work_dir), report
