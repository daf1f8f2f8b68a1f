"""How all charts look: themes, sizes, axes, legends, and PNG bytes of them.

Touches no global state of matplotlib, which comes with the extras
`[quickstart]` and `[plots]`.
"""

import dataclasses
import io

from matplotlib import figure as mpl_figure

# Inches and dots per inch: readable at the width of a phone's screen, sharp
# at half the width of a desktop page.
SIZE = (5.2, 3.5)
DPI = 160
FONT_SIZE = 11


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours, told apart by colour-blind readers too.

    Attributes:
        background: Behind everything.
        text: Titles, labels and axes.
        faint: Grid lines, and bars that serve as reference.
        series: One colour per curve, the first for the reference.
        right: Correct labels, and bars that matter.
        wrong: Wrong labels.
    """

    background: str
    text: str
    faint: str
    series: tuple
    right: str
    wrong: str


LIGHT = Theme(
    background="#ffffff",
    text="#1f2328",
    faint="#c9ced6",
    series=("#6a7079", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"),
    right="#0072b2",
    wrong="#d55e00",
)
DARK = Theme(
    background="#15181d",
    text="#e4e7eb",
    faint="#4a515c",
    series=("#aab1bb", "#56b4e9", "#f0803c", "#2fc79a", "#e69ac6", "#f0e442"),
    right="#56b4e9",
    wrong="#f0803c",
)


def new_figure(theme, size=SIZE):
    """Returns an empty figure of a size in inches."""
    return mpl_figure.Figure(
        figsize=size,
        dpi=DPI,
        layout="constrained",
        facecolor=theme.background,
    )


def new_chart(theme, *, x_label, y_label):
    """Returns a figure with one pair of axes, and these axes."""
    fig = new_figure(theme)
    axes = fig.add_subplot()
    style(axes, theme, x_label=x_label, y_label=y_label)
    return fig, axes


def style(axes, theme, *, x_label, y_label):
    """Gives axes their labels and a theme's colours."""
    axes.set_facecolor(theme.background)
    axes.set_xlabel(x_label, color=theme.text, fontsize=FONT_SIZE)
    axes.set_ylabel(y_label, color=theme.text, fontsize=FONT_SIZE)
    axes.tick_params(
        colors=theme.text, color=theme.faint, labelsize=FONT_SIZE - 1
    )
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)


def add_legend(fig, theme, handles, labels):
    """Puts a legend above the axes; none where there is nothing to name."""
    if not handles:
        return
    fig.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=3,
        fontsize=FONT_SIZE - 1,
        labelcolor=theme.text,
        frameon=False,
        columnspacing=1.2,
        handlelength=1.8,
    )


def to_png(fig):
    """Returns a figure as PNG bytes, equal ones for equal figures."""
    # The name and version of the program would make the bytes depend on them.
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
