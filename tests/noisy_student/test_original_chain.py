"""The original code's chain for SVHN, with its flag lines, on a few images.

Its lines are those of `test_original_scripts.py`. What is changed is size: four
shards instead of 128, tiny networks, few steps, few images of each class; and
the path of the teacher, which is trained here.
"""

import numpy as np
import pytest
from absl import flags

from data_prep import filter_unlabel, records, shards, svhn
from noisy_student import flags as flags_lib
from noisy_student import main as main_lib
from tests.noisy_student import test_original_scripts as original

scipy_io = pytest.importorskip("scipy.io")

SIZES = {"train": 240, "test": 60, "extra": 200}
NUM_SHARDS = 4
NUM_IMAGE = 25
_SMALL = [
    "--width_coefficient=0.2",
    "--depth_coefficient=0.1",
    "--train_batch_size=32",
    "--num_train_images=220",
    "--warmup_epochs=0",
]
_FILTER = [
    "--input_dir=./data/svhn/proc/unlabeled",
    "--file_prefix=extra",
    "--info_dir=./data/svhn/predict//info",
    "--prediction_dir=./data/svhn/predict//predict_label",
    "--prelim_stats_dir=./data/svhn/predict//prelim_stats",
    "--output_dir=./data/svhn/predict//filter_data",
    "--num_shards=128",
    "--min_threshold=0.3",
    "--num_label_classes=10",
    "--task=0",
    "--num_image=53113",
]


def write_mat_files(folder):
    """Writes files like SVHN's; the colour of an image tells its digit."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, count in SIZES.items():
        digits = np.arange(count) % 10
        hues = np.stack([digits % 3, digits // 3 % 3, digits // 5], -1) * 100
        noise = rng.integers(0, 56, (count, 32, 32, 3))
        pixels = (hues[:, None, None] + noise).astype(np.uint8)
        scipy_io.savemat(
            folder / f"{name}_32x32.mat",
            {
                "X": pixels.transpose(1, 2, 3, 0),
                "y": np.where(digits, digits, 10)[:, None],
            },
        )


def call(define_flags, main, arguments):
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    assert flag_values(["program", *arguments])[1:] == []
    main(flag_values)


def run_main(script, *changes, teacher=None):
    """Runs a line of `main.py`; a later flag replaces an earlier one."""
    arguments = [
        word.replace("ckpt/teacher_ckpt/model.ckpt", teacher or "none")
        for word in original.SCRIPTS[script]
    ]
    call(flags_lib.define_flags, main_lib.main, [*arguments, *changes])


def run_filter(only_get_stats):
    for shard_id in reversed(range(NUM_SHARDS)):
        call(
            filter_unlabel.define_flags,
            filter_unlabel.main,
            [
                *_FILTER,
                f"--only_get_stats={only_get_stats}",
                f"--shard_id={shard_id}",
                f"--num_shards={NUM_SHARDS}",
                f"--num_image={NUM_IMAGE}",
                "--selection=binned",
            ],
        )


def train_teacher():
    """Trains what the original downloads; returns its checkpoint."""
    call(
        flags_lib.define_flags,
        main_lib.main,
        [
            "--mode=train",
            "--task_name=svhn",
            "--label_data_dir=data/svhn/proc",
            "--model_dir=ckpt/teacher_ckpt",
            "--train_steps=400",
            "--base_learning_rate=0.03",
            "--moving_average_decay=0.9",
            *_SMALL,
        ],
    )
    return "ckpt/teacher_ckpt/model.ckpt-400"


@pytest.mark.long
def test_the_chain_of_svhn_runs_with_the_originals_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mat_files(tmp_path / "data" / "svhn" / "raw")
    # `prepro.sh`, whose program has other names for its flags.
    call(
        svhn.define_flags,
        svhn.main,
        [
            "--input_dir=data/svhn/raw",
            "--output_dir=data/svhn/proc",
            "--dev_size=20",
            f"--num_shards={NUM_SHARDS}",
        ],
    )
    teacher = train_teacher()

    # `run_svhn.sh` and `predict.sh` look elsewhere than `prepro.sh` writes.
    (tmp_path / "data" / "proc").symlink_to(tmp_path / "data/svhn/proc")
    run_main("run_svhn train", "--train_steps=2", *_SMALL, teacher=teacher)
    run_main("run_svhn eval")
    (tmp_path / "ckpt" / "exp_1").rename(tmp_path / "ckpt" / "online")

    (tmp_path / "data" / "svhn" / "predict").mkdir()
    for path in (tmp_path / "data/svhn/proc/unlabeled").iterdir():
        (tmp_path / "data/svhn/predict" / path.name).symlink_to(path)
    for shard_id in range(NUM_SHARDS):
        shard = [f"--num_shards={NUM_SHARDS}", f"--shard_id={shard_id}"]
        run_main("svhn/predict", *shard, teacher=teacher)
    run_filter(only_get_stats=1)
    run_filter(only_get_stats=0)
    kept = pseudo_labels(tmp_path / "data/svhn/predict/filter_data/data")
    # As many of each class as wanted, on average: the rule rounds at random.
    wanted = NUM_IMAGE * 10
    assert 0.8 * wanted < len(kept) < 1.2 * wanted
    counts = np.bincount([label for _, label, _ in kept], minlength=10)
    assert counts.min() >= 0.5 * NUM_IMAGE
    right = [int(key[-6:]) % 10 == label for key, label, _ in kept]
    assert np.mean(right) > 0.9

    run_main("svhn/svhn_offline train", "--train_steps=2", *_SMALL)
    run_main("svhn/svhn_offline eval")
    for shard_id in range(NUM_SHARDS):
        shard = [f"--num_shards={NUM_SHARDS}", f"--shard_id={shard_id}"]
        run_main("svhn/reassign", *shard, teacher=teacher)
    again = pseudo_labels(tmp_path / "data/svhn/predict/reassign")
    # The same teacher says the same of the same images.
    assert [row[:2] for row in again] == [row[:2] for row in kept]
    for (*_, probs), (*_, others) in zip(again, kept):
        np.testing.assert_allclose(probs, others, atol=1e-5)


def pseudo_labels(folder):
    """Returns (key, label, probabilities) of filtered shards, in order."""
    rows = []
    paths = shards.list_shards(str(folder), "train-0")
    assert len(paths) == NUM_SHARDS
    for path in paths:
        for serialized in records.read_records(path):
            row = records.parse_pseudo_labeled(serialized, 10)
            rows.append(
                (bytes(row["key"].numpy()), int(row["label"]), row["probs"])
            )
    return rows


def parse_filter(shard_id, only_get_stats):
    flag_values = flags.FlagValues()
    filter_unlabel.define_flags(flag_values)
    arguments = [f"--shard_id={shard_id}", f"--only_get_stats={only_get_stats}"]
    flag_values(["program", *_FILTER, *arguments])
    return flag_values


@pytest.mark.parametrize("only_get_stats", [0, 1])
@pytest.mark.parametrize("shard_id", [0, 127])
def test_the_filters_lines_of_128_shards_resolve(shard_id, only_get_stats):
    flag_values = parse_filter(shard_id, only_get_stats)
    config = filter_unlabel.config_from_flags(flag_values)
    assert (config.num_shards, config.shard_id) == (128, shard_id)
    assert config.split == "train-0"
    assert (config.balance.num_image, config.balance.min_threshold) == (
        53113,
        0.3,
    )
    assert flag_values.only_get_stats == only_get_stats


@pytest.mark.parametrize("shard_id", range(128))
def test_the_lines_of_all_128_shards_resolve(shard_id):
    for script in ("svhn/predict", "svhn/reassign"):
        arguments = [
            word.replace("--shard_id=17", f"--shard_id={shard_id}")
            for word in original.SCRIPTS[script]
        ]
        labelling = flags_lib.config_from_flags(
            original.parse(*arguments)
        ).labelling
        assert labelling.shard_ids == (shard_id,)
        assert labelling.num_shards == 128
