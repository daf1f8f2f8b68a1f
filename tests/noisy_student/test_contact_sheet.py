"""Tests of the layout of contact sheets."""

import numpy as np
import pytest
from PIL import ImageFont

from noisy_student import contact_sheet
from noisy_student.contact_sheet import Strip, Tile

# Where the layout puts things, in pixels.
MARGIN, GAP, GROUP_GAP, LINE_GAP = 32, 6, 14, 16
HEADING, CAPTION = 26, 22


def colors(count, size=160):
    """Returns tiles of one colour each, told apart by their red."""
    return tuple(
        Tile(np.full((size, size, 3), (20 * i + 10, 60, 200), np.uint8))
        for i in range(count)
    )


def draw(*sections, group=1, title="T", paragraphs=()):
    sheet = contact_sheet.draw(title, paragraphs, sections, group=group)
    assert sheet.mode == "RGB"
    return np.asarray(sheet)


def find(sheet, tile):
    """Returns (left, top, width, height) of where a tile's colour is."""
    rows, columns = np.nonzero((sheet == tile.pixels[0, 0]).all(-1))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert len(rows) == width * height
    return columns.min(), rows.min(), width, height


def test_the_first_section_begins_beside_the_text_and_the_others_a_line():
    tiles = colors(8)
    sheet = draw(
        [Strip(tiles[:1], "a"), Strip(tiles[1:4], "b"), Strip(tiles[4:6], "c")],
        [Strip(tiles[6:8], "d")],
    )
    step, line = 160 + GAP + GROUP_GAP, HEADING + 160 + CAPTION + LINE_GAP
    width = 2 * MARGIN + 5 * step + 160
    assert sheet.shape == (2 * MARGIN + 3 * line - LINE_GAP, width, 3)
    places = [(2, 0), (3, 0), (4, 0), (5, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    for tile, (column, row) in zip(tiles, places):
        left, top = MARGIN + column * step, MARGIN + HEADING + row * line
        assert find(sheet, tile) == (left, top, 160, 160)


def test_groups_are_further_apart_and_a_strip_is_not_broken_needlessly():
    tiles = colors(9)
    sheet = draw([Strip(tiles[:3], "a"), Strip(tiles[3:], "b")], group=3)
    # Three tiles leave one place free beside the text: six need a line.
    lefts = [find(sheet, tile)[0] for tile in tiles]
    step = 160 + GAP
    line = [MARGIN + i * step + (i >= 3) * GROUP_GAP for i in range(6)]
    assert lefts == [*line[2:5], *line]


def test_a_strip_longer_than_a_line_goes_on_without_a_heading():
    tiles = colors(8)
    sheet = draw([Strip(tiles[:1], "a")], [Strip(tiles[1:], "b")])
    line = 160 + CAPTION + LINE_GAP
    top = MARGIN + 2 * HEADING + line
    assert [find(sheet, tile)[1] for tile in tiles[1:7]] == [top] * 6
    assert find(sheet, tiles[7])[1] == top + line


@pytest.mark.parametrize(
    ("group", "columns"), [(1, 6), (2, 8), (4, 8), (5, 10)]
)
def test_a_line_has_an_even_number_of_groups(group, columns):
    tile = colors(1)[0]
    sheet = draw([Strip((tile,), "a")], group=group)
    gaps = (columns - 1) * GAP + (columns // group - 1) * GROUP_GAP
    assert sheet.shape[1] == 2 * MARGIN + columns * 160 + gaps


@pytest.mark.parametrize(
    ("size", "side"), [(8, 128), (32, 128), (96, 192), (160, 160), (161, 160)]
)
def test_small_views_are_enlarged_by_a_whole_factor(size, side):
    [tile] = colors(1, size)
    sheet = draw([Strip((tile,), "a")])
    assert find(sheet, tile)[2:] == (side, side)


def test_enlarged_pixels_are_squares():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    sheet = draw([Strip((Tile(pixels),), "a")])
    left, top = MARGIN + 2 * (128 + GAP + GROUP_GAP), MARGIN + HEADING
    np.testing.assert_array_equal(
        sheet[top : top + 128, left : left + 128],
        pixels.repeat(4, axis=0).repeat(4, axis=1),
    )
    frame = np.asarray(sheet[top - 1, left - 1 : left + 129])
    np.testing.assert_array_equal(frame, [[0xD9, 0xDD, 0xE3]] * 130)


class Written:
    """Records what is written, instead of drawing it."""

    def __init__(self, monkeypatch):
        self.lines = []
        self.places = {}
        monkeypatch.setattr(contact_sheet._Pen, "write", self._write)

    def _write(self, left, top, text, size=14, color=None):
        if text:
            self.lines.append(text)
            self.places[text] = left, top
        return left + 8 * len(text)


def test_captions_stand_below_the_corners_of_a_tile(monkeypatch):
    written = Written(monkeypatch)
    pixels = np.zeros((160, 160, 3), np.uint8)
    draw([Strip((Tile(pixels, "left", "right"),), "heading")])
    left = MARGIN + 2 * (160 + GAP + GROUP_GAP)
    below = MARGIN + HEADING + 160 + 3
    assert written.places["heading"] == (left, MARGIN)
    assert written.places["left"] == (left, below)
    x, y = written.places["right"]
    assert left + 100 < x < left + 160
    assert y == below


def test_what_a_strip_is_about_is_left_out_where_there_is_no_room(monkeypatch):
    written = Written(monkeypatch)
    tiles = colors(2)
    strips = [Strip(tiles[:1], "a", "long " * 9), Strip(tiles[1:], "b", "more")]
    draw(strips)
    assert written.lines == ["T", "a", "b", "more"]
    # Alone in its line, a strip has the room of the whole line.
    draw(strips[1:], strips[:1])
    assert written.lines[4:] == ["T", "b", "more", "a", "long " * 9]


def test_paragraphs_are_broken_into_lines(monkeypatch):
    written = Written(monkeypatch)
    words = [f"word{i}" for i in range(40)]
    draw([Strip(colors(1), "a")], paragraphs=[" ".join(words), "the end"])
    assert written.lines[0] == "T"
    assert written.lines[-2:] == ["the end", "a"]
    broken = written.lines[1:-2]
    assert len(broken) > 4
    assert " ".join(broken).split(" ") == words
    assert written.places["the end"] > written.places[broken[-1]]


@pytest.mark.skipif(
    not hasattr(ImageFont, "load_default_imagefont"),
    reason="this Pillow has the small font only",
)
def test_the_sheet_is_drawn_without_a_scalable_font(monkeypatch):
    strips = [Strip(colors(1), "heading", "about")]
    first = draw(strips, title="Rotate 45°")
    bitmap = ImageFont.load_default_imagefont()

    def load_default():
        return bitmap

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    contact_sheet._font.cache_clear()
    try:
        second = draw(strips, title="Rotate 45°")
    finally:
        contact_sheet._font.cache_clear()
    assert first.shape == second.shape
    assert (first != second).any()
    left = MARGIN + 2 * (160 + GAP + GROUP_GAP)
    assert (second[: MARGIN + HEADING, left:] < 128).any()


def test_letters_that_the_font_lacks_become_question_marks():
    strips = [Strip(colors(1), "a")]
    np.testing.assert_array_equal(
        draw(strips, paragraphs=["猫é 1°"]), draw(strips, paragraphs=["?? 1°"])
    )
    assert (
        draw(strips, paragraphs=["1°"]) != draw(strips, paragraphs=["1?"])
    ).any()
