"""A picture of many views of an image, with headings and captions.

Needs Pillow alone, 9.5 or later. Equal inputs give equal pixels.
"""

import dataclasses
import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# In pixels. Larger views shrink to a tile; smaller ones are enlarged by a whole
# factor, so that each of their pixels stays a square.
_TILE = 160
_LEAST_TILE = 128
_MARGIN = 32
_GAP = 6
_GROUP_GAP = 14
_LINE_GAP = 16
_CAPTION_HEIGHT = 22
_TITLE_SIZE, _TITLE_HEIGHT = 28, 42
_HEADING_SIZE, _HEADING_HEIGHT = 17, 26
_FONT_SIZE, _FONT_HEIGHT = 14, 20

_LEAST_COLUMNS = 6
_BESIDE_TEXT = 4  # Columns to the right of the text.
_BACKGROUND, _FRAME = "#ffffff", "#d9dde3"
_TEXT, _SOFT = "#1f2328", "#5b6470"


@dataclasses.dataclass(frozen=True)
class Tile:
    """One view.

    Attributes:
        pixels: uint8 [size, size, 3].
        left: Caption below its left corner.
        right: Caption below its right corner.
    """

    pixels: np.ndarray
    left: str = ""
    right: str = ""


@dataclasses.dataclass(frozen=True)
class Strip:
    """Views that belong together.

    Attributes:
        tiles: Tuple of `Tile`, all of one size.
        title: What they are.
        about: More of it; left out where there is no room.
    """

    tiles: tuple
    title: str = ""
    about: str = ""


def draw(title, paragraphs, sections, *, group):
    """Draws a sheet.

    Args:
        title: Its title.
        paragraphs: Sequence of str, below the title.
        sections: Sequence of sequences of `Strip`. The first begins to the
            right of the text, the others begin a line. All views have one
            size.
        group: Tiles between two wider gaps; a line has an even number of
            groups.

    Returns:
        `PIL.Image.Image`.
    """
    side = _tile_side(len(sections[0][0].tiles[0].pixels))
    columns = 2 * group * -(-_LEAST_COLUMNS // (2 * group))

    def left(column):
        gaps = column * _GAP + column // group * _GROUP_GAP
        return _MARGIN + column * side + gaps

    lines = []
    for strips in sections:
        free = columns if lines else _BESIDE_TEXT
        lines += _flow(strips, columns, free=free)
    heights = [
        (_HEADING_HEIGHT if line[0][1].title else 0) + side + _CAPTION_HEIGHT
        for line in lines
    ]
    width = left(columns - 1) + side + _MARGIN
    height = 2 * _MARGIN + sum(heights) + (len(lines) - 1) * _LINE_GAP
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    text_width = left(columns - _BESIDE_TEXT) - 2 * _MARGIN
    _draw_text(sheet, title, paragraphs, text_width)
    top = _MARGIN
    for line, line_height in zip(lines, heights):
        ends = [left(column) - _GAP for column, _ in line[1:]]
        for (column, strip), end in zip(line, [*ends, width - _MARGIN]):
            lefts = [left(column + i) for i in range(len(strip.tiles))]
            _draw_strip(sheet, strip, lefts, end, top, side)
        top += line_height + _LINE_GAP
    return sheet


def _tile_side(size):
    """Returns the side of a tile that shows `size` pixels."""
    return _TILE if size > _TILE else size * -(-_LEAST_TILE // size)


def _flow(strips, columns, *, free):
    """Returns lines of (column, `Strip`).

    Args:
        strips: Sequence of `Strip`; those longer than a line are broken, the
            others are not.
        columns: Tiles per line.
        free: Columns of the first line, the last ones, that may be filled.
    """
    lines = [[]]
    for strip in strips:
        for start in range(0, len(strip.tiles), columns):
            tiles = strip.tiles[start : start + columns]
            part = Strip(tiles)
            if start == 0:
                part = dataclasses.replace(strip, tiles=tiles)
            if len(tiles) > free:
                lines.append([])
                free = columns
            lines[-1].append((columns - free, part))
            free -= len(tiles)
    return [line for line in lines if line]


def _draw_strip(sheet, strip, lefts, end, top, side):
    """Draws a strip from `top` down, its heading no further than `end`."""
    pen = _Pen(sheet)
    if strip.title:
        left = pen.write(lefts[0], top, strip.title, _HEADING_SIZE) + 10
        if left + pen.width(strip.about) <= end:
            pen.write(left, top + 3, strip.about, color=_SOFT)
        top += _HEADING_HEIGHT
    for tile, left in zip(strip.tiles, lefts):
        shrinks = len(tile.pixels) > side
        view = Image.fromarray(tile.pixels).resize(
            (side, side), Image.LANCZOS if shrinks else Image.NEAREST
        )
        pen.frame(left - 1, top - 1, side + 2)
        sheet.paste(view, (left, top))
        below = top + side + 3
        pen.write(left, below, tile.left, color=_SOFT)
        pen.write(left + side - pen.width(tile.right), below, tile.right)


def _draw_text(sheet, title, paragraphs, width):
    """Draws the title and the paragraphs, broken into lines of `width`."""
    pen = _Pen(sheet)
    pen.write(_MARGIN, _MARGIN, title, _TITLE_SIZE)
    top = _MARGIN + _TITLE_HEIGHT
    for paragraph in paragraphs:
        line = ""
        for word in paragraph.split(" "):
            if line and pen.width(f"{line} {word}") > width:
                pen.write(_MARGIN, top, line, color=_SOFT)
                line, top = "", top + _FONT_HEIGHT
            line = f"{line} {word}".lstrip()
        pen.write(_MARGIN, top, line, color=_SOFT)
        top += round(1.4 * _FONT_HEIGHT)


class _Pen:
    """Draws on an image; writes in the font that comes with Pillow."""

    def __init__(self, sheet):
        self._draw = ImageDraw.Draw(sheet)

    def frame(self, left, top, side):
        box = (left, top, left + side - 1, top + side - 1)
        self._draw.rectangle(box, outline=_FRAME)

    def width(self, text, size=_FONT_SIZE):
        return round(self._draw.textlength(_legible(text), font=_font(size)))

    def write(self, left, top, text, size=_FONT_SIZE, color=_TEXT):
        """Writes one line from its upper left corner; returns where it ends."""
        self._draw.text((left, top), _legible(text), color, _font(size))
        return left + self.width(text, size)


def _legible(text):
    """Returns text in which "?" stands for letters Pillow's font lacks."""
    return "".join(c if c.isascii() or c == "°" else "?" for c in text)


@functools.cache
def _font(size):
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Before Pillow 10.1 there is one small font.
        return ImageFont.load_default()
