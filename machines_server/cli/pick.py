"""The command that chooses a machine: pick."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from machines_server.cli.command import command
from machines_server.cli.completion_of_names import complete_machine, complete_model
from machines_server.cli.http import RETRIES, client_errors, client_of, server_option, unexpected_answers
from machines_server.cli.leased_command import NOT_FOUND, missing_status, run_leased
from machines_server.cli.output import as_json, echo, echo_json, echo_lines, output_width
from machines_server.cli.terminal.figures import UNKNOWN, clock, gib
from machines_server.cli.terminal.spans import Line, Span
from machines_server.cli.terminal.table import Column, table
from machines_server.client import DEFAULT_URL, Client, NoMachine
from machines_server.errors import ServerError

_COLD_PARAMETER = "cold=true"
"""What the server's messages recommend; here it is the option --cold."""
_CANDIDATES = (
    Column("CANDIDATE", "cut"),
    Column("MODEL"),
    Column("FREE VRAM"),
    Column("LEASES"),
    Column("SAMPLED AT"),
    Column("WHY", "below"),
)
_READINESS = {
    "warm": "ready",
    "half_warm": "in memory, with limits",
    "loading": "loading",
    "cold": "not in memory",
}
"""The page's words for each warmth."""
_REJECTIONS = (Column("REJECTED", "cut"), Column("CODE"), Column("WHY", "below"))


@command(
    "pick",
    examples=[
        ("machines-server pick llama3.1:70b", "Print the URL of the best machine"),
        ("machines-server pick llama3.1:70b --min-free-vram-gb 4 --explain", "See why a machine is picked"),
        (
            "machines-server pick llama3.1:70b --lease -- ollama run llama3.1:70b",
            "Run a command with the best machine, and reserve it meanwhile",
        ),
    ],
)
@click.argument("model", required=False, shell_complete=complete_model)
@click.argument("command_words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND [ARG]...]")
@click.option(
    "--min-free-vram-gb", type=float, help="GiB that must be free on one GPU in addition to the model."
)
@click.option("--min-free-ram-gb", type=float, help="GiB of RAM that must be free in addition to the model.")
@click.option("--min-context", type=int, help="Tokens of context that requests will need.")
@click.option("--role", help="The role that the machine must have.")
@click.option("--tag", multiple=True, help="A tag that the machine must have; repeatable.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_machine,
    help="A machine to leave out; repeatable.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="PATH:VALUE",
    help="A value that the machine's file must have, such as site:warsaw; repeatable.",
)
@click.option(
    "--cold", is_flag=True, help="If no machine with the model in memory qualifies, use one that can load it."
)
@click.option("--exclusive", is_flag=True, help="Use only a machine whose host has no leases.")
@click.option("--wait-s", type=float, help="Seconds to wait for a machine to qualify.")
@click.option("--explain", is_flag=True, help="Print all candidates and rejections.")
@click.option(
    "--lease",
    is_flag=True,
    help="Take a lease: for as long as COMMAND runs or, without one, until it expires or is released.",
)
@click.option("--kill-on-loss", is_flag=True, help="If the lease is lost, send SIGTERM to COMMAND.")
@click.option("--ttl-s", type=float, help="Duration of the lease in seconds; by default 60.")
@click.option("--holder", help="Your name or your program's, shown with the lease.")
@server_option
@as_json
@unexpected_answers()
def pick(
    model: str | None,
    command_words: Sequence[str],
    server: str,
    *,
    lease: bool,
    as_json: bool,
    ttl_s: float | None,
    kill_on_loss: bool,
    **options: Any,
) -> None:
    """Print the URL of the best Ollama for MODEL; without MODEL, of the machine with the most room.

    With --lease, COMMAND runs with OLLAMA_HOST, MACHINES_MODEL (the model's name there), MACHINES_LEASE and
    MACHINES_CREDENTIAL (the name of the credential that requests there need, if any) set. The lease is
    renewed while it runs and released at its end. Its exit status is passed on, 128 + N if signal N ended it,
    and 127 if there is no such command. SIGINT, SIGTERM and SIGHUP are passed to it.

    Machines that this host cannot reach are skipped, except with --json, --explain, or --lease without
    COMMAND.
    """
    explain = options.pop("explain")
    _check_usage(model, command_words, lease=lease, ttl_s=ttl_s, kill_on_loss=kill_on_loss)
    if command_words and (as_json or explain):
        raise click.UsageError("--json and --explain cannot be combined with a COMMAND.")
    client = client_of(server, retries=RETRIES)
    with client_errors(), _misses(as_json=as_json, explain=explain):
        if command_words:
            _run(client, model, command_words, kill_on_loss=kill_on_loss, ttl_s=ttl_s, **options)
        elif lease:
            body = client.reserve(model or "", ttl_s=ttl_s, **options).body
        elif as_json or explain:
            body = client.route(model, explain=explain, **options).body
        else:
            echo(client.pick(model, **options).url)
            return
    if as_json:
        echo_json(body)
    elif explain:
        echo_lines(*_explanation(body))
    else:
        echo(body["url"])
    if lease:
        server_words = "" if client.url == DEFAULT_URL else f" --server {shlex.quote(client.url)}"
        release = f"machines-server leases release {shlex.quote(body['lease'])}{server_words}"
        until = f"{clock(body['expires_at'])} ({body['ttl_s']:g} s)"
        echo(f"machines-server: leased until {until}; to release: {release}", err=True)


def _run(
    client: Client, model: str | None, words: Sequence[str], *, kill_on_loss: bool, **options: Any
) -> NoReturn:
    """Run a command with a lease and end with its exit status."""
    if status := missing_status(words[0]):
        reason = "command not found" if status == NOT_FOUND else "it cannot be executed"
        echo(f"machines-server: {words[0]}: {reason}", err=True)
        raise click.exceptions.Exit(status)
    lease = client.lease(model or "", raise_if_lost=False, **options)
    raise click.exceptions.Exit(run_leased(words, lease, kill_on_loss=kill_on_loss))


def _check_usage(
    model: str | None, words: Sequence[str], *, lease: bool, ttl_s: float | None, kill_on_loss: bool
) -> None:
    if lease and not model:
        raise click.UsageError("--lease needs a MODEL.")
    if ttl_s is not None and not lease:
        raise click.UsageError("--ttl-s needs --lease.")
    if words and not lease:
        raise click.UsageError("A COMMAND needs --lease.")
    if kill_on_loss and not words:
        raise click.UsageError("--kill-on-loss needs a COMMAND.")


@contextmanager
def _misses(*, as_json: bool, explain: bool) -> Iterator[None]:
    """Turn a miss into ServerError, after printing the rejections if they were requested."""
    try:
        yield
    except NoMachine as error:
        if as_json:
            echo_json(error.body)
        elif explain:
            echo_lines(*_rejections(error.body))
        raise ServerError(str(error).replace(_COLD_PARAMETER, "--cold")) from None


def _explanation(body: Mapping[str, Any]) -> list[Line]:
    rejections = _rejections(body)
    return [*_candidates(body), *([[]] if rejections else []), *rejections]


def _candidates(body: Mapping[str, Any]) -> list[Line]:
    rows = [
        (
            Span(candidate["name"]),
            Span(_READINESS.get(candidate["warmth"], UNKNOWN)),
            Span("unknown" if candidate["free_vram_gb"] is None else gib(candidate["free_vram_gb"])),
            Span(str(candidate["leases"])),
            Span(clock(candidate["sampled_at"]) if candidate["sampled_at"] else UNKNOWN),
            Span(candidate["reason"]),
        )
        for candidate in body["candidates"]
    ]
    return table(_CANDIDATES, rows, output_width()) if rows else []


def _rejections(body: Mapping[str, Any]) -> list[Line]:
    rows = [(Span(one["name"]), Span(one["code"]), Span(one["reason"])) for one in body["rejected"]]
    return table(_REJECTIONS, rows, output_width()) if rows else []
