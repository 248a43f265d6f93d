"""The command that chooses a machine: pick."""

import shlex
from collections.abc import Mapping
from typing import Any

import click

from machines_server.cli.http import RETRIES, client_errors, server_option, unexpected_answers
from machines_server.cli.output import aligned, as_json, echo, echo_json
from machines_server.client import Client, NoMachine
from machines_server.errors import ServerError


@click.command()
@click.argument("model", required=False)
@click.option("--min-free-vram-gb", type=float, help="GiB that must be free on one GPU beside the model.")
@click.option("--min-free-ram-gb", type=float, help="GiB of RAM that must be free beside the model.")
@click.option("--min-context", type=int, help="Tokens of context that requests will need.")
@click.option("--role", help="The role that the machine must have.")
@click.option("--tag", multiple=True, help="A tag that the machine must have; repeatable.")
@click.option("--exclude", multiple=True, metavar="NAME", help="A machine to leave out; repeatable.")
@click.option(
    "--where",
    multiple=True,
    metavar="PATH:VALUE",
    help="A value that the machine's file must have, such as site:warsaw; repeatable.",
)
@click.option(
    "--cold", is_flag=True, help="If no machine with the model in memory is fit, use one that can load it."
)
@click.option("--exclusive", is_flag=True, help="Use only a machine whose host has no leases.")
@click.option("--wait-s", type=float, help="Seconds to wait until a machine is fit.")
@click.option("--explain", is_flag=True, help="Print all candidates and rejections.")
@click.option("--lease", is_flag=True, help="Take a lease, and print on standard error how to release it.")
@click.option("--ttl-s", type=float, help="Duration of the lease in seconds; by default 60.")
@click.option("--holder", help="Who asks, for people to read.")
@server_option
@as_json
@unexpected_answers()
def pick(
    model: str | None, server: str, *, lease: bool, as_json: bool, ttl_s: float | None, **options: Any
) -> None:
    """Print the URL of the best Ollama for MODEL, or without MODEL of the machine with the most room.

    For example: OLLAMA_HOST=$(machines-server pick MODEL) ollama run MODEL

    Machines that this host cannot connect to are skipped, except with --lease, --json or --explain.
    """
    if lease and not model:
        raise click.UsageError("--lease needs a MODEL.")
    if ttl_s is not None and not lease:
        raise click.UsageError("--ttl-s is for --lease only.")
    client, explain = Client(server, retries=RETRIES), options["explain"]
    with client_errors():
        try:
            if lease:
                del options["explain"]
                body = client.reserve(model or "", ttl_s=ttl_s, **options).body
            elif as_json or explain:
                body = client.route(model, **options).body
            else:
                echo(client.pick(model, **options).url)
                return
        except NoMachine as error:
            if as_json:
                echo_json(error.body)
            elif explain:
                echo(*_rejections(error.body))
            raise ServerError(str(error)) from None
    if as_json:
        echo_json(body)
    else:
        echo(*(_explanation(body) if explain else [body["url"]]))
    if lease:
        url = f"{client.url}/api/leases/{body['lease']}"
        release = f"curl -X DELETE {shlex.quote(url)}"
        echo(f"machines-server: leased until {body['expires_at']}; to release: {release}", err=True)


def _explanation(body: Mapping[str, Any]) -> list[str]:
    rejections = _rejections(body)
    return [*_candidates(body), *([""] if rejections else []), *rejections]


def _candidates(body: Mapping[str, Any]) -> list[str]:
    rows = [("CANDIDATE", "STATE", "FREE VRAM", "LEASES", "SAMPLED AT", "WHY")]
    rows += [
        (
            candidate["name"],
            (candidate["warmth"] or "-").replace("_", " "),
            "unknown" if candidate["free_vram_gb"] is None else f"{candidate['free_vram_gb']:g} GB",
            str(candidate["leases"]),
            candidate["sampled_at"] or "-",
            candidate["reason"],
        )
        for candidate in body["candidates"]
    ]
    return aligned(rows)


def _rejections(body: Mapping[str, Any]) -> list[str]:
    rows = [("REJECTED", "CODE", "WHY")]
    rows += [(rejection["name"], rejection["code"], rejection["reason"]) for rejection in body["rejected"]]
    return aligned(rows) if body["rejected"] else []
