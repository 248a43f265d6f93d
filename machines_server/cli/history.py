"""The command that charts the past of a machine: history."""

from collections import Counter
from typing import Any

import click

from machines_server.cli.command import command
from machines_server.cli.completion_of_names import complete_machine
from machines_server.cli.http import ask, ask_text, machine_path, server_option, unexpected_answers
from machines_server.cli.moments import HELP, Moment
from machines_server.cli.output import as_json, echo, echo_json, echo_lines, is_encodable, output_width
from machines_server.cli.terminal.figures import date_time, duration, significant
from machines_server.cli.terminal.spans import Line, Span, cut, display_width, padded, wrap
from machines_server.cli.terminal.sparkline import BARS, PLAIN_BARS, Sparkline, WeightedPoint, sparkline
from machines_server.core.text import printable
from machines_server.core.times import parse_time

_DEFAULT_METRICS = "cpu_percent,ram_used_gb,vram_used_gb"
_WIDTH_WITHOUT_TERMINAL = 100
_WIDEST_CHART, _NARROWEST_CHART = 120, 20
_GAPS, _WIDEST_RANGE = "    ", "0.000123 to 12345678.9 "
_UNIT_SIGNS = {"percent": "%", "seconds": "s", "celsius": "°C", "watts": "W", "1": ""}


@command(
    "history",
    examples=[
        ("machines-server history workstation", "Chart the last day"),
        ("machines-server history workstation --metric power_w --from -7d", "Chart the power of a week"),
        (
            "machines-server history workstation --from 03:00 --csv >night.csv",
            "Save figures for a spreadsheet",
        ),
    ],
)
@click.argument("name", shell_complete=complete_machine)
@click.option("--metric", default=_DEFAULT_METRICS, show_default=True, help="Metrics, separated by commas.")
@click.option("--from", "from_", type=Moment(), default="-24h", show_default=True, help=f"Start: {HELP}")
@click.option("--to", type=Moment(), default="now", show_default=True, help="End, in the same forms.")
@click.option("--step", default="auto", show_default=True, help="Seconds between points, or auto.")
@click.option("--gpu", default=None, help="Only the GPU with this index or UUID.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@server_option
@as_json
@unexpected_answers()
def history(
    name: str, server: str, *, as_json: bool, as_csv: bool, from_: str, **options: str | None
) -> None:
    """Chart the history of machine NAME.

    Each bar is an average; the numbers after a chart are its lowest and its highest bar. A blank means
    there are no samples.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json cannot be combined.")
    parameters = {key: value for key, value in {"from": from_, **options}.items() if value is not None}
    path = f"{machine_path(name)}/history"
    if as_csv:
        text = ask_text(server, path, {**parameters, "format": "csv"})
        echo(*text.replace("\r\n", "\n").rstrip("\n").split("\n"))
        return
    body = ask(server, path, parameters)
    if as_json:
        echo_json(body)
        return
    width = output_width()
    empty = [] if options["gpu"] else _without_series(body["series"], options["metric"] or "")
    all_series = [*body["series"], *empty]
    chart = _chart(body | {"series": all_series}, width or _WIDTH_WITHOUT_TERMINAL)
    head = f"{body['machine']}: {date_time(body['from'])} to {date_time(body['to'])}"
    echo_lines(*([Span(line, "heading")] for line in wrap(printable(head), width or len(head) * 2)))
    echo_lines(*chart)


def _without_series(all_series: list[dict[str, Any]], metrics: str) -> list[dict[str, Any]]:
    """Empty series for the metrics that have none, such as those of GPUs on a host without one."""
    there = {series["metric"] for series in all_series}
    empty: dict[str, Any] = {"gpu": None, "unit": "1", "points": []}
    asked = dict.fromkeys(metric.strip() for metric in metrics.split(","))
    return [{"metric": metric, **empty} for metric in asked if metric and metric not in there]


def _chart(body: dict[str, Any], width: int) -> list[Line]:
    """The charts of an answer, each on one line with its title, or below it if there is little room."""
    first, last = (parse_time(body[end], 0.0) for end in ("from", "to"))
    titles = _titles(body["series"])
    title_width = max(map(display_width, titles), default=0)
    room = width - title_width - len(_GAPS) - len(_WIDEST_RANGE) - _unit_width(body["series"])
    is_beside = room >= _NARROWEST_CHART
    chart_width = min(_WIDEST_CHART, room if is_beside else width)
    lines: list[Line] = []
    for title, series in zip(titles, body["series"], strict=True):
        drawn = _sparkline(series, first, last, chart_width)
        scale = Span("no samples", "quiet") if drawn is None else Span(_scale(drawn, series["unit"]), "quiet")
        chart = Span("" if drawn is None else drawn.chart, "good")
        if is_beside:
            gap = [Span("  ")] if drawn else []
            lines.append([Span(padded(title, title_width)), Span("  "), chart, *gap, scale])
        else:
            lines += [[Span(cut(title, width))], *([[chart]] if drawn else []), [scale]]
    if any(series["points"] for series in body["series"]):
        bar_s = max(body["step_s"], (last - first) / chart_width)
        lines.append([Span(cut(f"One bar covers {duration(bar_s)}.", width), "quiet")])
    return lines


def _unit_width(all_series: list[dict[str, Any]]) -> int:
    return max((len(_sign(series["unit"])) for series in all_series), default=0)


def _sign(unit: str) -> str:
    return _UNIT_SIGNS.get(unit, unit)


def _titles(all_series: list[dict[str, Any]]) -> list[str]:
    """What each series is, with the GPU's UUID only where an index is not enough."""
    uses = Counter((series["metric"], series["gpu"]) for series in all_series)
    titles = []
    for series in all_series:
        title = series["metric"] if series["gpu"] is None else f"gpu{series['gpu']} {series['metric']}"
        if series["gpu"] is not None and uses[series["metric"], series["gpu"]] > 1:
            title += f" {series['uuid']}"
        titles.append(printable(title))
    return titles


def _sparkline(series: dict[str, Any], first: float, last: float, width: int) -> Sparkline | None:
    if not series["points"]:
        return None
    points = [WeightedPoint(point[0], point[1], point[4]) for point in series["points"]]
    return sparkline(points, first, last, width, BARS if is_encodable(BARS) else PLAIN_BARS, significant)


def _scale(drawn: Sparkline, unit: str) -> str:
    low, high = significant(drawn.low), significant(drawn.high)
    values = low if low == high else f"{low} to {high}"
    return f"{values} {_sign(unit)}".rstrip()
