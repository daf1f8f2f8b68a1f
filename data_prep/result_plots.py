"""Charts of finished results as PNG bytes, in the style of `plots`.

Equal inputs give equal bytes. Needs matplotlib, as `plots` does.
"""

import dataclasses

import numpy as np
from matplotlib import lines, patches, ticker

from data_prep import plot_style
from data_prep.plot_style import LIGHT

_WIDE = 1.4
_LEAST_TICKS = (1, 2, 5)
# Offset in points, and alignment: off the line of curves that rise.
_LABELS = {
    "above": ((-3, 4), "right", "bottom"),
    "below": ((4, -4), "left", "top"),
    "right": ((9, 0), "left", "center"),
}
_BAR_INCHES = 0.13
_GROUP = 0.84  # Of a group's height that its bars fill.
_TILE_INCHES = 1.45
_TILE_HEIGHT = 1.27  # Of a tile: the image, and two lines of text.
_LONGEST_LINE = 21


@dataclasses.dataclass(frozen=True)
class Points:
    """Named points of `points_over_size`.

    Attributes:
        name: In the legend.
        series: Index into `Theme.series`; wraps around.
        sizes: float [points], > 0.
        values: float [points].
        labels: str [points], beside the points; empty where there is none.
        is_joined: Whether a line goes from point to point; points that are
            not joined are drawn larger.
        label_side: Where labels stand: "above", "below" or "right".
    """

    name: str
    series: int
    sizes: tuple
    values: tuple
    labels: tuple
    is_joined: bool = True
    label_side: str = "above"


def points_over_size(groups, *, x_label, y_label, theme=LIGHT):
    """Draws values over sizes, on a logarithmic axis.

    Args:
        groups: Sequence of `Points`.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        theme: `plot_style.Theme`.

    Returns:
        PNG bytes.
    """
    width, height = plot_style.SIZE
    fig = plot_style.new_figure(theme, (_WIDE * width, _WIDE * height))
    axes = fig.add_subplot()
    plot_style.style(axes, theme, x_label=x_label, y_label=y_label)
    handles = []
    for group in groups:
        color = theme.series[group.series % len(theme.series)]
        look = {
            "color": color,
            "marker": "o" if group.is_joined else "D",
            "markersize": 6 if group.is_joined else 9,
            "linestyle": "-" if group.is_joined else "",
            "linewidth": 1.8,
        }
        axes.plot(group.sizes, group.values, clip_on=False, **look)
        handles.append(lines.Line2D([], [], **look))
        _label_points(axes, group, color)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=_LEAST_TICKS))
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.margins(x=0.06, y=0.08)
    axes.grid(True, color=theme.faint, linewidth=0.6, alpha=0.6)
    plot_style.add_legend(fig, theme, handles, [group.name for group in groups])
    return plot_style.to_png(fig)


def _label_points(axes, group, color):
    offset, horizontal, vertical = _LABELS[group.label_side]
    for size, value, label in zip(group.sizes, group.values, group.labels):
        axes.annotate(
            label,
            (size, value),
            xytext=offset,
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            color=color,
            fontsize=plot_style.FONT_SIZE - 2,
            parse_math=False,
        )


def grouped_bars(columns, names, *, x_label, is_last_apart=False, theme=LIGHT):
    """Draws a horizontal bar for each name and column, the first on top.

    Args:
        columns: dict name in the legend -> float [names]; NaN draws no bar.
        names: str [names], at the left.
        x_label: Label of the horizontal axis.
        is_last_apart: Whether a line divides the last name from the others.
        theme: `plot_style.Theme`.

    Returns:
        PNG bytes.
    """
    width, _ = plot_style.SIZE
    inches = len(names) * (_BAR_INCHES * len(columns) + 0.12)
    fig = plot_style.new_figure(theme, (_WIDE * width, 1.2 + inches))
    axes = fig.add_subplot()
    plot_style.style(axes, theme, x_label=x_label, y_label="")
    positions = np.arange(len(names))
    thickness = _GROUP / len(columns)
    # The first colour is that of a reference, which one column is not.
    colors = [
        theme.series[(number + (len(columns) == 1)) % len(theme.series)]
        for number in range(len(columns))
    ]
    for number, (values, color) in enumerate(zip(columns.values(), colors)):
        shift = (number - (len(columns) - 1) / 2) * thickness
        axes.barh(positions + shift, values, thickness, color=color)
    if is_last_apart:
        axes.axhline(len(names) - 1.5, color=theme.text, lw=1)
    axes.grid(True, axis="x", color=theme.faint, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
    axes.set_yticks(positions, names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    handles = [patches.Patch(color=color) for color in colors]
    plot_style.add_legend(fig, theme, handles, list(columns))
    return plot_style.to_png(fig)


def two_predictions(images, rights, wrongs, *, columns=6, theme=LIGHT):
    """Draws images in rows, each with a right and a wrong label below.

    Args:
        images: Sequence of uint8 [height, width, 3].
        rights: Sequence of (name, amount), labels that are right; in bold.
        wrongs: The same of labels that are wrong. Of a label that is too long
            the name is cut.
        columns: Images per row; of fewer images, a row has no more.
        theme: `plot_style.Theme`.

    Returns:
        PNG bytes.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    fig = plot_style.new_figure(
        theme,
        (columns * _TILE_INCHES, rows * _TILE_HEIGHT * _TILE_INCHES),
    )
    fig.set_layout_engine("none")
    axes = fig.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for i, (image, right, wrong) in enumerate(zip(images, rights, wrongs)):
        left, top = i % columns + 0.04, i // columns * _TILE_HEIGHT + 0.04
        axes.imshow(
            image,
            extent=(left, left + 0.92, top + 0.92, top),
            interpolation="nearest",
        )
        for line, label, color, weight in (
            (0, right, theme.right, "bold"),
            (1, wrong, theme.wrong, "normal"),
        ):
            axes.text(
                left + 0.46,
                top + 0.96 + 0.135 * line,
                _fit(*label),
                color=color,
                fontsize=8,
                fontweight=weight,
                ha="center",
                va="top",
                parse_math=False,
            )
    axes.set_xlim(0, columns)
    axes.set_ylim(rows * _TILE_HEIGHT, 0)
    return plot_style.to_png(fig)


def _fit(name, amount):
    room = _LONGEST_LINE - len(amount) - 1
    if len(name) > room:
        name = f"{name[: room - 1].rstrip()}…"
    return f"{name} {amount}"
