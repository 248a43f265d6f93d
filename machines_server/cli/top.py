"""The live table of the fleet: top."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from machines_server.cli.command import command
from machines_server.cli.fleet_text import (
    STATUS_STYLES,
    free_vram_text,
    gpus,
    leased_vram,
    names_text,
    status_span,
)
from machines_server.cli.http import ask, server_option, unexpected_answers
from machines_server.cli.live_screen import Key, LiveScreen
from machines_server.cli.meters import bar, share
from machines_server.cli.output import is_terminal
from machines_server.cli.terminal.figures import UNKNOWN, now, number
from machines_server.cli.terminal.spans import Line, Span, cut, cut_line, display_width, padded
from machines_server.core.text import printable

_STATUS_WIDTH, _PERCENT_WIDTH = len("degraded"), len("100 %")
_NAME_WIDTH, _VRAM_WIDTH = 16, 6
_WIDE, _WIDE_NAME_WIDTH = 110, 40
_FREE = "FREE GIB"
_MIN_INTERVAL_S = 1.0


@command("top", examples=[("machines-server top", "Watch the fleet; q quits, the arrow keys scroll")])
@click.option(
    "--interval-s",
    type=click.FloatRange(min=_MIN_INTERVAL_S),
    default=2.0,
    show_default=True,
    help="Seconds between updates.",
)
@server_option
@unexpected_answers()
def top(server: str, interval_s: float) -> None:
    """Watch the fleet in a table that is redrawn in place.

    Keys: q or Ctrl-C quits, the arrow keys and Page Up and Page Down scroll. It needs a terminal; `list` and
    `ps` print the same for programs.
    """
    if not is_terminal() or sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("top needs a terminal; use `machines-server list` or `ps` instead.")
    if os.environ.get("TERM") == "dumb":
        raise click.UsageError("top needs a terminal that can move its cursor; TERM is dumb.")

    def fetch() -> dict[str, Any]:
        body: dict[str, Any] = ask(server, "/api/infrastructure")
        return body | {"leases": ask(server, "/api/leases")["leases"]}

    _Fleet(LiveScreen(fetch, interval_s), server).run()


class _Fleet:
    """Draws the latest answer of the server, from a machine on that the keys choose."""

    def __init__(self, screen: LiveScreen[dict[str, Any]], server: str) -> None:
        self._screen, self._server, self._first = screen, server, 0

    def run(self) -> None:
        """Draw until the user quits."""
        with self._screen as screen:
            while True:
                screen.draw(self._lines(*screen.size()))
                key = screen.wait()
                if key is Key.QUIT:
                    return
                if key is not None:
                    self._scroll(key)

    def _scroll(self, key: Key) -> None:
        page = max(1, self._screen.size()[1] - 4)
        steps = {Key.UP: -1, Key.DOWN: 1, Key.PAGE_UP: -page, Key.PAGE_DOWN: page}
        self._first += steps.get(key, 0)

    def _lines(self, width: int, height: int) -> list[Line]:
        fleet, error = self._screen.answer, self._screen.error
        if fleet is None:
            text = str(error) if error else f"asking {self._server} ..."
            return [[Span(cut(printable(text), width), "bad" if error else "quiet")]]
        machines = fleet["machines"]
        head = [*_summary(fleet, width), *([[Span(cut(f"old: {error}", width), "bad")]] if error else [])]
        room = max(1, height - len(head) - 2)
        self._first = max(0, min(self._first, len(machines) - room))
        shown = machines[self._first : self._first + room]
        hidden = len(machines) - len(shown)
        foot = f"{hidden} more: scroll with the arrow keys; " if hidden else ""
        return [
            *head,
            *_table(shown, leased_vram(fleet["leases"]), width),
            [Span(cut(f"{foot}q quits", width), "quiet")],
        ][:height]


def _summary(fleet: dict[str, Any], width: int) -> list[Line]:
    """The counts of the statuses and, if something is wrong with it, the poller."""
    machines = fleet["machines"]
    line = [Span(f"{now().astimezone():%H:%M:%S}  ", "heading")]
    for status in STATUS_STYLES:
        if count := sum(machine["status"] == status for machine in machines):
            line += [status_span(status)._replace(text=f"{count} {status}"), Span("  ")]
    lines = [cut_line(line, width)]
    if message := fleet["poller"]["message"]:
        lines.append([Span(cut(printable(f"poller: {message}"), width), "bad")])
    return lines


def _table(machines: Sequence[dict[str, Any]], leased: Mapping[str, float], width: int) -> list[Line]:
    names = [printable(machine["name"]) for machine in machines]
    free = [free_vram_text(machine, leased).removesuffix(" GiB") for machine in machines]
    widest = _WIDE_NAME_WIDTH if width >= _WIDE else _NAME_WIDTH
    name_width = min(widest, max([len("NAME"), *map(display_width, names)]))
    titles = (
        ("NAME", name_width),
        ("STATUS", _STATUS_WIDTH),
        ("CPU", _PERCENT_WIDTH),
        ("RAM", _PERCENT_WIDTH),
        ("VRAM", _VRAM_WIDTH),
        (_FREE, max([len(_FREE), *map(len, free)])),
    )
    heading = "  ".join(padded(title, size) for title, size in titles) + "  LOADED"
    rows = [
        _row(machine, name, free_text, [size for _, size in titles])
        for machine, name, free_text in zip(machines, names, free, strict=True)
    ]
    return [[Span(cut(heading, width), "heading")], *(cut_line(row, width) for row in rows)]


def _row(machine: dict[str, Any], name: str, free: str, widths: Sequence[int]) -> Line:
    telemetry = machine["telemetry"] if machine["status"] == "online" else {}
    cpu = telemetry.get("cpu_percent")
    ram = share(telemetry.get("ram_used_gb"), telemetry.get("ram_total_gb"))
    status = status_span(machine["status"])
    reason = machine["status_reason"] if not machine["loaded_models"] else None
    what = (
        Span(printable(reason), "quiet") if reason else Span(printable(names_text(machine["loaded_models"])))
    )
    gap = Span("  ")
    return [
        Span(padded(cut(name, widths[0]), widths[0])),
        gap,
        status._replace(text=padded(status.text, widths[1])),
        gap,
        Span(padded(_percent(cpu), widths[2])),
        gap,
        Span(padded(_percent(None if ram is None else ram * 100), widths[3])),
        gap,
        *bar(_vram(machine), widths[4]),
        gap,
        Span(padded(free, widths[5])),
        gap,
        what,
    ]


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{number(value, 0)} %"


def _vram(machine: dict[str, Any]) -> float | None:
    """The used part of the VRAM of all GPUs together."""
    known = [gpu for gpu in gpus(machine) if None not in (gpu["vram_used_gb"], gpu["vram_total_gb"])]
    return share(sum(gpu["vram_used_gb"] for gpu in known), sum(gpu["vram_total_gb"] for gpu in known))
