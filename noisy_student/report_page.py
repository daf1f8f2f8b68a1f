"""The page of a self-training run's report: its sections.

Every function returns HTML in which text from outside is escaped.
"""

import html
import json

from data_prep import html_page
from noisy_student import report_text


def page(sections):
    """Returns the whole page.

    Args:
        sections: Sequence of HTML, from the functions below.
    """
    return html_page.page("Noisy Student self-training", sections)


def result(report):
    """Returns the section that says what came out, with the table.

    Args:
        report: The content of a self-training run's `report.json`.
    """
    head, *rows = report_text.table(report)
    return "\n".join(
        [
            f'<p class="headline">{html.escape(report_text.headline(report))}'
            "</p>",
            f'<p class="note">{html.escape(report_text.precision(report))}</p>',
            html_page.table(head, rows),
        ]
    )


def learning_curves(charts):
    """Returns the section of the learning curves.

    Args:
        charts: Sequence of `charts.Chart`; if it is empty, the section
            says what to install.
    """
    return "<h2>Learning curves</h2>" + html_page.side_by_side(charts)


def pseudo_labels(report, labels, names, charts):
    """Returns the section about the last round's labels as a whole.

    Args:
        report: The content of `report.json`.
        labels: `label_summary.LabelSummary`.
        names: Class names in label order.
        charts: As in `learning_curves`.
    """
    text = html.escape(report_text.pseudo_labels(report, labels, names))
    return (
        "<h2>Pseudo labels of the last round</h2>"
        f"<p>{text}</p>{html_page.side_by_side(charts)}"
    )


def examples(end, shown, images, names):
    """Returns the section with the labels at one end of the confidences.

    Args:
        end: "most" or "least".
        shown: Sequence of `label_summary.Example`.
        images: Their images, from `thumbnails.read`.
        names: Class names in label order.
    """
    tiles = [
        html_page.tile(
            images[e.shard, e.index],
            report_text.caption(e, names),
            key=e.key,
            wrong=e.is_wrong,
        )
        for e in shown
    ]
    note = ""
    if any(e.truth is not None for e in shown):
        wrong = sum(e.is_wrong for e in shown) or "None"
        note = f"{wrong} of these {len(shown)} are wrong."
    return (
        f"<h2>{end.capitalize()} confident labels</h2>"
        f'<p class="note">{note}</p>'
        f"{html_page.tiles(tiles)}"
    )


def origin(report, config):
    """Returns the section about data, time, versions and settings.

    Args:
        report: The content of `report.json`.
        config: The content of the run's `config.json`.
    """
    seconds = sum(
        figures.get("seconds", 0) for figures in report_text.models(report)
    )
    facts = {
        "unlabeled images": f"{report['unlabeled']['num_images']:,} in "
        f"{report['unlabeled']['directory']}",
        "training time": f"{seconds / 60:,.1f} minutes",
        **report["made_with"],
    }
    settings = html.escape(json.dumps(config, indent=2, ensure_ascii=False))
    return (
        f"<h2>How it was made</h2>{html_page.facts(facts)}"
        f"<details><summary>All settings</summary><pre>{settings}</pre>"
        "</details>"
    )
