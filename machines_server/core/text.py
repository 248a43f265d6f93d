"""Make text from outside safe for terminals, logs, spreadsheets and messages."""

import re
from collections.abc import Sequence

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
"""C0, DEL and C1; what separates lines or changes the direction of writing; invisible characters, in which
texts that look equal may differ; and lone surrogates, which cannot be encoded."""
_UNPRINTABLE_IN_LINES = re.compile(f"(?!\n){_UNPRINTABLE.pattern}")

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How formulas begin in spreadsheets; the last four are the first four in full width."""
MAX_QUOTED_CHARACTERS = 100
"""The most characters of a text that a message quotes."""
_MAX_LISTED = 3


def printable(text: str) -> str:
    r"""The text with an escape, such as `\x1b` or `\u202e`, for each control or invisible character."""
    if text.isprintable():  # false for any text with such a character, and ten times as fast
        return text
    return _UNPRINTABLE.sub(_escape, text)


def escape_in_quotes(document: str) -> str:
    r"""JSON or YAML with an escape for each such character, all of which must be inside double quotes."""
    return _UNPRINTABLE_IN_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def one_line(text: str, most: int) -> str:
    """At most `most` characters of a text, on one line; lone surrogates become escapes."""
    line = " ".join(text.split()) if "\n" in text else text
    short = line if len(line) <= most else f"{line[: most - 3]}..."
    return short.encode("utf-8", "backslashreplace").decode()


def spreadsheet_cell(text: str) -> str:
    """The text for a cell of a CSV file, such that no spreadsheet treats it as a formula."""
    return printable(f"'{text}" if text.startswith(_FORMULA) else text)


def clip(text: str, most: int = MAX_QUOTED_CHARACTERS) -> str:
    """The text, cut to at most `most` characters with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def quoted(text: str) -> str:
    """The text in quotes, shortened for a message."""
    return repr(clip(text))


def clip_list(texts: Sequence[str]) -> str:
    """The first few texts, and how many more there are: `a, b, c and 2 more`."""
    listed = [clip(text) for text in texts[:_MAX_LISTED]]
    if len(texts) > _MAX_LISTED:
        listed[-1] += f" and {len(texts) - _MAX_LISTED} more"
    return ", ".join(listed)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_plain(text: str) -> bool:
    """Return whether int() and float() read a text as others do: they accept 1_000 and non-ASCII digits."""
    return text.isascii() and "_" not in text
