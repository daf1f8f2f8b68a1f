"""What a self-training run achieved: a table for terminals, a page for people.

The page is one file without scripts or links to other files; its charts need
matplotlib, which comes with the extras `[quickstart]` and `[plots]`.
"""

import base64
import dataclasses
import heapq
import html
import io
import itertools
import json
import math
import os
from typing import Optional

import numpy as np
from absl import logging
from PIL import Image, ImageOps

from data_prep import files, shards
from noisy_student import run_dir

_BINS = 20
_NUM_EXAMPLES = 32  # Of the most, and of the least confident labels.
_THUMBNAIL_SIZE = 96
_BATCH = 256
_FILTERED_SPLIT = "train"
_CURVES = {
    "loss": (
        {"labeled": "labeled_loss", "unlabeled": "unlabeled_loss"},
        "Loss during training, with noise: on labeled images, and on "
        "pseudo-labeled ones where there are any.",
    ),
    "accuracy": (
        {"labeled": "labeled_accuracy", "unlabeled": "unlabeled_agreement"},
        "Accuracy during training, with noise: on labeled images, and against "
        "the teacher's labels; then without noise, on evaluation images.",
    ),
}

_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1f2328;
  --soft: #5b6470; --line: #d9dde3; --accent: #0072b2; --wrong: #c25400; }
@media (prefers-color-scheme: dark) { :root { --back: #15181d;
  --text: #e4e7eb; --soft: #a0a8b4; --line: #343a44; --accent: #56b4e9;
  --wrong: #f0803c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 2rem 1.1rem 4rem;
  background: var(--back); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { margin: 0; font-size: .95rem; font-weight: 600; color: var(--soft); }
h2 { margin: 3rem 0 .4rem; font-size: 1.25rem; line-height: 1.3; }
p { max-width: 44rem; margin: .4rem 0 1rem; }
.headline { margin: .6rem 0 1rem; font-size: clamp(1.35rem, 4.5vw, 2rem);
  line-height: 1.3; font-weight: 600; text-wrap: balance; }
.note, figcaption { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; width: 100%; max-width: 44rem;
  margin: 1.6rem 0; font-size: clamp(.85rem, 3.6vw, 1rem);
  font-variant-numeric: tabular-nums; }
th, td { padding: .45rem 0 .45rem .5rem; text-align: right;
  border-bottom: 1px solid var(--line); font-weight: 500; }
th:first-child { padding-left: 0; text-align: left; white-space: nowrap; }
thead th { font-size: .8em; line-height: 1.25; color: var(--soft);
  vertical-align: bottom; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
.charts { display: grid; gap: 1.4rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.tiles { display: grid; gap: .9rem .6rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill,
    minmax(max(4.6rem, (100% - 4.2rem) / 8), 1fr)); }
.tiles img { border-radius: 3px; image-rendering: pixelated; }
.tiles figcaption { margin-top: .25rem; font-size: .8rem; line-height: 1.35;
  text-align: center; overflow-wrap: anywhere; }
.tiles b { color: var(--text); }
.tiles .wrong img { outline: 3px solid var(--wrong); }
.tiles .wrong figcaption, .tiles .wrong b { color: var(--wrong); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; font-size: .8rem; line-height: 1.45; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Noisy Student self-training</title>
<style>{style}</style>
</head>
<body>
<h1>Noisy Student self-training</h1>
{body}
</body>
</html>
"""


@dataclasses.dataclass(frozen=True)
class _Example:
    """One pseudo label, and where its image is."""

    confidence: float
    shard: str
    index: int
    key: str
    label: int
    truth: Optional[int]

    @property
    def is_wrong(self):
        return self.truth not in (None, self.label)


@dataclasses.dataclass
class _LabelSummary:
    """Counts per bin of confidence, and the examples at both ends."""

    counts: np.ndarray
    wrong_counts: np.ndarray
    most_confident: list
    least_confident: list


def format_table(report):
    """Returns the table of the rounds as plain text.

    Args:
        report: The content of a self-training run's `report.json`.

    Returns:
        str, one line per round below the headings; "-" where a figure does
        not apply or is unknown.
    """
    table = _table(report)
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for first, *rest in table:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(w) for cell, w in zip(rest, widths[1:])]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def write_html(work_dir, report):
    """Writes `report.html`, and its charts to `figures/*.png`.

    Without matplotlib the page has no charts and says what to install.

    Args:
        work_dir: Directory of the finished self-training run.
        report: The content of its `report.json`.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: If the last round's labels, or the images they
            belong to, are missing.
    """
    config_path = os.path.join(work_dir, "config.json")
    config = files.read_json(config_path) if files.exists(config_path) else {}
    names = _class_names(config, report["num_classes"])
    labels = _summarize_labels(work_dir, report)
    images = _read_images([*labels.most_confident, *labels.least_confident])
    charts = _Charts(os.path.join(work_dir, "figures"))
    sections = [
        _result_section(report),
        _curves_section(charts, work_dir, report),
        _labels_section(charts, report, labels, names),
        *_examples_sections(charts, labels, images, names),
        _origin_section(report, config),
    ]
    page = _PAGE.format(style=_STYLE, body="\n".join(sections))
    path = os.path.join(work_dir, "report.html")
    files.write_bytes(path, page.encode())
    return path


def _table(report):
    """Returns the rows of the table, headings first, as lists of str."""
    table = [
        [
            "model",
            f"{report['eval_split']} accuracy %",
            "gain, points",
            "pseudo-label accuracy %",
            "coverage %",
        ]
    ]
    for figures in report["rounds"]:
        pseudo_labels = figures.get("pseudo_labels", {})
        gain = f"{_gain(report, figures):+.2f}" if figures["round"] else "-"
        table.append(
            [
                _model_name(figures["round"]),
                _percent(_top_1(report, figures)),
                gain,
                _percent(pseudo_labels.get("accuracy")),
                _percent(pseudo_labels.get("coverage")),
            ]
        )
    return table


def _model_name(number):
    return f"student {number}" if number else "teacher"


def _top_1(report, figures):
    return figures[f"{report['eval_split']}_top_1"]


def _gain(report, figures):
    """Returns the points gained on the first teacher, rounded as printed."""
    first = _top_1(report, report["rounds"][0])
    # Adding zero turns -0.0 into 0.0.
    return round(100 * (_top_1(report, figures) - first), 2) + 0.0


def _percent(fraction):
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def _headline(report):
    first, last = report["rounds"][0], report["rounds"][-1]
    points = _gain(report, last)
    if points:
        word = "more" if points > 0 else "fewer"
        comparison = f"{abs(points):.2f} points {word} than"
    else:
        comparison = "exactly as many as"
    return (
        f"{_model_name(last['round']).capitalize()} classifies "
        f"{_percent(_top_1(report, last))} % of the {report['eval_split']} "
        f"images correctly, {comparison} the first teacher "
        f"({_percent(_top_1(report, first))} %)."
    )


def _result_section(report):
    last = report["rounds"][-1]
    num_images = last["num_images"]
    top_1 = _top_1(report, last)
    error = math.sqrt(top_1 * (1 - top_1) / num_images)
    head, *rows = _table(report)
    return "\n".join(
        [
            f'<p class="headline">{html.escape(_headline(report))}</p>',
            f'<p class="note">Measured on {num_images:,} images: one image is '
            f"{100 / num_images:.2g} points, and the standard error of an "
            f"accuracy about {100 * error:.2g} points.</p>",
            "<table><thead><tr>",
            *(f'<th scope="col">{html.escape(cell)}</th>' for cell in head),
            "</tr></thead><tbody>",
            *map(_row, rows),
            "</tbody></table>",
        ]
    )


def _row(cells):
    first, *rest = map(html.escape, cells)
    numbers = (f"<td>{c.replace('-', '&minus;')}</td>" for c in rest)
    return f'<tr><th scope="row">{first}</th>{"".join(numbers)}</tr>'


class _Charts:
    """Draws charts in both themes, keeps them as files and as HTML.

    Args:
        directory: Where the PNG files go.
    """

    def __init__(self, directory):
        self._directory = directory
        try:
            from noisy_student import plots
        except ImportError as error:
            logging.warning("The report has no charts: %s.", error)
            plots = None
        self._plots = plots

    def draw(self, name, draw, *, about):
        """Writes `<name>.png` and `<name>_dark.png`.

        Args:
            name: File name, without its ending.
            draw: (plots module, theme) -> PNG bytes.
            about: Plain text: what the chart shows.

        Returns:
            HTML; empty without matplotlib.
        """
        if self._plots is None:
            return ""
        light = draw(self._plots, self._plots.LIGHT)
        dark = draw(self._plots, self._plots.DARK)
        for suffix, png in (("", light), ("_dark", dark)):
            path = os.path.join(self._directory, f"{name}{suffix}.png")
            files.write_bytes(path, png)
        about = html.escape(about)
        return (
            '<figure><picture><source media="(prefers-color-scheme: dark)" '
            f'srcset="{_data_url(dark)}">'
            f'<img src="{_data_url(light)}" alt="{about}"></picture>'
            f"<figcaption>{about}</figcaption></figure>"
        )

    def group(self, figures):
        """Returns charts side by side, or what to install to see them."""
        if self._plots is None:
            return (
                '<p class="note">The charts need matplotlib: <code>pip install '
                "'noisy-student-training[plots]'</code>.</p>"
            )
        return f'<div class="charts">{"".join(figures)}</div>'


def _data_url(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _curves_section(charts, work_dir, report):
    logs = [
        run_dir.read_metrics(
            run_dir.round_dir(work_dir, figures["round"], "model")
        )
        for figures in report["rounds"]
    ]
    figures = [
        charts.draw(
            quantity,
            lambda plots, theme, quantity=quantity: plots.curves(
                _curves(plots, report, logs, quantity),
                y_label=quantity,
                percent=quantity == "accuracy",
                theme=theme,
            ),
            about=about,
        )
        for quantity, (_, about) in _CURVES.items()
    ]
    return "<h2>Learning curves</h2>" + charts.group(figures)


def _curves(plots, report, logs, quantity):
    """Returns the curves of all rounds that have points."""
    rounds = list(zip(report["rounds"], logs))
    found = [
        (kind, figures["round"], _series(log, f"train/{name}"))
        for kind, name in _CURVES[quantity][0].items()
        for figures, log in rounds
    ]
    if quantity == "accuracy":
        found += [
            (
                report["eval_split"],
                figures["round"],
                _evaluations(report, figures, log),
            )
            for figures, log in rounds
        ]
    return [
        plots.Curve(_model_name(number), number, kind, *zip(*points.items()))
        for kind, number, points in found
        if points
    ]


def _evaluations(report, figures, log):
    points = _series(log, "eval/top_1")
    if "train_steps" in figures:
        points[figures["train_steps"]] = _top_1(report, figures)
    return points


def _series(log, name):
    return {line["step"]: line[name] for line in log if name in line}


def _labels_section(charts, report, labels, names):
    pseudo_labels = report["rounds"][-1]["pseudo_labels"]
    known = report["unlabeled"]["truth"] is not None
    histogram = charts.draw(
        "confidence",
        lambda plots, theme: plots.confidence_histogram(
            labels.counts,
            wrong_counts=labels.wrong_counts if known else None,
            min_threshold=pseudo_labels["min_threshold"],
            theme=theme,
        ),
        about="All labels by the teacher's confidence in them."
        + (" Below: the share that is wrong." if known else ""),
    )
    classes = charts.draw(
        "classes",
        lambda plots, theme: plots.class_counts(
            pseudo_labels["kept_per_class"],
            pseudo_labels["written_per_class"],
            names,
            theme=theme,
        ),
        about="Images kept of each class, before and after balancing, which "
        "writes copies where a class has too few.",
    )
    text = html.escape(_describe_labels(report, labels, names))
    return (
        "<h2>Pseudo labels of the last round</h2>"
        f"<p>{text}</p>{charts.group([histogram, classes])}"
    )


def _describe_labels(report, labels, names):
    number = report["rounds"][-1]["round"]
    pseudo_labels = report["rounds"][-1]["pseudo_labels"]
    num_labels = int(labels.counts.sum())
    text = (
        f"Round {number}: {_model_name(number - 1)} labeled {num_labels:,} "
        f"images; {pseudo_labels['num_kept']:,} were kept and "
        f"{pseudo_labels['num_written']:,} records written, copies included."
    )
    if report["unlabeled"]["truth"] is not None:
        num_wrong = int(labels.wrong_counts.sum())
        text += f" {num_wrong:,} of the {num_labels:,} labels are wrong."
    kept = zip(names, pseudo_labels["kept_per_class"])
    if empty := [name for name, count in kept if not count]:
        text += f" Nothing was kept of {_list_names(empty)}."
    return text


def _list_names(names):
    shown = ", ".join(names[:10])
    kind = "class" if len(names) == 1 else f"{len(names):,} classes:"
    return f"{kind} {shown}{', ...' if names[10:] else ''}"


def _examples_sections(charts, labels, images, names):
    """Yields one section per end of the confidences."""
    for end, examples in (
        ("most", labels.most_confident),
        ("least", labels.least_confident),
    ):
        charts.draw(
            f"{end}_confident",
            lambda plots, theme, examples=examples: plots.contact_sheet(
                [np.asarray(images[e.shard, e.index]) for e in examples],
                ["\n".join(_caption(e, names)) for e in examples],
                wrong=[e.is_wrong for e in examples],
                theme=theme,
            ),
            about=f"The {end} confident labels.",
        )
        tiles = [_tile(e, images[e.shard, e.index], names) for e in examples]
        note = ""
        if any(e.truth is not None for e in examples):
            wrong = sum(e.is_wrong for e in examples) or "None"
            note = f"{wrong} of these {len(examples)} are wrong."
        yield (
            f"<h2>{end.capitalize()} confident labels</h2>"
            f'<p class="note">{note}</p>'
            f'<div class="tiles">{"".join(tiles)}</div>'
        )


def _caption(example, names):
    """Yields the lines that say what the label is, and what it should be."""
    yield names[example.label]
    yield f"{100 * example.confidence:.1f} %"
    if example.is_wrong:
        yield f"is {names[example.truth]}"


def _tile(example, image, names):
    png = io.BytesIO()
    image.save(png, "PNG")
    label, *rest = map(html.escape, _caption(example, names))
    css = ' class="wrong"' if example.is_wrong else ""
    return (
        f'<figure{css}><img src="{_data_url(png.getvalue())}" '
        f'alt="{html.escape(example.key)}"><figcaption><b>{label}</b><br>'
        f"{'<br>'.join(rest)}</figcaption></figure>"
    )


def _origin_section(report, config):
    seconds = sum(figures.get("seconds", 0) for figures in report["rounds"])
    facts = {
        "unlabeled images": f"{report['unlabeled']['num_images']:,} in "
        f"{report['unlabeled']['directory']}",
        "training time": f"{seconds / 60:,.1f} minutes",
        **report["made_with"],
    }
    items = (
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in facts.items()
        if value is not None
    )
    settings = html.escape(json.dumps(config, indent=2, ensure_ascii=False))
    return (
        f"<h2>How it was made</h2><dl>{''.join(items)}</dl>"
        f"<details><summary>All settings</summary><pre>{settings}</pre>"
        "</details>"
    )


def _class_names(config, num_classes):
    """Returns the names in label order; the numbers where none are known."""
    manifest = None
    if config:
        data = config["rounds"][0]["data"]
        manifest = shards.read_manifest(
            data["label_data_dir"], data["train_split"]
        )
    if manifest and len(manifest.class_names or ()) == num_classes:
        return manifest.class_names
    return tuple(map(str, range(num_classes)))


def _summarize_labels(work_dir, report):
    """Reads the last round's labels; holds counts and a few examples only."""
    truth_path = report["unlabeled"]["truth"]
    truth = {} if truth_path is None else files.read_json(truth_path)
    summary = _LabelSummary(
        np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64), [], []
    )
    for batch in _read_labels(work_dir, report, truth):
        summary.counts += _histogram(batch)
        summary.wrong_counts += _histogram(e for e in batch if e.is_wrong)
        summary.most_confident = _first(
            [*summary.most_confident, *batch], lambda e: -e.confidence
        )
        summary.least_confident = _first(
            [*summary.least_confident, *batch], lambda e: e.confidence
        )
    return summary


def _histogram(examples):
    confidences = [example.confidence for example in examples]
    return np.histogram(confidences, bins=_BINS, range=(0, 1))[0]


def _first(examples, order):
    """Returns the first examples in an order, one per key, ties as stored."""
    # Images that are filtered once and then relabeled come with their copies.
    unique = {e.key: e for e in reversed(examples)}.values()
    return heapq.nsmallest(
        _NUM_EXAMPLES, unique, key=lambda e: (order(e), e.shard, e.index)
    )


def _read_labels(work_dir, report, truth):
    """Yields the last round's labels as lists of `_Example`."""
    # Imported here: the table needs no TensorFlow.
    from data_prep import counting, prediction_inputs, records

    number = report["rounds"][-1]["round"]
    directory = run_dir.round_dir(work_dir, number, "labels")
    images_dir, split = _find_images(directory, report["unlabeled"]["split"])
    inputs = prediction_inputs.find(images_dir, directory, split)
    for shard, predictions in zip(inputs.images, inputs.predictions):
        reader = enumerate(counting.read_predictions(predictions))
        while batch := list(itertools.islice(reader, _BATCH)):
            indices, serialized = zip(*batch)
            parsed = records.parse_prediction(serialized, report["num_classes"])
            keys = [
                (key or records.default_key(shard, index)).decode()
                for index, key in zip(indices, parsed["key"].numpy().tolist())
            ]
            yield [
                _Example(confidence, shard, index, key, label, truth.get(key))
                for confidence, index, key, label in zip(
                    # Rounding can leave a probability slightly above one.
                    parsed["probs"].numpy().max(axis=1).clip(max=1).tolist(),
                    indices,
                    keys,
                    parsed["label"].numpy().tolist(),
                )
            ]


def _find_images(labels_dir, unlabeled_split):
    """Returns (directory, split) of the images that labels were given to."""
    for split in (unlabeled_split, _FILTERED_SPLIT):
        manifest = shards.read_manifest(labels_dir, f"{split}-info")
        if manifest:
            return manifest.config["input_dir"], split
    raise FileNotFoundError(
        f"No finished labels of {unlabeled_split!r} in {labels_dir!r}."
    )


def _read_images(examples):
    """Returns {(shard, index): PIL image, square and small}."""
    from data_prep import records

    wanted = {}
    for example in examples:
        wanted.setdefault(example.shard, set()).add(example.index)
    images = {}
    for shard, indices in wanted.items():
        for index, record in enumerate(records.read_records(shard)):
            if index in indices:
                image_bytes, _ = records.unpack_image(record)
                images[shard, index] = _thumbnail(image_bytes)
            if index >= max(indices):
                break
    return images


def _thumbnail(image_bytes):
    image = Image.open(io.BytesIO(image_bytes)).convert("RGB")
    side = min(_THUMBNAIL_SIZE, *image.size)
    return ImageOps.fit(image, (side, side), Image.BICUBIC)
