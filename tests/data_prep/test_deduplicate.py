"""Tests of deduplication, from shards to shards."""

import collections
import dataclasses
import io
import json
import os
import pathlib

import numpy as np
import pytest
from absl import flags
from PIL import Image

from data_prep import (
    corpus_duplicates,
    deduplicate,
    files,
    fingerprint_files,
    image_fingerprints,
    records,
    shard_work,
    shard_writer,
    shards,
)
from tests.data_prep import corpus
from tests.data_prep.test_image_fingerprints import encode, photo

GREY = Image.new("RGB", (40, 30), "grey")
JPEG_PIXELS = encode(Image.open(io.BytesIO(encode(photo(1), "JPEG"))))
# key -> (image, what becomes of it, the evaluation image it is)
CORPUS = {
    "bytes": (encode(photo(0)), "dropped:same_bytes", "0.png"),
    "other": (encode(photo(50)), "kept", None),
    "pixels": (JPEG_PIXELS, "dropped:same_pixels", "1.jpg"),
    "near": (encode(photo(2), "JPEG", quality=50), "dropped:near", "2.png"),
    "mirrored": (
        encode(photo(3).transpose(Image.FLIP_LEFT_RIGHT)),
        "dropped:near_mirrored",
        "3.png",
    ),
    "broken": (corpus.JPEG, "kept:undecodable", None),
    "plain": (encode(GREY, "BMP"), "dropped:same_pixels", "grey.png"),
    "almost plain": (encode(Image.new("RGB", (40, 30), "black")), "kept", None),
    "another": (encode(photo(51)), "kept", None),
    "again": (encode(photo(51)), "dropped:same_bytes_in_corpus", None),
}


def write_shards(folder, images, bounds, kind="unlabeled"):
    writer = shard_writer.ShardedWriter(
        folder, "train", len(bounds) - 1, kind=kind, config={}
    )
    items = list(images.items())
    for index in range(len(bounds) - 1):
        with writer.open_shard(index) as shard:
            for key, image in items[bounds[index] : bounds[index + 1]]:
                if kind == "labeled":
                    shard.write(records.labeled_example(image, 1, key), 1)
                else:
                    shard.write(records.unlabeled_example(image, key))
    writer.finish()


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deduplicate")
    images = {key: image for key, (image, *_) in CORPUS.items()}
    write_shards(folder / "corpus", images, [0, 3, 3, 10])
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    for number in (0, 2, 3):
        (evaluation / f"{number}.png").write_bytes(encode(photo(number)))
    (evaluation / "1.jpg").write_bytes(encode(photo(1), "JPEG"))
    (evaluation / "grey.png").write_bytes(encode(GREY))
    (evaluation / ".hidden").write_bytes(b"")
    return folder


def config(folder, output_dir, **changes):
    return deduplicate.DeduplicateConfig(
        **{
            "input_dir": str(folder / "corpus"),
            "eval_dir": str(folder / "evaluation"),
            "output_dir": str(output_dir),
            "mirrored": True,
            "within_corpus": True,
            **changes,
        }
    )


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file()
    }


def written(output_dir):
    """Returns the records of each shard."""
    paths = shards.list_shards(os.path.join(output_dir, "data"), "train")
    return [list(records.read_records(path)) for path in paths]


def test_evaluation_images_are_removed_and_counted(folder, tmp_path):
    report = deduplicate.run(config(folder, tmp_path))
    expected = collections.Counter(reason for _, reason, _ in CORPUS.values())
    # Which of two equal images is kept, their keys' hashes say.
    assert report["counters"] == dict(sorted(expected.items()))
    assert report["num_input"] == len(CORPUS)
    assert report["evaluation"]["num_images"] == 5
    assert report["evaluation"]["num_matched"] == 5
    assert report["evaluation"]["num_plain"] == 1
    assert report["evaluation"]["files_left_out"] == {"dropped:hidden": 1}
    manifest = shards.read_manifest(tmp_path / "data", "train")
    assert manifest.counters == report["counters"]
    assert manifest.kind == "unlabeled"
    assert deduplicate.run(config(folder, tmp_path)) == report


def test_kept_records_are_unchanged_and_in_order(folder, tmp_path):
    deduplicate.run(config(folder, tmp_path, within_corpus=False))
    kept = [
        key
        for key, (_, reason, _) in CORPUS.items()
        if reason.startswith("kept") or key == "again"
    ]
    examples = [records.unlabeled_example(CORPUS[key][0], key) for key in kept]
    assert written(tmp_path) == [examples[:1], [], examples[1:]]


def test_every_pair_is_listed(folder, tmp_path):
    deduplicate.run(config(folder, tmp_path))
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    pairs = {}
    for line in lines:
        pair = json.loads(line)
        pairs[pair["key"]] = (pair["kind"], pair["evaluation_key"])
        assert (pair["distance"] > 0) <= (pair["kind"].startswith("near"))
    assert pairs == {
        key: (reason.split(":")[1], evaluation)
        for key, (_, reason, evaluation) in CORPUS.items()
        if evaluation
    }


def test_the_page_shows_pairs(folder, tmp_path):
    deduplicate.run(config(folder, tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "6 of 10 images are removed; 5 of 5" in page
    assert page.count("<figure>") == 5
    assert "<b>near</b><br>2.png<br>distance" in page


def test_less_is_removed_where_less_is_asked_for(folder, tmp_path):
    exact = config(
        folder,
        tmp_path,
        near_duplicates=False,
        mirrored=False,
        within_corpus=False,
    )
    counters = deduplicate.run(exact)["counters"]
    assert counters == {
        "dropped:same_bytes": 1,
        "dropped:same_pixels": 2,
        "kept": 6,
        "kept:undecodable": 1,
    }


@pytest.mark.parametrize("killed_in", ["fingerprint", "match", "write", "page"])
def test_a_killed_run_gives_the_same_bytes(
    folder, tmp_path, monkeypatch, killed_in
):
    deduplicate.run(config(folder, tmp_path / "whole"))

    class Killed(BaseException):
        pass

    def die_at(call):
        calls = iter(range(100))
        original = getattr(*call)

        def replacement(*args, **kwargs):
            if next(calls) == 1:
                raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(*call, replacement)

    die_at(
        {
            "fingerprint": (fingerprint_files, "_fingerprints"),
            "match": (deduplicate.fingerprint_index.FingerprintIndex, "match"),
            "write": (shard_writer.OpenShard, "write"),
            "page": (deduplicate.deduplicate_report, "_line"),
        }[killed_in]
    )
    with pytest.raises(Killed):
        deduplicate.run(config(folder, tmp_path / "killed"))
    monkeypatch.undo()
    deduplicate.run(config(folder, tmp_path / "killed"))
    whole, again = content(tmp_path / "whole"), content(tmp_path / "killed")
    leftovers = [name for name in set(again) - set(whole)]
    assert [n for n in leftovers if not n.endswith(".tmp")] == []
    assert whole == {name: again[name] for name in whole}


def test_a_report_can_come_first_and_rules_share_fingerprints(
    folder, tmp_path, monkeypatch
):
    shared = {"fingerprint_dir": str(tmp_path / "shared")}
    first = config(folder, tmp_path / "first", **shared)
    report = deduplicate.run(first, only_report=True)
    assert not (tmp_path / "first" / "data").exists()
    monkeypatch.setattr(fingerprint_files, "_fingerprints", None)
    assert deduplicate.run(first) == report
    assert len(sum(written(first.output_dir), [])) == 4
    other = config(folder, tmp_path / "other", max_distance=0, **shared)
    assert "dropped:near" not in deduplicate.run(other)["counters"]


@pytest.mark.parametrize("most_hashes", [1, 3, 1000])
@pytest.mark.parametrize("bounds", [(0, 40), (0, 13, 13, 29, 40)])
def test_one_of_equal_images_is_kept_whatever_the_sharding(
    tmp_path, bounds, most_hashes
):
    rng = np.random.default_rng(0)
    content_of = {b"key%d" % i: b"%d" % rng.integers(15) for i in range(40)}
    order = list(content_of)
    rng.shuffle(order)
    marks, keys = [], []
    sources = []
    for start, end in zip(bounds, bounds[1:]):
        images = []
        for key in order[start:end]:
            path = tmp_path / key.decode()
            path.write_bytes(content_of[key])
            images.append((key, str(path)))
            keys.append(key)
        sources.append(fingerprint_files.Source(images=tuple(images)))
    found = fingerprint_files.write(
        str(tmp_path / "f"), "corpus", sources, shard_work.InThisProcess()
    )
    marks = np.concatenate(corpus_duplicates.find(found, most_hashes))
    groups = collections.defaultdict(list)
    for key in keys:
        groups[content_of[key]].append(key)
    kept = {
        min(group, key=image_fingerprints.order_of) for group in groups.values()
    }
    assert {key for key, mark in zip(keys, marks) if not mark} == kept


def test_evaluation_images_come_from_shards_too(folder, tmp_path):
    images = {"first": encode(photo(0)), "second": encode(photo(2))}
    write_shards(tmp_path / "evaluation", images, [0, 1, 2], kind="labeled")
    places = f"{tmp_path / 'evaluation' / 'train-*'};{folder / 'evaluation'}"
    report = deduplicate.run(config(folder, tmp_path / "out", eval_dir=places))
    assert report["evaluation"]["num_images"] == 7
    assert [row["key"] for row in report["evaluation"]["most_matched"]][:2] == [
        "first",
        "second",
    ]


def bad_inputs(tmp_path):
    """Yields (changes of the config, error, message)."""
    empty = tmp_path / "empty"
    empty.mkdir()
    yield {"eval_dir": str(empty)}, FileNotFoundError, "--eval_dir=.*no files"
    missing = str(tmp_path / "missing")
    yield {"eval_dir": missing}, FileNotFoundError, "--eval_dir=.*missing"
    yield {"input_dir": missing}, FileNotFoundError, "--input_dir=.*missing"
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / ".thumbs").write_bytes(b"1")
    yield {"eval_dir": str(hidden)}, ValueError, "holds no images"
    write_shards(
        tmp_path / "labeled", {"a": encode(photo(0))}, [0, 1], "labeled"
    )
    yield (
        {"input_dir": str(tmp_path / "labeled")},
        ValueError,
        "--input_dir: .*must hold unlabeled records. Received: labeled",
    )
    corpus.write_corpus(
        tmp_path / "predicted",
        corpus.random_probs(2, 3, 0),
        [b"a", b"b"],
        [0, 2],
    )
    predicted = str(tmp_path / "predicted" / "probs")
    yield {"eval_dir": predicted}, ValueError, "Received: prediction"
    (tmp_path / "predicted" / "probs" / "train-info.manifest.json").unlink()
    yield {"eval_dir": predicted}, records.RecordError, "record 0 holds no"
    write_shards(tmp_path / "cut", {"a": encode(photo(0))}, [0, 1])
    shard = tmp_path / "cut" / "train-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-5])
    yield {"input_dir": str(tmp_path / "cut")}, ValueError, "truncated"
    write_shards(tmp_path / "none", {}, [0, 0])
    yield {"input_dir": str(tmp_path / "none")}, ValueError, "no records"


def test_bad_inputs_are_refused_before_anything_is_written(folder, tmp_path):
    output_dir = tmp_path / "output"
    for changes, error, message in bad_inputs(tmp_path):
        with pytest.raises(error, match=message):
            deduplicate.run(config(folder, output_dir, **changes))
        assert not output_dir.exists(), changes


def test_undecodable_evaluation_images_are_refused(folder, tmp_path):
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "notes.txt").write_bytes(b"no image")
    changed = config(folder, tmp_path / "out", eval_dir=str(evaluation))
    with pytest.raises(ValueError, match="none of the 1 images can be decoded"):
        deduplicate.run(changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_dir": ""}, "--output_dir is needed"),
        ({"max_distance": 12}, r"`max_distance` must be in 0\.\.11"),
        ({"near_duplicates": False}, "`mirrored` needs `near_duplicates`"),
        ({"input_dir": "/a/data", "output_dir": "/a"}, "`input_dir` must not"),
        ({"eval_dir": "/b;/a/data", "output_dir": "/a"}, "`eval_dir` must not"),
        (
            {"fingerprint_dir": "/a/b/../", "output_dir": "/a"},
            "--fingerprint_dir must not be --output_dir",
        ),
    ],
)
def test_a_wrong_config_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **{"output_dir": tmp_path / "output", **changes})


def test_a_corpus_is_not_its_own_evaluation_set(tmp_path):
    write_shards(tmp_path / "data", {"a": encode(photo(0))}, [0, 1])
    (tmp_path / "data" / "test-00000-of-00001").write_bytes(
        (tmp_path / "data" / "train-00000-of-00001").read_bytes()
    )
    for places in (tmp_path / "data", tmp_path / "x" / ".." / "data"):
        changed = config(
            tmp_path,
            tmp_path / "out",
            input_dir=str(tmp_path / "data"),
            eval_dir=str(places),
        )
        (tmp_path / "x").mkdir(exist_ok=True)
        message = "holds the corpus itself, .*--eval_dir='.*/data/test-.'"
        with pytest.raises(ValueError, match=message):
            deduplicate.run(changed)
        assert not (tmp_path / "out").exists()
    pattern = str(tmp_path / "data" / "test-*")
    report = deduplicate.run(dataclasses.replace(changed, eval_dir=pattern))
    assert report["counters"] == {"dropped:same_bytes": 1}


def test_keys_are_reported_to_their_last_byte(tmp_path):
    key = b"a\xff\0"
    images = {key: encode(photo(0)), b"long" * 9: encode(photo(50))}
    write_shards(tmp_path / "corpus", images, [0, 2])
    write_shards(tmp_path / "evaluation", {b"\0\0": encode(photo(0))}, [0, 1])
    deduplicate.run(config(tmp_path, tmp_path / "out"))
    (line,) = (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()
    pair = json.loads(line)
    assert pair["key"] == "a\\xff\0"
    assert pair["evaluation_key"] == "\0\0"


def test_what_a_killed_run_left_half_written_is_removed(folder, tmp_path):
    left = [
        tmp_path / "fingerprints" / ".corpus-00000-of-00003.npz.7-ab.tmp",
        tmp_path / "matches" / ".corpus-00000-of-00003.npy.7-ab.tmp",
        tmp_path / ".pairs.jsonl.7-ab.tmp",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    deduplicate.run(config(folder, tmp_path))
    assert not any(path.exists() for path in left)


def test_another_rule_needs_another_folder(folder, tmp_path):
    deduplicate.run(config(folder, tmp_path))
    with pytest.raises(ValueError, match="`max_distance`: 8 before, 4 now"):
        deduplicate.run(config(folder, tmp_path, max_distance=4))


def test_flags_reach_the_config():
    flag_values = flags.FlagValues()
    deduplicate.define_flags(flag_values)
    values = {
        "input_dir": "a",
        "eval_dir": "b",
        "output_dir": "c",
        "fingerprint_dir": "d",
        "split": "e",
        "near_duplicates": True,
        "max_distance": 3,
        "mirrored": True,
        "within_corpus": True,
    }
    flag_values(["program", *(f"--{k}={v}" for k, v in values.items())])
    found = deduplicate.config_from_flags(flag_values)
    assert found == deduplicate.DeduplicateConfig(**values)
    assert not files.exists("c")
