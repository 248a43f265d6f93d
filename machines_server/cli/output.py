"""Output of commands, for people and as JSON."""

import io
import json
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import click

from machines_server.cli.terminal.spans import Line, Style
from machines_server.core.text import printable

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_STYLES: Mapping[Style, dict[str, Any]] = {
    "heading": {"bold": True},
    "quiet": {"dim": True},
    "good": {"fg": "green"},
    "warning": {"fg": "yellow"},
    "bad": {"fg": "red"},
}


def echo(*lines: str, err: bool = False) -> None:
    """Print lines for people, escaping each character that would control a terminal."""
    for line in lines:
        click.echo(printable(line), file=sys.stderr if err else sys.stdout)


def echo_lines(*lines: Line) -> None:
    """Print lines for people, with their styles if standard output is a terminal with colours."""
    for line in lines:
        click.echo(rendered(line, coloured=has_colours()), file=sys.stdout, color=True)


def rendered(line: Line, *, coloured: bool) -> str:
    """A line as a terminal takes it, with its styles if it is `coloured`."""
    return "".join(
        click.style(text, **_STYLES[span.style]) if coloured and span.style and text else text
        for span in line
        for text in [printable(span.text)]
    )


def write_to_terminal(text: str) -> None:
    """Write to standard output as it is, including characters that control a terminal."""
    click.echo(text, file=sys.stdout, nl=False, color=True)
    sys.stdout.flush()


def echo_json(value: object) -> None:
    """Print one line of JSON, in ASCII."""
    click.echo(json.dumps(value), file=sys.stdout)


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def has_colours() -> bool:
    """Return whether standard output is a terminal with colours, which NO_COLOR and TERM=dumb deny."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def output_width() -> int | None:
    """How many columns standard output has; None if it is not a terminal."""
    return shutil.get_terminal_size().columns if is_terminal() else None


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


def confirm(question: str) -> bool:
    """Ask on standard error, and return whether the answer was yes."""
    return click.confirm(printable(question), err=True)
