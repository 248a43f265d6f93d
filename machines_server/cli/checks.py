"""The commands that look for problems on this host: validate, doctor."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from machines_server.cli.command import command
from machines_server.cli.doctor_of_server import examine_server
from machines_server.cli.http import valid_url
from machines_server.cli.installation import read_settings
from machines_server.cli.output import as_json, echo, echo_json
from machines_server.cli.validation import check_path
from machines_server.inventory.schema import json_schema

_LABELS = {"ok": "ok  ", "warning": "warn", "error": "FAIL"}


@command(
    "validate",
    examples=[
        ("machines-server validate", "Check the folder that the server reads"),
        ("machines-server validate machines/workstation.yaml", "Check a file before it is installed"),
        ("machines-server validate --schema >machine.schema.json", "Have an editor check files as you type"),
    ],
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a machine file and exit.")
@as_json
def validate(paths: Sequence[Path], *, schema: bool, as_json: bool) -> None:
    """Check machine files, or folders of them; MACHINES_DIR by default.

    Prints every problem, and which files of a folder are ignored and why. The exit status is 1 if there is an
    error.
    """
    if schema:
        echo(*json.dumps(json_schema(), indent=2).split("\n"))
        return
    checked = [check_path(path) for path in paths or [read_settings().dir]]
    findings = [finding for one in checked for finding in one.findings]
    if as_json:
        echo_json([{**asdict(one.problem), "severity": one.severity, "path": one.path} for one in findings])
    else:
        for one in checked:
            echo(*map(str, one.findings), *filter(None, [one.summary]))
    if not all(one.is_valid for one in checked):
        sys.exit(1)


@command(
    "doctor",
    examples=[
        ("machines-server doctor", "Examine this host, with the settings in its environment"),
        ("machines-server doctor --server gpu-room:3038", "Ask a server instead"),
    ],
)
@click.option(
    "--server",
    envvar="MACHINES_URL",
    metavar="URL",
    callback=valid_url,
    help="Ask this server instead of examining this host; also set by MACHINES_URL.",
)
@as_json
def doctor(server: str | None, *, as_json: bool) -> None:
    """Look for problems on this host or a server, and suggest fixes."""
    if server:
        checks = examine_server(server)
    else:
        from machines_server.cli.doctor import examine  # it imports the poller

        checks = examine(os.environ)
    if as_json:
        echo_json([asdict(check) for check in checks])
    else:
        for check in checks:
            echo(f"{_LABELS[check.verdict]}  {check.what}: {check.finding}")
            if check.hint:
                echo(f"      -> {check.hint}")
    if any(check.verdict == "error" for check in checks):
        sys.exit(1)
