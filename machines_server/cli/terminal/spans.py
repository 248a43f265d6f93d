"""Pieces of text with a style, measured in the columns that a terminal gives them."""

import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

Style = Literal["", "heading", "quiet", "good", "warning", "bad"]


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    style: Style = ""


Line = Sequence[Span]

ELLIPSIS = "…"


def display_width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def cut(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis if it takes more than `width` columns."""
    if display_width(text) <= width:
        return text
    return f"{_beginning(text, width - 1)}{ELLIPSIS}" if width > 0 else ""


def wrap(text: str, width: int) -> list[str]:
    """The lines of a text, each at most `width` columns wide; long words are broken."""
    width, lines = max(width, 2), [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if display_width(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        while display_width(word) > width:
            head = _beginning(word, width)
            lines[-1:] = [head, ""]
            word = word[len(head) :]
        lines[-1] = word
    return lines


def cut_line(line: Line, width: int) -> Line:
    """The line, or its beginning and an ellipsis if it takes more than `width` columns."""
    left, kept = width, list[Span]()
    for place, span in enumerate(line):
        rest = sum(display_width(one.text) for one in line[place + 1 :])
        if display_width(span.text) + min(rest, 1) > left:
            shown = cut(span.text + (" " if rest else ""), left)
            return [*kept, span._replace(text=shown)]
        kept.append(span)
        left -= display_width(span.text)
    return kept


def padded(text: str, width: int) -> str:
    """The text with spaces after it up to `width` columns."""
    return text + " " * (width - display_width(text))


def _beginning(text: str, width: int) -> str:
    taken = 0
    for place, character in enumerate(text):
        taken += _character_width(character)
        if taken > width:
            return text[:place]
    return text


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
