"""The command that shows what is in memory on the whole fleet: ps."""

from collections.abc import Sequence
from typing import Any

import click

from machines_server.cli.command import command
from machines_server.cli.completion_of_names import complete_machine
from machines_server.cli.fleet_text import MODEL_COLUMNS, knows_models, model_row
from machines_server.cli.http import ask, machine_path, server_option, unexpected_answers
from machines_server.cli.moments import HELP as MOMENT_FORMS
from machines_server.cli.moments import Moment
from machines_server.cli.output import as_json, echo, echo_json, echo_lines, output_width
from machines_server.cli.terminal.figures import now
from machines_server.cli.terminal.spans import Span
from machines_server.cli.terminal.table import Column, table
from machines_server.core.times import parse_time

_PS_COLUMNS = (MODEL_COLUMNS[0], Column("MACHINE", "cut"), *MODEL_COLUMNS[1:])
_MOMENT_S = 1
"""The length of the range that stands for a moment."""


@command(
    "ps",
    examples=[
        ("machines-server ps", "See what is in memory, as `ollama ps` does for one machine"),
        ("machines-server ps workstation", "See one machine"),
        ("machines-server ps --at 03:00", "See what was in memory last night"),
    ],
)
@click.argument("machines", nargs=-1, metavar="[MACHINE]...", shell_complete=complete_machine)
@click.option("--at", type=Moment(), metavar="TIME", help=f"What was in memory at this time: {MOMENT_FORMS}")
@server_option
@as_json
@unexpected_answers()
def ps(machines: Sequence[str], at: str | None, server: str, *, as_json: bool) -> None:
    """List the models in memory on all machines, or only on each MACHINE.

    The columns are those of `ollama ps`. ID is the beginning of the model's digest. With --at, only names are
    shown.
    """
    if at not in (None, "now"):
        _ps_at(machines, at, server, as_json=as_json)
        return
    if machines:
        bodies = [ask(server, machine_path(name)) for name in dict.fromkeys(machines)]
    else:
        bodies = ask(server, "/api/infrastructure")["machines"]
    found = sorted(
        ((model, machine["name"]) for machine in bodies for model in machine["ollama"]["models"]),
        key=lambda one: (one[0]["name"], one[1]),
    )
    if as_json:
        echo_json([{"machine": name, **model} for model, name in found])
        return
    present = now()
    rows = []
    for model, name in found:
        first, *rest = model_row(model, present)
        rows.append([first, Span(name), *rest])
    if rows:
        echo_lines(*table(_PS_COLUMNS, rows, output_width()))
    else:
        echo("No model is in memory.", err=True)
    _tell_unknown(bodies)


def _ps_at(machines: Sequence[str], at: str, server: str, *, as_json: bool) -> None:
    """List what was in memory at a moment of the past."""
    start = parse_time(at, now().timestamp())
    moment = {"from": f"{start:.3f}", "to": f"{start + _MOMENT_S:.3f}"}
    for name in machines:
        ask(server, f"{machine_path(name)}/availability", moment)  # refuses unknown names
    wanted = {name.casefold() for name in machines}
    answer = ask(server, "/api/models", moment)
    found = [
        (model["model"], name)
        for model in answer["models"]
        for name in model["resident_on"]
        if not wanted or name.casefold() in wanted
    ]
    if as_json:
        echo_json([{"machine": name, "name": model} for model, name in found])
    elif found:
        echo_lines(*table(_PS_COLUMNS[:2], [[Span(one) for one in row] for row in found], output_width()))
    else:
        echo("No model was seen in memory then.", err=True)


def _tell_unknown(machines: Sequence[dict[str, Any]]) -> None:
    unknown = [one["name"] for one in machines if not knows_models(one)]
    if unknown:
        count = f"{len(unknown)} machine{'s' if len(unknown) > 1 else ''}"
        echo(f"models unknown on {count}: {', '.join(unknown)}", err=True)
