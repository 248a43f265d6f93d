"""The command that lists every model of the fleet: models."""

from datetime import datetime
from typing import Any

from machines_server.cli.command import command
from machines_server.cli.fleet_text import names_text
from machines_server.cli.http import ask, server_option, unexpected_answers
from machines_server.cli.output import as_json, echo, echo_json, echo_lines, output_width
from machines_server.cli.terminal.figures import age_s, duration, now
from machines_server.cli.terminal.spans import Span
from machines_server.cli.terminal.table import Column, table

_MODELS_COLUMNS = (
    Column("MODEL", "cut"),
    Column("LOADED", "wrap"),
    Column("ON DISK", "wrap"),
    Column("DECLARED", "wrap"),
    Column("LAST SEEN", "wrap"),
)


@command(
    "models",
    examples=[
        ("machines-server models", "See where each model is"),
        (
            "machines-server models --json | jq -r '.[] | select(.loaded != []) | .model'",
            "Get those in memory",
        ),
    ],
)
@server_option
@as_json
@unexpected_answers()
def models(server: str, *, as_json: bool) -> None:
    """List every model: where it is loaded, on disk and declared, and when it was last in memory."""
    found = ask(server, "/api/models")["models"]
    if as_json:
        echo_json(found)
    elif found:
        at = now()
        echo_lines(*table(_MODELS_COLUMNS, [_row(model, at) for model in found], output_width()))
    else:
        echo("No model is declared, on a disk, or was ever in memory.", err=True)


def _row(model: dict[str, Any], at: datetime) -> list[Span]:
    loaded = model["loaded"]
    return [
        Span(model["model"]),
        Span(names_text(loaded), "good" if loaded else ""),
        Span(names_text(model["on_disk"])),
        Span(names_text(model["declared"])),
        Span(_last_seen(model, at)),
    ]


def _last_seen(model: dict[str, Any], at: datetime) -> str:
    if model["loaded"]:
        return "now"
    last = model["last_loaded"]
    return f"{duration(age_s(last['at'], at))} ago on {last['machine']}" if last else "never"
