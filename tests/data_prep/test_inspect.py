"""Tests of what is shown of shards."""

import collections
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from data_prep import (
    balancing,
    filter_unlabel,
    inspect,
    prediction_table,
    records,
    shard_summary,
    shard_writer,
)
from tests.data_prep import corpus

NUM_CLASSES = 4
PROBS = corpus.random_probs(40, NUM_CLASSES, seed=5)
KEYS = [b"key/%d" % i for i in range(40)]
LABELS = PROBS.argmax(1)
CONFIDENCE = PROBS.max(1)
BOUNDS = (0, 15, 15, 40)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """Returns a folder of shards of each kind, of the same 40 images."""
    folder = tmp_path_factory.mktemp("inspect")
    images = [corpus.image_bytes(i, size=(10 + i, 8)) for i in range(40)]
    examples = {
        "unlabeled": lambda i: records.unlabeled_example(images[i], KEYS[i]),
        "labeled": lambda i: records.labeled_example(
            images[i], LABELS[i] + 1, KEYS[i]
        ),
        "pseudo_labeled": lambda i: records.pseudo_labeled_example(
            images[i], LABELS[i], CONFIDENCE[i], PROBS[i], KEYS[i]
        ),
        "prediction": lambda i: records.prediction_example(PROBS[i], KEYS[i]),
    }
    for kind, example in examples.items():
        writer = shard_writer.ShardedWriter(
            folder / kind,
            "train",
            3,
            kind=kind,
            config={},
            class_names=["cat", "dog"] if kind == "labeled" else None,
        )
        for shard, (start, end) in enumerate(zip(BOUNDS, BOUNDS[1:])):
            with writer.open_shard(shard) as open_shard:
                for i in range(start, end):
                    open_shard.write(example(i), int(LABELS[i]))
        writer.finish()
    return folder


@pytest.fixture(name="no_charts", autouse=True)
def _no_charts(monkeypatch):
    """Draws no charts, which take seconds."""
    folder = inspect.inspect_page.charts.ChartFolder
    monkeypatch.setattr(folder, "draw", lambda self, wanted: [])


def run(folder, tmp_path, kind, **changes):
    changes = {"num_examples": 3, **changes}
    return inspect.run(
        inspect.InspectConfig(
            data_dir=str(folder / kind), output_dir=str(tmp_path), **changes
        )
    )


def expected_confidences():
    return np.histogram(CONFIDENCE, 20, (0, 1))[0].tolist()


def page(tmp_path):
    return (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("kind", shard_writer.KINDS)
@pytest.mark.parametrize("with_manifest", [True, False])
def test_shards_of_every_kind_are_counted(
    folder, tmp_path, kind, with_manifest, monkeypatch
):
    if not with_manifest:
        monkeypatch.setattr(inspect.shards, "read_manifest", lambda *_: None)
    report = run(folder, tmp_path, kind)
    assert report["kind"] == kind
    assert (report["num_records"], report["num_shards"]) == (40, 3)
    assert report["counters"]["without_key"] == 0
    has_images = kind != "prediction"
    assert report["counters"].get("format:JPEG", 0) == 40 * has_images
    assert (report["image_bytes"] > 0) == has_images
    counts = [row["images"] for row in report["classes"]]
    if kind == "unlabeled":
        assert counts == []
        assert report["label_min"] is None
    else:
        assert counts == np.bincount(LABELS).tolist()
        assert report["label_min"] == LABELS.min()
        assert report["label_max"] == LABELS.max()
    if kind in ("pseudo_labeled", "prediction"):
        assert report["confidence_counts"] == expected_confidences()
        mean = CONFIDENCE[LABELS == 1].mean()
        assert report["classes"][1]["mean_confidence"] == pytest.approx(mean)
    else:
        assert report["confidence_counts"] is None
    assert ("Predictions hold no images" in page(tmp_path)) != has_images


def test_names_come_from_the_manifest_and_are_filled_up(folder, tmp_path):
    run(folder, tmp_path, "labeled")
    text = page(tmp_path)
    assert '<th scope="row">1 dog</th>' in text
    assert '<th scope="row">2</th>' in text


def write_tables(folder):
    for shard, (start, end) in enumerate(zip(BOUNDS, BOUNDS[1:])):
        name = f"train-info-{shard:05d}-of-00003-00000"
        prediction_table.write(
            prediction_table.path_beside(folder / name),
            label=LABELS[start:end],
            confidence=CONFIDENCE[start:end],
            hash=[prediction_table.hash_of(key) for key in KEYS[start:end]],
        )


def test_images_are_shown_with_predictions_from_records_or_tables(
    folder, tmp_path, monkeypatch
):
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for path in (folder / "prediction").iterdir():
        (predictions / path.name).write_bytes(path.read_bytes())
    given = {"prediction_dir": str(predictions)}
    slow = run(folder, tmp_path / "records", "unlabeled", **given)
    write_tables(predictions)
    from data_prep import inspected_shards

    monkeypatch.setattr(inspected_shards, "_read_prediction_records", None)
    quick = run(folder, tmp_path / "tables", "unlabeled", **given)
    assert slow == quick
    assert quick["confidence_counts"] == expected_confidences()
    assert page(tmp_path / "records") == page(tmp_path / "tables")


def test_predictions_without_keys_have_those_of_their_images(tmp_path):
    from data_prep import inspected_shards

    corpus.write_corpus(tmp_path, PROBS, KEYS, BOUNDS, [b""] * 40)
    rows = inspected_shards.read_predictions(
        str(tmp_path / "images" / "train-00002-of-00003"),
        [str(tmp_path / "probs" / "train-info-00002-of-00003-00000")],
        NUM_CLASSES,
    )
    assert rows["hash"].tolist() == [
        prediction_table.hash_of(key) for key in KEYS[15:]
    ]


def test_some_image_shards_are_paired_with_their_own_predictions(
    folder, tmp_path
):
    report = run(
        folder,
        tmp_path,
        "unlabeled/train-0000[12]-of-*",
        prediction_dir=str(folder / "prediction"),
    )
    assert report["num_records"] == 25
    own = np.histogram(CONFIDENCE[15:], 20, (0, 1))[0].tolist()
    assert report["confidence_counts"] == own


def test_tables_of_several_workers_are_interleaved(tmp_path):
    from data_prep import inspected_shards

    paths = []
    for worker in range(3):
        path = str(tmp_path / f"train-info-00000-of-00001-0000{worker}")
        paths.append(prediction_table.path_beside(path))
        prediction_table.write(
            paths[-1],
            label=LABELS[worker::3],
            confidence=CONFIDENCE[worker::3],
            hash=np.arange(40)[worker::3],
        )
    rows = inspected_shards._read_tables(paths)
    np.testing.assert_array_equal(rows["label"], LABELS)
    np.testing.assert_array_equal(rows["hash"], np.arange(40))
    prediction_table.write(paths[2], label=[1], confidence=[1], hash=[1])
    with pytest.raises(ValueError, match="must hold"):
        inspected_shards._read_tables(paths)


def test_filtering_is_shown_class_by_class(folder, tmp_path):
    filtered = filter_unlabel.run(
        filter_unlabel.FilterConfig(
            input_dir=str(folder / "unlabeled"),
            prediction_dir=str(folder / "prediction"),
            output_dir=str(tmp_path / "filtered"),
            num_label_classes=NUM_CLASSES,
            balance=balancing.BalanceConfig(num_image=9, min_threshold=0.4),
        )
    )
    report = run(
        tmp_path / "filtered",
        tmp_path / "out",
        "data",
        filter_dir=str(tmp_path / "filtered"),
    )
    assert report["kind"] == "pseudo_labeled"
    assert report["filtered"]["min_threshold"] == 0.4
    rows = report["filtered"]["classes"]
    assert [row["copies"] for row in rows] == [
        row["images"] for row in report["classes"]
    ]
    assert [row["kept"] for row in rows] == [c.kept for c in filtered.classes]
    threshold = f"{filtered.classes[0].threshold:.4g}"
    assert f"<td>{threshold}</td>" in page(tmp_path / "out")


def test_charts_are_drawn_as_png_files(folder, tmp_path, monkeypatch):
    monkeypatch.undo()
    run(folder, tmp_path, "pseudo_labeled", classes=(1,))
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {
        "confidence.png",
        "confidence_dark.png",
        "classes.png",
        "classes_dark.png",
        "all.png",
        "class_0001.png",
    }
    assert page(tmp_path).count("<picture>") == 2


def test_without_matplotlib_the_page_says_what_to_install(folder, tmp_path):
    report = run(folder, tmp_path, "pseudo_labeled")
    assert report["num_records"] == 40
    assert "noisy-student-training[plots]" in page(tmp_path)
    assert (tmp_path / "figures" / "all.png").exists()


def rows_of(order):
    rows = np.zeros(len(order), shard_summary.ROW_DTYPE)
    rows["label"] = LABELS[order]
    rows["confidence"] = CONFIDENCE[order]
    rows["hash"] = [prediction_table.hash_of(KEYS[i]) for i in order]
    return rows


@pytest.mark.parametrize("bounds", [(0, 40), (0, 1, 7, 7, 30, 40)])
def test_examples_are_the_same_for_any_order_and_sharding(bounds):
    order = np.random.default_rng(1).permutation(40)
    # As filtering leaves it: some images come with copies.
    order = np.concatenate([order[:5], order[:5], order[5:35], order[35:]])
    summary = shard_summary.ShardSummary((None, 1), 4)
    places = {}
    for start, end in zip(bounds, [*bounds[1:-1], len(order)]):
        summary.add(str(start), rows_of(order[start:end]))
        for place, image in enumerate(order[start:end]):
            places[str(start), place] = image
    hashes = rows_of(np.arange(40))["hash"]
    orders = {
        "random": hashes,
        "most confident": -CONFIDENCE,
        "least confident": CONFIDENCE,
    }
    for label, members in ((None, range(40)), (1, np.flatnonzero(LABELS == 1))):
        for end, values in orders.items():
            expected = sorted(
                members, key=lambda i, v=values: (v[i], hashes[i])
            )
            found = summary.examples(label, end)
            assert [places[e.shard, e.index] for e in found] == expected[:4]
            for e in found:
                assert e.label == LABELS[places[e.shard, e.index]]
    assert summary.class_counts.tolist() == np.bincount(LABELS[order]).tolist()


def test_without_labels_only_random_images_are_shown():
    rows = rows_of(np.arange(40))
    rows["label"], rows["confidence"] = -1, np.nan
    summary = shard_summary.ShardSummary((None, 0), 4)
    summary.add("a", rows)
    found = collections.Counter(
        (label, end)
        for label in (None, 0)
        for end in shard_summary.ENDS
        for _ in summary.examples(label, end)
    )
    assert found == {(None, "random"): 4}
    assert summary.examples(None, "random")[0].label is None
    assert summary.confidence_counts.sum() == 0


def test_damaged_records_are_named_before_anything_is_written(folder, tmp_path):
    data = tmp_path / "data"
    writer = shard_writer.ShardedWriter(
        data, "train", 1, kind="labeled", config={}
    )
    with writer.open_shard(0) as shard:
        shard.write(records.labeled_example(corpus.JPEG, 5, "a"), 5)
        shard.write(records.labeled_example(b"text", 5, "b"), 5)
    writer.finish()
    output_dir = tmp_path / "out"
    with pytest.raises(records.RecordError, match="record 1 .*'image/encoded'"):
        run(tmp_path, output_dir, "data")
    with pytest.raises(records.RecordError, match=r"record 0 .* in 1\.\.3"):
        run(tmp_path, output_dir, "data", num_classes=3)
    assert not output_dir.exists()


def bad_inputs(folder):
    images = str(folder / "unlabeled")
    predictions = str(folder / "prediction")
    yield {"data_dir": "/missing"}, FileNotFoundError, "--data_dir=/missing"
    yield {"filter_dir": images}, FileNotFoundError, "finished --output_dir"
    yield {"prediction_dir": images}, FileNotFoundError, "--prediction_dir="
    yield (
        {"data_dir": predictions, "prediction_dir": predictions},
        ValueError,
        "must hold images",
    )
    yield (
        {
            "data_dir": f"{images};{folder / 'labeled'}",
            "prediction_dir": predictions,
        },
        ValueError,
        r"one set. Received .*labeled', 3\), .*unlabeled', 3\)",
    )


def test_bad_inputs_are_refused(folder, tmp_path):
    for changes, error, message in bad_inputs(folder):
        values = {"data_dir": str(folder / "unlabeled"), **changes}
        config = inspect.InspectConfig(
            output_dir=str(tmp_path / "out"), **values
        )
        with pytest.raises(error, match=message):
            inspect.run(config)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_dir": None}, "--data_dir is needed"),
        ({"num_classes": 0}, "`num_classes` must be >= 1"),
        ({"num_examples": -1}, "`num_examples` must be >= 0"),
        ({"classes": (0, 4), "num_classes": 4}, r"in 0\.\.3. Received: 4"),
        ({"classes": (-1,)}, "must be >= 0. Received: -1"),
    ],
)
def test_a_wrong_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        inspect.InspectConfig(**{"data_dir": "a", "output_dir": "b", **changes})


def parsed(*arguments):
    flag_values = flags.FlagValues()
    inspect.define_flags(flag_values)
    flag_values(["program", *arguments])
    return flag_values


def test_flags_reach_the_config():
    values = {
        "data_dir": "a",
        "output_dir": "b",
        "split": "c",
        "prediction_dir": "d",
        "filter_dir": "e",
        "num_classes": 9,
        "class_list_file": "f",
        "num_classes_shown": 3,
        "num_examples": 2,
    }
    arguments = [f"--{name}={value}" for name, value in values.items()]
    found = inspect.config_from_flags(parsed(*arguments, "--classes=0,5"))
    assert found == inspect.InspectConfig(**values, classes=(0, 5))
    with pytest.raises(ValueError, match="--classes must be whole numbers"):
        inspect.config_from_flags(parsed("--classes=cat"))


def test_the_command_does_not_hide_the_standard_module():
    root = pathlib.Path(__file__).parent.parent.parent
    result = subprocess.run(
        [sys.executable, "-m", "data_prep.inspect", "--help"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "--prediction_dir" in result.stdout
