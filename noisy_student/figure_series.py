"""What the figures of the paper show, prepared from reports.

Plain values: how they are drawn is the business of `data_prep.plots` and
`data_prep.result_plots`.
"""

import dataclasses
import math
import os

from noisy_student import info, measured, published

ATTACKS = {"fgsm": "FGSM", "pgd": "PGD"}
MEAN = "mean (mCE)"


@dataclasses.dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes:
        name: What they are.
        positions: float [points], on the horizontal axis.
        values: float [points].
        labels: str [points]; empty where points have no names.
        kind: A second name, which several series share.
        sources: str [points], who published them; empty for own ones.
    """

    name: str
    positions: tuple
    values: tuple
    labels: tuple = ()
    kind: str = ""
    sources: tuple = ()


def short_names(reports):
    """Returns a name for each report that is short and no other's.

    Args:
        reports: Sequence of `measured.Measured`.

    Returns:
        list of str: the name of the file, or of the directory for a file that
        is called as in any run; the whole name where two would be equal.
    """
    short = [_short_name(report.name) for report in reports]
    return [
        name if short.count(name) == 1 else report.name
        for name, report in zip(short, reports)
    ]


def _short_name(name):
    path, colon, model = name.partition(": ")
    folder, file = os.path.split(path.rstrip("/"))
    stem = os.path.splitext(file)[0]
    if file in measured.FILES and folder:
        stem = os.path.basename(folder)
    return stem + colon + model


def accuracy_over_size(reports, *, with_published):
    """Returns the series of Figure 2: accuracy over parameters.

    Args:
        reports: Sequence of `measured.Measured`.
        with_published: Whether those of the paper come first.

    Returns:
        list of `Series`: top-1 in percent over millions of trainable
        parameters.

    Raises:
        ValueError: If a report is no evaluation, does not tell its network,
            or does not compare with what is published.
    """
    found = []
    if with_published:
        found = [
            _published_series("EfficientNet", published.SUPERVISED),
            _published_series("with Noisy Student", published.NOISY_STUDENT),
        ]
    for report in reports:
        _require(
            report,
            "evaluation",
            report.kind == "evaluation" and "top_1" in report.figures,
        )
        if report.model is None:
            raise ValueError(
                f"{report.name}: nothing tells its network, and so its number "
                "of parameters."
            )
        if with_published and not report.is_imagenet:
            raise ValueError(
                f"{report.name}: no network of ImageNet's 1000 classes. "
                "--nopublished draws reports without the paper's numbers."
            )
    if reports:
        found.append(
            Series(
                "measured",
                tuple(_millions(report.model) for report in reports),
                tuple(report.figures["top_1"] for report in reports),
                tuple(short_names(reports)),
            )
        )
    return found


def _published_series(name, method):
    rows = [row for row in published.FIGURE_2 if row.method == method]
    values = [row.figures["top_1"] for row in rows]
    return Series(
        name,
        tuple(row.params for row in rows),
        tuple(value.percent for value in values),
        tuple(row.model_name.rpartition("-")[2].upper() for row in rows),
        sources=tuple(value.source for value in values),
    )


def _millions(model):
    return info.model_card(model, batch_size=1).trainable_params / 1e6


def accuracy_over_epsilon(reports):
    """Returns the series of Figure 4: accuracy under attack over epsilon.

    Args:
        reports: Sequence of `measured.Measured`.

    Returns:
        list of `Series`, one for each report and attack: top-1 as a fraction
        over epsilon of 255, from the smallest; `kind` is the attack.

    Raises:
        ValueError: If a report is of no attack, or of one that is not known.
    """
    found = []
    for name, report in zip(short_names(reports), reports):
        _require(report, "adversarial", bool(report.curve))
        points = {}
        for point in report.curve:
            attack = point.get("attack")
            if attack not in ATTACKS:
                raise ValueError(
                    f"{report.name}: `attack` must be one of "
                    f"{', '.join(ATTACKS)}. Received: {attack!r}."
                )
            points.setdefault(attack, {})[point["epsilon"]] = point["top_1"]
        found += [
            Series(name, *zip(*sorted(values.items())), kind=ATTACKS[attack])
            for attack, values in points.items()
        ]
    return found


def error_by_corruption(reports):
    """Returns the bars of the corruption errors.

    Args:
        reports: Sequence of `measured.Measured`.

    Returns:
        (names, columns): names of the corruptions in the order of the
        reports, the mean last if a report has one; dict report -> list of
        percent of AlexNet's error, NaN where it has none.

    Raises:
        ValueError: If a report has no corruptions.
    """
    for report in reports:
        _require(report, "imagenet_c", bool(report.corruptions))
    names = list(dict.fromkeys(n for r in reports for n in r.corruptions))
    columns = {
        short: [
            report.corruptions.get(name, {}).get("corruption_error", math.nan)
            for name in names
        ]
        for short, report in zip(short_names(reports), reports)
    }
    means = [
        report.figures.get("mean_corruption_error", math.nan)
        for report in reports
    ]
    if not all(map(math.isnan, means)):
        names.append(MEAN)
        for values, mean in zip(columns.values(), means):
            values.append(mean)
    return names, columns


def _require(report, kind, fits):
    if not fits:
        raise ValueError(
            f"{report.name}: this figure takes reports of kind {kind!r} with "
            f"figures of it. Received: kind {report.kind!r}."
        )
