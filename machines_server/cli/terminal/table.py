"""Tables that fit a terminal: columns become narrower first, and then each row becomes a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from machines_server.cli.terminal.spans import Line, Span, cut, display_width, padded, wrap
from machines_server.core.text import printable

_GAP = 2
_NARROWEST = {"cut": 8, "wrap": 16}
_BELOW_INDENT = 4


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and what happens to it if there is too little room.

    Its cells are `cut`, or `wrap`, or it `stays` as it is, or they are put `below` the rest of their rows.
    """

    title: str
    narrow: Literal["stays", "cut", "wrap", "below"] = "stays"
    right: bool = False


Row = Sequence[Span]


def table(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[Line]:
    """The lines of a table, with a heading; columns without any text are left out.

    `width` is how many columns the terminal has; None is unlimited.
    """
    used = [place for place in range(len(columns)) if any(row[place].text for row in rows)]
    columns = [columns[place] for place in used]
    rows = [[_printable(row[place]) for place in used] for row in rows]
    if not used:
        return []
    if (widths := _natural_widths(columns, rows)) and (width is None or _total(widths) <= width):
        return [line for row in (_heading(columns), *rows) for line in _lines(columns, row, widths)]
    beside = [place for place, column in enumerate(columns) if column.narrow != "below"]
    narrow = [columns[place] for place in beside]
    narrow_rows = [[row[place] for place in beside] for row in rows]
    narrow_widths = narrow and _narrowed(narrow, _natural_widths(narrow, narrow_rows), width or 0)
    if not narrow_widths:
        return _lists(columns, rows, width or 0)
    lines = _lines(narrow, _heading(narrow), narrow_widths)
    for row, narrow_row in zip(rows, narrow_rows, strict=True):
        lines += _lines(narrow, narrow_row, narrow_widths)
        for column, span in zip(columns, row, strict=True):
            if column.narrow == "below" and span.text:
                parts = wrap(span.text, (width or 0) - _BELOW_INDENT)
                lines += [[Span(" " * _BELOW_INDENT), span._replace(text=part)] for part in parts]
    return lines


def _printable(span: Span) -> Span:
    return span._replace(text=printable(span.text))


def _natural_widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    """How wide each column is if there is room enough."""
    return [
        max([display_width(column.title), *(display_width(row[place].text) for row in rows)])
        for place, column in enumerate(columns)
    ]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _narrowed(columns: Sequence[Column], widths: list[int], width: int) -> list[int] | None:
    """The widths, the widest reduced until all fit; None if that is too little."""
    least = [
        min(own, max(_NARROWEST.get(column.narrow, own), len(column.title)))
        for column, own in zip(columns, widths, strict=True)
    ]
    for _ in range(_total(widths) - width):
        place = max(range(len(widths)), key=lambda one: (widths[one] > least[one], widths[one]))
        if widths[place] == least[place]:
            return None
        widths[place] -= 1
    return widths


def _heading(columns: Sequence[Column]) -> Row:
    return [Span(column.title, "heading") for column in columns]


def _lines(columns: Sequence[Column], row: Row, widths: Sequence[int]) -> list[Line]:
    """A row as one line, or as several if a cell is wrapped."""
    cells = [
        wrap(span.text, width) if column.narrow == "wrap" else [cut(span.text, width)]
        for column, span, width in zip(columns, row, widths, strict=True)
    ]
    lines = list[Line]()
    for number in range(max(map(len, cells))):
        spans = list[Span]()
        for column, span, width, parts in zip(columns, row, widths, cells, strict=True):
            text = parts[number] if number < len(parts) else ""
            padding = Span(" " * (width - display_width(text)))
            spans += [padding, Span(text, span.style)] if column.right else [Span(text, span.style), padding]
            spans.append(Span(" " * _GAP))
        while spans and not spans[-1].text.strip():
            spans.pop()
        lines.append(spans)
    return lines


def _lists(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[Line]:
    """Each row as lines `TITLE  text`, with an empty line between rows."""
    title_width = max(display_width(column.title) for column in columns)
    lines: list[Line] = []
    for row in rows:
        if lines:
            lines.append([])
        for column, span in zip(columns, row, strict=True):
            for number, part in enumerate(wrap(span.text, width - title_width - _GAP) if span.text else ()):
                title = Span(padded("" if number else column.title, title_width), "" if number else "heading")
                lines.append([title, Span(" " * _GAP), Span(part, span.style)])
    return lines
