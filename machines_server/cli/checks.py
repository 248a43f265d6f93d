"""The commands that look for problems on this host: validate, doctor."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from machines_server.cli.doctor_of_server import examine_server
from machines_server.cli.http import valid_url
from machines_server.cli.installation import read_settings
from machines_server.cli.output import as_json, echo, echo_json
from machines_server.core.machine import Problem
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.scan import ignored_entries
from machines_server.inventory.schema import json_schema

_LABELS = {"ok": "ok  ", "warning": "warn", "error": "FAIL"}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a machine file and exit.")
@as_json
def validate(folder: Path | None, *, schema: bool, as_json: bool) -> None:
    """Check the machine files in FOLDER, or in MACHINES_DIR.

    Prints every problem, and every ignored file with the reason.
    """
    if schema:
        echo(*json.dumps(json_schema(), indent=2).split("\n"))
        return
    folder = folder or read_settings().dir
    registry = RegistryFiles(folder).current(0.0)
    findings: list[tuple[Problem, str]] = [(problem, problem.severity) for problem in registry.problems]
    findings += [(Problem(file, f"this is not read: {why}"), "info") for file, why in ignored_entries(folder)]
    if as_json:
        echo_json([{**asdict(problem), "severity": severity} for problem, severity in findings])
    else:
        for problem, severity in findings:
            echo(f"{os.path.join(folder, str(problem))} ({severity})")  # noqa: PTH118  Path eats a /
        echo(f"{len(registry)} good machine files in {folder}")
    if any(problem.severity == "error" for problem in registry.problems):
        sys.exit(1)


@click.command()
@click.option(
    "--server",
    envvar="MACHINES_URL",
    metavar="URL",
    callback=valid_url,
    help="Ask this server instead of examining this host; also set by MACHINES_URL.",
)
@as_json
def doctor(server: str | None, *, as_json: bool) -> None:
    """Look for problems on this host, or of a server, and suggest how to fix them."""
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
