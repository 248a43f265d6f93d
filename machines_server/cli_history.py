"""The commands about the past: history and events."""

import json
import sys
import time
from typing import Any
from urllib.parse import quote

import click

from machines_server.cli_client import as_json, ask, ask_text, server_url
from machines_server.core.times import parse_time

FOLLOW_S = 1.0
_METRICS = "cpu_percent,ram_used_gb,vram_used_gb"
_TIMES = "RFC 3339, epoch seconds, or -90s, -24h, -7d."
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


@click.command()
@click.argument("name")
@click.option("--metric", default=_METRICS, show_default=True, help="Comma-separated.")
@click.option("--from", "from_", default="-24h", show_default=True, help=_TIMES)
@click.option("--to", default="now", show_default=True)
@click.option("--step", default="auto", show_default=True, help="Seconds, or auto.")
@click.option("--gpu", default=None, help="Index of a GPU; all of them unless given.")
@click.option("--csv", "as_csv", is_flag=True, help="For spreadsheets.")
@server_url
@as_json
def history(name: str, server: str, *, as_json: bool, as_csv: bool, from_: str, **wanted: str | None) -> None:
    """Draw what a machine did."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    parameters = {key: value for key, value in {"from": from_, **wanted}.items() if value is not None}
    path = f"/api/machines/{quote(name, safe='')}/history"
    if as_csv:
        click.echo(ask_text(server, path, {**parameters, "format": "csv"}), nl=False)
        return
    body = ask(server, path, parameters)
    if as_json:
        click.echo(json.dumps(body))
        return
    click.echo(f"{body['machine']}  {body['from']} .. {body['to']}, a value each {body['step_s']} s")
    first, last = (parse_time(body[end], 0.0) for end in ("from", "to"))
    for series in body["series"]:
        title = series["metric"] if series["gpu"] is None else f"gpu{series['gpu']} {series['metric']}"
        points = series["points"]
        if not points:
            click.echo(f"{title:24} no samples")
            continue
        low, high = min(point[2] for point in points), max(point[3] for point in points)
        drawn = sparkline([(point[0], point[1]) for point in points], first, last)
        click.echo(f"{title:24} {drawn}  {low:g} .. {high:g} {series['unit']}")


@click.command()
@click.option("--machine", default=None, help="Of one machine alone.")
@click.option("--type", "type_", default=None, help="Comma-separated types.")
@click.option("--from", "from_", default="-24h", show_default=True)
@click.option("--to", default=None)
@click.option("--limit", default=100, show_default=True)
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@server_url
@as_json
def events(server: str, *, as_json: bool, follow: bool, from_: str, type_: str | None, **wanted: Any) -> None:
    """What happened, oldest first."""
    given = {"from": from_, "type": type_, **wanted}
    parameters = {key: value for key, value in given.items() if value is not None}
    while True:
        found = ask(server, "/api/events", parameters)["events"]
        for event in reversed(found):
            click.echo(json.dumps(event) if as_json else _sentence(event))
        if not follow:
            return
        sys.stdout.flush()
        parameters["after"] = max((event["id"] for event in found), default=parameters.get("after", 0))
        if not found:
            time.sleep(FOLLOW_S)


def sparkline(points: list[tuple[float, float]], first: float, last: float, width: int = _WIDTH) -> str:
    """Averages over `width` parts of the time from `first` to `last`; a blank where there is no value."""
    parts: list[list[float]] = [[] for _ in range(width)]
    for at, value in points:
        parts[min(width - 1, max(0, int((at - first) / (last - first) * width)))].append(value)
    means = [sum(part) / len(part) if part else None for part in parts]
    known = [mean for mean in means if mean is not None]
    low, span = min(known), max(known) - min(known)
    return "".join(
        " " if mean is None else _BARS[int((mean - low) / span * (len(_BARS) - 1)) if span else 0]
        for mean in means
    )


def _sentence(event: dict[str, Any]) -> str:
    rest = {key: value for key, value in event.items() if key not in ("id", "at", "machine", "type")}
    details = ", ".join(f"{key} {value}" for key, value in rest.items() if value not in (None, []))
    return f"{event['at']}  {event['machine']:20} {event['type']:16} {details}".rstrip()
