"""The command that shows one machine: show."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from machines_server.cli.command import command
from machines_server.cli.completion_of_names import complete_machine
from machines_server.cli.fleet_text import (
    MODEL_COLUMNS,
    STATUS_STYLES,
    model_row,
    names_text,
    reason_and_hint,
    status_span,
    tags,
)
from machines_server.cli.http import (
    ask,
    echo_problems,
    listed,
    machine_path,
    server_option,
    unexpected_answers,
)
from machines_server.cli.leases import LEASE_COLUMNS, lease_row
from machines_server.cli.meters import hardware_lines
from machines_server.cli.output import as_json, echo_json, echo_lines, output_width
from machines_server.cli.terminal.figures import UNKNOWN, age_s, date_time, duration, now, with_local_times
from machines_server.cli.terminal.spans import Line, Span, Style, padded, wrap
from machines_server.cli.terminal.table import Column, Row, table
from machines_server.core.text import printable

_LIVE_KEYS = (
    "status",
    "status_reason",
    "sampled_at",
    "last_seen",
    "telemetry",
    "loaded_models",
    "ollama",
    "runtimes",
)
_SHOWN_APART = ("name", "role", "tags", "models", "network", "_config_file", *_LIVE_KEYS)
SERVICE_COLUMNS = (
    Column("SERVICE", "cut"),
    Column("PORT", right=True),
    Column("STATUS"),
    Column("SINCE"),
    Column("MESSAGE", "below"),
)
_LIVE_SERVICE_KEYS = ("status", "message", "since")
_SERVICE_STYLES: Mapping[str, Style] = {"active": "good", "inactive": "bad"}
_ENTRY_TITLE_WIDTH, _GAP = 10, 2


@command(
    "show",
    examples=[
        ("machines-server show workstation", "See a machine in detail"),
        ("machines-server show workstation --json | jq .telemetry", "Get its figures for a program"),
    ],
)
@click.argument("name", shell_complete=complete_machine)
@server_option
@as_json
@unexpected_answers()
def show(name: str, server: str, *, as_json: bool) -> None:
    """Show machine NAME in detail: status, hardware, GPUs, models, leases, file."""
    machine = ask(server, machine_path(name))
    if as_json:
        echo_json(machine)
        return
    width = output_width()
    name = machine["name"]
    changes = listed(server, "events", {"machine": name, "type": list(STATUS_STYLES), "limit": 1})
    here = [lease for lease in listed(server, "leases", {}) if lease["machine"] == name]
    at = now()
    models = [model_row(model, at) for model in machine["ollama"]["models"]]
    leases = [lease_row(lease, at) for lease in here]
    services = [_service_row(one, at) for one in machine.get("services", ()) if "status" in one]
    sections = {
        "Hardware now": hardware_lines(machine["telemetry"], width),
        "Models in memory": table(MODEL_COLUMNS, models, width) if models else [],
        "Leases": table(LEASE_COLUMNS, leases, width) if leases else [],
        "Services": table(SERVICE_COLUMNS, services, width) if services else [],
        f"File {machine['_config_file']}": _declared(machine, width),
    }
    echo_lines(*_head(machine, changes, width))
    for title, lines in sections.items():
        echo_lines(*_section(title, lines, width))
    problems = listed(server, "machines", {}, key="errors")
    echo_problems(problem for problem in problems if problem["file"] == machine["_config_file"])


def _service_row(service: Mapping[str, Any], at: datetime) -> Row:
    """The cells of SERVICE_COLUMNS."""
    status, since = service["status"], service["since"]
    return (
        Span(service["name"]),
        Span(str(service["port"])),
        Span(status, _SERVICE_STYLES.get(status, "quiet")),
        Span(UNKNOWN if since is None else f"{duration(age_s(since, at))} ago"),
        Span(with_local_times(service["message"] or "")),
    )


def _head(machine: dict[str, Any], changes: list[dict[str, Any]], width: int | None) -> list[Line]:
    status, at = machine["status"], now()
    lines: list[Line] = [
        *([Span(part, "heading")] for part in wrap(machine["name"], width or len(machine["name"]))),
        [Span(padded("status", _ENTRY_TITLE_WIDTH + _GAP)), status_span(status)],
    ]
    if changes and changes[0]["type"] == status:
        began = changes[0]["at"]
        lines += _entry("since", f"{date_time(began)}, for {duration(age_s(began, at))}", width)
    for title, text in zip(
        ("why", "hint"),
        reason_and_hint(machine),
        strict=True,
    ):
        if text:
            lines += _entry(title, with_local_times(text), width)
    if machine["sampled_at"]:
        lines += _entry("measured", f"{duration(age_s(machine['sampled_at'], at))} ago", width)
    if status != "online" and machine["last_seen"]:
        lines += _entry("last seen", f"{duration(age_s(machine['last_seen'], at))} ago", width)
    return lines


def _declared(machine: dict[str, Any], width: int | None) -> list[Line]:
    """The keys of the machine's file, as people read them."""
    lines = _entry("role", str(machine["role"]), width)
    if found := tags(machine):
        lines += _entry("tags", names_text(found), width)
    lines += _entry("models", names_text(machine["models"]), width)
    machine = machine | {"services": [_as_declared(one) for one in machine.get("services", ())]}
    for key in ("network", *(key for key in machine if key not in _SHOWN_APART)):
        if machine[key] not in (None, {}, [], ""):
            lines += _entry(key, "; ".join(_flat(machine[key])), width)
    return lines


def _as_declared(service: dict[str, Any]) -> dict[str, Any]:
    """An entry of `services` without the live keys of one that is polled."""
    return {key: value for key, value in service.items() if key not in _LIVE_SERVICE_KEYS}


def _flat(value: Any, path: str = "") -> list[str]:
    """A value of any depth as texts `path value`."""
    if isinstance(value, dict) and value:
        return [
            text for key, one in value.items() for text in _flat(one, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        return [text for place, one in enumerate(value) for text in _flat(one, f"{path}[{place}]")]
    text = names_text(value) if isinstance(value, list | dict) else _scalar(value)
    return [f"{path} {text}".strip()]


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _section(title: str, lines: list[Line], width: int | None) -> list[Line]:
    """Lines below a title; none without lines."""
    if not lines:
        return []
    parts = [title] if width is None else wrap(title, width)
    return [[], *([Span(part, "heading")] for part in parts), *lines]


def _entry(title: str, text: str, width: int | None) -> list[Line]:
    """A title and a text, which is wrapped beside it."""
    title_width = max(_ENTRY_TITLE_WIDTH, len(title)) + _GAP
    text = printable(text)
    parts = [text] if width is None else wrap(text, width - title_width)
    first, *others = parts
    return [
        [Span(padded(printable(title), title_width)), Span(first)],
        *([Span(" " * title_width), Span(part)] for part in others),
    ]
