"""Charts as PNG bytes, from plain arrays.

Each function takes a `Theme`, returns one PNG and touches no global state of
matplotlib. Equal inputs give equal bytes. Needs matplotlib, which comes with
the extras `[quickstart]` and `[plots]`.
"""

import dataclasses

import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib import lines, patches, ticker

from data_prep import plot_style
from data_prep.plot_style import DARK, LIGHT, Theme

__all__ = [
    "DARK",
    "LIGHT",
    "Curve",
    "Difference",
    "Theme",
    "class_counts",
    "confidence_histogram",
    "contact_sheet",
    "curves",
    "differences",
]

_TILE_INCHES = 1.0
_TILE_HEIGHT = 1.42  # An image and three lines of text.
_ROW_INCHES = 0.32
_MOST_BARS = 30
_LONGEST_NAME = 12
_FEW_POINTS = 25
_LINE_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.5)))


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of `curves`.

    Attributes:
        name: In the legend; curves of one name share a colour.
        series: Index into `Theme.series`; wraps around.
        kind: In the legend; curves of one kind share a line style.
        steps: float [points], where on the horizontal axis.
        values: float [points].
    """

    name: str
    series: int
    kind: str
    steps: tuple
    values: tuple


def curves(
    lines_to_draw, *, y_label, x_label="step", percent=False, theme=LIGHT
):
    """Draws values over training steps, or over another amount.

    Args:
        lines_to_draw: Sequence of `Curve`, of at most three kinds.
        y_label: Label of the vertical axis.
        x_label: Label of the horizontal axis, which begins at zero.
        percent: Whether values are fractions, shown as percentages.
        theme: `Theme`.

    Returns:
        PNG bytes.
    """
    fig, axes = plot_style.new_chart(theme, x_label=x_label, y_label=y_label)
    kinds = list(dict.fromkeys(curve.kind for curve in lines_to_draw))
    names = {}
    for curve in lines_to_draw:
        color = theme.series[curve.series % len(theme.series)]
        names.setdefault(curve.name, color)
        axes.plot(
            curve.steps,
            curve.values,
            color=color,
            linestyle=_LINE_STYLES[kinds.index(curve.kind)],
            linewidth=1.8,
            marker="o" if len(curve.steps) < _FEW_POINTS else None,
            markersize=6 if len(curve.steps) == 1 else 3,
            clip_on=False,
        )
    axes.set_xlim(left=0)
    axes.grid(True, color=theme.faint, linewidth=0.6, alpha=0.6)
    if percent:
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))
    plot_style.add_legend(
        fig,
        theme,
        [lines.Line2D([], [], color=c, lw=4) for c in names.values()],
        list(names),
    )
    axes.legend(
        [_kind_handle(lines_to_draw, kind, theme) for kind in kinds],
        kinds,
        fontsize=plot_style.FONT_SIZE - 1,
        labelcolor=theme.text,
        facecolor=theme.background,
        edgecolor=theme.faint,
    )
    return plot_style.to_png(fig)


def _kind_handle(lines_to_draw, kind, theme):
    """Returns what stands for a kind in the legend: its line, or its dot."""
    kinds = list(dict.fromkeys(curve.kind for curve in lines_to_draw))
    is_dot = all(
        len(curve.steps) == 1 for curve in lines_to_draw if curve.kind == kind
    )
    return lines.Line2D(
        [],
        [],
        color=theme.text,
        linestyle="" if is_dot else _LINE_STYLES[kinds.index(kind)],
        marker="o" if is_dot else None,
    )


def confidence_histogram(
    counts, *, wrong_counts=None, min_threshold=None, theme=LIGHT
):
    """Draws how many labels a teacher gave with which confidence.

    Where the truth is known, a lower panel shows which share of the labels of
    each bin is wrong; among thousands, a few wrong ones are too thin to see.

    Args:
        counts: int [bins], labels per bin; the bins divide [0, 1] evenly.
        wrong_counts: int [bins], how many of them are wrong; None if unknown.
        min_threshold: Least confidence of a kept label; None draws no line.
        theme: `Theme`.

    Returns:
        PNG bytes.
    """
    counts = np.asarray(counts)
    x_label = "teacher's confidence"
    handles, labels = [], []
    if wrong_counts is None:
        fig, axes = plot_style.new_chart(
            theme, x_label=x_label, y_label="images"
        )
        panels = [axes]
        _draw_bins(axes, counts, theme.right)
    else:
        wrong = np.asarray(wrong_counts)
        fig = plot_style.new_figure(theme)
        panels = fig.subplots(2, sharex=True, height_ratios=(3, 1.2))
        plot_style.style(panels[0], theme, x_label="", y_label="images")
        plot_style.style(panels[1], theme, x_label=x_label, y_label="wrong")
        _draw_bins(panels[0], counts - wrong, theme.right, bottom=wrong)
        _draw_bins(panels[0], wrong, theme.wrong)
        _draw_bins(panels[1], wrong / np.maximum(counts, 1), theme.wrong)
        panels[1].yaxis.set_major_formatter(ticker.PercentFormatter(1))
        handles = [patches.Patch(color=c) for c in (theme.right, theme.wrong)]
        labels = ["correct", "wrong"]
    if min_threshold is not None:
        line = {"color": theme.text, "linestyle": (0, (4, 2)), "lw": 1.2}
        for axes in panels:
            axes.axvline(min_threshold, **line)
        handles.append(lines.Line2D([], [], **line))
        labels.append("least confidence kept")
    panels[0].yaxis.set_major_locator(_count_locator())
    panels[0].set_xlim(0, 1)
    plot_style.add_legend(fig, theme, handles, labels)
    return plot_style.to_png(fig)


def _draw_bins(axes, values, color, bottom=None):
    centers = (np.arange(len(values)) + 0.5) / len(values)
    axes.bar(centers, values, 0.88 / len(values), bottom=bottom, color=color)


def class_counts(columns, class_names, *, theme=LIGHT):
    """Draws how many images each class has, counted in one way or two.

    Many classes are drawn as steps, sorted by the first column, not as bars.

    Args:
        columns: dict name in the legend -> int [classes]; one or two.
        class_names: str [classes].
        theme: `Theme`.

    Returns:
        PNG bytes.
    """
    values = [np.asarray(column) for column in columns.values()]
    colors = (theme.series[0], theme.right)[-len(values) :]
    few = len(class_names) <= _MOST_BARS
    fig, axes = plot_style.new_chart(
        theme,
        x_label="class" if few else "classes, most images first",
        y_label="images",
    )
    if few:
        _draw_bars(axes, values, colors, class_names)
    else:
        order = np.argsort(-values[0], kind="stable")
        for column, color in zip(values, colors):
            axes.stairs(column[order], baseline=None, color=color, lw=1.8)
        axes.set_xlim(0, len(order))
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(_count_locator())
    handles = [patches.Patch(color=color) for color in colors]
    plot_style.add_legend(fig, theme, handles, list(columns))
    return plot_style.to_png(fig)


def _draw_bars(axes, columns, colors, class_names):
    positions = np.arange(len(class_names))
    shifts = (-0.2, 0.2) if len(columns) > 1 else (0,)
    for column, color, shift in zip(columns, colors, shifts):
        axes.bar(positions + shift, column, 0.38, color=color)
    names = [_shorten(name) for name in class_names]
    crowded = sum(map(len, names)) + 2 * len(names) > 50
    axes.set_xticks(
        positions, names, rotation=90 if crowded else 0, parse_math=False
    )
    axes.tick_params(axis="x", length=0)


def contact_sheet(images, captions, *, wrong, columns=8, theme=LIGHT):
    """Draws images in rows, each with its caption below.

    Args:
        images: Sequence of uint8 [side, side, 3].
        captions: Sequence of str, at most three lines each.
        wrong: Sequence of bool; these images get a frame.
        columns: Images per row.
        theme: `Theme`.

    Returns:
        PNG bytes.
    """
    rows = -(-len(images) // columns)
    fig = mpl_figure.Figure(
        figsize=(columns * _TILE_INCHES, rows * _TILE_HEIGHT * _TILE_INCHES),
        dpi=plot_style.DPI,
        facecolor=theme.background,
    )
    axes = fig.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for i, (image, caption, is_wrong) in enumerate(
        zip(images, captions, wrong)
    ):
        left, top = i % columns + 0.06, i // columns * _TILE_HEIGHT + 0.06
        axes.imshow(
            image,
            extent=(left, left + 0.88, top + 0.88, top),
            interpolation="nearest",
        )
        color = theme.wrong if is_wrong else theme.text
        if is_wrong:
            axes.add_patch(
                patches.Rectangle(
                    (left, top), 0.88, 0.88, fill=False, lw=2.5, color=color
                )
            )
        axes.text(
            left + 0.44,
            top + 0.94,
            "\n".join(map(_shorten, caption.splitlines())),
            color=color,
            fontsize=8,
            ha="center",
            va="top",
            parse_math=False,
        )
    axes.set_xlim(0, columns)
    axes.set_ylim(rows * _TILE_HEIGHT, 0)
    return plot_style.to_png(fig)


@dataclasses.dataclass(frozen=True)
class Difference:
    """One row of `differences`.

    Attributes:
        name: At its left.
        values: float [seeds], drawn as small dots.
        mean: Of the values.
        low: Lower end of the interval.
        high: Upper end of the interval.
        expected_higher: Whether the mean is expected to be above zero.
    """

    name: str
    values: tuple
    mean: float
    low: float
    high: float
    expected_higher: bool


def differences(rows, *, x_label, theme=LIGHT):
    """Draws means with their intervals beside zero, the first row on top.

    Args:
        rows: Sequence of `Difference`.
        x_label: Label of the horizontal axis.
        theme: `Theme`.

    Returns:
        PNG bytes.
    """
    width, _ = plot_style.SIZE
    fig = plot_style.new_figure(
        theme, (1.4 * width, 1.3 + _ROW_INCHES * len(rows))
    )
    axes = fig.add_subplot()
    plot_style.style(axes, theme, x_label=x_label, y_label="")
    axes.axvline(0, color=theme.text, lw=1)
    sides = {True: theme.right, False: theme.wrong}
    for position, row in enumerate(rows):
        color = sides[row.expected_higher]
        axes.plot((row.low, row.high), (position,) * 2, color=color, lw=2.5)
        axes.plot(row.mean, position, "o", color=color, markersize=8)
        axes.plot(
            row.values,
            (position,) * len(row.values),
            "|",
            color=theme.text,
            markersize=9,
        )
    axes.set_yticks(
        range(len(rows)), [row.name for row in rows], parse_math=False
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    plot_style.add_legend(
        fig,
        theme,
        [lines.Line2D([], [], color=c, lw=4) for c in sides.values()],
        ["expected above zero", "expected below"],
    )
    return plot_style.to_png(fig)


def _count_locator():
    return ticker.MaxNLocator(6, integer=True, steps=(1, 2, 5, 10))


def _shorten(text):
    if len(text) <= _LONGEST_NAME:
        return text
    return text[: _LONGEST_NAME - 1] + "…"
