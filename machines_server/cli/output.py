"""Output of commands, for people and as JSON."""

import io
import json
import sys
from collections.abc import Sequence

import click

from machines_server.core.text import printable

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def echo(*lines: str, err: bool = False) -> None:
    """Print lines for people, escaping each character that would act on a terminal."""
    for line in lines:
        click.echo(printable(line), file=sys.stderr if err else sys.stdout)


def echo_json(value: object) -> None:
    """Print one line of JSON, in ASCII."""
    click.echo(json.dumps(value), file=sys.stdout)


def replace_unencodable_characters() -> None:
    """Print `?` from now on for each character that standard output's encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def is_encodable(text: str) -> bool:
    """Return whether the encoding of standard output has all the characters of a text."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table as lines with aligned columns."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
