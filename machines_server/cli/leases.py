"""The commands about leases: leases, leases release."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from machines_server.cli.command import Command, CommandGroup
from machines_server.cli.completion_of_names import complete_lease
from machines_server.cli.http import RETRIES, ask, client_errors, client_of, server_option, unexpected_answers
from machines_server.cli.output import as_json, confirm, echo, echo_json, echo_lines, output_width
from machines_server.cli.terminal.figures import UNKNOWN, age_s, duration, now, number
from machines_server.cli.terminal.spans import Span
from machines_server.cli.terminal.table import Column, table
from machines_server.client import HeldLease, LeaseLost
from machines_server.errors import ServerError

LEASE_COLUMNS = (
    Column("LEASE"),
    Column("HOLDER", "cut"),
    Column("MACHINE", "cut"),
    Column("MODEL", "cut"),
    Column("GPU GIB"),
    Column("UNTIL"),
    Column("NOTE", "below"),
)


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    examples=[
        ("machines-server leases", "See who has reserved which machine"),
        ("machines-server leases release XQTRrzJbnbbrYf_0", "End a lease"),
    ],
)
@server_option
@as_json
@click.pass_context
@unexpected_answers()
def leases(context: click.Context, server: str, *, as_json: bool) -> None:
    """List the active leases, or release some.

    GPU GIB is the VRAM that a lease reserves on each GPU.
    """
    context.obj = server
    if context.invoked_subcommand is not None:
        return
    body = ask(server, "/api/leases")
    if as_json:
        echo_json(body["leases"])
    elif body["leases"]:
        at = now()
        echo_lines(*table(LEASE_COLUMNS, [lease_row(one, at) for one in body["leases"]], output_width()))
    else:
        echo("There are no leases.", err=True)
    if not as_json and body["expired_10m"]:
        count = body["expired_10m"]
        echo(f"{count} expired in the last 10 minutes without being released.", err=True)


@leases.command(
    "release",
    cls=Command,
    examples=[
        ("machines-server leases release XQTRrzJbnbbrYf_0 --yes", "Release a lease without confirmation")
    ],
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_lease)
@click.option(
    "--yes", "-y", is_flag=True, help="Do not ask for confirmation; without a terminal, nothing is asked."
)
@server_option
@as_json
@click.pass_context
@unexpected_answers()
def release(context: click.Context, ids: Sequence[str], server: str, *, yes: bool, as_json: bool) -> None:
    """Release the leases with these IDs, whoever holds them."""
    source = context.get_parameter_source("server")
    url = context.obj if source is click.core.ParameterSource.DEFAULT else server
    client = client_of(url, retries=RETRIES)
    released, missing = list[Any](), list[str]()
    with client_errors():
        for lease in dict.fromkeys(ids):
            try:
                held = client.held_lease(lease)
                if not yes and sys.stdin is not None and sys.stdin.isatty() and not confirm(_question(held)):
                    missing.append(f"{lease} was kept.")
                    continue
                released.append(client.release(lease).body)
            except LeaseLost as error:
                missing.append(str(error))
                continue
            if not as_json:
                echo(f"Released {lease} of {held.model} on {held.machine}.")
    if as_json:
        echo_json(released)
    if missing:
        raise ServerError(" ".join(missing))


def lease_row(lease: dict[str, Any], at: datetime) -> list[Span]:
    """The cells of LEASE_COLUMNS for a lease."""
    reserved = [f"GPU {_known(gpu['index'])}: {number(gpu['vram_gb'])}" for gpu in lease["gpus"]]
    left_s = -age_s(lease["expires_at"], at)
    return [
        Span(lease["lease"]),
        Span(lease["holder"] or UNKNOWN),
        Span(lease["machine"]),
        Span(lease["model"]),
        Span(", ".join(reserved) or UNKNOWN),
        Span(f"in {duration(left_s)}"),
        Span(
            lease["broken"] or ("exclusive" if lease["exclusive"] else ""), "bad" if lease["broken"] else ""
        ),
    ]


def _known(index: int | None) -> str:
    return "?" if index is None else str(index)


def _question(lease: HeldLease) -> str:
    holder = f" of {lease.holder}" if lease.holder else ""
    return f"Release lease {lease.lease}{holder}: {lease.model} on {lease.machine}?"
