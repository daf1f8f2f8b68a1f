"""Puts what was measured beside what was published, in one table.

    python -m noisy_student.compare report1.json report2.json ...

Reports are those of the robustness benchmarks, the `report.json` of training
and self-training runs, the `eval.json` of `--mode=eval`, and directories that
hold such files. Everything is in percent, differences are in points. A run's
own evaluation counts as one on ImageNet if its network is as published and has
1000 classes.
"""

import collections
import dataclasses
import html
import json
import sys
from typing import Optional

from absl import logging

from data_prep import command_line, files, html_page
from noisy_student import measured, published, text_table

FORMATS = ("text", "markdown", "json", "html")
_TITLE = "Measured and published"
_MARK = "?"
_MISSING = "-"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A report beside its published row.

    Attributes:
        report: `measured.Measured`.
        row: `published.Row`, None where nothing is published.
    """

    report: measured.Measured
    row: Optional[published.Row]

    def published(self, name):
        """Returns the `published.Value` of a figure, or None."""
        return self.row and self.row.figures.get(name)

    def difference(self, name):
        """Returns the points by which the report's figure is larger.

        None where one of the two is missing.
        """
        value = self.published(name)
        if value is None or name not in self.report.figures:
            return None
        return self.report.figures[name] - value.percent


def compare(reports, *, method=published.NOISY_STUDENT):
    """Finds the published row of each report.

    Args:
        reports: Sequence of `measured.Measured`.
        method: One of `published.METHODS`.

    Returns:
        List of `Comparison`, in order.
    """
    return [Comparison(report, _find(report, method)) for report in reports]


def _find(report, method):
    if report.model is None or not report.is_imagenet:
        return None
    return published.find(
        report.kind,
        report.model.model_name,
        method=method,
        image_size=report.model.image_size,
        stored_size=report.stored_size,
    )


def table(comparisons):
    """Returns the table, and the sources that its numbers in brackets name.

    Args:
        comparisons: Sequence of `Comparison`.

    Returns:
        (rows of str, headings first; list of sources, the first is [1]).
        There is a column for each figure that a report has, and where one is
        published two more; "-" stands where there is none.
    """
    names = _figures(comparisons)
    has_published = {
        name: any(c.published(name) is not None for c in comparisons)
        for name in names
    }
    head = ["report", "network", "images"]
    for name in names:
        head.append(measured.HEADINGS[name])
        if has_published[name]:
            head += ["published", "difference"]
    sources = []
    rows = [head]
    for comparison in comparisons:
        report = comparison.report
        row = [report.name, report.network, report.data]
        for name in names:
            row.append(_number(report.figures.get(name)))
            if has_published[name]:
                row.append(_published(comparison.published(name), sources))
                row.append(_signed(comparison.difference(name)))
        rows.append(row)
    return rows, sources


def _figures(comparisons):
    """Returns the names of the figures that some report has, in order."""
    found = {name for c in comparisons for name in c.report.figures}
    return [name for name in measured.HEADINGS if name in found]


def _number(value):
    return _MISSING if value is None else f"{value:.2f}"


def _signed(value):
    # Adding zero turns -0.0 into 0.0.
    return _MISSING if value is None else f"{round(value, 2) + 0.0:+.2f}"


def _published(value, sources):
    if value is None:
        return _MISSING
    if value.source not in sources:
        sources.append(value.source)
    digits = 1 if round(value.percent, 1) == value.percent else 2
    mark = "" if value.confirmed else _MARK
    number = sources.index(value.source) + 1
    return f"{value.percent:.{digits}f}{mark} [{number}]"


def remarks(comparisons, *, method=published.NOISY_STUDENT):
    """Returns sentences about what the table alone does not tell.

    Args:
        comparisons: Sequence of `Comparison`.
        method: As for `compare`.

    Returns:
        List of str.
    """
    found = []
    if any(
        not value.confirmed and name in c.report.figures
        for c in comparisons
        for name, value in (c.row.figures.items() if c.row else ())
    ):
        found.append(
            f"{_MARK}: this published figure was not found in a second place."
        )
    for comparison in comparisons:
        report = comparison.report
        if comparison.row is None:
            found.append(f"{report.name}: {_why_alone(report, method)}.")
        else:
            found.extend(_other_number(report))
            found.extend(_other_settings(report))
        if not report.figures:
            found.append(f"{report.name}: {_why_empty(report)}.")
        if report.unknown:
            found.append(
                f"{report.name}: no column for {', '.join(report.unknown)}."
            )
    return found + _repeated(comparisons)


def _why_empty(report):
    """Returns why a report has no figure with a column."""
    if report.kind == "imagenet_c":
        return "no mCE, which needs all of the fifteen corruptions"
    if report.kind == "imagenet_p":
        return "no mFR, which needs all of the ten perturbations"
    return "nothing that has a column"


def _other_number(report):
    """Yields a sentence where not all images of a set were looked at."""
    number = published.NUM_IMAGES.get(report.kind)
    if None not in (number, report.num_images) and number != report.num_images:
        yield (
            f"{report.name}: measured on {report.num_images:,} images, "
            f"published on {number:,}."
        )


def _other_settings(report):
    """Yields a sentence for each setting that is not as published."""
    wanted = published.LOOKED_WITH.get(report.kind, {})
    if "pgd_16" in report.figures:
        wanted = {**wanted, **published.PGD_WITH}
    for flag, value in wanted.items():
        found = report.settings.get(flag, value)
        if found != value:
            yield (
                f"{report.name}: measured with {_flag(flag, found)}, the "
                f"published figures are taken to be of {_flag(flag, value)}."
            )


def _flag(name, value):
    return f"--{name}={str(value).lower()}"


def _why_alone(report, method):
    """Returns why nothing published stands beside a report."""
    if report.model is None:
        return "nothing tells its network, so nothing is beside it"
    if not report.is_imagenet:
        return "no published network with 1000 classes, so nothing is beside it"
    others = [
        other
        for other in published.METHODS
        if other != method and _find(report, other) is not None
    ]
    text = f"nothing is published of {report.network} on {report.data}"
    if others:
        flags = " or ".join(f"--published={other}" for other in others)
        return f"{text} as {method}; there is with {flags}"
    return text


def _repeated(comparisons):
    """Returns sentences about reports of the same network and images."""
    groups = collections.defaultdict(list)
    for comparison in comparisons:
        report = comparison.report
        if report.checkpoint is not None:
            key = report.checkpoint, report.network, report.kind, report.data
            groups[key].append(report)
    return [
        f"{' and '.join(report.name for report in group)} are of the same "
        "checkpoint, network and images, and their figures are "
        + (
            "equal."
            if all(r.figures == group[0].figures for r in group)
            else "not equal."
        )
        for group in groups.values()
        if len(group) > 1
    ]


def format_text(rows, sources, notes):
    """Returns the table for a terminal, with what belongs to it."""
    parts = [text_table.aligned(rows, num_left=3)]
    if sources:
        parts.append("\n".join(_numbered(sources)))
    return "\n\n".join(parts + (["\n".join(notes)] if notes else [])) + "\n"


def format_markdown(rows, sources, notes):
    """Returns the table in Markdown, with what belongs to it."""
    head, *body = rows
    parts = [text_table.markdown(head, body)]
    parts += [f"- {line}\n" for line in (*_numbered(sources), *notes)]
    return "\n".join([parts[0], "".join(parts[1:])]).rstrip("\n") + "\n"


def format_html(rows, sources, notes):
    """Returns a page with the table and what belongs to it."""
    head, *body = rows
    lines = [*_numbered(sources), *notes]
    return html_page.page(
        _TITLE,
        [
            html_page.table(head, body),
            *(f'<p class="note">{html.escape(line)}</p>' for line in lines),
        ],
    )


def format_json(comparisons, notes):
    """Returns the comparison as JSON; all figures are in percent."""
    values = {
        "reports": [_as_json(comparison) for comparison in comparisons],
        "notes": notes,
    }
    return json.dumps(values, indent=2) + "\n"


def _as_json(comparison):
    report, model = comparison.report, comparison.report.model
    names = _figures([comparison])
    return {
        "report": report.name,
        "kind": report.kind,
        "images": report.data,
        "checkpoint": report.checkpoint,
        "model_name": model and model.model_name,
        "image_size": model and model.image_size,
        "stored_size": report.stored_size,
        "published_as": comparison.row and comparison.row.name,
        "figures": {
            name: {
                "measured": report.figures[name],
                **_published_as_json(comparison.published(name)),
                "difference": comparison.difference(name),
            }
            for name in names
        },
    }


def _published_as_json(value):
    if value is None:
        return {"published": None, "source": None, "confirmed": None}
    return {
        "published": value.percent,
        "source": value.source,
        "confirmed": value.confirmed,
    }


def _numbered(sources):
    return [f"[{i}] {source}" for i, source in enumerate(sources, start=1)]


def render(comparisons, *, output_format, method=published.NOISY_STUDENT):
    """Returns a comparison as text.

    Args:
        comparisons: Sequence of `Comparison`.
        output_format: One of `FORMATS`.
        method: As for `compare`.
    """
    notes = remarks(comparisons, method=method)
    if output_format == "json":
        return format_json(comparisons, notes)
    rows, sources = table(comparisons)
    write = {
        "text": format_text,
        "markdown": format_markdown,
        "html": format_html,
    }
    return write[output_format](rows, sources, notes)


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to compare with", flag_values)
    group.enum(
        "published",
        published.NOISY_STUDENT,
        published.METHODS,
        "Which published row: that of the paper's student, that of the same "
        "network without Noisy Student, or timm's evaluation of the released "
        "checkpoint.",
    )
    group = command_line.FlagGroup("How to show it", flag_values)
    group.enum("format", "text", FORMATS, "What to write.")
    group.string(
        "output", None, "Where to write it; none writes to the terminal."
    )


def main(flag_values, paths):
    """Compares the reports that the command line names."""
    method = flag_values.published
    text = render(
        compare(measured.read(paths), method=method),
        output_format=flag_values.format,
        method=method,
    )
    if flag_values.output is None:
        sys.stdout.write(text)
        return
    files.write_bytes(flag_values.output, text.encode())
    logging.info("Wrote %s.", flag_values.output)


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=True)
