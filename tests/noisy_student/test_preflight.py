import dataclasses
import logging

import pytest
from absl import flags

from noisy_student import flags as flags_lib
from noisy_student import preflight
from tests.noisy_student import fixtures


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(directory, "train", 10)
    fixtures.write_unlabeled(directory, "extra", 6, num_shards=3)
    return directory


def run_config(*arguments):
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(["program", *arguments])
    return flags_lib.config_from_flags(flag_values)


def with_shards(data_dir, number):
    base = fixtures.train_config(data_dir, num_train_images=None)
    data = dataclasses.replace(base.data, num_train_shards=number)
    return dataclasses.replace(base, data=data)


@pytest.mark.parametrize(("number", "count"), [(None, 10), (1, 5), (2, 10)])
def test_records_are_counted_in_the_shards_that_are_read(
    data_dir, number, count
):
    train = preflight.check_training_data(with_shards(data_dir, number))
    assert train.num_train_images == count


@pytest.mark.parametrize("name", ["run[1]", "run*", "r?n"])
def test_a_run_directory_that_is_a_pattern_is_refused(data_dir, tmp_path, name):
    run = run_config(
        f"--label_data_dir={data_dir}", f"--model_dir={tmp_path / name}"
    )
    with pytest.raises(ValueError, match="--model_dir=.* for a pattern"):
        preflight.check_paths(run)


@pytest.mark.parametrize(("num_classes", "warned"), [(3, False), (5, True)])
def test_classes_without_images_are_told(data_dir, num_classes, warned, caplog):
    base = fixtures.train_config(data_dir)
    model = dataclasses.replace(base.model, num_classes=num_classes)
    train = dataclasses.replace(base, model=model)
    with caplog.at_level(logging.WARNING):
        preflight.check_training_data(train)
    told = "--num_label_classes=5: the largest label of" in caplog.text
    assert told == warned


def test_several_folders_are_one_data_set(data_dir, tmp_path):
    fixtures.write_labeled(tmp_path, "train", 3)
    train = fixtures.train_config(
        f"{data_dir};{tmp_path}", num_train_images=None
    )
    preflight.check_training_paths(train)
    assert preflight.check_training_data(train).num_train_images == 13
    # Where the records have to be counted, too.
    (tmp_path / "train.manifest.json").unlink()
    assert preflight.check_training_data(train).num_train_images == 13
    lost = fixtures.train_config(f"{data_dir};{tmp_path}/lost")
    with pytest.raises(FileNotFoundError, match="lost: no such directory"):
        preflight.check_training_paths(lost)


def test_unlabeled_shards_may_be_called_extra(data_dir, tmp_path):
    split = run_config().train.data.unlabel_split
    fixtures.write_pseudo_labeled(tmp_path, "extra", 4)
    train = fixtures.train_config(data_dir, unlabel_data_dir=tmp_path)
    data = dataclasses.replace(train.data, unlabel_split=split)
    preflight.check_training_data(dataclasses.replace(train, data=data))
    with pytest.raises(FileNotFoundError, match="train-.*-of-"):
        preflight.check_training_data(train)


@pytest.mark.parametrize(
    ("written", "given", "found"),
    [
        (["train-0"], None, "train-0"),
        (["train-1", "extra-12"], None, "extra-12;train-1"),
        (["train", "train-old"], None, "train;extra"),
        (["train", "train-0"], "train-0", "train-0"),
        (["train", "train-0"], "train", "train"),
    ],
)
def test_shards_of_the_original_filters_tasks_are_found(
    data_dir, tmp_path, written, given, found
):
    for name in written:
        fixtures.write_pseudo_labeled(tmp_path, name, 4)
    flag = [] if given is None else [f"--file_prefix={given}"]
    split = run_config(*flag).train.data.unlabel_split
    train = fixtures.train_config(data_dir, unlabel_data_dir=tmp_path)
    data = dataclasses.replace(train.data, unlabel_split=split)
    train = dataclasses.replace(train, data=data)
    assert preflight.check_training_data(train).data.unlabel_split == found


@pytest.mark.parametrize(
    ("written", "kinds"),
    [
        (["train", "train-0"], r"train-\* and train-0-\*"),
        (["train", "extra-0"], r"train-\* and extra-0-\*"),
    ],
)
def test_shards_with_and_without_a_task_are_not_mixed(
    data_dir, tmp_path, written, kinds
):
    for name in written:
        fixtures.write_pseudo_labeled(tmp_path, name, 4)
    split = run_config().train.data.unlabel_split
    train = fixtures.train_config(data_dir, unlabel_data_dir=tmp_path)
    data = dataclasses.replace(train.data, unlabel_split=split)
    with pytest.raises(
        ValueError,
        match=f"--unlabel_data_dir={tmp_path}, no --file_prefix: .* both kinds,"
        f" {kinds}: name the prefix",
    ):
        preflight.check_training_data(dataclasses.replace(train, data=data))


def test_more_training_shards_than_there_are_are_refused(data_dir):
    with pytest.raises(ValueError, match="--num_train_shards=3: there are 2"):
        preflight.check_training_data(with_shards(data_dir, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reassign_label"], "--output_dir=.* holds the shards that --reass"),
        (
            ["--prediction_storage=topk", "--num_stored_classes=1001"],
            "--num_stored_classes=1001: .* must be <= 1000",
        ),
    ],
)
def test_labels_that_cannot_be_written_are_refused(
    data_dir, arguments, message
):
    (data_dir / "model.ckpt.index").touch()
    run = run_config(
        "--mode=predict",
        f"--unlabel_data_dir={data_dir}",
        f"--predict_ckpt_path={data_dir}/model.ckpt",
        f"--output_dir={data_dir}/",
        *arguments,
    )
    with pytest.raises(ValueError, match=message):
        preflight.check_paths(run)


@pytest.mark.parametrize("flag", ["label_data_dir", "unlabel_data_dir"])
def test_labelling_needs_the_shards_that_are_asked_for(data_dir, flag):
    asked = [
        "--mode=predict",
        f"--{flag}={data_dir}",
        "--file_prefix=extra",
        "--shard_id=2",
    ]
    preflight.check_data(run_config(*asked, "--num_shards=3"))
    with pytest.raises(ValueError, match="--num_shards=128: there are 3"):
        preflight.check_data(run_config(*asked))
