"""What a self-training run achieved: a table for terminals, a page for people.

The words are in `report_text`, the examples in `label_summary`, the charts in
`report_charts` and the HTML in `report_page`. The charts need matplotlib, which
comes with the extras `[quickstart]` and `[plots]`.
"""

import os

from data_prep import files, shards, thumbnails
from noisy_student import (
    label_summary,
    report_charts,
    report_page,
    report_text,
    text_table,
)


def format_table(report):
    """Returns the table of the rounds as plain text.

    Args:
        report: The content of a self-training run's `report.json`.

    Returns:
        str, one line per round below the headings; "-" where a figure does
        not apply or is unknown.
    """
    return text_table.aligned(report_text.table(report))


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
    labels = label_summary.summarize(work_dir, report)
    ends = {"most": labels.most_confident, "least": labels.least_confident}
    images = thumbnails.read(
        (example.shard, example.index)
        for examples in ends.values()
        for example in examples
    )
    charts = report_charts.Charts(os.path.join(work_dir, "figures"))
    for end, examples in ends.items():
        charts.contact_sheet(end, examples, images, names)
    page = report_page.page(
        [
            report_page.result(report),
            report_page.learning_curves(
                charts.learning_curves(work_dir, report)
            ),
            report_page.pseudo_labels(
                report,
                labels,
                names,
                charts.pseudo_labels(report, labels, names),
            ),
            *(
                report_page.examples(end, examples, images, names)
                for end, examples in ends.items()
            ),
            report_page.origin(report, config),
        ]
    )
    path = os.path.join(work_dir, "report.html")
    files.write_bytes(path, page.encode())
    return path


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
