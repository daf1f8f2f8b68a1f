"""Tests of dividing labeled shards."""

import collections

import pytest

from data_prep import divide, records, shard_writer, shards

CLASSES = ("bird", "cat", "dog")
NUM_IMAGES = 36


@pytest.fixture(scope="module")
def input_dir(tmp_path_factory):
    """Twelve images of each class in three shards; the key tells the class."""
    directory = tmp_path_factory.mktemp("all")
    write(directory, [f"{CLASSES[i % 3]}/{i}" for i in range(NUM_IMAGES)])
    return directory


def write(directory, keys):
    writer = shard_writer.ShardedWriter(
        str(directory),
        "train",
        3,
        kind="labeled",
        config={},
        num_classes=3,
        class_names=CLASSES,
    )
    for number in writer.pending:
        with writer.open_shard(number) as shard:
            for key in keys[number::3]:
                label = CLASSES.index(key.split("/")[0]) + 1
                image = f"image of {key}".encode()
                shard.write(records.labeled_example(image, label, key), label)
    writer.finish()


def config(input_dir, output_dir, **changes):
    settings = {"num_labeled": 9, "dev_size": 6, **changes}
    return divide.DivideConfig(str(input_dir), str(output_dir), **settings)


def read(directory, split):
    """Returns {key: label, None without one} of a split, images checked."""
    found = {}
    for path in shards.list_shards(str(directory), split):
        for serialized in records.read_records(path):
            image, key = records.unpack_image(serialized)
            assert image == b"image of " + key
            label = None
            if split != "unlabeled":
                label = int(records.parse_labeled(serialized)["label"])
            found[key.decode()] = label
    return found


def class_counts(keys):
    return collections.Counter(key.split("/")[0] for key in keys)


def test_every_image_is_in_one_split_and_classes_are_even(input_dir, tmp_path):
    manifests = divide.write(config(input_dir, tmp_path))
    assert set(manifests) == {"train", "dev", "unlabeled"}
    parts = {split: read(tmp_path, split) for split in manifests}
    assert {n: len(p) for n, p in parts.items()} == {
        "train": 9,
        "dev": 6,
        "unlabeled": 21,
    }
    assert len(set().union(*parts.values())) == NUM_IMAGES
    assert set(class_counts(parts["train"]).values()) == {3}
    assert set(class_counts(parts["dev"]).values()) == {2}
    for split in ("train", "dev"):
        for key, label in parts[split].items():
            assert CLASSES[label - 1] == key.split("/")[0]
    assert manifests["train"].class_names == CLASSES
    assert manifests["unlabeled"].counters == {"kept": 21, "other_split": 15}


def test_the_seed_chooses_the_labeled_images_and_not_dev(input_dir, tmp_path):
    for seed in (0, 1):
        divide.write(config(input_dir, tmp_path / str(seed), seed=seed))
    first, second = tmp_path / "0", tmp_path / "1"
    assert read(first, "dev") == read(second, "dev")
    assert read(first, "train") != read(second, "train")


def test_classes_without_labels_can_be_all_that_is_unlabeled(
    input_dir, tmp_path
):
    divide.write(
        config(
            input_dir,
            tmp_path,
            labeled_classes=("dog", "bird"),
            unlabeled_classes=("cat",),
            num_labeled=4,
            dev_size=2,
        )
    )
    labels = {"dog": 1, "bird": 2}
    for split, count in (("train", 4), ("dev", 2)):
        part = read(tmp_path, split)
        assert class_counts(part) == {"dog": count // 2, "bird": count // 2}
        for key, label in part.items():
            assert label == labels[key.split("/")[0]]
    assert class_counts(read(tmp_path, "unlabeled")) == {"cat": 12}
    manifest = shards.read_manifest(str(tmp_path), "train")
    assert manifest.class_names == ("dog", "bird")


def test_without_a_number_all_images_keep_their_labels(input_dir, tmp_path):
    manifests = divide.write(
        config(
            input_dir,
            tmp_path,
            num_labeled=None,
            dev_size=0,
            labeled_split="test",
        )
    )
    assert set(manifests) == {"test"}
    assert len(read(tmp_path, "test")) == NUM_IMAGES


def test_a_second_call_writes_nothing_and_refuses_other_settings(
    input_dir, tmp_path
):
    divide.write(config(input_dir, tmp_path))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    divide.write(config(input_dir, tmp_path))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match="seed"):
        divide.write(config(input_dir, tmp_path, seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_labeled": 31}, "must be <= 36, .* Received: 31 \\+ 6"),
        ({"num_labeled": None, "dev_size": 36}, "leave some labeled"),
        ({"labeled_classes": ("cow",)}, "--labeled_classes .*'cow'"),
        ({"unlabeled_classes": ("cow",)}, "--unlabeled_classes .*'cow'"),
    ],
)
def test_sizes_and_classes_that_do_not_fit_are_refused(
    input_dir, tmp_path, changes, message
):
    with pytest.raises(ValueError, match=message):
        divide.write(config(input_dir, tmp_path, **changes))
    assert not list(tmp_path.iterdir())


def test_settings_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`dev_size` must be >= 0"):
        config(tmp_path, tmp_path, dev_size=-1)
    with pytest.raises(ValueError, match="`labeled_split` must be neither"):
        config(tmp_path, tmp_path, labeled_split="dev")


def test_keys_must_tell_images_apart(tmp_path):
    write(tmp_path / "all", ["cat/0", "dog/0", "cat/0"])
    with pytest.raises(ValueError, match="that of another: b'cat/0'"):
        divide.write(config(tmp_path / "all", tmp_path / "out"))


def test_the_manifest_is_read_once_for_all_splits(
    input_dir, tmp_path, monkeypatch
):
    calls = []
    read_manifest = shards.read_manifest

    def read_and_count(directory, split):
        if str(directory) == str(input_dir):
            calls.append(split)
        return read_manifest(directory, split)

    monkeypatch.setattr(shards, "read_manifest", read_and_count)
    assert len(divide.write(config(input_dir, tmp_path))) == 3
    assert calls == ["train"]
