"""The page of a self-training run's report: its sections, layout and colours.

Every function returns HTML in which text from outside is escaped. The page is
one file without scripts or links to other files.
"""

import base64
import html
import io
import json

from noisy_student import report_text

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


def page(sections):
    """Returns the whole page.

    Args:
        sections: Sequence of HTML, from the functions below.
    """
    return _PAGE.format(style=_STYLE, body="\n".join(sections))


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
            "<table><thead><tr>",
            *(f'<th scope="col">{html.escape(cell)}</th>' for cell in head),
            "</tr></thead><tbody>",
            *map(_row, rows),
            "</tbody></table>",
        ]
    )


def learning_curves(charts):
    """Returns the section of the learning curves.

    Args:
        charts: Sequence of `report_charts.Chart`; if it is empty, the section
            says what to install.
    """
    return "<h2>Learning curves</h2>" + _side_by_side(charts)


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
        f"<p>{text}</p>{_side_by_side(charts)}"
    )


def examples(end, shown, images, names):
    """Returns the section with the labels at one end of the confidences.

    Args:
        end: "most" or "least".
        shown: Sequence of `label_summary.Example`.
        images: Their images, from `label_summary.read_thumbnails`.
        names: Class names in label order.
    """
    tiles = [_tile(e, images[e.shard, e.index], names) for e in shown]
    note = ""
    if any(e.truth is not None for e in shown):
        wrong = sum(e.is_wrong for e in shown) or "None"
        note = f"{wrong} of these {len(shown)} are wrong."
    return (
        f"<h2>{end.capitalize()} confident labels</h2>"
        f'<p class="note">{note}</p>'
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def origin(report, config):
    """Returns the section about data, time, versions and settings.

    Args:
        report: The content of `report.json`.
        config: The content of the run's `config.json`.
    """
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


def _row(cells):
    first, *rest = map(html.escape, cells)
    numbers = (f"<td>{c.replace('-', '&minus;')}</td>" for c in rest)
    return f'<tr><th scope="row">{first}</th>{"".join(numbers)}</tr>'


def _side_by_side(charts):
    if not charts:
        return (
            '<p class="note">The charts need matplotlib: <code>pip install '
            "'noisy-student-training[plots]'</code>.</p>"
        )
    return f'<div class="charts">{"".join(map(_figure, charts))}</div>'


def _figure(chart):
    about = html.escape(chart.about)
    return (
        '<figure><picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{_data_url(chart.dark)}">'
        f'<img src="{_data_url(chart.light)}" alt="{about}"></picture>'
        f"<figcaption>{about}</figcaption></figure>"
    )


def _tile(example, image, names):
    png = io.BytesIO()
    image.save(png, "PNG")
    label, *rest = map(html.escape, report_text.caption(example, names))
    css = ' class="wrong"' if example.is_wrong else ""
    return (
        f'<figure{css}><img src="{_data_url(png.getvalue())}" '
        f'alt="{html.escape(example.key)}"><figcaption><b>{label}</b><br>'
        f"{'<br>'.join(rest)}</figcaption></figure>"
    )


def _data_url(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
