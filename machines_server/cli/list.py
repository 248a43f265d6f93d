"""The command that lists the machines: list."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from machines_server.cli.command import command
from machines_server.cli.completion_of_names import complete_machine_values
from machines_server.cli.fleet_text import (
    STATUS_STYLES,
    free_vram,
    free_vram_text,
    leased_vram,
    names_text,
    status_span,
    tags,
)
from machines_server.cli.http import (
    REQUEST_TIMEOUT_S,
    RETRIES,
    ask,
    client_errors,
    echo_problems,
    listed,
    server_option,
    unexpected_answers,
)
from machines_server.cli.output import as_json, echo, echo_json, echo_lines, output_width
from machines_server.cli.terminal.figures import with_local_times
from machines_server.cli.terminal.spans import Span
from machines_server.cli.terminal.table import Column, table
from machines_server.client import Client, NoMachine
from machines_server.core.routing.similar_names import similar_names
from machines_server.errors import ServerError

_LIST_COLUMNS = (
    Column("NAME", "cut"),
    Column("ROLE", "cut"),
    Column("STATUS"),
    Column("FREE VRAM"),
    Column("LOADED", "wrap"),
    Column("WHY", "below"),
)
_SORT_KEYS: dict[str, Callable[[dict[str, Any], Mapping[str, float]], Any]] = {
    "name": lambda _machine, _leased: 0,
    "role": lambda machine, _leased: str(machine["role"]),
    "status": lambda machine, _leased: list(STATUS_STYLES).index(machine["status"]),
    "free": lambda machine, leased: -_most_free_vram(machine, leased),
    "loaded": lambda machine, _leased: -len(machine["loaded_models"]),
    "cpu": lambda machine, _leased: -(machine["telemetry"].get("cpu_percent") or 0),
}


@command(
    "list",
    examples=[
        ("machines-server list --status offline --status degraded", "See what needs attention"),
        (
            "machines-server list --free 16 --sort free",
            "Find a GPU with 16 GiB free, the one with the most first",
        ),
        ("machines-server list --json | jq -r .[].name", "Get only the names"),
    ],
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(list(STATUS_STYLES)),
    help="Only this status; repeatable.",
)
@click.option(
    "--tag",
    "wanted_tags",
    multiple=True,
    shell_complete=complete_machine_values(tags),
    help="Only machines with this tag; repeat it to require several.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    shell_complete=complete_machine_values(lambda machine: [str(machine["role"])]),
    help="Only this role; repeatable.",
)
@click.option(
    "--free",
    "free_gib",
    type=float,
    metavar="GIB",
    help="Only machines with this many GiB free on one GPU, after leases.",
)
@click.option(
    "--sort", type=click.Choice(sorted(_SORT_KEYS)), default="name", show_default=True, help="Sort key."
)
@server_option
@as_json
@unexpected_answers()
def list_machines(
    server: str,
    *,
    as_json: bool,
    statuses: Sequence[str],
    wanted_tags: Sequence[str],
    roles: Sequence[str],
    free_gib: float | None,
    sort: str,
) -> None:
    """List the machines: status, free VRAM, loaded models.

    FREE VRAM is what is free on each GPU, after leases. The exit status is 1 if no machine matches.
    """
    body = ask(server, "/api/infrastructure")
    fit = None if free_gib is None else _fit(server, free_gib)
    machines = [
        machine
        for machine in body["machines"]
        if (not statuses or machine["status"] in statuses)
        and set(wanted_tags) <= set(tags(machine))
        and (not roles or str(machine["role"]) in roles)
        and (fit is None or machine["name"] in fit)
    ]
    leased = leased_vram(listed(server, "leases", {}))
    machines.sort(key=lambda machine: _SORT_KEYS[sort](machine, leased))
    if as_json:
        echo_json(machines)
    elif machines:
        echo_lines(*table(_LIST_COLUMNS, [_row(machine, leased) for machine in machines], output_width()))
    if not as_json:
        echo_problems(body["errors"])
    if not body["machines"]:
        echo("There are no machines; add a file to the server's MACHINES_DIR.", err=True)
    elif not machines:
        raise ServerError(f"No machine matches.{_suggestions(body['machines'], wanted_tags, roles)}")


def _fit(server: str, free_gib: float) -> set[str]:
    """The machines that a request for so much VRAM on one GPU could use now."""
    with client_errors():
        client = Client(server, timeout_s=REQUEST_TIMEOUT_S, retries=RETRIES)
        try:
            route = client.route(None, min_free_vram_gb=free_gib, explain=True)
        except NoMachine:
            return set()
    return {candidate["name"] for candidate in route.body["candidates"]}


def _most_free_vram(machine: dict[str, Any], leased: Mapping[str, float]) -> float:
    """The most GiB that are free on one GPU; -1 without a GPU whose memory is known."""
    return max((free for free in free_vram(machine, leased) if free is not None), default=-1)


def _row(machine: dict[str, Any], leased: Mapping[str, float]) -> list[Span]:
    return [
        Span(machine["name"]),
        Span(str(machine["role"])),
        status_span(machine["status"]),
        Span(free_vram_text(machine, leased)),
        Span(names_text(machine["loaded_models"])),
        Span(with_local_times(machine["status_reason"] or ""), "quiet"),
    ]


def _suggestions(machines: Sequence[dict[str, Any]], wanted_tags: Sequence[str], roles: Sequence[str]) -> str:
    """Values close to the requested tags and roles that no machine has."""
    known_tags = sorted({tag for machine in machines for tag in tags(machine)})
    known_roles = sorted({str(machine["role"]) for machine in machines})
    found = []
    for option, wanted, known in (("--tag", wanted_tags, known_tags), ("--role", roles, known_roles)):
        for one in wanted:
            if one not in known:
                near = similar_names(one, known)
                found.append(
                    f" Did you mean {option} {near[0]}?" if near else f" No machine has {option} {one}."
                )
    return "".join(found)
