"""The command that shows what is in memory on the whole fleet: ps."""

from collections.abc import Sequence
from typing import Any

import click

from machines_server.cli.command import command
from machines_server.cli.completion_of_names import complete_machine
from machines_server.cli.fleet_text import MODEL_COLUMNS, knows_models, model_row
from machines_server.cli.http import ask, machine_path, server_option, unexpected_answers
from machines_server.cli.output import as_json, echo, echo_json, echo_lines, output_width
from machines_server.cli.terminal.figures import now
from machines_server.cli.terminal.spans import Span
from machines_server.cli.terminal.table import Column, table

_PS_COLUMNS = (MODEL_COLUMNS[0], Column("MACHINE", "cut"), *MODEL_COLUMNS[1:])


@command(
    "ps",
    examples=[
        ("machines-server ps", "See what is in memory, as `ollama ps` does for one machine"),
        ("machines-server ps workstation", "The same of one machine"),
    ],
)
@click.argument("machines", nargs=-1, metavar="[MACHINE]...", shell_complete=complete_machine)
@server_option
@as_json
@unexpected_answers()
def ps(machines: Sequence[str], server: str, *, as_json: bool) -> None:
    """List the models in memory on all machines, or on each MACHINE.

    The columns are those of `ollama ps`. ID is the beginning of the model's digest.
    """
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
    at = now()
    rows = []
    for model, name in found:
        first, *rest = model_row(model, at)
        rows.append([first, Span(name), *rest])
    if rows:
        echo_lines(*table(_PS_COLUMNS, rows, output_width()))
    else:
        echo("No model is in memory.", err=True)
    _tell_unknown(bodies)


def _tell_unknown(machines: Sequence[dict[str, Any]]) -> None:
    unknown = [one["name"] for one in machines if not knows_models(one)]
    if unknown:
        count = f"{len(unknown)} machine{'s' if len(unknown) > 1 else ''}"
        echo(f"unknown on {count}: {', '.join(unknown)}", err=True)
