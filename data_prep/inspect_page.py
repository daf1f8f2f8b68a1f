"""The page about shards: counts, charts, a table of classes, and images."""

import html
import os

from data_prep import charts, files, html_page, shard_summary, thumbnails

FIGURES_DIR = "figures"

# More rows than this are folded away.
_MOST_ROWS = 50


def make(output_dir, *, report, summary, names, shown, has_images):
    """Returns the page, and writes its pictures to `figures/`.

    Args:
        output_dir: Folder of the page.
        report: The content of report.json.
        summary: `shard_summary.ShardSummary`.
        names: Class names in label order.
        shown: Labels whose images are shown; None is all together.
        has_images: Whether the shards hold images.

    Returns:
        str, HTML.
    """
    folder = os.path.join(output_dir, FIGURES_DIR)
    sections = [_overview(report), *_charts(folder, report, names)]
    if report["classes"] or report["filtered"]:
        sections.append(_class_table(report, names))
    if has_images:
        sections += _images(folder, summary, names, shown)
    else:
        sections.append(
            '<p class="note">Predictions hold no images: to see them, give '
            "the image shards as --data_dir and these as --prediction_dir.</p>"
        )
    return html_page.page("What is in these shards", sections)


def _overview(report):
    counters = dict(report["counters"])
    num_images = sum(
        number
        for name, number in counters.items()
        if name.startswith("format:")
    )
    facts = {
        "records checked": f"{report['num_records']:,}",
        **{name: f"{number:,}" for name, number in counters.items()},
        "labels": None,
    }
    if num_images:
        mean = report["image_bytes"] / num_images / 1000
        facts["mean image"] = f"{mean:,.1f} kB"
    if report["label_min"] is not None:
        facts["labels"] = (
            f"{report['label_min']} to {report['label_max']}, counted from 0; "
            f"{sum(row['images'] > 0 for row in report['classes']):,} classes"
        )
    return (
        f'<p class="headline">{report["num_records"]:,} '
        f"{html.escape(report['kind'].replace('_', '-'))} records in "
        f"{report['num_shards']:,} shards</p>{html_page.facts(facts)}"
    )


def _charts(folder, report, names):
    """Yields the section of the charts, if there is anything to draw."""
    wanted = {}
    filtered = report["filtered"]
    least = filtered["min_threshold"] if filtered else None
    if report["confidence_counts"]:
        wanted["confidence"] = (
            "Images by the teacher's confidence in their label.",
            lambda plots, theme: plots.confidence_histogram(
                report["confidence_counts"], min_threshold=least, theme=theme
            ),
        )
    if report["label_min"] is not None:
        counts = [row["images"] for row in report["classes"]]
        wanted["classes"] = (
            "Images of each class in these shards.",
            lambda plots, theme: plots.class_counts(
                {"images": counts}, names[: len(counts)], theme=theme
            ),
        )
    if filtered:
        columns = {
            "before": [row["available"] for row in filtered["classes"]],
            "after": [row["copies"] for row in filtered["classes"]],
        }
        wanted["filtering"] = (
            "Images of each class before filtering, where their confidence is "
            "accepted, and records after it, copies included.",
            lambda plots, theme: plots.class_counts(
                columns, names[: len(columns["before"])], theme=theme
            ),
        )
    if wanted:
        drawn = charts.ChartFolder(folder).draw(wanted)
        yield f"<h2>Labels</h2>{html_page.side_by_side(drawn)}"


def _class_table(report, names):
    head = ["class", "images", "mean confidence"]
    filtered = report["filtered"]
    rows_after = filtered["classes"] if filtered else []
    if filtered:
        head += ["accepted", "kept", "with copies", "threshold"]
    rows = []
    for label in range(max(len(report["classes"]), len(rows_after))):
        cells = [_title(label, names)]
        if label < len(report["classes"]):
            row = report["classes"][label]
            mean = row["mean_confidence"]
            cells.append(f"{row['images']:,}")
            cells.append("" if mean is None else f"{mean:.3f}")
        else:
            cells += ["0", ""]
        if label < len(rows_after):
            after = rows_after[label]
            cells += [f"{after[n]:,}" for n in ("available", "kept", "copies")]
            cells.append(f"{after['threshold']:.4g}")
        elif filtered:
            cells += [""] * 4
        rows.append(cells)
    table = html_page.table(head, rows)
    if len(rows) > _MOST_ROWS:
        table = (
            f"<details><summary>All {len(rows):,} classes</summary>{table}"
            "</details>"
        )
    return f"<h2>Classes</h2>{table}"


def _images(folder, summary, names, shown):
    """Yields a section of images for each class, and writes their sheets."""
    examples = {
        (label, end): summary.examples(label, end)
        for label in shown
        for end in shard_summary.ENDS
    }
    images = thumbnails.read(
        (example.shard, example.index)
        for found in examples.values()
        for example in found
    )
    for label in shown:
        rows = {
            end: [
                example
                for example in examples[label, end]
                if (example.shard, example.index) in images
            ]
            for end in shard_summary.ENDS
        }
        rows = {end: found for end, found in rows.items() if found}
        if not rows:
            continue
        name = "all" if label is None else f"class_{label:04d}"
        sheet = thumbnails.sheet(
            [[images[e.shard, e.index] for e in row] for row in rows.values()]
        )
        path = os.path.join(folder, f"{name}.png")
        files.write_bytes(path, html_page.png_bytes(sheet))
        title = html.escape(_title(label, names))
        yield f"<h2>{title}</h2>" + "".join(
            f'<p class="note">{end.capitalize()}</p>'
            + html_page.tiles(_tile(e, images, names) for e in row)
            for end, row in rows.items()
        )


def _title(label, names):
    if label is None:
        return "All images"
    name = names[label]
    return name if name == str(label) else f"{label} {name}"


def _tile(example, images, names):
    caption = ["no label" if example.label is None else names[example.label]]
    if example.confidence is not None:
        caption.append(f"{100 * example.confidence:.1f} %")
    return html_page.tile(
        images[example.shard, example.index],
        caption,
        key=f"{os.path.basename(example.shard)}:{example.index}",
    )
