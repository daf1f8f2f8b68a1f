"""Tests of `data_prep.result_plots`."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from data_prep import plot_style, result_plots
from tests.data_prep import pngs

POINTS = (
    result_plots.Points(
        "before", 0, (5.0, 50.0), (77.0, 85.0), ("B0", "B7"), label_side="below"
    ),
    result_plots.Points("after", 1, (5.0, 50.0), (79.0, 87.0), ("B0", "B7")),
    result_plots.Points(
        "own", 2, (9.0,), (80.0,), ("run",), is_joined=False, label_side="right"
    ),
)
COLUMNS = {"teacher": [40.0, 60.0], "student": [20.0, 30.0]}
IMAGES = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(5)]

FIGURES = {
    "points": lambda theme: result_plots.points_over_size(
        POINTS, x_label="parameters", y_label="top-1", theme=theme
    ),
    "bars": lambda theme: result_plots.grouped_bars(
        COLUMNS,
        ["snow", "fog"],
        x_label="error",
        is_last_apart=True,
        theme=theme,
    ),
    "predictions": lambda theme: result_plots.two_predictions(
        IMAGES,
        [("cat", "99 %")] * 5,
        [("dog", "50 %")] * 5,
        columns=3,
        theme=theme,
    ),
}


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_figure_follows_its_theme(name):
    for theme in (plot_style.LIGHT, plot_style.DARK):
        pixels = pngs.decode(FIGURES[name](theme))
        corner = "".join(f"{value:02x}" for value in pixels[0, 0])
        assert f"#{corner}" == theme.background
        assert min(pixels.shape[:2]) > 300


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_equal_inputs_give_equal_bytes_and_touch_no_settings(name):
    before = dict(matplotlib.rcParams)
    png = FIGURES[name](plot_style.LIGHT)
    assert png == FIGURES[name](plot_style.LIGHT)
    assert not Image.open(io.BytesIO(png)).text
    assert dict(matplotlib.rcParams) == before


def test_sizes_are_on_a_logarithmic_axis():
    def centers(sizes):
        png = result_plots.points_over_size(
            [
                result_plots.Points(
                    "", 1, sizes, (1.0, 2.0, 1.0), ("",) * 3, is_joined=False
                )
            ],
            x_label="",
            y_label="",
        )
        # Below the legend, whose marker has the same colour.
        shown = pngs.places(png, plot_style.LIGHT.series[1])[80:]
        columns = np.flatnonzero(shown.sum(axis=0) > 12)
        parts = np.split(columns, np.flatnonzero(np.diff(columns) > 5) + 1)
        return [part.mean() for part in parts]

    left, middle, right = centers((1.0, 10.0, 100.0))
    assert middle - left == pytest.approx(right - middle, abs=2)
    left, middle, right = centers((1.0, 50.5, 100.0))
    assert middle - left > 3 * (right - middle)


def test_joined_points_have_a_line_and_others_none():
    def amount(is_joined):
        group = result_plots.Points(
            "", 1, (1.0, 100.0), (1.0, 2.0), ("", ""), is_joined=is_joined
        )
        png = result_plots.points_over_size([group], x_label="", y_label="")
        return pngs.places(png, plot_style.LIGHT.series[1]).sum(axis=0)

    assert (amount(True) > 0).mean() > 0.8
    assert (amount(False) > 0).mean() < 0.2


def test_bars_are_as_long_as_their_values():
    def lengths(columns):
        png = result_plots.grouped_bars(columns, ["a"], x_label="")
        shown = [pngs.places(png, c) for c in plot_style.LIGHT.series[:2]]
        # The legend is above.
        return [part[len(part) // 3 :].sum(axis=1).max() for part in shown]

    first, second = lengths({"one": [40.0], "two": [20.0]})
    assert first == pytest.approx(2 * second, rel=0.03)
    nothing, alone = lengths({"one": [40.0]})
    assert nothing == 0
    assert alone > 0


def test_what_is_unknown_draws_no_bar():
    def amount(value):
        png = result_plots.grouped_bars(
            {"one": [5.0, 5.0], "two": [5.0, value]}, ["a", "b"], x_label=""
        )
        return pngs.places(png, plot_style.LIGHT.series[1]).sum()

    assert amount(float("nan")) == pytest.approx(amount(5.0) / 2, rel=0.1)


def test_right_and_wrong_labels_have_their_colours():
    def ink(right, wrong):
        png = result_plots.two_predictions(IMAGES[:1], [right], [wrong])
        theme = plot_style.LIGHT
        return [pngs.places(png, c).sum() for c in (theme.right, theme.wrong)]

    right, nothing = ink(("cat", "9 %"), ("", ""))
    assert right > 0
    assert nothing == 0
    nothing, wrong = ink(("", ""), ("$dog$", "9 %"))
    assert nothing == 0
    assert wrong > 0


def test_long_names_are_cut_and_amounts_are_not():
    assert result_plots._fit("cat", "99 %") == "cat 99 %"
    fitted = result_plots._fit("a name of many letters", "99 %")
    assert fitted == "a name of many… 99 %"
    assert len(fitted) <= 21


def test_a_sheet_is_no_wider_than_its_images():
    def shape(number, columns):
        png = result_plots.two_predictions(
            IMAGES[:number],
            [("a", "")] * number,
            [("b", "")] * number,
            columns=columns,
        )
        return pngs.decode(png).shape[:2]

    one, five, rows = shape(1, 6), shape(5, 6), shape(5, 3)
    assert five[0] == one[0]
    assert five[1] == pytest.approx(5 * one[1], abs=3)
    assert rows[0] == pytest.approx(2 * one[0], abs=3)
    assert rows[1] == pytest.approx(3 * one[1], abs=3)
