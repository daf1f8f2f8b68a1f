"""Tests of `data_prep.html_page` and `data_prep.charts`."""

import base64
import io
import re

from PIL import Image

from data_prep import charts, html_page, thumbnails


def test_text_from_outside_is_escaped():
    name = "<i>&"
    parts = [
        html_page.page(name, []),
        html_page.table([name], [[name, name]]),
        html_page.facts({name: name}),
        html_page.tile(Image.new("RGB", (2, 2)), [name, name], key=name),
        html_page.side_by_side([charts.Chart(name, b"", b"")]),
    ]
    for part in parts:
        assert name not in part
        assert "&lt;i&gt;&amp;" in part


def test_signs_of_numbers_become_minus_and_hyphens_stay():
    row = ["a-1", "-", "-0.5", "b-2 (-3)", "2020-01-02"]
    assert (
        '<th scope="row">a-1</th><td>&minus;</td><td>&minus;0.5</td>'
        "<td>b-2 (&minus;3)</td><td>2020-01-02</td>"
    ) in html_page.table(["x"] * 5, [row])


def test_a_fact_without_a_value_is_left_out():
    assert html_page.facts({"a": None, "b": 0}) == (
        "<dl><dt>b</dt><dd>0</dd></dl>"
    )


def test_a_tile_holds_its_image():
    image = Image.new("RGB", (3, 2), "red")
    text = html_page.tile(image, ["one", "two"], key="k", wrong=True)
    encoded = re.search(r"base64,([^\"]+)\"", text)[1]
    decoded = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert decoded.tobytes() == image.tobytes()
    assert '<figure class="wrong">' in text
    assert "<b>one</b><br>two" in text


def test_a_sheet_has_rows_of_enlarged_thumbnails():
    red, blue = (Image.new("RGB", (2, 2), name) for name in ("red", "blue"))
    sheet = thumbnails.sheet([[red, blue], [blue]])
    assert sheet.size == (210, 210)
    middles = [(54, 54), (156, 54), (54, 156), (156, 156)]
    assert [sheet.getpixel(place) for place in middles] == [
        (255, 0, 0),
        (0, 0, 255),
        (0, 0, 255),
        (255, 255, 255),
    ]
