"""The hardware of a machine as lines with bars."""

from typing import Any

from machines_server.cli.output import is_encodable
from machines_server.cli.terminal.figures import UNKNOWN, duration, gib, number, with_unit
from machines_server.cli.terminal.spans import Line, Span, Style, cut_line, display_width, wrap
from machines_server.core.text import printable

_BAR, _PLAIN_BAR = ("█", "░"), ("#", ".")
_BAR_WIDTH, _METER_TITLE_WIDTH = 20, 8
_NEARLY_FULL, _VERY_FULL = 0.75, 0.9


def share(used: float | None, total: float | None) -> float | None:
    """The used part of a whole, of 1; None if it is unknown."""
    return None if used is None or not total else min(1.0, max(0.0, used / total))


def bar(part: float | None, width: int = _BAR_WIDTH) -> Line:
    """A bar for a part of 1, and spaces if it is unknown."""
    if part is None:
        return [Span(" " * width)]
    full, empty = _BAR if is_encodable("".join(_BAR)) else _PLAIN_BAR
    filled = round(part * width)
    style: Style = "bad" if part >= _VERY_FULL else "warning" if part >= _NEARLY_FULL else "good"
    return [Span(full * filled, style), Span(empty * (width - filled), "quiet")]


def hardware_lines(telemetry: dict[str, Any], width: int | None) -> list[Line]:
    """CPU, memory, disk and GPUs, each as a line or two; empty before the first sample."""
    if not telemetry:
        return []
    lines = [
        _line("CPU", share(telemetry["cpu_percent"], 100), _cpu_text(telemetry)),
        _line(
            "RAM",
            share(telemetry["ram_used_gb"], telemetry["ram_total_gb"]),
            _of(telemetry["ram_used_gb"], telemetry["ram_total_gb"], telemetry["ram_available_gb"]),
        ),
        _line(
            "disk",
            share(telemetry["disk_used_gb"], telemetry["disk_total_gb"]),
            _of(telemetry["disk_used_gb"], telemetry["disk_total_gb"], telemetry["disk_available_gb"]),
        ),
    ]
    for gpu in telemetry.get("gpu", ()):
        lines += _gpu_lines(gpu)
    for gpu in telemetry.get("gpu_unreadable", ()):
        index = "?" if gpu["index"] is None else gpu["index"]
        text = f"cannot be read: {gpu['reason']}"
        lines.append([Span(f"{f'GPU {index} ':{_METER_TITLE_WIDTH}}", "bad"), Span(text, "bad")])
    if telemetry["uptime_s"] is not None:
        lines.append([Span(f"{'up for':{_METER_TITLE_WIDTH}}"), Span(duration(telemetry["uptime_s"]))])
    return lines if width is None else [part for line in lines for part in _wrapped(line, width)]


def _wrapped(line: Line, width: int) -> list[Line]:
    """The line or, if it takes more than `width` columns, its bar and its text below each other."""
    if sum(display_width(span.text) for span in line) <= width:
        return [line]
    title, *bars, text = line
    parts = wrap(printable(text.text).strip(), width - _METER_TITLE_WIDTH)
    indented = [[Span(" " * _METER_TITLE_WIDTH), text._replace(text=part)] for part in parts]
    if bars:
        return [cut_line([title, *bars], width), *indented]
    return [[title, indented[0][1]], *indented[1:]]


def _line(title: str, part: float | None, text: str) -> Line:
    return [Span(f"{title:{_METER_TITLE_WIDTH}}"), *bar(part), Span(f"  {text}")]


def _cpu_text(telemetry: dict[str, Any]) -> str:
    percent = telemetry["cpu_percent"]
    loads = [number(one) for one in telemetry["load_avg"] or ()]
    used = UNKNOWN if percent is None else f"{number(percent, 0)} %"
    return f"{used}, load {' '.join(loads)}" if loads else used


def _of(used: float | None, total: float | None, free: float | None) -> str:
    return f"{gib(free)} free of {gib(total)}" if free is not None else f"{gib(used)} used of {gib(total)}"


def _gpu_lines(gpu: dict[str, Any]) -> list[Line]:
    figures = [
        with_unit(gpu["utilisation"], "% busy"),
        with_unit(gpu["temperature_c"], "°C"),
        with_unit(gpu["power_w"], "W"),
    ]
    memory = _of(gpu["vram_used_gb"], gpu["vram_total_gb"], gpu["vram_free_gb"])
    kind = "" if gpu["memory_kind"] == "dedicated" else f" ({gpu['memory_kind']} memory)"
    about = ", ".join([gpu["model"] or "unknown model", *filter(None, figures)])
    return [
        _line(f"GPU {gpu['index']}", share(gpu["vram_used_gb"], gpu["vram_total_gb"]), memory),
        [Span(" " * _METER_TITLE_WIDTH), Span(f"{about}{kind}")],
    ]
