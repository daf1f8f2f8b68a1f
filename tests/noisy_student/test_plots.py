"""Tests of drawing the figures of the paper."""

import html
import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image

from data_prep import result_plots
from noisy_student import (
    checkpoints,
    config,
    corrected_images,
    figure_series,
    measured,
    models,
    optimizers,
    plots,
    published,
    run_dir,
    train,
)
from tests.noisy_student import robustness_reports

CENTERS = (0.2, 0.5, 0.8)
SHARPNESS = 20.0
# Grey levels of the images by class; 205 and 128 no network gets right.
GREY = {"0": (40, 60), "1": (120, 130, 140, 205), "2": (200, 128)}


def write_c(folder, name, errors, mean=None):
    figures = {"unnormalised_error": 10.0}
    if mean is not None:
        figures["mean_corruption_error"] = mean
    return robustness_reports.write(
        folder,
        name,
        "imagenet_c",
        figures=figures,
        corruptions={
            corruption: {"error": [0.1] * 5, "corruption_error": error}
            for corruption, error in errors.items()
        },
    )


def write_adversarial(folder, name, *points):
    return robustness_reports.write(
        folder,
        name,
        "adversarial",
        model_name="efficientnet-l2",
        image_size=800,
        stored_size=None,
        curve=robustness_reports.curve(*points),
    )


def write_evaluation(folder, name="own", top_1=0.8, **changes):
    return robustness_reports.write(
        folder,
        name,
        "evaluation",
        stored_size=None,
        figures={"top_1": top_1},
        **{"model_name": "efficientnet-b0", "image_size": 224, **changes},
    )


def config_of(*arguments):
    """Returns the `PlotsConfig` of a command line."""
    flag_values = flags.FlagValues()
    plots.define_flags(flag_values)
    flag_values.set_gnu_getopt(True)
    _, *reports = flag_values(["plots", *arguments])
    return plots.config_from_flags(flag_values, reports)


def draw(*arguments):
    """Runs the command; returns (page, folder/name of its charts)."""
    path = plots.draw(config_of(*arguments))
    with open(path, encoding="utf-8") as file:
        return file.read(), path[: -len(".html")]


def test_figure_2_has_the_published_points_and_own_ones(tmp_path):
    path = write_evaluation(tmp_path, top_1=0.8125)
    first, second, own = figure_series.accuracy_over_size(
        measured.read([path]), with_published=True
    )
    labels = ("B0", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "L2")
    assert first.labels == second.labels == labels
    assert first.positions == (5.3, 7.8, 9.2, 12, 19, 30, 43, 66, 480)
    assert first.values[::4] == (77.3, 83.2, 85.5)
    assert second.values[::4] == (78.8, 85.3, 88.4)
    assert set(second.sources) == {
        published.RELEASE,
        f"{published.PAPER}, Table 2",
    }
    assert own.labels == ("own",)
    assert own.values == (81.25,)
    # B0 has 5,288,548 trainable parameters.
    assert own.positions == (pytest.approx(5.288548),)
    assert own.sources == ()


def test_figure_2_refuses_what_does_not_compare(tmp_path):
    def refused(path, with_published=True):
        with pytest.raises(ValueError) as raised:
            figure_series.accuracy_over_size(
                measured.read([path]), with_published=with_published
            )
        return str(raised.value).partition(": ")[2]

    assert "kind 'evaluation'" in refused(write_c(tmp_path, "c", {"fog": 50.0}))
    small = write_evaluation(tmp_path, num_classes=10)
    assert "--nopublished draws" in refused(small)
    [alone] = figure_series.accuracy_over_size(
        measured.read([small]), with_published=False
    )
    # Of 1000 classes it has 10: 990 times 1280 weights and a bias less.
    assert alone.positions == (pytest.approx(5.288548 - 990 * 1281e-6),)
    (tmp_path / "eval.json").write_text('{"test/top_1": 0.5}')
    unknown = str(tmp_path / "eval.json")
    assert "nothing tells its network" in refused(unknown, False)


def test_figure_4_sorts_each_attack_by_epsilon(tmp_path):
    paths = [
        write_adversarial(
            tmp_path,
            "teacher",
            ("fgsm", 4, 0.3),
            ("pgd", 16, 0.01),
            ("fgsm", 0, 0.8),
        ),
        write_adversarial(tmp_path, "student", ("fgsm", 0.5, 0.7)),
    ]
    series = figure_series.accuracy_over_epsilon(measured.read(paths))
    assert [
        (one.name, one.kind, one.positions, one.values) for one in series
    ] == [
        ("teacher", "FGSM", (0, 4), (0.8, 0.3)),
        ("teacher", "PGD", (16,), (0.01,)),
        ("student", "FGSM", (0.5,), (0.7,)),
    ]
    bad = write_adversarial(tmp_path, "bad", ("shouting", 1, 0.5))
    with pytest.raises(ValueError, match="one of fgsm, pgd.*'shouting'"):
        figure_series.accuracy_over_epsilon(measured.read([bad]))
    with pytest.raises(ValueError, match="kind 'adversarial'"):
        figure_series.accuracy_over_epsilon(
            measured.read([write_evaluation(tmp_path)])
        )


def test_corruptions_keep_their_order_and_the_mean_is_last(tmp_path):
    paths = [
        write_c(tmp_path, "a", {"snow": 50.0, "fog": 40.0}, mean=45.0),
        write_c(tmp_path, "b", {"fog": 20.0, "spatter": 10.0}),
    ]
    names, columns = figure_series.error_by_corruption(measured.read(paths))
    assert names == ["snow", "fog", "spatter", "mean (mCE)"]
    assert columns["a"][:2] == [50.0, 40.0]
    assert math.isnan(columns["a"][2])
    assert columns["a"][3] == 45.0
    assert math.isnan(columns["b"][0])
    assert columns["b"][1:3] == [20.0, 10.0]
    names, _ = figure_series.error_by_corruption(measured.read(paths[1:]))
    assert names == ["fog", "spatter"]


def test_names_are_short_unless_two_would_be_equal(tmp_path):
    paths = []
    for folder in ("one", "two", "two/one"):
        (tmp_path / folder).mkdir()
        paths.append(write_evaluation(tmp_path / folder, "report"))
    paths.append(write_evaluation(tmp_path, "alone"))
    reports = measured.read(paths)
    assert figure_series.short_names(reports) == [
        paths[0],
        "two",
        paths[2],
        "alone",
    ]


@pytest.mark.slow
def test_every_figure_is_a_page_and_two_charts(tmp_path):
    reports = {
        "2": write_evaluation(tmp_path),
        "4": write_adversarial(tmp_path, "adv", ("fgsm", 2, 0.125)),
        "mce": write_c(tmp_path, "c", {"jpeg_compression": 43.21}),
    }
    rows = {
        "2": '<th scope="row">measured: own</th><td>5.3</td><td>80.00</td>',
        "4": '<th scope="row">adv, FGSM</th><td>12.50</td>',
        "mce": '<th scope="row">jpeg compression</th><td>43.21</td>',
    }
    for figure, path in reports.items():
        folder = f"--output_dir={tmp_path / 'figures'}"
        page, name = draw(f"--figure={figure}", path, folder)
        assert rows[figure] in page
        pngs = []
        for suffix in ("", "_dark"):
            with open(f"{name}{suffix}.png", "rb") as file:
                pngs.append(file.read())
        assert pngs[0] != pngs[1]
        assert page.count("data:image/png") == 2
    # The last one again.
    assert draw("--figure=mce", path, folder) == (page, name)


def test_figure_2_needs_no_report(tmp_path, monkeypatch):
    monkeypatch.setattr(
        result_plots, "points_over_size", lambda *args, **kwargs: b""
    )
    page, _ = draw("--figure=2", f"--output_dir={tmp_path}")
    assert "with Noisy Student: L2</th><td>480.0</td><td>88.40</td>" in page
    assert f"Published by {html.escape(published.RELEASE)}." in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--figure is needed: one of 2, 3, 4, mce."),
        (["--figure=4"], "Which reports? Name at least one file."),
        (["--figure=2", "--nopublished"], "Which reports?"),
        (
            ["--figure=mce", "--nopublished", "a"],
            "--published is of --figure=2",
        ),
        (["--figure=4", "--images=x", "a"], "--images is of --figure=3, not"),
        (["--figure=3", "a.json"], "--figure=3 takes no reports"),
    ],
)
def test_flags_of_other_figures_and_missing_reports_are_refused(
    arguments, message
):
    with pytest.raises(ValueError) as raised:
        config_of(*arguments)
    assert message in str(raised.value)


def test_without_matplotlib_it_says_what_to_install(
    tmp_path, without_matplotlib
):
    with pytest.raises(ValueError, match=r"training\[plots\]'"):
        draw("--figure=2", f"--output_dir={tmp_path / 'figures'}")
    assert not (tmp_path / "figures").exists()


def test_images_are_chosen_by_how_sure_the_student_is():
    labels = np.array([0, 1, 2, 0, 1])
    baseline = corrected_images.Answers(
        np.array([1, 1, 0, 2, 0]), np.full(5, 0.9, np.float32)
    )
    student = corrected_images.Answers(
        np.array([0, 1, 2, 1, 1]),
        np.array([0.5, 0.9, 0.7, 0.8, 0.7], np.float32),
    )
    # Of the second both are right, of the fourth none; the third and the
    # fifth are equally sure.
    chosen = corrected_images.choose(labels, baseline, student, 9)
    assert chosen == [2, 4, 0]
    assert corrected_images.choose(labels, baseline, student, 2) == [2, 4]
    assert corrected_images.count(labels, baseline, student) == {
        "both": 1,
        "student": 3,
        "baseline": 0,
        "neither": 1,
    }


def build(model):
    """Returns a network whose answer is a function of the mean grey level."""
    layers = tf.keras.layers
    size = model.image_size
    return tf.keras.Sequential(
        [
            layers.InputLayer((size, size, 3)),
            layers.Rescaling(1 / 255),
            layers.GlobalAveragePooling2D(),
            layers.Dense(model.num_classes, name="head"),
        ]
    )


def write_run(folder, biases, num_classes=3):
    """Writes a run whose network answers with the nearest center."""
    model = config.ModelConfig(
        "efficientnet-b0", num_classes, 16, small_image=True
    )
    network = build(model)
    centers = np.array(CENTERS[:num_classes])
    kernel = np.tile(2 * SHARPNESS * centers / 3, [3, 1])
    bias = -SHARPNESS * centers**2 + biases[:num_classes]
    network.layers[-1].set_weights([kernel, bias])
    state = train.create_state(network, optimizers.RMSprop(0.1))
    run_dir.claim(str(folder), {"model": config.to_dict(model)})
    checkpoints.CheckpointManager(str(folder), state, max_to_keep=1).save(1, {})
    return str(folder)


@pytest.fixture(scope="module", name="runs")
def _runs(tmp_path_factory):
    """Returns (folder of images, baseline, student): runs that differ in 1.

    The baseline never answers 1, but 0 for what is not bright.
    """
    work = tmp_path_factory.mktemp("runs")
    for label, levels in GREY.items():
        (work / "images" / label).mkdir(parents=True)
        for level in levels:
            pixels = np.full((16, 16, 3), level, np.uint8)
            Image.fromarray(pixels).save(
                work / "images" / label / f"{level}.png"
            )
    baseline = write_run(work / "baseline", np.array([2.0, -99.0, 0.0]))
    student = write_run(work / "student", np.zeros(3))
    return str(work / "images"), baseline, student


def test_figure_3_shows_what_the_student_corrects(tmp_path, runs, monkeypatch):
    images, baseline, student = runs
    drawn = []

    def record(images, rights, wrongs, *, theme):
        drawn.append((images, rights, wrongs))
        return theme.background.encode()

    monkeypatch.setattr(models, "build", build)
    monkeypatch.setattr(result_plots, "two_predictions", record)
    (tmp_path / "names.txt").write_text("dark\ngrey\nbright\n")
    page, name = draw(
        "--figure=3",
        f"--images={images}",
        f"--baseline={baseline}",
        f"--student={student}",
        f"--class_names_file={tmp_path / 'names.txt'}",
        "--batch_size=3",
        f"--output_dir={tmp_path / 'figures'}",
    )
    shown, rights, wrongs = drawn[0]
    # The surer the nearer to the center, 127.5.
    assert [image[0, 0, 0] for image in shown] == [130, 120, 140]
    assert rights == [("grey", amount) for amount in percents(shown)]
    assert [name for name, _ in wrongs] == ["dark"] * 3
    for who, number in (
        ("both", 3),
        ("student", 3),
        ("baseline", 0),
        ("neither", 2),
    ):
        assert f"right: {who}</th><td>{number}</td>" in page
    assert page.count("<figure>") == 3
    assert "Shown are 3 of 3, " in page
    assert 'alt="' + images + "/1/130.png" in page
    with open(f"{name}.png", "rb") as file:
        assert file.read() == b"#ffffff"
    assert len(drawn) == 2


def percents(images):
    """Returns the student's probability of class 1, computed by hand."""
    found = []
    for image in images:
        level = image[0, 0, 0] / 255
        near = [math.exp(-SHARPNESS * (level - c) ** 2) for c in CENTERS]
        found.append(f"{100 * near[1] / sum(near):.0f} %")
    return found


def test_figure_3_says_so_where_nothing_is_corrected(
    tmp_path, runs, monkeypatch
):
    images, _, student = runs
    monkeypatch.setattr(models, "build", build)
    page, _ = draw(
        "--figure=3",
        f"--images={images}",
        f"--baseline={student}",
        f"--student={student}",
        f"--output_dir={tmp_path}",
    )
    assert "The student corrects no image." in page
    assert "right: both</th><td>6</td><td>75.00</td>" in page
    assert [path.name for path in tmp_path.iterdir()] == ["figure_3.html"]


def test_figure_3_refuses_what_does_not_fit(tmp_path, runs, monkeypatch):
    images, baseline, student = runs
    monkeypatch.setattr(models, "build", build)

    def look(**changes):
        values = {"images": images, "baseline": baseline, "student": student}
        corrected_images.find(
            corrected_images.CorrectedConfig(**{**values, **changes})
        )

    with pytest.raises(ValueError, match="--baseline is needed"):
        look(baseline=None)
    with pytest.raises(FileNotFoundError, match="--student=.*nowhere"):
        look(student=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="has 2 classes, --student=.* has 3"):
        look(baseline=write_run(tmp_path / "two", np.zeros(2), 2))
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match="names 2 classes.* --student=.* 3"):
        look(class_names_file=str(tmp_path / "names.txt"))
    with pytest.raises(ValueError, match="`num_examples` must be >= 1"):
        look(num_examples=0)
    (tmp_path / "big").mkdir()
    for label in "012":
        (tmp_path / "big" / label).mkdir()
    pixels = np.zeros((20, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "big" / "0" / "tall.png")
    with pytest.raises(ValueError, match="tall.png .*20 pixels high and 16"):
        look(images=str(tmp_path / "big"))


def test_importing_it_needs_neither_tensorflow_nor_matplotlib():
    code = (
        "import sys; from noisy_student import plots; "
        "assert not {'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
