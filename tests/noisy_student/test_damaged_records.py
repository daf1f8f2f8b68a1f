import dataclasses
import json
import logging
import os

import numpy as np
import pytest
import tensorflow as tf

from data_prep import records, shards
from noisy_student import damaged_records, input_pipeline, models, train_loop
from tests.noisy_student import fixtures, tiny_run

pytestmark = pytest.mark.slow

SIZE = 24
BATCH = 4


def jpeg(height, width):
    pixels = np.random.default_rng(height).integers(0, 255, (height, width, 3))
    return tf.io.encode_jpeg(pixels.astype(np.uint8)).numpy()


def without_label(image_bytes):
    return records.unlabeled_example(image_bytes, "key")


def labeled(image_bytes, label=1):
    return records.labeled_example(image_bytes, label, "key")


# Payload -> reason it is left out for; None where it is used.
PAYLOADS = {
    "photo": (labeled(jpeg(60, 50)), None),
    "png": (labeled(fixtures.image_bytes(0, 0)), None),
    "one pixel": (labeled(jpeg(1, 1)), None),
    "stripe": (labeled(jpeg(20000, 10)), None),
    "truncated": (labeled(jpeg(60, 50)[:2000]), "undecodable"),
    "cut in its header": (labeled(jpeg(60, 50)[:100]), "undecodable"),
    "empty": (labeled(b""), "empty"),
    "zeros": (labeled(bytes(300)), "not_image"),
    "text": (labeled(b"no image at all"), "not_image"),
    "no label": (without_label(jpeg(60, 50)), "wrong_schema"),
    "label out of range": (labeled(jpeg(60, 50), 4), "wrong_schema"),
    "no example": (b"\xff\xff\xff", "wrong_schema"),
    "no image": (
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    records.LABEL: tf.train.Feature(
                        int64_list=tf.train.Int64List(value=[1])
                    )
                }
            )
        ).SerializeToString(),
        "wrong_schema",
    ),
}
BAD = {name: reason for name, (_, reason) in PAYLOADS.items() if reason}
MIXED = ("truncated", "no label", "empty", "zeros", "no example")


def write(directory, names, num_shards=2):
    """Writes records of `PAYLOADS`; the i-th is i // num_shards of a shard."""
    for shard in range(num_shards):
        path = directory / f"train-{shard:05d}-of-{num_shards:05d}"
        with tf.io.TFRecordWriter(str(path)) as out:
            for name in names[shard::num_shards]:
                out.write(PAYLOADS[name][0])


def make_config(directory, max_fraction, **changes):
    base = fixtures.train_config(directory, **changes)
    return dataclasses.replace(
        base,
        model=dataclasses.replace(
            base.model, small_image=False, image_size=SIZE
        ),
        data=dataclasses.replace(
            base.data, max_damaged_fraction=max_fraction, shuffle_buffer=8
        ),
    )


def take(dataset, number):
    return list(dataset.take(number).as_numpy_iterator())


def read_account(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", sorted(set(PAYLOADS) - set(BAD)))
def test_unusual_images_are_used(tmp_path, name):
    write(tmp_path, [name] * 6)
    (batch,) = take(input_pipeline.train_batches(make_config(tmp_path, 0)), 1)
    assert batch["labeled_images"].shape == (BATCH, SIZE, SIZE, 3)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Five damaged records among forty, and the run that met them."""
    directory = tmp_path_factory.mktemp("mixed")
    names = ["photo"] * 40
    for place, name in zip((3, 9, 10, 25, 39), MIXED):
        names[place] = name
    write(directory, names)
    config = make_config(directory, 0.2)
    log = damaged_records.DamageLog(str(directory))
    batches = take(input_pipeline.train_batches(config, damage=log), 26)
    return directory, config, batches, names


def test_damaged_records_are_left_out_and_counted_by_reason(mixed):
    directory, _, _, names = mixed
    account = read_account(directory / "damaged_labeled.jsonl")
    found = {
        (int(line["shard"][-14:-9]), line["record"]): line["reason"]
        for line in account
    }
    bad = {place: name for place, name in enumerate(names) if name in BAD}
    assert found == {
        (place % 2, place // 2): BAD[name] for place, name in bad.items()
    }
    # Three epochs of 35 images, and what was read ahead.
    positions = [line["position"] for line in account]
    assert positions == sorted(set(positions))
    assert [p // 40 for p in positions[:10]] == [0] * 5 + [1] * 5


def test_no_usable_image_of_an_epoch_is_lost_or_repeated(tmp_path):
    # Brightness tells the images apart.
    with tf.io.TFRecordWriter(str(tmp_path / "train-00000-of-00001")) as out:
        for i in range(20):
            pixels = tf.fill([16, 16, 3], tf.constant(10 * i, tf.uint8))
            data = tf.io.encode_png(pixels).numpy()
            out.write(labeled(data[:40] if i % 7 == 3 else data))
    config = fixtures.train_config(tmp_path)
    plain = dataclasses.replace(config.labeled_augment, random_crop=False)
    config = dataclasses.replace(
        config,
        labeled_augment=plain,
        batch_size=1,
        data=dataclasses.replace(config.data, max_damaged_fraction=0.2),
    )
    batches = take(input_pipeline.train_batches(config), 34)
    levels = [int(b["labeled_images"][0, 0, 0, 0]) for b in batches]
    expected = [10 * i for i in range(20) if i % 7 != 3]
    assert sorted(levels[:17]) == sorted(levels[17:]) == expected


@pytest.mark.parametrize("start_step", [1, 6, 17, 23])
def test_a_killed_run_goes_on_with_the_very_next_image(mixed, start_step):
    directory, config, whole, _ = mixed
    log = damaged_records.DamageLog(str(directory))
    rest = take(
        input_pipeline.train_batches(config, start_step=start_step, damage=log),
        26 - start_step,
    )
    for batch, expected in zip(rest, whole[start_step:]):
        for name, value in expected.items():
            np.testing.assert_array_equal(batch[name], value, err_msg=name)


def test_the_records_of_a_step_are_those_its_batch_was_made_of(tmp_path):
    # Brightness tells the images apart.
    with tf.io.TFRecordWriter(str(tmp_path / "train-00000-of-00001")) as out:
        for i in range(20):
            pixels = tf.fill([16, 16, 3], tf.constant(10 * i, tf.uint8))
            data = tf.io.encode_png(pixels).numpy()
            example = records.labeled_example(
                data[:40] if i % 7 == 3 else data, 1, f"photo{i}"
            )
            out.write(example)
    config = fixtures.train_config(tmp_path)
    config = dataclasses.replace(
        config,
        labeled_augment=dataclasses.replace(
            config.labeled_augment, name="none", random_crop=False
        ),
        data=dataclasses.replace(config.data, max_damaged_fraction=0.2),
    )
    log = damaged_records.DamageLog(str(tmp_path))
    batches = take(input_pipeline.train_batches(config, damage=log), 9)
    for step, batch in enumerate(batches, start=1):
        levels = batch["labeled_images"][:, 0, 0, 0].astype(int)
        found = log.records_of_step(step)["labeled"]
        assert [r["record"] for r in found] == [v // 10 for v in levels]
        assert [r["key"] for r in found] == [f"photo{v // 10}" for v in levels]
        assert {os.path.basename(r["shard"]) for r in found} == {
            "train-00000-of-00001"
        }


def test_an_account_that_lost_records_since_a_checkpoint_is_refused(mixed):
    directory, config, _, _ = mixed
    log = damaged_records.DamageLog(str(directory))
    input_pipeline.train_batches(config, start_step=1, damage=log)
    counts = log.counts()
    (count,) = counts.values()
    assert list(counts) == ["damaged_labeled.jsonl"] and count >= 10
    log.check_complete(counts)
    # A killed run may have met more of them after its checkpoint.
    log.check_complete({"damaged_labeled.jsonl": count - 1})
    with pytest.raises(
        ValueError, match=f"labeled.jsonl' lists {count} of the {count + 1} "
    ):
        log.check_complete({"damaged_labeled.jsonl": count + 1})
    with pytest.raises(ValueError, match="unlabeled.jsonl' lists 0 of the 1 "):
        log.check_complete({"damaged_unlabeled.jsonl": 1})


def test_a_line_that_was_cut_short_does_not_spoil_the_next(tmp_path):
    write(tmp_path, ["photo"] * 4 + ["zeros"] + ["photo"] * 3)
    config = make_config(tmp_path, 0.5)
    log = damaged_records.DamageLog(str(tmp_path))
    take(input_pipeline.train_batches(config, damage=log), 3)
    path = tmp_path / "damaged_labeled.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    log = damaged_records.DamageLog(str(tmp_path))
    take(input_pipeline.train_batches(config, start_step=1, damage=log), 3)
    assert read_account(path)[0] == json.loads(whole.splitlines()[0])


def test_a_run_from_its_first_step_forgets_an_account_of_other_data(tmp_path):
    names = ["photo"] * 4 + ["zeros"] + ["photo"] * 3
    write(tmp_path, names)
    config = make_config(tmp_path, 0.5)
    log = damaged_records.DamageLog(str(tmp_path))
    take(input_pipeline.train_batches(config, damage=log), 3)
    path = tmp_path / "damaged_labeled.jsonl"
    assert len({line["record"] for line in read_account(path)}) == 1
    # The records were repaired before the run had a checkpoint.
    write(tmp_path, ["photo"] * 8)
    expected = take(input_pipeline.train_batches(config), 5)
    log = damaged_records.DamageLog(str(tmp_path))
    found = take(input_pipeline.train_batches(config, damage=log), 5)
    for batch, other in zip(found, expected):
        np.testing.assert_array_equal(
            batch["labeled_images"], other["labeled_images"]
        )
    assert not path.exists()


def test_batches_do_not_depend_on_parallel_calls(mixed):
    _, config, whole, _ = mixed
    for calls in (1, 8):
        dataset = input_pipeline.train_batches(config, num_parallel_calls=calls)
        for batch, expected in zip(take(dataset, 12), whole):
            np.testing.assert_array_equal(
                batch["labeled_images"], expected["labeled_images"]
            )


@pytest.mark.parametrize("name", sorted(BAD))
def test_past_the_limit_the_error_names_file_and_record(tmp_path, name):
    write(tmp_path, ["photo"] * 6 + [name] + ["photo"] * 5)
    log = damaged_records.DamageLog(str(tmp_path))
    batches = input_pipeline.train_batches(
        make_config(tmp_path, 0.05), damage=log
    )
    with pytest.raises(tf.errors.OpError, match="cannot be used"):
        take(batches, 10)
    with pytest.raises(
        damaged_records.DamagedRecordsError,
        match=f"1 of 12 labeled records cannot be used: 1 {BAD[name]}. They "
        "are listed in .*damaged_labeled.jsonl. --max_damaged_fraction=0.05 "
        "leaves out 0 at most. The last is record 3 of .*train-00000-of-00002",
    ):
        log.raise_error()


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (0.5, "16 of 20 labeled .*: 16 not_image"),
        (1, "20 of 20 labeled .*: 20 not_image. No record is left"),
    ],
)
def test_records_that_are_all_damaged_do_not_hang(tmp_path, limit, message):
    write(tmp_path, ["zeros"] * 20)
    log = damaged_records.DamageLog()
    batches = input_pipeline.train_batches(
        make_config(tmp_path, limit), damage=log
    )
    with pytest.raises(tf.errors.OpError):
        take(batches, 1)
    with pytest.raises(ValueError, match=message):
        log.raise_error()


@pytest.mark.parametrize("shuffle_buffer", [4, 1000])
@pytest.mark.parametrize("cache", [False, True])
def test_a_shard_with_a_wrong_checksum_ends_the_run(
    tmp_path, shuffle_buffer, cache
):
    write(tmp_path, ["photo"] * 12)
    path = tmp_path / "train-00001-of-00002"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    config = make_config(tmp_path, 1)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data, shuffle_buffer=shuffle_buffer, cache=cache
        ),
    )
    log = damaged_records.DamageLog()
    with pytest.raises(ValueError, match="00001-of-00002.*wrong checksum"):
        try:
            take(input_pipeline.train_batches(config, damage=log), 10)
        except tf.errors.OpError:
            log.raise_error()


@pytest.mark.parametrize("batches_before", [0, 5])
def test_a_shard_that_vanishes_ends_the_run(tmp_path, batches_before):
    write(tmp_path, ["photo"] * 12)
    log = damaged_records.DamageLog()
    dataset = input_pipeline.train_batches(make_config(tmp_path, 1), damage=log)
    batches = iter(dataset)
    for _ in range(batches_before):
        next(batches)
    (tmp_path / "train-00001-of-00002").unlink()
    with pytest.raises(
        ValueError,
        match="00001-of-00002' cannot be read: [^{]*No such file or directory$",
    ):
        try:
            for _ in range(100):
                next(batches)
        except tf.errors.OpError:
            log.raise_error()


def test_the_limit_counts_whole_records():
    assert damaged_records.num_allowed(0.29, 100) == 29
    assert damaged_records.num_allowed(0.001, 999) == 0
    assert damaged_records.num_allowed(0.001, 1000) == 1


@pytest.mark.parametrize("num_written", [8, 12])
def test_a_manifest_of_other_counts_ends_the_run(tmp_path, num_written):
    fixtures.write_labeled(tmp_path, "train", num_written, num_shards=1)
    manifest = shards.read_manifest(tmp_path, "train")
    shards.write_manifest(
        tmp_path, dataclasses.replace(manifest, num_records=(10,))
    )
    log = damaged_records.DamageLog()
    config = fixtures.train_config(tmp_path)
    with pytest.raises(tf.errors.OpError):
        take(input_pipeline.train_batches(config, damage=log), 10)
    with pytest.raises(
        ValueError, match=f"holds {num_written} records, but 10 by its manifest"
    ):
        log.raise_error()


def test_input_pipelines_keep_accounts_of_their_own(tmp_path):
    write(tmp_path, ["photo"] * 4 + ["zeros"] + ["photo"] * 3)
    for reader in range(2):
        context = tf.distribute.InputContext(2, reader, 2)
        log = damaged_records.DamageLog(str(tmp_path))
        take(
            input_pipeline.train_batches(
                make_config(tmp_path, 0.5), context, damage=log
            ),
            3,
        )
    (account,) = tmp_path.glob("damaged_*.jsonl")
    assert account.name == "damaged_labeled-00000-of-00002.jsonl"
    assert {line["record"] for line in read_account(account)} == {2}


def test_the_summary_is_logged(mixed, caplog):
    directory, config, _, _ = mixed
    log = damaged_records.DamageLog(str(directory))
    input_pipeline.train_batches(config, start_step=1, damage=log)
    with caplog.at_level(logging.WARNING):
        log.log_summary()
    assert "5 of 40 labeled records cannot be used: 2 wrong_schema, " in (
        caplog.text
    )


def test_training_ends_with_the_error_of_its_input(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "build", tiny_run.build)
    with tf.io.TFRecordWriter(str(tmp_path / "train-00000-of-00001")) as out:
        for i in range(8):
            data = fixtures.image_bytes(i % 3, i) if i else b""
            out.write(labeled(data, i % 3 + 1))
    config = fixtures.train_config(tmp_path)
    strategy = tf.distribute.get_strategy()
    with pytest.raises(
        damaged_records.DamagedRecordsError, match="1 empty.*record 0 of"
    ):
        train_loop.run(config, strategy, str(tmp_path / "run"))


def test_streams_on_other_machines_call_no_python(tmp_path, monkeypatch):
    write(tmp_path, ["photo"] * 8)
    config = make_config(tmp_path, 0)
    expected = take(input_pipeline.train_batches(config), 5)
    monkeypatch.setattr(tf, "numpy_function", None)
    log = damaged_records.DamageLog(is_remote=True)
    batches = take(input_pipeline.train_batches(config, damage=log), 5)
    for ours, theirs in zip(batches, expected):
        np.testing.assert_array_equal(
            ours["labeled_images"], theirs["labeled_images"]
        )


def test_a_damaged_record_on_another_machine_ends_the_run(tmp_path):
    write(tmp_path, ["photo"] * 4 + ["zeros"] + ["photo"] * 3)
    log = damaged_records.DamageLog(is_remote=True)
    dataset = input_pipeline.train_batches(
        make_config(tmp_path, 0.5), damage=log
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="record is dam"):
        take(dataset, 2)
