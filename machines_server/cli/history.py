"""The commands that show the past: history, events."""

import sys
import time
from collections import Counter
from typing import Any

import click

from machines_server.cli.http import ask, ask_text, machine_path, server_option, unexpected_answers
from machines_server.cli.output import as_json, echo, echo_json, is_encodable
from machines_server.core.times import parse_time

FOLLOW_INTERVAL_S = 1.0
_DEFAULT_METRICS = "cpu_percent,ram_used_gb,vram_used_gb"
_TIME = "RFC 3339, epoch seconds, or relative to now: -90s, -24h, -7d."
_BARS, _PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.,-=+*#"
_WIDTH = 60


@click.command()
@click.argument("name")
@click.option("--metric", default=_DEFAULT_METRICS, show_default=True, help="Metrics, separated by commas.")
@click.option("--from", "from_", default="-24h", show_default=True, help=f"Start: {_TIME}")
@click.option("--to", default="now", show_default=True, help="End, in the same forms.")
@click.option("--step", default="auto", show_default=True, help="Seconds between points, or auto.")
@click.option("--gpu", default=None, help="Only the GPU with this index or UUID.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@server_option
@as_json
@unexpected_answers()
def history(
    name: str, server: str, *, as_json: bool, as_csv: bool, from_: str, **options: str | None
) -> None:
    """Chart the history of the machine NAME."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    parameters = {key: value for key, value in {"from": from_, **options}.items() if value is not None}
    path = f"{machine_path(name)}/history"
    if as_csv:
        echo(
            *ask_text(server, path, {**parameters, "format": "csv"})
            .replace("\r\n", "\n")
            .rstrip("\n")
            .split("\n")
        )
        return
    body = ask(server, path, parameters)
    if as_json:
        echo_json(body)
        return
    echo(f"{body['machine']}  {body['from']} .. {body['to']}, one value per {body['step_s']} s")
    first, last = (parse_time(body[end], 0.0) for end in ("from", "to"))
    indices = Counter((series["metric"], series["gpu"]) for series in body["series"])
    for series in body["series"]:
        title = series["metric"] if series["gpu"] is None else f"gpu{series['gpu']} {series['metric']}"
        if series["gpu"] is not None and indices[series["metric"], series["gpu"]] > 1:
            title += f" {series['uuid']}"
        points = series["points"]
        if not points:
            echo(f"{title:24} no samples")
            continue
        low, high = min(point[2] for point in points), max(point[3] for point in points)
        bars = _BARS if is_encodable(_BARS) else _PLAIN_BARS
        chart = sparkline([(point[0], point[1]) for point in points], first, last, bars=bars)
        echo(f"{title:24} {chart}  {low:g} .. {high:g} {series['unit']}")


@click.command()
@click.option("--machine", default=None, metavar="NAME", help="Only events of this machine.")
@click.option("--type", "type_", default=None, help="Only events of these types, separated by commas.")
@click.option("--from", "from_", default="-24h", show_default=True, help=f"Start: {_TIME}")
@click.option("--to", default=None, help="End, in the same forms; by default now.")
@click.option("--limit", default=100, show_default=True, help="Maximum number of events to print.")
@click.option("--follow", is_flag=True, help="Keep printing new events until Ctrl-C.")
@server_option
@as_json
@unexpected_answers()
def events(
    server: str, *, as_json: bool, follow: bool, from_: str, type_: str | None, **options: Any
) -> None:
    """Print events, oldest first."""
    given = {"from": from_, "type": type_, **options}
    parameters = {key: value for key, value in given.items() if value is not None}
    while True:
        new_events = ask(server, "/api/events", parameters)["events"]
        for event in reversed(new_events):
            if as_json:
                echo_json(event)
            else:
                echo(_event_line(event))
        if not follow:
            return
        sys.stdout.flush()
        parameters["after"] = max((event["id"] for event in new_events), default=parameters.get("after", 0))
        if not new_events:
            time.sleep(FOLLOW_INTERVAL_S)


def sparkline(
    points: list[tuple[float, float]], first: float, last: float, width: int = _WIDTH, bars: str = _BARS
) -> str:
    """A bar for the average of each of `width` parts of the time, and a blank for a part without values."""
    parts: list[list[float]] = [[] for _ in range(width)]
    for at, value in points:
        parts[min(width - 1, max(0, int((at - first) / (last - first) * width)))].append(value)
    means = [sum(part) / len(part) if part else None for part in parts]
    known = [mean for mean in means if mean is not None]
    low, span = min(known), max(known) - min(known)
    return "".join(
        " " if mean is None else bars[int((mean - low) / span * (len(bars) - 1)) if span else 0]
        for mean in means
    )


def _event_line(event: dict[str, Any]) -> str:
    rest = {key: value for key, value in event.items() if key not in ("id", "at", "machine", "type")}
    details = ", ".join(f"{key} {value}" for key, value in rest.items() if value not in (None, []))
    return f"{event['at']}  {event['machine']:20} {event['type']:16} {details}".rstrip()
