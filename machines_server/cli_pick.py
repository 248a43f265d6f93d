"""`machines-server pick`: where to send a job, for shells and people."""

import json
from collections.abc import Mapping
from typing import Any

import click

from machines_server.cli_client import aligned, as_json, said, server_url
from machines_server.client import Client, NoMachine
from machines_server.errors import ServerError


@click.command()
@click.argument("model")
@click.option("--min-free-vram-gb", type=click.FloatRange(0), default=0, help="GiB to be free on one GPU.")
@click.option("--min-context", type=click.IntRange(0), default=0, help="Tokens of context.")
@click.option("--role", default="", help="The role of the machine.")
@click.option("--tag", multiple=True, help="A tag of the machine; all that are given must match.")
@click.option("--exclude", multiple=True, metavar="NAME", help="A machine not to use.")
@click.option(
    "--where", multiple=True, metavar="PATH:VALUE", help="What the machine's file says: site:warsaw."
)
@click.option("--cold", is_flag=True, help="If nobody holds the model, a machine that can load it.")
@click.option("--explain", is_flag=True, help="Print all candidates and rejections.")
@click.option("--lease", is_flag=True, help="Reserve it; how to release it is said on standard error.")
@click.option("--ttl-s", type=click.FloatRange(1, 3600), default=60, show_default=True, help="Of the lease.")
@click.option("--holder", default="", help="Whose lease it is, for people.")
@server_url
@as_json
def pick(
    model: str,
    server: str,
    *,
    explain: bool,
    lease: bool,
    ttl_s: float,
    holder: str,
    as_json: bool,
    tag: tuple[str, ...],
    **others: Any,
) -> None:
    """The URL of the Ollama to use for MODEL: OLLAMA_HOST=$(machines-server pick MODEL) ollama run MODEL.

    A machine that cannot be connected to from here is passed over, but for --lease, --json and --explain.
    """
    client = Client(server)
    constraints: Any = {"tags": tag, **others}
    with said():
        try:
            if lease:
                body = client.reserve(model, ttl_s=ttl_s, holder=holder, **constraints)
            elif as_json or explain:
                body = client.route(model, **constraints)
            else:
                click.echo(client.pick(model, **constraints).url)
                return
        except NoMachine as error:
            if as_json:
                click.echo(json.dumps(error.body))
            elif explain:
                click.echo("\n".join(_rejections(error.body)))
            again = "" if error.retry_after_s is None else f" Try again in {error.retry_after_s:g} s."
            raise ServerError(f"{error}{again}") from None
    if as_json:
        click.echo(json.dumps(body))
    elif explain:
        click.echo("\n".join([*_candidates(body), "", *_rejections(body)]).rstrip())
    else:
        click.echo(body["url"])
    if lease:
        release = f"curl -X DELETE {client.url}/api/leases/{body['lease']}"
        click.echo(f"machines-server: leased until {body['expires_at']}; to release: {release}", err=True)


def _candidates(body: dict[str, Any]) -> list[str]:
    rows = [("CANDIDATE", "STATE", "FREE VRAM", "LEASES", "SAMPLED AT", "WHY")]
    rows += [
        (
            one["name"],
            one["warmth"].replace("_", " "),
            "unknown" if one["free_vram_gb"] is None else f"{one['free_vram_gb']:g} GB",
            str(one["leases"]),
            one["sampled_at"] or "-",
            one["reason"],
        )
        for one in body["candidates"]
    ]
    return aligned(rows)


def _rejections(body: Mapping[str, Any]) -> list[str]:
    rows = [("REJECTED", "CODE", "WHY")]
    rows += [(one["name"], one["code"], one["reason"]) for one in body["rejected"]]
    return aligned(rows) if body["rejected"] else []
