"""The figures of a self-training run's report, rounded and put into words.

Everything here is plain text; `report` is the content of a self-training run's
`report.json`, and `figures` one of its rounds.
"""

import math


def table(report):
    """Returns the rows of the table, headings first, as lists of str.

    There is one row per model; "-" stands where a figure does not apply or is
    unknown.
    """
    rows = [
        [
            "model",
            f"{report['eval_split']} accuracy %",
            "gain, points",
            "pseudo-label accuracy %",
            "coverage %",
        ]
    ]
    for figures in models(report):
        pseudo_labels = figures.get("pseudo_labels", {})
        gain = f"{_gain(report, figures):+.2f}" if figures["round"] else "-"
        rows.append(
            [
                title(figures),
                _percent(top_1(report, figures)),
                gain,
                _percent(pseudo_labels.get("accuracy")),
                _percent(pseudo_labels.get("coverage")),
            ]
        )
    return rows


def models(report):
    """Returns the figures of every model: of each round, and of FixRes."""
    tuned = report.get("fixres")
    return report["rounds"] + ([tuned] if tuned else [])


def title(figures):
    """Returns what a model is called; the tuned one says its resolution."""
    name = model_name(figures["round"])
    if figures["role"] != "fixres":
        return name
    return f"{name}, FixRes at {figures['fixres']['tuned_size']}"


def model_name(number):
    """Returns what the model of a round is called; round 0 is the teacher."""
    return f"student {number}" if number else "teacher"


def top_1(report, figures):
    """Returns the accuracy of a round's model on the evaluation images."""
    return figures[f"{report['eval_split']}_top_1"]


def headline(report):
    """Returns the sentence that says what the run achieved."""
    first, *_, last = models(report)
    points = _gain(report, last)
    if points:
        word = "more" if points > 0 else "fewer"
        comparison = f"{abs(points):.2f} points {word} than"
    else:
        comparison = "exactly as many as"
    return (
        f"{_capitalized(title(last))} classifies "
        f"{_percent(top_1(report, last))} % of the {report['eval_split']} "
        f"images correctly, {comparison} the first teacher "
        f"({_percent(top_1(report, first))} %)."
    )


def precision(report):
    """Returns the sentence that says how far the accuracies can be trusted."""
    last = models(report)[-1]
    num_images = last["num_images"]
    accuracy = top_1(report, last)
    error = math.sqrt(accuracy * (1 - accuracy) / num_images)
    return (
        f"Measured on {num_images:,} images: one image is "
        f"{100 / num_images:.2g} points, and the standard error of an "
        f"accuracy about {100 * error:.2g} points."
    )


def pseudo_labels(report, labels, names):
    """Returns the sentences about the last round's labels.

    Args:
        report: The content of `report.json`.
        labels: `label_summary.LabelSummary`.
        names: Class names in label order.

    Returns:
        str.
    """
    number = report["rounds"][-1]["round"]
    figures = report["rounds"][-1]["pseudo_labels"]
    num_labels = int(labels.counts.sum())
    text = (
        f"Round {number}: {model_name(number - 1)} labeled {num_labels:,} "
        f"images; {figures['num_kept']:,} were kept and "
        f"{figures['num_written']:,} records written, copies included."
    )
    if report["unlabeled"]["truth"] is not None:
        num_wrong = int(labels.wrong_counts.sum())
        text += f" {num_wrong:,} of the {num_labels:,} labels are wrong."
    kept = zip(names, figures["kept_per_class"])
    if empty := [name for name, count in kept if not count]:
        text += f" Nothing was kept of {_list_names(empty)}."
    return text


def caption(example, names):
    """Returns the lines that say what a label is, and what it should be.

    Args:
        example: `label_summary.Example`.
        names: Class names in label order.

    Returns:
        list of str: the label, its confidence, and the truth if the label is
        wrong.
    """
    lines = [names[example.label], f"{100 * example.confidence:.1f} %"]
    if example.is_wrong:
        lines.append(f"is {names[example.truth]}")
    return lines


def _gain(report, figures):
    """Returns the points gained on the first teacher, rounded as printed."""
    first = top_1(report, report["rounds"][0])
    # Adding zero turns -0.0 into 0.0.
    return round(100 * (top_1(report, figures) - first), 2) + 0.0


def _capitalized(text):
    return text[:1].upper() + text[1:]


def _percent(fraction):
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def _list_names(names):
    shown = ", ".join(names[:10])
    kind = "class" if len(names) == 1 else f"{len(names):,} classes:"
    return f"{kind} {shown}{', ...' if names[10:] else ''}"
