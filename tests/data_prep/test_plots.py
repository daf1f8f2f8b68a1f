"""Tests of `data_prep.plots`."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from data_prep import plots
from tests.data_prep import pngs

CURVES = (
    plots.Curve("teacher", 0, "labeled", (50, 100, 150), (2.0, 1.0, 0.5)),
    plots.Curve("student 1", 1, "labeled", (50, 100, 150), (2.1, 1.1, 0.4)),
    plots.Curve("student 1", 1, "unlabeled", (50, 100, 150), (2.2, 1.3, 0.6)),
    plots.Curve("student 1", 1, "test", (150,), (0.9,)),
)
IMAGES = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(5)]

DIFFERENCES = (
    plots.Difference("student - teacher", (1.5, 2.5), 2.0, 1.2, 2.8, True),
    plots.Difference("unnoised - student", (-2.0, 0.5), -0.7, -3.0, 1.6, False),
)

FIGURES = {
    "differences": lambda theme: plots.differences(
        DIFFERENCES, x_label="points", theme=theme
    ),
    "curves": lambda theme: plots.curves(
        CURVES, y_label="accuracy", percent=True, theme=theme
    ),
    "confidence_histogram": lambda theme: plots.confidence_histogram(
        [0, 3, 5, 20],
        wrong_counts=[0, 2, 1, 0],
        min_threshold=0.3,
        theme=theme,
    ),
    "class_counts": lambda theme: plots.class_counts(
        {"kept": [10, 0, 30], "after": [30, 0, 30]},
        ["cat", "dog", "a very long name"],
        theme=theme,
    ),
    "contact_sheet": lambda theme: plots.contact_sheet(
        IMAGES,
        ["cat\n99 %"] * 5,
        wrong=[True] + [False] * 4,
        columns=3,
        theme=theme,
    ),
}


def count_pixels(png, color):
    """Returns how many pixels have a colour, "#rrggbb"."""
    return int(pngs.places(png, color).sum())


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_figure_follows_its_theme(name):
    for theme in (plots.LIGHT, plots.DARK):
        pixels = pngs.decode(FIGURES[name](theme))
        corner = "".join(f"{value:02x}" for value in pixels[0, 0])
        assert f"#{corner}" == theme.background
        assert min(pixels.shape[:2]) > 300


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_equal_inputs_give_equal_bytes_that_name_no_program(name):
    png = FIGURES[name](plots.LIGHT)
    assert png == FIGURES[name](plots.LIGHT)
    assert not Image.open(io.BytesIO(png)).text


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    FIGURES["curves"](plots.DARK)
    assert dict(matplotlib.rcParams) == before


def test_each_name_has_its_own_colour():
    png = plots.curves(CURVES[:1], y_label="loss")
    assert count_pixels(png, plots.LIGHT.series[0])
    assert not count_pixels(png, plots.LIGHT.series[1])
    png = plots.curves(CURVES, y_label="loss")
    assert count_pixels(png, plots.LIGHT.series[1])


def test_colours_repeat_when_there_are_more_rounds():
    number = len(plots.LIGHT.series) + 1
    curve = plots.Curve("student", number, "labeled", (1, 2), (0.0, 1.0))
    png = plots.curves([curve], y_label="loss")
    assert count_pixels(png, plots.LIGHT.series[1])


def test_areas_of_the_histogram_are_proportional_to_the_counts():
    theme = plots.LIGHT
    one = plots.confidence_histogram([100, 0, 0, 100])
    two = plots.confidence_histogram([100, 100, 100, 100])
    ratio = count_pixels(two, theme.right) / count_pixels(one, theme.right)
    assert ratio == pytest.approx(2, rel=0.02)


def test_wrong_labels_are_drawn_only_where_the_truth_is_known():
    theme = plots.LIGHT
    unknown = plots.confidence_histogram([5, 20])
    assert not count_pixels(unknown, theme.wrong)
    known = plots.confidence_histogram([5, 20], wrong_counts=[5, 10])
    few = plots.confidence_histogram([5, 20], wrong_counts=[0, 10])
    assert count_pixels(known, theme.wrong) > count_pixels(few, theme.wrong)
    assert count_pixels(few, theme.wrong) > 0


def test_areas_of_the_bars_are_proportional_to_the_classes_images():
    theme = plots.LIGHT
    names = list("abcdefghij")
    png = plots.class_counts({"a": [50] * 10, "b": [100] * 10}, names)
    ratio = count_pixels(png, theme.right) / count_pixels(png, theme.series[0])
    # The patches of the legend are equally large.
    assert ratio == pytest.approx(2, rel=0.05)


def test_one_count_is_drawn_in_the_colour_that_matters():
    theme = plots.LIGHT
    png = plots.class_counts({"images": [3, 1]}, ["cat", "dog"])
    assert count_pixels(png, theme.right) > 1000
    assert count_pixels(png, theme.series[0]) == 0


def test_a_thousand_classes_are_drawn_as_lines():
    theme = plots.LIGHT
    counts = np.arange(1000)
    names = [str(i) for i in counts]
    png = plots.class_counts({"a": counts, "b": np.full(1000, 999)}, names)
    width = pngs.decode(png).shape[1]
    assert width < count_pixels(png, theme.right) < 10 * width


def test_counts_of_zero_everywhere_draw_no_bar():
    theme = plots.LIGHT
    png = plots.confidence_histogram([0] * 4, wrong_counts=[0] * 4)
    some = plots.confidence_histogram([9] * 4, wrong_counts=[0] * 4)
    # What is left are the patches of the legend.
    assert count_pixels(png, theme.right) < count_pixels(some, theme.right) / 10
    png = plots.class_counts({"kept": [0, 0]}, ["a", "b"])
    some = plots.class_counts({"kept": [1, 1]}, ["a", "b"])
    assert count_pixels(png, theme.right) < count_pixels(some, theme.right) / 10


def test_names_that_look_like_formulas_are_drawn_as_they_are():
    def ink(draw, name):
        return count_pixels(draw(name), plots.LIGHT.text)

    for draw in (
        lambda name: plots.class_counts({"kept": [1]}, [name]),
        lambda name: plots.contact_sheet(IMAGES[:1], [name], wrong=[False]),
    ):
        nothing = ink(draw, "")
        plain, formula = (ink(draw, n) - nothing for n in ("mm", "$mm$"))
        # The two signs are there; as a formula they would not be.
        assert formula > 1.2 * plain > 0
        # No formula, and no error.
        assert ink(draw, r"$\frac{$") > nothing


def test_wrong_images_get_a_frame():
    theme = plots.LIGHT
    counts = [
        count_pixels(
            plots.contact_sheet(
                IMAGES[:4],
                [""] * 4,
                wrong=[i < num_wrong for i in range(4)],
            ),
            theme.wrong,
        )
        for num_wrong in range(3)
    ]
    assert counts[0] == 0
    assert counts[1] > 500
    assert counts[2] == pytest.approx(2 * counts[1], rel=0.02)


def test_a_contact_sheet_grows_by_rows():
    heights = [
        pngs.decode(
            plots.contact_sheet(
                IMAGES[:number],
                [""] * number,
                wrong=[False] * number,
                columns=2,
            )
        ).shape[0]
        for number in (1, 2, 3)
    ]
    assert heights[0] == heights[1]
    assert heights[2] == pytest.approx(2 * heights[0], abs=1)


def test_a_difference_has_the_colour_of_where_it_is_expected():
    theme = plots.LIGHT

    def amounts(*rows):
        png = plots.differences(rows, x_label="points", theme=theme)
        return [count_pixels(png, c) for c in (theme.right, theme.wrong)]

    higher, lower = DIFFERENCES
    # The legend has both, a row its own.
    (right, wrong), (other_right, other_wrong) = amounts(higher), amounts(lower)
    assert right > other_right > 0
    assert other_wrong > wrong > 0


def test_a_wider_interval_is_a_longer_line():
    def amount(low, high):
        row = plots.Difference("a", (0.0, 4.0), 2.0, low, high, True)
        png = plots.differences(
            [row, plots.Difference("b", (-5.0, 5.0), 0.0, -5.0, 5.0, False)],
            x_label="points",
        )
        return count_pixels(png, plots.LIGHT.right)

    assert amount(0.0, 4.0) > amount(1.8, 2.2)
