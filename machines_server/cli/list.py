"""The commands that show the machines as they are now: list, show."""

import json
from typing import Any

import click

from machines_server.cli.http import ask, machine_path, server_option, unexpected_answers
from machines_server.cli.output import aligned, as_json, echo, echo_json
from machines_server.core.machine import Problem
from machines_server.core.text import escape_in_quotes


@click.command("list")
@server_option
@as_json
@unexpected_answers()
def list_machines(server: str, *, as_json: bool) -> None:
    """List all machines with their status."""
    body = ask(server, "/api/infrastructure")
    if as_json:
        echo_json(body["machines"])
        return
    rows = [("NAME", "ROLE", "STATUS", "FREE VRAM", "LOADED", "WHY")]
    rows += [
        (
            machine["name"],
            machine["role"],
            machine["status"],
            _free_vram(machine),
            ", ".join(machine["loaded_models"]) or "-",
            machine["status_reason"] or "",
        )
        for machine in body["machines"]
    ]
    echo(*aligned(rows))
    for problem in body["errors"]:
        echo(f"{problem['severity']}: {Problem(**problem)}", err=True)


@click.command()
@click.argument("name")
@server_option
@as_json
@unexpected_answers()
def show(name: str, server: str, *, as_json: bool) -> None:
    """Show everything known about the machine NAME."""
    machine = ask(server, machine_path(name))
    if as_json:
        echo_json(machine)
    else:
        echo(*escape_in_quotes(json.dumps(machine, indent=2, ensure_ascii=False)).split("\n"))


def _free_vram(machine: dict[str, Any]) -> str:
    """The free VRAM of each GPU; `-` unless the machine is online, since old figures would mislead."""
    if machine["status"] != "online":
        return "-"
    return " + ".join(f"{gpu['vram_free_gb']:g} GB" for gpu in machine["telemetry"].get("gpu", ())) or "-"
