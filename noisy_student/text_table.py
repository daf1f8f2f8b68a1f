"""Tables as text: aligned for terminals, and as Markdown."""


def aligned(table, *, num_left=1):
    """Returns a table whose columns are aligned.

    Args:
        table: Sequence of rows, headings first; sequences of str.
        num_left: Columns that are flush left; the others are flush right.

    Returns:
        str, a line per row, without a line break behind the last.
    """
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if i < num_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(headings, rows):
    """Returns a table in Markdown; a bar in a cell stays one.

    Args:
        headings: Sequence of str.
        rows: Iterable of sequences of str.
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n"
        for line in lines
    )
