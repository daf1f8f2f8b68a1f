"""Tests of ImageNet-P: its figures, its sequences, its runs."""

import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data_prep import records
from noisy_student import run_dir
from noisy_student.robustness import (
    alexnet,
    corruptions,
    frames,
    imagenet_p,
    layout,
    sequence_answers,
)
from noisy_student.robustness import network as network_lib
from tests.noisy_student.robustness import images

pytestmark = pytest.mark.slow

NUM_CLASSES = 6
# The class that each frame is made to look like.
SEQUENCES = {"a": (0, 0, 1, 1), "b": (2, 3, 2, 3), "c": (4, 4, 4)}


def test_flips_by_hand():
    predictions = [[1, 1, 2, 2], [3, 4, 3, 4]]
    # Against the frame before: 1 of 3, and 3 of 3.
    assert imagenet_p.flip_probability(predictions, noise=False) == (
        pytest.approx((1 / 3 + 1) / 2)
    )
    # Against the first: 2 of 3, and 2 of 3.
    assert imagenet_p.flip_probability(predictions, noise=True) == (
        pytest.approx(2 / 3)
    )


def test_sequences_may_differ_in_length():
    assert imagenet_p.flip_probability(
        [[1, 2], [1, 1, 1, 1, 2]], noise=False
    ) == pytest.approx((1 + 1 / 4) / 2)


def test_distances_by_hand():
    before = [0, 1, 2, 3, 4]
    assert distance(before, before) == 0
    # The first two change places.
    assert distance(before, [1, 0, 2, 3, 4]) == 2
    # The first falls out, the others rise by one: 5 + 4.
    assert distance(before, [1, 2, 3, 4, 9]) == 9
    # All fall out: 5 + 4 + 3 + 2 + 1.
    assert distance(before, [5, 6, 7, 8, 9]) == 15


def distance(before, now):
    return imagenet_p.top_5_distance([[before, now]], noise=False)


def ranked_distance(before, now):
    """Returns the authors' distance, from the ranks (1...) of all classes."""
    counted = np.cumsum([0] + [1] * 5 + [0] * (len(before) - 6))
    sigma = now[np.argsort(before)]
    return np.abs(counted[:5] - counted[sigma - 1][:5]).sum()


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_a_count_over_pairs(noise, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, 7, 20))
    ranks = np.argsort(np.argsort(-logits, -1), -1) + 1
    top_5 = np.argsort(-logits, -1)[..., :5]
    flips, distances = [], []
    for sequence in range(4):
        pairs = [(0 if noise else frame - 1, frame) for frame in range(1, 7)]
        answer = logits[sequence].argmax(-1)
        flips.append(np.mean([answer[a] != answer[b] for a, b in pairs]))
        distances.append(
            np.mean(
                [
                    ranked_distance(ranks[sequence, a], ranks[sequence, b])
                    for a, b in pairs
                ]
            )
        )
    assert imagenet_p.flip_probability(
        logits.argmax(-1), noise
    ) == pytest.approx(np.mean(flips))
    assert imagenet_p.top_5_distance(top_5, noise) == pytest.approx(
        np.mean(distances)
    )


def test_mean_rates_are_of_the_reference():
    rates = {name: rate / 100 for name, rate in alexnet.FLIP_RATES.items()}
    assert imagenet_p.mean_flip_rate(rates) == pytest.approx(100)
    halves = {name: rate / 2 for name, rate in rates.items()}
    assert imagenet_p.mean_flip_rate(halves) == pytest.approx(50)
    assert imagenet_p.mean_top_5_distance(halves, rates) == pytest.approx(50)
    # Ratios are averaged, not rates.
    rates["scale"] *= 2
    assert imagenet_p.mean_flip_rate(rates) == pytest.approx(110)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda rates: rates.pop("tilt"), "Missing: tilt"),
        (lambda rates: rates.update(shear=0.1), "Received: 'shear'"),
        (lambda rates: rates.update(tilt=23.0), "of tilt must be in 0..1"),
        (lambda rates: rates.update(tilt=float("nan")), "Received: nan"),
    ],
)
def test_wrong_rates_are_refused(change, message):
    rates = dict.fromkeys(imagenet_p.PERTURBATIONS, 0.1)
    change(rates)
    with pytest.raises(ValueError, match=message):
        imagenet_p.mean_flip_rate(rates)


@pytest.mark.parametrize("predictions", [[], [[1]]])
def test_too_few_frames_are_refused(predictions):
    with pytest.raises(ValueError, match="no sequence|at least two"):
        imagenet_p.flip_probability(predictions, noise=False)


@pytest.mark.parametrize(
    "name, expected",
    [("gaussian_noise", True), ("shot_noise", True), ("tilt", False)],
)
def test_which_perturbations_are_noise(name, expected):
    assert imagenet_p.is_noise(name) is expected


def write_frames(folder, sequences=SEQUENCES):
    for name, classes in sequences.items():
        for number, label in enumerate(classes):
            grey = images.grey_of(label, NUM_CLASSES)
            path = folder / "n01440764" / name / f"{number:03d}.png"
            images.write(path, grey)


def write_shards(folder, sequences=SEQUENCES):
    writer = records.ShardedWriter(
        str(folder), "validation", 2, kind="unlabeled", config={}
    )
    every = list(sequences)
    for shard, names in enumerate((every[:2], every[2:])):
        with writer.open_shard(shard) as out:
            for name in names:
                for number, label in enumerate(sequences[name]):
                    image = images.grey_image(
                        images.grey_of(label, NUM_CLASSES)
                    )
                    key = f"{name}/{number}"
                    out.write(records.unlabeled_example(image, key), None)
    writer.finish()


def write_videos(folder):
    cv2 = pytest.importorskip("cv2")
    folder = folder / "n01440764"
    folder.mkdir(parents=True)
    for name, classes in SEQUENCES.items():
        video = cv2.VideoWriter(
            str(folder / f"{name}.mp4"),
            cv2.VideoWriter_fourcc(*"mp4v"),
            30,
            (32, 32),
        )
        for label in classes:
            grey = images.grey_of(label, NUM_CLASSES)
            video.write(np.full((32, 32, 3), grey, np.uint8))
        video.release()


def arguments_of(tmp_path, checkpoint, names):
    return {
        "label_data_dir": tmp_path / "p",
        "checkpoint": checkpoint,
        "output_dir": tmp_path / "out",
        "perturbations": ",".join(names),
        "eval_batch_size": 4,
    }


def read_report(tmp_path):
    return json.loads((tmp_path / "out/imagenet_p.json").read_text())


@pytest.mark.parametrize("write", [write_frames, write_shards, write_videos])
def test_every_layout_gives_the_flips(tmp_path, use, run, write, caplog):
    caplog.set_level(logging.INFO)
    checkpoint, network = use(NUM_CLASSES)
    write(tmp_path / "p/tilt")
    write(tmp_path / "p/noise/shot_noise")
    names = ["tilt", "shot_noise"]
    run(imagenet_p, **arguments_of(tmp_path, checkpoint, names))
    report = read_report(tmp_path)
    tilt, noise = (report["perturbations"][name] for name in names)
    assert (tilt["num_sequences"], tilt["num_frames"]) == (3, 11)
    assert tilt["flip_probability"] == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert noise["flip_probability"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert report["figures"] == {"num_sequences": 6}
    size = 32 if write is write_videos else 8
    assert report["stored_size"] == [size, size]
    # 11 frames in batches of 4, twice.
    assert network.num_seen == 24
    assert "nothing tells of which class" in caplog.text


def test_all_ten_give_the_means_and_are_kept(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    for name in imagenet_p.PERTURBATIONS:
        write_frames(tmp_path / "p" / name)
    arguments = arguments_of(tmp_path, checkpoint, imagenet_p.PERTURBATIONS)
    run(imagenet_p, **{**arguments, "perturbations": "tilt,scale"})
    assert network.num_seen == 2 * 12
    reference = dict.fromkeys(imagenet_p.PERTURBATIONS, 2.0)
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(reference))
    run(imagenet_p, **arguments, reference_distances=path)
    assert network.num_seen == 10 * 12
    report = read_report(tmp_path)
    measured = report["perturbations"]
    assert report["figures"] == pytest.approx(
        {
            "num_sequences": 30,
            "mean_flip_rate": imagenet_p.mean_flip_rate(
                {n: v["flip_probability"] for n, v in measured.items()}
            ),
            "mean_top_5_distance": 50
            * np.mean([v["top_5_distance"] for v in measured.values()]),
        }
    )


def test_a_run_of_less_leaves_nothing_out_of_the_report(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    for name in imagenet_p.PERTURBATIONS:
        folder = tmp_path / "p" / name / "n01440764/a"
        for number, label in enumerate(SEQUENCES["a"]):
            grey = images.grey_of(label, NUM_CLASSES)
            images.write(folder / f"{number}.png", grey)
    arguments = arguments_of(tmp_path, checkpoint, imagenet_p.PERTURBATIONS)
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(dict.fromkeys(imagenet_p.PERTURBATIONS, 2.0)))
    run(imagenet_p, **arguments, reference_distances=path)
    first = read_report(tmp_path)
    assert "mean_top_5_distance" in first["figures"]
    run(imagenet_p, **{**arguments, "perturbations": "tilt"})
    assert network.num_seen == 10 * 4
    second = read_report(tmp_path)
    assert second["figures"] == pytest.approx(first["figures"])
    assert second["perturbations"] == first["perturbations"]
    path.write_text(json.dumps(dict.fromkeys(imagenet_p.PERTURBATIONS, 3.0)))
    with pytest.raises(ValueError, match="`reference_distances.rotate`: 2.0"):
        run(imagenet_p, **arguments, reference_distances=path)


def test_class_folders_tell_accuracy(tmp_path, use, run, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    checkpoint, _ = use(2)
    names = ("b", "a")
    monkeypatch.setattr(run_dir, "trained_class_names", lambda _: names)
    for perturbation in imagenet_p.PERTURBATIONS:
        # One has more frames, which count as much as those of the others.
        more = (1,) * 10 if perturbation == "translate" else ()
        write_classes(
            tmp_path / "p" / perturbation, {"a": (1, 1, 0, *more), "b": (0, 1)}
        )
    run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt"]))
    assert "No accuracy" not in caplog.text
    report = read_report(tmp_path)
    # As the flip rate, the accuracy on a few perturbations is no figure.
    assert report["figures"] == {"num_sequences": 2}
    assert report["perturbations"]["tilt"]["top_1"] == pytest.approx(3 / 5)
    run(
        imagenet_p,
        **arguments_of(tmp_path, checkpoint, imagenet_p.PERTURBATIONS),
    )
    figures = read_report(tmp_path)["figures"]
    assert figures["top_1"] == pytest.approx((10 * 3 + 10) / (10 * 5 + 10))


def write_classes(folder, shown, num_classes=2):
    """Writes a sequence `0` of each class, of frames that look like classes."""
    for name, labels in shown.items():
        for number, label in enumerate(labels):
            images.write(
                folder / name / f"0/{number:03d}.png",
                images.grey_of(label, num_classes),
            )


@pytest.mark.parametrize("distance", [0, -1, float("nan"), "2", True, None])
def test_wrong_reference_distances_are_refused_first(
    tmp_path, use, run, distance
):
    checkpoint, network = use(NUM_CLASSES)
    write_frames(tmp_path / "p/tilt")
    reference = dict.fromkeys(imagenet_p.PERTURBATIONS, 2.0)
    path = tmp_path / "reference.json"
    path.write_text(json.dumps({**reference, "snow": distance}))
    arguments = arguments_of(tmp_path, checkpoint, ["tilt"])
    message = "--reference_distances=.*reference.json: The distance of snow"
    with pytest.raises(ValueError, match=message):
        run(imagenet_p, **arguments, reference_distances=path)
    with pytest.raises(FileNotFoundError, match="--reference_distances=.*none"):
        run(imagenet_p, **arguments, reference_distances=tmp_path / "none")
    path.write_text(json.dumps([2.0] * 10))
    with pytest.raises(ValueError, match="must be given by perturbation"):
        run(imagenet_p, **arguments, reference_distances=path)
    assert network.num_seen == 0


def test_missing_perturbations_are_refused_first(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    write_frames(tmp_path / "p/tilt")
    with pytest.raises(ValueError, match="1 of 2 perturbations are missing"):
        run(
            imagenet_p,
            **arguments_of(tmp_path, checkpoint, ["tilt", "scale"]),
        )
    with pytest.raises(ValueError, match="Received: 'rain'"):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["rain"]))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        arguments = arguments_of(tmp_path / "none", checkpoint, ["tilt"])
        run(imagenet_p, **arguments)
    assert network.num_seen == 0


@pytest.mark.parametrize(
    "damage, message",
    [
        ("without", "/scale' has 2 sequences, without n01440764/b"),
        ("also", "/scale' has 4 sequences, also n01440764/d"),
        ("class", "/scale' has 2 class folders, also n01443537"),
    ],
)
def test_perturbations_must_have_the_same_sequences(
    tmp_path, use, run, damage, message
):
    checkpoint, network = use(NUM_CLASSES)
    names = ("scale", "tilt", "rotate")
    for name in names:
        write_frames(tmp_path / "p" / name)
    folder = tmp_path / "p/scale/n01440764"
    if damage == "without":
        shutil.rmtree(folder / "b")
    elif damage == "also":
        images.write(folder / "d/000.png", 0)
        images.write(folder / "d/001.png", 0)
    else:
        images.write(folder.parent / "n01443537/a/000.png", 0)
        images.write(folder.parent / "n01443537/a/001.png", 0)
    with pytest.raises(ValueError, match="--label_data_dir=.*" + message):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, names))
    assert network.num_seen == 0


def test_all_classes_that_names_tell_are_needed(
    tmp_path, use, run, monkeypatch
):
    checkpoint, network = use(1000)
    for name in ("tilt", "scale"):
        write_frames(tmp_path / "p" / name)
    arguments = arguments_of(tmp_path, checkpoint, ["tilt", "scale"])
    message = "tilt' has 1 class folders, without n01443537, .* and 994 more"
    with pytest.raises(ValueError, match=message):
        run(imagenet_p, **arguments)
    use(2)
    names = ("n01440764", "b")
    monkeypatch.setattr(run_dir, "trained_class_names", lambda _: names)
    with pytest.raises(ValueError, match="1 class folders, without b,.*scale"):
        run(imagenet_p, **arguments)
    assert network.num_seen == 0


def test_folders_of_severities_are_not_taken_for_classes(tmp_path, use, run):
    checkpoint, network = use(1000)
    for severity in range(1, 6):
        for number in range(2):
            folder = tmp_path / f"p/snow/{severity}/n01440764"
            images.write(folder / f"ILSVRC2012_val_0000029{number}.JPEG", 0)
    arguments = arguments_of(tmp_path, checkpoint, ["snow"])
    message = "snow' has class folders where sequences .*: 1/n01440764"
    with pytest.raises(ValueError, match=message):
        run(imagenet_p, **arguments)
    assert network.num_seen == 0


def test_sequences_beside_each_other_may_be_called_as_classes(
    tmp_path, use, run, monkeypatch
):
    checkpoint, _ = use(NUM_CLASSES)
    names = tuple(map(str, range(NUM_CLASSES)))
    monkeypatch.setattr(run_dir, "trained_class_names", lambda _: names)
    for number in range(2):
        images.write(tmp_path / f"p/snow/1/{number}.png", 9)
    run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["snow"]))
    assert read_report(tmp_path)["perturbations"]["snow"]["num_sequences"] == 1


@pytest.mark.parametrize("names", ["ab", "abd"])
def test_shards_must_have_the_same_sequences(tmp_path, use, run, names):
    checkpoint, network = use(NUM_CLASSES)
    write_shards(tmp_path / "p/tilt")
    write_shards(tmp_path / "p/scale", dict.fromkeys(names, (0, 1)))
    write_shards(tmp_path / "p/rotate")
    arguments = arguments_of(tmp_path, checkpoint, ["tilt", "scale", "rotate"])
    with pytest.raises(ValueError, match="/scale' has . sequences, without c"):
        run(imagenet_p, **arguments)
    assert network.num_seen == 0


@pytest.mark.parametrize(
    "keys, message",
    [
        ("a/0 a/1 b/0 b/1 a/2 a/3", "'a': its frames do not follow each other"),
        ("a/000 a/002 a/001", "'a': .* '002' stands before '001'"),
        ("a/0 a/1 a/0 a/1", "'a': .* '1' stands before '0'"),
        ("a/0 a/0", "'a': a frame is there twice"),
        ("a/0 a/1 a/3", "'a': frames are missing between '1' and '3'"),
        ("a/0 a/1 b/0", "'b': a sequence must have at least two frames"),
        ("a/0 a", "must be <sequence>/<frame>. Received: 'a', record 1"),
        ("/0 /1", "must be <sequence>/<frame>. Received: '/0', record 0"),
    ],
)
def test_keys_must_tell_whole_sequences(tmp_path, use, run, keys, message):
    checkpoint, network = use(NUM_CLASSES)
    writer = records.ShardedWriter(
        str(tmp_path / "p/tilt"), "validation", 1, kind="unlabeled", config={}
    )
    with writer.open_shard(0) as out:
        for key in keys.split():
            out.write(
                records.unlabeled_example(images.grey_image(0), key), None
            )
    writer.finish()
    with pytest.raises(ValueError, match="p/tilt: .*" + message):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt"]))
    assert network.num_seen == 0


def test_a_missing_frame_is_told_first(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    for folder, times in (("tilt", (10, 20, 50)), ("scale", (1, 2, 4, 5))):
        for time in times:
            images.write(tmp_path / f"p/{folder}/x/a/frame{time:02d}.png", 9)
    message = "scale: .*x/a': frames are missing between 'frame02.png' and 'fr"
    with pytest.raises(ValueError, match=message):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt", "scale"]))
    assert network.num_seen == 0
    # Numbers that are no counts, such as times, may leave any out.
    run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt"]))


def test_perturbations_of_two_sizes_are_refused_first(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    for name, size in (("tilt", 8), ("scale", 12)):
        for number in range(2):
            path = tmp_path / f"p/{name}/x/a/{number}.png"
            images.write(path, 9, size=size)
    message = "tilt has 8x8 pixels, that of scale 12x12"
    with pytest.raises(ValueError, match=message):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt", "scale"]))
    assert network.num_seen == 0


def test_tfds_is_refused(tmp_path, use, run):
    checkpoint, _ = use(NUM_CLASSES)
    arguments = arguments_of(tmp_path, checkpoint, ["tilt"])
    with pytest.raises(ValueError, match="from folders and shards alone"):
        run(imagenet_p, **{**arguments, "label_data_dir": "tfds:imagenet_p"})


def test_shards_must_have_all_classes(tmp_path, use, run):
    checkpoint, _ = use(2)
    write_shards(tmp_path / "p/tilt", {"cat/a": (0, 1), "cat/b": (0, 0)})
    (tmp_path / "p/tilt/classes.json").write_text('["cat", "dog"]')
    with pytest.raises(ValueError, match="1 class folders, without dog"):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt"]))


@pytest.mark.parametrize("write", [write_frames, write_shards])
def test_replaced_frames_are_measured_anew(tmp_path, use, run, write):
    checkpoint, network = use(NUM_CLASSES)
    write(tmp_path / "p/tilt")
    write(tmp_path / "p/scale")
    arguments = arguments_of(tmp_path, checkpoint, ["tilt", "scale"])
    run(imagenet_p, **arguments)
    before = read_report(tmp_path)["perturbations"]
    steady = {name: (1,) * len(row) for name, row in SEQUENCES.items()}
    shutil.rmtree(tmp_path / "p/tilt")
    write(tmp_path / "p/tilt", steady)
    run(imagenet_p, **arguments)
    after = read_report(tmp_path)["perturbations"]
    assert before["tilt"]["flip_probability"] > 0
    assert after["tilt"]["flip_probability"] == 0
    assert after["scale"] == before["scale"]
    assert network.num_seen == 3 * 12


def test_frames_without_leading_zeros_are_refused_first(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    for number in range(12):
        images.write(tmp_path / f"p/tilt/x/a/{number}.png", 9)
    message = "tilt: sequence 'x/a': .*'10.png' .* '2.png'.*padded with zeros"
    with pytest.raises(ValueError, match=message):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt"]))
    assert network.num_seen == 0


def test_perturbed_images_of_ones_own_are_measured(tmp_path, use, run):
    checkpoint, _ = use(2)
    names = ["shot_noise", "gaussian_noise"]
    for label, name in enumerate(("dog", "cat")):
        grey = images.grey_of(label, 2)
        images.write(tmp_path / "photos" / name / "0.png", grey, size=24)
    # Not in the order of the alphabet.
    (tmp_path / "photos/classes.json").write_text('["dog", "cat"]')
    corruptions.write(
        corruptions.CorruptionsConfig(
            input=str(tmp_path / "photos"),
            output_dir=str(tmp_path / "p"),
            what="perturbations",
            perturbations=tuple(names),
        )
    )
    arguments = arguments_of(tmp_path, checkpoint, names)
    run(imagenet_p, **arguments)
    for figures in read_report(tmp_path)["perturbations"].values():
        assert (figures["num_sequences"], figures["num_frames"]) == (2, 62)
        assert (figures["flip_probability"], figures["top_1"]) == (0, 1)
    # Other labels are other figures.
    listed = tmp_path / "p/shot_noise/classes.json"
    listed.write_text('["cat", "dog"]')
    run(imagenet_p, **arguments)
    assert read_report(tmp_path)["perturbations"]["shot_noise"]["top_1"] == 0
    listed.write_text('["cat", "dog", "owl"]')
    with pytest.raises(ValueError, match="classes.json' must list the 2 class"):
        run(imagenet_p, **arguments)


def test_a_sequence_of_one_frame_is_named(tmp_path, use, run):
    checkpoint, _ = use(NUM_CLASSES)
    images.write(tmp_path / "p/tilt/x/000.png", 9)
    with pytest.raises(ValueError, match="p/tilt.*at least two frames"):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt"]))


def test_networks_of_few_classes_have_distances_too():
    assert imagenet_p.top_5_distance([[[0, 1], [1, 0]]], noise=False) == 2


def names_in(folder):
    sequences = frames.open_sequences(str(folder), "validation")
    return [row["sequence"].numpy().decode() for row in sequences.frames()]


def test_hidden_folders_and_linked_classes(tmp_path):
    write_frames(tmp_path / "elsewhere")
    (tmp_path / "tilt").mkdir()
    (tmp_path / "tilt/n01440764").symlink_to(tmp_path / "elsewhere/n01440764")
    images.write(tmp_path / "tilt/n01440764/b/.hidden/000.png", 0)
    found = names_in(tmp_path / "tilt")
    assert found == [
        f"n01440764/{name}"
        for name, classes in SEQUENCES.items()
        for _ in classes
    ]


@pytest.mark.parametrize(
    "name, message",
    [
        ("Thumbs.db", "1 files are neither videos nor JPEG or PNG images"),
        ("a.mp4", "1 videos, but 11 other files"),
    ],
)
def test_other_files_are_named(tmp_path, name, message):
    write_frames(tmp_path)
    (tmp_path / "n01440764/a" / name).write_bytes(b"?")
    with pytest.raises(ValueError, match=message):
        frames.open_sequences(str(tmp_path), "validation")


def test_an_unreadable_frame_is_named(tmp_path, use, run):
    checkpoint, _ = use(NUM_CLASSES)
    write_frames(tmp_path / "p/tilt")
    (tmp_path / "p/tilt/n01440764/b/002.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="tilt.*n01440764/b'.*Unknown image"):
        run(imagenet_p, **arguments_of(tmp_path, checkpoint, ["tilt"]))


def test_frames_are_not_looked_through_when_memory_is_full(
    tmp_path, use, monkeypatch
):
    checkpoint, network = use(NUM_CLASSES)
    write_frames(tmp_path / "tilt")

    def fill(images):
        raise MemoryError("full")

    monkeypatch.setattr(network, "_count", fill)
    answers = sequence_answers.Answers(
        network_lib.open_network(network_lib.NetworkConfig(checkpoint))
    )
    sequences = frames.open_sequences(str(tmp_path / "tilt"), "validation")
    opened = []

    def count_frames():
        opened.append(1)
        return sequences.frames()

    counted = dataclasses.replace(sequences, frames=count_frames)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        list(answers(counted))
    assert len(opened) == 1


def test_a_video_cut_short_is_refused(tmp_path):
    cv2 = pytest.importorskip("cv2")
    write_videos(tmp_path)
    path = str(tmp_path / "n01440764/a.mp4")
    assert len(frames._decode_video(path.encode())) == len(SEQUENCES["a"])

    open_video = cv2.VideoCapture

    class Short:
        """A video whose head promises nine frames."""

        def __init__(self, name):
            video = open_video(name)
            self.read, self.release = video.read, video.release

        def get(self, _):
            return 9.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "VideoCapture", Short)
        with pytest.raises(ValueError, match="4 of 9 frames of this video"):
            frames._decode_video(path.encode())


def test_videos_without_opencv_say_what_to_install(tmp_path, monkeypatch):
    import sys

    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"noisy-student-training\[video\]"):
        frames.open_sequences(str(tmp_path), "validation")


def test_an_archives_folder_may_stand_between(tmp_path, caplog):
    (tmp_path / "noise/shot_noise").mkdir(parents=True)
    groups = {"noise": ("shot_noise",), "weather": ("fog",)}
    assert layout.folder_of(str(tmp_path), "shot_noise", groups) == str(
        tmp_path / "noise/shot_noise"
    )
    assert layout.folder_of(str(tmp_path), "fog", groups) == str(
        tmp_path / "fog"
    )
    (tmp_path / "noise/old_noise").mkdir()
    (tmp_path / "other").mkdir()
    layout.check_root(str(tmp_path), groups)
    assert "not of this benchmark: noise/old_noise, other." in caplog.text
    (tmp_path / "shot_noise").mkdir()
    with pytest.raises(ValueError, match="'noise' and beside it: shot_noise"):
        layout.check_root(str(tmp_path), groups)
    with pytest.raises(ValueError, match="no folder .*, such as 'fog', but: 1"):
        (tmp_path / "fog/1").mkdir(parents=True)
        layout.check_root(str(tmp_path / "fog"), groups)
