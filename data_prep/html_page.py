"""The pages that reports are written as: their layout, colours and parts.

Every function returns HTML in which text from outside is escaped. A page is one
file without scripts or links to other files.
"""

import base64
import html
import io
import re

from data_prep import charts

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
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
# A sign, not the hyphen of a name.
_MINUS = re.compile(r"(?<!\w)-(?=\d|$)")


def page(title, sections):
    """Returns a whole page.

    Args:
        title: Its title, and first heading.
        sections: Sequence of HTML.
    """
    return _PAGE.format(
        title=html.escape(title), style=_STYLE, body="\n".join(sections)
    )


def table(head, rows):
    """Returns a table.

    Args:
        head: Sequence of str, the headings of its columns.
        rows: Sequences of str; the first cell is the row's heading.
    """
    cells = (f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    return "\n".join(
        [
            f"<table><thead><tr>{''.join(cells)}</tr></thead><tbody>",
            *map(_row, rows),
            "</tbody></table>",
        ]
    )


def _row(cells):
    first, *rest = map(html.escape, cells)
    numbers = (f"<td>{_MINUS.sub('&minus;', c)}</td>" for c in rest)
    return f'<tr><th scope="row">{first}</th>{"".join(numbers)}</tr>'


def facts(values):
    """Returns a list of names and values; a value of None is left out.

    Args:
        values: dict name -> value.
    """
    items = (
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in values.items()
        if value is not None
    )
    return f"<dl>{''.join(items)}</dl>"


def side_by_side(drawn):
    """Returns charts, or what to install where there are none.

    Args:
        drawn: Sequence of `charts.Chart`.
    """
    if not drawn:
        return (
            '<p class="note">The charts need matplotlib: '
            f"<code>{charts.INSTALL}</code>.</p>"
        )
    return f'<div class="charts">{"".join(map(_figure, drawn))}</div>'


def _figure(chart):
    about = html.escape(chart.about)
    return (
        '<figure><picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{_data_url(chart.dark)}">'
        f'<img src="{_data_url(chart.light)}" alt="{about}"></picture>'
        f"<figcaption>{about}</figcaption></figure>"
    )


def tiles(figures):
    """Returns images in rows; of HTML from `tile`."""
    return f'<div class="tiles">{"".join(figures)}</div>'


def tile(image, caption, *, key, wrong=False):
    """Returns an image with its caption.

    Args:
        image: PIL image.
        caption: Sequence of str, its lines; the first in bold.
        key: Name of the image, for readers who cannot see it.
        wrong: Whether to mark it.
    """
    first, *rest = map(html.escape, caption)
    css = ' class="wrong"' if wrong else ""
    return (
        f'<figure{css}><img src="{_data_url(png_bytes(image))}" '
        f'alt="{html.escape(key)}"><figcaption><b>{first}</b><br>'
        f"{'<br>'.join(rest)}</figcaption></figure>"
    )


def png_bytes(image):
    """Returns a PIL image as the bytes of a PNG file."""
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def _data_url(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
