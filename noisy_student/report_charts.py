"""Which charts the report of a self-training run has, and what they show.

How a chart is drawn is the business of `plots`, which needs matplotlib.
"""

import functools

import numpy as np

from data_prep import charts
from noisy_student import report_text, run_dir

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


class Charts(charts.ChartFolder):
    """Draws a report's charts into a folder."""

    def learning_curves(self, work_dir, report):
        """Draws `loss` and `accuracy` of all rounds.

        Args:
            work_dir: Directory of the finished self-training run.
            report: The content of its `report.json`.

        Returns:
            List of `charts.Chart`; empty without matplotlib.
        """
        logs = [
            run_dir.read_metrics(
                run_dir.round_dir(work_dir, figures["round"], "model")
            )
            for figures in report["rounds"]
        ]
        return self.draw(
            {
                quantity: (
                    about,
                    functools.partial(_draw_curves, report, logs, quantity),
                )
                for quantity, (_, about) in _CURVES.items()
            }
        )

    def pseudo_labels(self, report, labels, names):
        """Draws `confidence` and `classes` of the last round's labels.

        Args:
            report: The content of `report.json`.
            labels: `label_summary.LabelSummary`.
            names: Class names in label order.

        Returns:
            List of `charts.Chart`; empty without matplotlib.
        """
        known = report["unlabeled"]["truth"] is not None
        figures = report["rounds"][-1]["pseudo_labels"]
        return self.draw(
            {
                "confidence": (
                    "All labels by the teacher's confidence in them."
                    + (" Below: the share that is wrong." if known else ""),
                    lambda plots, theme: plots.confidence_histogram(
                        labels.counts,
                        wrong_counts=labels.wrong_counts if known else None,
                        min_threshold=figures["min_threshold"],
                        theme=theme,
                    ),
                ),
                "classes": (
                    "Images kept of each class, before and after balancing, "
                    "which writes copies where a class has too few.",
                    lambda plots, theme: plots.class_counts(
                        {
                            "kept": figures["kept_per_class"],
                            "after balancing": figures["written_per_class"],
                        },
                        names,
                        theme=theme,
                    ),
                ),
            }
        )

    def contact_sheet(self, end, examples, images, names):
        """Draws `<end>_confident`, images with their labels, as files only.

        Args:
            end: "most" or "least".
            examples: Sequence of `label_summary.Example`.
            images: Their images, from `thumbnails.read`.
            names: Class names in label order.
        """
        self.draw(
            {
                f"{end}_confident": (
                    f"The {end} confident labels.",
                    lambda plots, theme: plots.contact_sheet(
                        [
                            np.asarray(images[e.shard, e.index])
                            for e in examples
                        ],
                        [
                            "\n".join(report_text.caption(e, names))
                            for e in examples
                        ],
                        wrong=[e.is_wrong for e in examples],
                        theme=theme,
                    ),
                )
            }
        )


def _draw_curves(report, logs, quantity, plots, theme):
    return plots.curves(
        _curves(plots, report, logs, quantity),
        y_label=quantity,
        percent=quantity == "accuracy",
        theme=theme,
    )


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
        plots.Curve(
            report_text.model_name(number),
            number,
            kind,
            *zip(*points.items()),
        )
        for kind, number, points in found
        if points
    ]


def _evaluations(report, figures, log):
    points = _series(log, "eval/top_1")
    if "train_steps" in figures:
        points[figures["train_steps"]] = report_text.top_1(report, figures)
    return points


def _series(log, name):
    return {line["step"]: line[name] for line in log if name in line}
