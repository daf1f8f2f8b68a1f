"""Tests of ImageNet-C: its figures, its folders, its runs."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_prep import files, records
from noisy_student import (
    checkpoints,
    config,
    evaluate,
    models,
    optimizers,
    run_dir,
    train,
)
from noisy_student.robustness import (
    alexnet,
    corruption_sets,
    imagenet_c,
    parts,
)
from tests.data_prep import tfds_sets
from tests.noisy_student import fixtures, tiny_run
from tests.noisy_student.robustness import images

pytestmark = pytest.mark.slow

NUM_CLASSES = 4
# Of 8 images, as many are wrong.
WRONG = {"gaussian_noise": (0, 1, 2, 3, 4), "speckle_noise": (1, 1, 1, 1, 1)}


def random_errors(seed):
    rng = np.random.default_rng(seed)
    names = (*imagenet_c.CORRUPTIONS, *imagenet_c.EXTRA_CORRUPTIONS)
    return {name: rng.random(5) for name in names}


def test_there_are_fifteen_corruptions_and_four_extras():
    assert len(imagenet_c.CORRUPTIONS) == 15
    assert len(imagenet_c.EXTRA_CORRUPTIONS) == 4


def test_alexnet_scores_one_hundred():
    errors = {
        name: [error / 100] * 5
        for name, error in alexnet.CORRUPTION_ERRORS.items()
    }
    clean = alexnet.CLEAN_ERROR / 100
    assert imagenet_c.mean_corruption_error(errors) == pytest.approx(100)
    assert imagenet_c.relative_mean_corruption_error(
        errors, clean
    ) == pytest.approx(100)
    # The means of the published table, 1 - 0.211 on average.
    assert imagenet_c.unnormalised_error(errors) == pytest.approx(
        sum(alexnet.CORRUPTION_ERRORS.values()) / 15
    )


@pytest.mark.parametrize("seed", range(3))
def test_means_equal_a_count_by_hand(seed):
    errors, clean = random_errors(seed), 0.2
    total, relative, plain = 0.0, 0.0, 0.0
    for name, reference in alexnet.CORRUPTION_ERRORS.items():
        ours, theirs, ours_added, theirs_added = 0.0, 0.0, 0.0, 0.0
        for severity in range(5):
            ours += errors[name][severity]
            theirs += reference / 100
            ours_added += errors[name][severity] - clean
            theirs_added += reference / 100 - 0.4345
        total += ours / theirs
        relative += ours_added / theirs_added
        plain += ours / 5
    assert imagenet_c.mean_corruption_error(errors) == pytest.approx(
        100 * total / 15
    )
    assert imagenet_c.relative_mean_corruption_error(
        errors, clean
    ) == pytest.approx(100 * relative / 15)
    assert imagenet_c.unnormalised_error(errors) == pytest.approx(
        100 * plain / 15
    )


@pytest.mark.parametrize("clean_error", [43.0, -0.1, float("nan")])
def test_a_clean_error_must_be_a_fraction(clean_error):
    with pytest.raises(ValueError, match="`clean_error` must be a fraction"):
        imagenet_c.relative_mean_corruption_error(random_errors(0), clean_error)


def test_extras_do_not_count():
    errors = random_errors(0)
    with_extras = imagenet_c.mean_corruption_error(errors)
    for name in imagenet_c.EXTRA_CORRUPTIONS:
        del errors[name]
    assert imagenet_c.mean_corruption_error(errors) == with_extras


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda e: e.pop("fog"), "Missing: fog"),
        (lambda e: e.update(rain=[0] * 5), "Received: 'rain'"),
        (lambda e: e.update(fog=[0] * 4), "errors` of fog must be five"),
        (lambda e: e.update(fog=[50] * 5), "errors` of fog must be five"),
    ],
)
def test_incomplete_errors_are_refused(change, message):
    errors = random_errors(0)
    change(errors)
    with pytest.raises(ValueError, match=message):
        imagenet_c.mean_corruption_error(errors)


def write_set(folder, num_wrong, num_images=8):
    """Writes a set of class folders of which so many images are wrong."""
    for number in range(num_images):
        label = number % NUM_CLASSES
        shown = (label + (number < num_wrong)) % NUM_CLASSES
        images.write(
            folder / str(label) / f"{number}.png",
            images.grey_of(shown, NUM_CLASSES),
        )


def write_sets(root, group="", wrong=WRONG):
    for name, counts in wrong.items():
        for severity, count in enumerate(counts, start=1):
            write_set(root / group / name / str(severity), count)
    return root


def flags_of(root, checkpoint, output, corruptions=tuple(WRONG)):
    return {
        "label_data_dir": root,
        "checkpoint": checkpoint,
        "output_dir": output,
        "corruptions": ",".join(corruptions),
        "eval_batch_size": 3,
    }


def read_report(output):
    return json.loads((output / "imagenet_c.json").read_text())


@pytest.mark.parametrize("group", ["", "noise"])
def test_errors_of_every_severity(tmp_path, use, run, group):
    checkpoint, _ = use(NUM_CLASSES)
    wrong = {"gaussian_noise": WRONG["gaussian_noise"]}
    root = write_sets(tmp_path / "c", group, wrong)
    run(imagenet_c, **flags_of(root, checkpoint, tmp_path / "out", wrong))
    report = read_report(tmp_path / "out")
    noise = report["corruptions"]["gaussian_noise"]
    assert noise["error"] == [0, 1 / 8, 2 / 8, 3 / 8, 4 / 8]
    assert noise["corruption_error"] == pytest.approx(25 / 0.886428)
    assert report["figures"] == {"num_images": 8}
    assert report["kind"] == "imagenet_c"
    assert (report["image_size"], report["resize"]) == (8, "whole")
    assert report["stored_size"] == [8, 8]


def test_all_fifteen_give_the_means(tmp_path, use, run, monkeypatch):
    checkpoint, _ = use(NUM_CLASSES)
    wrong = {name: (1, 2, 2, 2, 3) for name in imagenet_c.CORRUPTIONS}
    for name in wrong:
        for severity in range(1, 6):
            for label in range(NUM_CLASSES):
                folder = tmp_path / "c" / name / str(severity) / str(label)
                folder.mkdir(parents=True)
    measured = {
        f"{name}_{severity}": {"top_1": 1 - count / 8, "num_images": 8}
        for name, counts in wrong.items()
        for severity, count in enumerate(counts, start=1)
    }
    measured["clean"] = {"top_1": 7 / 8, "num_images": 8}

    def measure_all(kind, config, network, sets):
        # The clean images are seen as the evaluation on ImageNet sees them.
        assert [part.name for part in sets] == list(measured)
        assert [part.view is network.view for part in sets[-2:]] == [
            True,
            False,
        ]
        return measured, [8, 8]

    monkeypatch.setattr(parts, "measure_all", measure_all)
    run(
        imagenet_c,
        **flags_of(tmp_path / "c", checkpoint, tmp_path / "out", wrong),
        clean_data_dir=tmp_path / "clean",
    )
    figures = read_report(tmp_path / "out")["figures"]
    errors = {name: [1 / 8, 1 / 4, 1 / 4, 1 / 4, 3 / 8] for name in wrong}
    assert figures == pytest.approx(
        {
            "num_images": 8,
            "top_1": 0.75,
            "clean_top_1": 7 / 8,
            "unnormalised_error": 25.0,
            "mean_corruption_error": imagenet_c.mean_corruption_error(errors),
            "relative_mean_corruption_error": (
                imagenet_c.relative_mean_corruption_error(errors, 1 / 8)
            ),
        }
    )


def test_a_run_goes_on_where_it_was_stopped(tmp_path, use, run, monkeypatch):
    checkpoint, network = use(NUM_CLASSES)
    root = write_sets(tmp_path / "c")
    arguments = flags_of(root, checkpoint, tmp_path / "out")
    write_json, stopped = files.write_json, []

    def stop_at_the_fourth(path, value):
        if path.endswith("_4.json") and not stopped:
            stopped.append(path)
            raise KeyboardInterrupt
        write_json(path, value)

    monkeypatch.setattr(files, "write_json", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run(imagenet_c, **arguments)
    # 8 images in batches of 3, the last one padded; the fourth set is lost.
    assert network.num_seen == 4 * 9
    network.num_seen -= 9
    run(imagenet_c, **arguments)
    assert network.num_seen == 10 * 9
    run(imagenet_c, **arguments)
    assert network.num_seen == 10 * 9
    noise = read_report(tmp_path / "out")["corruptions"]["gaussian_noise"]
    assert noise["error"] == [0, 1 / 8, 2 / 8, 3 / 8, 4 / 8]


def test_what_is_known_of_another_network_is_not_taken(tmp_path, use, run):
    checkpoint, _ = use(NUM_CLASSES)
    root = write_sets(tmp_path / "c", wrong={"fog": (0,) * 5})
    arguments = flags_of(root, checkpoint, tmp_path / "out", ["fog"])
    run(imagenet_c, **arguments)
    with pytest.raises(ValueError, match="`resize`: 'whole' before, 'crop'"):
        run(imagenet_c, **arguments, resize="crop")
    (tmp_path / "trained/model.ckpt-1.index").write_bytes(b"other weights")
    with pytest.raises(ValueError, match="`weights`"):
        run(imagenet_c, **arguments)


def write_shards(folder, rows, size=8, **classes):
    """Writes a set as a shard, rows of (label, label that is shown)."""
    writer = records.ShardedWriter(
        str(folder), "validation", 1, kind="labeled", config={}, **classes
    )
    with writer.open_shard(0) as shard:
        for number, (label, shown) in enumerate(rows):
            image = images.grey_image(
                images.grey_of(shown, NUM_CLASSES), size=size
            )
            shard.write(
                records.labeled_example(image, label + 1, str(number)),
                label + 1,
            )
    writer.finish()


def test_shards_stand_for_class_folders(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    for severity in range(1, 6):
        rows = [(n, n if n < severity else 0) for n in range(NUM_CLASSES)]
        write_shards(tmp_path / "c/fog" / str(severity), rows)
    arguments = flags_of(tmp_path / "c", checkpoint, tmp_path / "out", ["fog"])
    for _ in range(2):
        run(imagenet_c, **arguments)
        fog = read_report(tmp_path / "out")["corruptions"]["fog"]
        assert fog["error"] == [3 / 4, 2 / 4, 1 / 4, 0, 0]
        assert network.num_seen == 5 * 6


ALL = [(label, label) for label in range(NUM_CLASSES)]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda fog: write_shards(fog / "3", 4 * [(0, 0)]), "no image of 3"),
        (
            lambda fog: write_shards(fog / "1", [*ALL[:3], (4, 0)]),
            "labels are 0 to 3. Received: 4",
        ),
        (
            lambda fog: write_shards(fog / "4", [*ALL, (0, 0)]),
            "fog_1 has 4 images, fog_4 has 5",
        ),
        (lambda fog: (fog / "2/x").mkdir(), "fog/2' has shards, also x/"),
        (
            lambda fog: [remove(fog / "5"), write_set(fog / "5", 0, 4)],
            "shards in .*fog/1, .*class folders in the others",
        ),
        (
            lambda fog: write_shards(fog / "5", ALL, size=12),
            "fog_1 has 8x8 pixels, that of fog_5 12x12",
        ),
    ],
)
def test_shards_of_other_images_are_refused_first(
    tmp_path, use, run, change, message
):
    checkpoint, network = use(NUM_CLASSES)
    for severity in range(1, 6):
        write_shards(tmp_path / "c/fog" / str(severity), ALL)
    change(tmp_path / "c/fog")
    arguments = flags_of(tmp_path / "c", checkpoint, tmp_path / "out", ["fog"])
    with pytest.raises(ValueError, match=message):
        run(imagenet_c, **arguments)
    assert network.num_seen == 0


def test_shards_have_as_many_images_of_each_class(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    for severity in range(1, 6):
        more = severity if severity == 3 else 0
        write_shards(tmp_path / f"c/fog/{severity}", [*ALL, (more, more)])
    arguments = flags_of(tmp_path / "c", checkpoint, tmp_path / "out", ["fog"])
    with pytest.raises(ValueError, match="fog_3: not as many .* as in fog_1"):
        run(imagenet_c, **arguments)
    assert network.num_seen == 0


def test_shards_have_the_classes_of_a_run(tmp_path, use, run, monkeypatch):
    checkpoint, network = use(NUM_CLASSES)
    names = ("dog", "cat", "owl", "emu")
    monkeypatch.setattr(run_dir, "trained_class_names", lambda _: names)
    for severity in range(1, 6):
        write_shards(
            tmp_path / f"c/fog/{severity}", ALL, class_names=sorted(names)
        )
    arguments = flags_of(tmp_path / "c", checkpoint, tmp_path / "out", ["fog"])
    with pytest.raises(ValueError, match="label 0 is 'cat', not 'dog'"):
        run(imagenet_c, **arguments)
    assert network.num_seen == 0


def test_places_of_tensorflow_datasets():
    assert (
        corruption_sets.locate("tfds:imagenet2012_corrupted", "fog", 3)
        == "tfds:imagenet2012_corrupted/fog_3"
    )


def remove(path):
    for inner in sorted(path.rglob("*"), reverse=True):
        inner.rmdir() if inner.is_dir() else inner.unlink()
    path.rmdir()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda fog: remove(fog / "3"), "has 4 severities, without 3"),
        (lambda fog: (fog / "6").mkdir(), "has 6 severities, also 6"),
        (lambda fog: remove(fog / "2/1"), "has 3 class folders, without 1"),
        (lambda fog: (fog / "5/x").mkdir(), "has 5 class folders, also x"),
        (lambda fog: fog.rename(fog.parent / "snow"), "without 1, 2, 3, 4, 5"),
        (lambda fog: remove(fog), "no folder of this benchmark in it"),
    ],
)
def test_incomplete_folders_are_refused_first(
    tmp_path, use, run, damage, message
):
    checkpoint, network = use(NUM_CLASSES)
    root = write_sets(tmp_path / "c", wrong={"fog": (0,) * 5})
    damage(root / "fog")
    with pytest.raises(ValueError, match=message):
        run(
            imagenet_c,
            **flags_of(root, checkpoint, tmp_path / "out", ["fog"]),
        )
    assert network.num_seen == 0


def test_a_wrong_number_of_classes_is_refused(tmp_path, use, run):
    checkpoint, _ = use(NUM_CLASSES + 1)
    root = write_sets(tmp_path / "c", wrong={"fog": (0,) * 5})
    with pytest.raises(ValueError, match="has 5 classes, .*/fog/1 has 4 cl"):
        run(
            imagenet_c,
            **flags_of(root, checkpoint, tmp_path / "out", ["fog"]),
        )


def test_sets_of_other_images_are_refused_first(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    root = write_sets(tmp_path / "c", wrong={"fog": (0,) * 5})
    arguments = flags_of(root, checkpoint, tmp_path / "out", ["fog"])
    # Beside the class folders nothing is an image.
    (root / "fog/3/readme.txt").touch()
    lost, found = root / "fog/4/0/4.png", root / "fog/4/1/9.png"
    stray = root / "fog/2/0/Thumbs.db"
    lost.rename(found)
    stray.touch()
    with pytest.raises(
        ValueError,
        match="fog/2' has 9 images, also 0/Thumbs.*"
        "fog/4' has 8 images, without 0/4; also 1/9",
    ):
        run(imagenet_c, **arguments)
    assert network.num_seen == 0
    found.rename(lost)
    stray.unlink()
    run(imagenet_c, **arguments)
    # Figures of other images are not taken for these.
    images.write(root / "fog/1/0/9.png", 0)
    for severity in range(2, 6):
        images.write(root / f"fog/{severity}/0/9.png", 0)
    seen = network.num_seen
    run(imagenet_c, **arguments)
    assert read_report(tmp_path / "out")["figures"]["num_images"] == 9
    assert network.num_seen == seen + 5 * 9


def test_replaced_images_are_measured_anew(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    root = write_sets(tmp_path / "c", wrong={"fog": (0,) * 5})
    arguments = flags_of(root, checkpoint, tmp_path / "out", ["fog"])
    run(imagenet_c, **arguments)
    write_set(root / "fog/2", 4)
    # Labels are part of what was measured.
    order = json.dumps(list(map(str, reversed(range(NUM_CLASSES)))))
    (root / "fog/3/classes.json").write_text(order)
    run(imagenet_c, **arguments)
    fog = read_report(tmp_path / "out")["corruptions"]["fog"]
    assert fog["error"] == [0, 1 / 2, 1, 0, 0]
    assert network.num_seen == 7 * 9


def test_clean_images_are_looked_for_first(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    root = write_sets(tmp_path / "c", wrong={"fog": (0,) * 5})
    with pytest.raises(FileNotFoundError, match="--clean_data_dir=.*nowhere"):
        run(
            imagenet_c,
            **flags_of(root, checkpoint, tmp_path / "out", ["fog"]),
            clean_data_dir="nowhere",
        )
    write_set(tmp_path / "clean", 0, num_images=7)
    with pytest.raises(ValueError, match="fog_1 has 8 images, clean has 7"):
        run(
            imagenet_c,
            **flags_of(root, checkpoint, tmp_path / "out", ["fog"]),
            clean_data_dir=tmp_path / "clean",
        )
    assert network.num_seen == 0


def test_remote_class_folders_are_refused_in_words(use, run, tmp_path):
    checkpoint, _ = use(NUM_CLASSES)
    for severity in range(1, 6):
        for label in range(NUM_CLASSES):
            files.write_bytes(f"ram://c/fog/{severity}/{label}/0.png", b"")
    arguments = flags_of("ram://c", checkpoint, tmp_path / "out", ["fog"])
    with pytest.raises(FileNotFoundError, match="fog/1: neither shards .*nor"):
        run(imagenet_c, **arguments)


def test_a_run_of_less_leaves_nothing_out_of_the_report(
    tmp_path, use, run, monkeypatch
):
    checkpoint, _ = use(NUM_CLASSES)
    for name in WRONG:
        for place in (f"{name}/{severity}" for severity in range(1, 6)):
            for label in range(NUM_CLASSES):
                (tmp_path / "c" / place / str(label)).mkdir(parents=True)
    seen = []

    def measure_all(kind, config, network, sets):
        seen.append([part.name for part in sets])
        figures = {"top_1": 0.5, "num_images": 8}
        return {part.name: figures for part in sets}, [8, 8]

    monkeypatch.setattr(parts, "measure_all", measure_all)
    arguments = flags_of(
        tmp_path / "c", checkpoint, tmp_path / "out", ["gaussian_noise"]
    )
    run(imagenet_c, **arguments)
    run(imagenet_c, **arguments, clean_data_dir=tmp_path / "clean")
    assert [len(names) for names in seen] == [5, 6]
    run(imagenet_c, **{**arguments, "corruptions": "speckle_noise"})
    report = read_report(tmp_path / "out")
    assert set(seen[2]) == {
        "clean",
        *(f"{name}_{severity}" for name in WRONG for severity in range(1, 6)),
    }
    assert set(report["corruptions"]) == set(WRONG)
    assert report["figures"]["clean_top_1"] == 0.5
    with pytest.raises(ValueError, match="`clean_data_dir`: .*/clean' before"):
        run(imagenet_c, **arguments, clean_data_dir=tmp_path / "others")
    assert len(seen) == 3


def test_how_a_path_is_spelled_does_not_matter(tmp_path, use, run):
    checkpoint, network = use(NUM_CLASSES)
    root = write_sets(tmp_path / "c", wrong={"fog": (0,) * 5})
    for spelled in (root, f"{root}/", f"{root}/../c"):
        run(
            imagenet_c,
            **flags_of(spelled, checkpoint, tmp_path / "out", ["fog"]),
        )
    assert network.num_seen == 5 * 9


class TinyCorrupted(tfds.core.GeneratorBasedBuilder):
    """Four images a severity, as `imagenet2012_corrupted` has them."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=f"fog_{severity}", version="1.0.0")
        for severity in range(1, 6)
    ]
    code_path = None

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(8, 8, 3), encoding_format="jpeg"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                }
            )
        )

    def _split_generators(self, dl_manager):
        return {"validation": self._generate_examples()}

    def _generate_examples(self):
        severity = int(self.builder_config.name[-1])
        for label in range(NUM_CLASSES):
            shown = label if label < severity else 0
            grey = images.grey_of(shown, NUM_CLASSES)
            image = np.full((8, 8, 3), grey, np.uint8)
            yield label, {"image": image, "label": label}


def test_prepared_tfds_sets(tmp_path, use, run):
    checkpoint, _ = use(NUM_CLASSES)
    builders = [
        functools.partial(TinyCorrupted, config=builder_config.name)
        for builder_config in TinyCorrupted.BUILDER_CONFIGS
    ]
    with tfds_sets.prepared(tmp_path / "tfds", *builders):
        arguments = flags_of(
            "tfds:tiny_corrupted", checkpoint, tmp_path / "out", ["fog"]
        )
        run(imagenet_c, **arguments)
        with pytest.raises(ValueError, match="4 classes, the network has 5"):
            use(NUM_CLASSES + 1)
            run(imagenet_c, **{**arguments, "output_dir": tmp_path / "other"})
    fog = read_report(tmp_path / "out")["corruptions"]["fog"]
    assert fog["error"] == [3 / 4, 2 / 4, 1 / 4, 0, 0]


def test_other_folders_are_told(tmp_path, use, run, warned):
    checkpoint, _ = use(NUM_CLASSES)
    root = write_sets(tmp_path / "c", wrong={"fog": (0,) * 5})
    (root / "archives").mkdir()
    run(imagenet_c, **flags_of(root, checkpoint, tmp_path / "out", ["fog"]))
    assert any("not of this benchmark: archives" in line for line in warned())


@pytest.mark.parametrize(
    "corruptions, message",
    [("rain", "Received: 'rain'"), ("", "at least one")],
)
def test_wrong_corruptions_are_refused(
    tmp_path, use, run, corruptions, message
):
    checkpoint, _ = use(NUM_CLASSES)
    arguments = flags_of(tmp_path, checkpoint, tmp_path / "out", [corruptions])
    with pytest.raises(ValueError, match=message):
        run(imagenet_c, **arguments)


def test_extra_stands_for_the_extras():
    assert imagenet_c.choose(["fog", "extra", "fog"]) == (
        "fog",
        *imagenet_c.EXTRA_CORRUPTIONS,
    )


def test_a_run_is_evaluated_as_by_itself(tmp_path, run, monkeypatch):
    # Traced in no time; the weights go through files as those of any network.
    monkeypatch.setattr(models, "build", tiny_run.build)
    model = fixtures.MODEL
    state = train.create_state(models.build(model), optimizers.RMSprop(0.1))
    run_dir.claim(str(tmp_path / "run"), {"model": config.to_dict(model)})
    checkpoints.CheckpointManager(
        str(tmp_path / "run"), state, max_to_keep=1
    ).save(1, {})
    for severity in range(1, 6):
        for number in range(6):
            label = number % fixtures.NUM_CLASSES
            folder = tmp_path / "c/fog" / str(severity) / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            image = fixtures.image_bytes(label, 10 * severity + number)
            (folder / f"{number}.png").write_bytes(image)
    run(
        imagenet_c,
        **flags_of(tmp_path / "c", tmp_path / "run", tmp_path / "out", ["fog"]),
    )
    fog = read_report(tmp_path / "out")["corruptions"]["fog"]
    network = models.load(model, str(tmp_path / "run"))
    for severity, error in enumerate(fog["error"], start=1):
        data = config.DataConfig(
            label_data_dir=str(tmp_path / "c/fog" / str(severity))
        )
        expected = evaluate.evaluate_split(
            network,
            model,
            data,
            strategy=tf.distribute.get_strategy(),
            batch_size=4,
        )
        assert error == pytest.approx(1 - expected["top_1"])
