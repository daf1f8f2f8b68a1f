"""Draws the figures of the paper from reports.

    python -m noisy_student.plots --figure=2 report.json ...
    python -m noisy_student.plots --figure=3 --images=DATA
        --baseline=CHECKPOINT --student=CHECKPOINT
    python -m noisy_student.plots --figure=4 adversarial.json ...
    python -m noisy_student.plots --figure=mce imagenet_c.json ...

Figure 2 is accuracy over parameters, with the published numbers; Figure 3
images that the baseline gets wrong and the student right; Figure 4 accuracy
over the size of an attack; mce the error by corruption. Each is a PNG file for
light pages and one for dark ones, and an HTML page.
"""

import dataclasses
import html
import math
import os
import re
import sys
from typing import Optional

import numpy as np

from data_prep import charts, command_line, files, html_page
from noisy_student import (
    corrected_images,
    figure_series,
    measured,
    published,
)

FIGURES = ("2", "3", "4", "mce")
_TITLES = {
    "2": "Accuracy over parameters",
    "3": "Images that the student corrects",
    "4": "Accuracy under attack",
    "mce": "Error by corruption",
}
_ABOUT = {
    "2": "Top-1 over the number of parameters. The published students are the "
    "released ones, whose teacher is L2; in the paper's figure teachers are of "
    "the students' size.",
    "3": "In bold what the student says, which is right; below what the "
    "baseline says.",
    "4": "Top-1 on images that an attack moved by at most epsilon of 255.",
    "mce": "Error by corruption, mean of five severities, in percent of "
    "AlexNet's error: lower is better.",
}
_OF_FIGURE_3 = (
    "images",
    "split",
    "baseline",
    "student",
    "baseline_model_name",
    "student_model_name",
    "num_examples",
    "batch_size",
    "class_names_file",
)
_LABEL_SIDES = ("below", "above")
_SYNSET = re.compile(r" \(n\d{8}\)$")


@dataclasses.dataclass(frozen=True)
class PlotsConfig:
    """Which figure to draw, of what, and where.

    Attributes:
        figure: One of `FIGURES`.
        output_dir: Where its files go.
        reports: Paths of reports; none for Figure 3.
        published: Whether Figure 2 has the published numbers.
        corrected: What Figure 3 looks at; None for others.
    """

    figure: str
    output_dir: str
    reports: tuple = ()
    published: bool = True
    corrected: Optional[corrected_images.CorrectedConfig] = None

    def __post_init__(self):
        if self.figure not in FIGURES:
            raise ValueError(
                f"--figure must be one of {', '.join(FIGURES)}. Received: "
                f"{self.figure!r}."
            )
        if self.figure == "3" and self.reports:
            raise ValueError(
                "--figure=3 takes no reports, but --images. Received: "
                f"{self.reports[0]!r}."
            )
        alone = self.figure == "2" and self.published
        if self.figure != "3" and not self.reports and not alone:
            raise ValueError("Which reports? Name at least one file.")


def draw(config):
    """Draws a figure.

    Args:
        config: `PlotsConfig`.

    Returns:
        The path of its page.

    Raises:
        FileNotFoundError: If something that is named is missing.
        ValueError: If matplotlib is missing, or what is named does not fit
            the figure.
    """
    charts.require_matplotlib()
    sections = _SECTIONS[config.figure](config)
    page = html_page.page(_TITLES[config.figure], sections)
    path = os.path.join(config.output_dir, f"{_file_name(config)}.html")
    files.write_bytes(path, page.encode())
    return path


def _file_name(config):
    return (
        config.figure if config.figure == "mce" else f"figure_{config.figure}"
    )


def _chart(config, draw_chart):
    """Draws a chart into the folder; returns its HTML."""
    folder = charts.ChartFolder(config.output_dir)
    drawn = folder.draw(
        {_file_name(config): (_ABOUT[config.figure], draw_chart)}
    )
    return html_page.side_by_side(drawn)


def _over_size(config):
    reports = measured.read(config.reports) if config.reports else []
    series = figure_series.accuracy_over_size(
        reports, with_published=config.published
    )
    chart = _chart(config, lambda _, theme: _draw_over_size(series, theme))
    rows = [
        [f"{one.name}: {label}", f"{size:.1f}", f"{value:.2f}"]
        for one in series
        for size, value, label in zip(one.positions, one.values, one.labels)
    ]
    head = ("network", "parameters, millions", "top-1 %")
    sources = dict.fromkeys(source for one in series for source in one.sources)
    return [
        chart,
        html_page.table(head, rows),
        *(_note(f"Published by {source}.") for source in sources),
    ]


def _draw_over_size(series, theme):
    from data_prep import result_plots

    return result_plots.points_over_size(
        [
            result_plots.Points(
                one.name,
                number if one.sources else 2,
                one.positions,
                one.values,
                one.labels,
                is_joined=bool(one.sources),
                label_side=_LABEL_SIDES[min(number, 1)]
                if one.sources
                else "right",
            )
            for number, one in enumerate(series)
        ],
        x_label="parameters, millions",
        y_label="top-1, %",
        theme=theme,
    )


def _over_epsilon(config):
    series = figure_series.accuracy_over_epsilon(measured.read(config.reports))
    names = list(dict.fromkeys(one.name for one in series))

    def draw_chart(plots, theme):
        return plots.curves(
            [
                plots.Curve(
                    one.name,
                    names.index(one.name),
                    one.kind,
                    one.positions,
                    one.values,
                )
                for one in series
            ],
            x_label="epsilon, of 255",
            y_label="top-1",
            percent=True,
            theme=theme,
        )

    epsilons = sorted({x for one in series for x in one.positions})
    rows = [
        [
            f"{one.name}, {one.kind}",
            *(_cell(_at(one, epsilon)) for epsilon in epsilons),
        ]
        for one in series
    ]
    head = ("top-1 % at epsilon", *(f"{epsilon:g}" for epsilon in epsilons))
    known = ", ".join(
        f"{row.name} {row.figures['pgd_16'].percent} %"
        for row in published.ADVERSARIAL
    )
    return [
        _chart(config, draw_chart),
        html_page.table(head, rows),
        _note(f"Published, at 800 pixels, PGD with epsilon 16: {known}."),
    ]


def _at(series, position):
    """Returns the percent of a series at a position, NaN without one."""
    values = dict(zip(series.positions, series.values))
    return 100 * values.get(position, math.nan)


def _cell(value):
    return "-" if math.isnan(value) else f"{value:.2f}"


def _by_corruption(config):
    names, columns = figure_series.error_by_corruption(
        measured.read(config.reports)
    )
    words = [name.replace("_", " ") for name in names]
    has_mean = names[-1] == figure_series.MEAN
    chart = _chart(
        config,
        lambda _, theme: _draw_by_corruption(columns, words, has_mean, theme),
    )
    rows = [
        [word, *map(_cell, values)]
        for word, values in zip(words, zip(*columns.values()))
    ]
    return [chart, html_page.table(("corruption", *columns), rows)]


def _draw_by_corruption(columns, names, has_mean, theme):
    from data_prep import result_plots

    return result_plots.grouped_bars(
        columns,
        names,
        x_label="% of AlexNet's error",
        is_last_apart=has_mean,
        theme=theme,
    )


def _corrected(config):
    found = corrected_images.find(config.corrected)
    total = sum(found.counts.values())
    rows = [
        [f"right: {who}", f"{number:,}", f"{100 * number / total:.2f}"]
        for who, number in found.counts.items()
    ]
    sections = [html_page.table(("", "images", "%"), rows)]
    if not found.examples:
        return [_note("The student corrects no image."), *sections]
    _chart(config, lambda _, theme: _draw_sheet(found.examples, theme))
    return [
        _note(
            f"{_ABOUT[config.figure]} Shown are {len(found.examples)} of "
            f"{found.counts['student']:,}, those that it is most sure of first."
        ),
        html_page.tiles(map(_tile, found.examples)),
        *sections,
    ]


def _draw_sheet(examples, theme):
    from data_prep import result_plots

    return result_plots.two_predictions(
        [np.asarray(example.image) for example in examples],
        [_label(e.truth, e.truth_prob) for e in examples],
        [_label(e.wrong, e.wrong_prob) for e in examples],
        theme=theme,
    )


def _tile(example):
    caption = [
        " ".join(_label(example.truth, example.truth_prob)),
        " ".join(_label(example.wrong, example.wrong_prob)),
    ]
    return html_page.tile(example.image, caption, key=example.key)


def _label(name, prob):
    """Returns a class, of ImageNet's names the first, and its probability."""
    if _SYNSET.search(name):
        name = _SYNSET.sub("", name).split(",")[0]
    return name, f"{100 * prob:.0f} %"


def _note(text):
    return f'<p class="note">{html.escape(text)}</p>'


_SECTIONS = {
    "2": _over_size,
    "3": _corrected,
    "4": _over_epsilon,
    "mce": _by_corruption,
}


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to draw", flag_values)
    group.enum("figure", None, FIGURES, "Which figure.")
    group.string("output_dir", "figures", "Where its files go.")
    group.boolean(
        "published", True, "Whether Figure 2 has the published numbers."
    )
    group = command_line.FlagGroup("What Figure 3 looks at", flag_values)
    group.string(
        "images",
        None,
        "Labeled images: directory of shards, image folder, file list or "
        "tfds:NAME.",
    )
    group.string("split", "validation", "Split of the shards or of tfds:NAME.")
    for name in ("baseline", "student"):
        group.string(name, None, f"Checkpoint or run directory of the {name}.")
        group.string(
            f"{name}_model_name",
            None,
            f"Network of --{name}, where it does not tell by itself.",
        )
    group.integer("num_examples", 24, "Images to show.", lower_bound=1)
    group.integer("batch_size", 32, "Images per step.", lower_bound=1)
    group.string(
        "class_names_file",
        None,
        "Names of the classes in label order, a line each or a JSON list.",
    )


def config_from_flags(flag_values, reports):
    """Returns the `PlotsConfig` of parsed flags and of arguments.

    Raises:
        ValueError: If a flag is of another figure than is drawn.
    """
    figure = flag_values.figure
    if figure is None:
        raise ValueError(f"--figure is needed: one of {', '.join(FIGURES)}.")
    for name in ("published", *_OF_FIGURE_3):
        of = "2" if name == "published" else "3"
        if flag_values[name].present and figure != of:
            raise ValueError(f"--{name} is of --figure={of}, not of {figure}.")
    corrected = None
    if figure == "3":
        corrected = corrected_images.CorrectedConfig(
            **{name: flag_values[name].value for name in _OF_FIGURE_3}
        )
    return PlotsConfig(
        figure=figure,
        output_dir=flag_values.output_dir,
        reports=tuple(reports),
        published=flag_values.published,
        corrected=corrected,
    )


def main(flag_values, reports):
    """Draws the figure that the command line names."""
    path = draw(config_from_flags(flag_values, reports))
    sys.stdout.write(path + "\n")


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=True)
