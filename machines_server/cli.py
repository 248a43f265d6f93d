"""The command line. Exit status: 0 ok, 1 a negative answer, 2 wrong usage or settings."""

import json
import logging.config
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from machines_server.allocator import collect_seldom, use_one_arena
from machines_server.cli_client import aligned, as_json, ask, server_url
from machines_server.cli_history import events, history
from machines_server.cli_pick import pick
from machines_server.config import Settings, load_settings
from machines_server.core.registry import Problem
from machines_server.errors import MachinesError, RefusedError, SettingsError, StoreError
from machines_server.logs import log_config
from machines_server.machine_file import json_schema
from machines_server.registry_files import RegistryFiles
from machines_server.store.connection import backup as backup_database
from machines_server.store.connection import may_pass
from machines_server.store.migrate import migrate as migrate_database

_MARKS = {"ok": "ok  ", "warning": "warn", "error": "FAIL"}


class _Commands(click.Group):
    """Our errors become one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingsError, RefusedError) as error:
            click.echo(f"machines-server: {error}", err=True)
            ctx.exit(2)
        except MachinesError as error:
            click.echo(f"machines-server: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands)
@click.version_option(package_name="machines-server")
def main() -> None:
    """Which machine holds the model, and how much VRAM is free there?"""


@main.command()
def serve() -> None:
    """Answer HTTP requests, and poll unless MACHINES_POLLER=off."""
    settings = _start()
    _check_address(settings)
    click.echo(f"machines-server: http://{_address(settings)}/", err=True)
    gunicorn = [
        "gunicorn",
        "--config",
        "python:machines_server.gunicorn_conf",
        "machines_server.wsgi:make_app()",
    ]
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", *gunicorn])  # noqa: S606  it takes the place of this process


@main.command()
def poll() -> None:
    """Poll, while a server with MACHINES_POLLER=off answers."""
    from machines_server.wsgi import make_poller  # it brings all of the server along

    settings = _start()
    use_one_arena()
    collect_seldom()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    make_poller(settings).run(stop)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a machine file and end.")
@as_json
def validate(folder: Path | None, *, schema: bool, as_json: bool) -> None:
    """Check every machine file in FOLDER (MACHINES_DIR) and print all that is wrong."""
    if schema:
        click.echo(json.dumps(json_schema(), indent=2))
        return
    folder = folder or _settings().dir
    registry = RegistryFiles(folder).current(0.0)
    if as_json:
        click.echo(json.dumps([asdict(problem) for problem in registry.problems]))
    else:
        for problem in registry.problems:
            click.echo(f"{os.path.join(folder, str(problem))} ({problem.severity})")  # noqa: PTH118  Path eats a /
        click.echo(f"{len(registry)} good machine files in {folder}")
    if any(problem.severity == "error" for problem in registry.problems):
        sys.exit(1)


@main.command("list")
@server_url
@as_json
def list_machines(server: str, *, as_json: bool) -> None:
    """The machines a server knows, and how they are."""
    body = ask(server, "/api/infrastructure")
    if as_json:
        click.echo(json.dumps(body["machines"]))
        return
    rows = [("NAME", "ROLE", "STATUS", "FREE VRAM", "LOADED", "WHY")]
    rows += [
        (
            machine["name"],
            machine["role"],
            machine["status"],
            _free_vram(machine),
            ", ".join(machine["loaded_models"]) or "-",
            machine["status_reason"] or "",
        )
        for machine in body["machines"]
    ]
    click.echo("\n".join(aligned(rows)))
    for problem in body["errors"]:
        click.echo(f"{problem['severity']}: {Problem(**problem)}", err=True)


@main.command()
@click.argument("name")
@server_url
@as_json
def show(name: str, server: str, *, as_json: bool) -> None:
    """All that a server knows of one machine."""
    machine = ask(server, f"/api/machines/{quote(name, safe='')}")
    click.echo(json.dumps(machine) if as_json else json.dumps(machine, indent=2, ensure_ascii=False))


@main.command()
@as_json
def migrate(*, as_json: bool) -> None:
    """Bring the database to the schema of this version; `serve` and `poll` do it by themselves."""
    settings = _settings()
    applied = migrate_database(settings.telemetry_db)
    if as_json:
        click.echo(json.dumps({"applied": applied}))
    else:
        click.echo(
            "\n".join(f"applied {name}" for name in applied) or f"{settings.telemetry_db} is up to date"
        )


@main.command()
@as_json
def doctor(*, as_json: bool) -> None:
    """Look at everything here that can be wrong, and say what mends it."""
    from machines_server.doctor import examine

    checks = examine(os.environ)
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks]))
    else:
        for check in checks:
            click.echo(f"{_MARKS[check.verdict]}  {check.what}: {check.finding}")
            if check.hint:
                click.echo(f"      -> {check.hint}")
    if any(check.verdict == "error" for check in checks):
        sys.exit(1)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@as_json
def backup(file: Path, *, as_json: bool) -> None:
    """Copy the database to FILE, while it is being written."""
    if file.exists():
        raise StoreError(f"{file} exists already; name a new file")
    backup_database(_settings().telemetry_db, file)
    size = file.stat().st_size
    click.echo(
        json.dumps({"file": str(file), "bytes": size}) if as_json else f"{file}, {size / 2**20:.1f} MiB"
    )


main.add_command(pick)
main.add_command(history)
main.add_command(events)


def _settings() -> Settings:
    settings, warnings = load_settings()
    for warning in warnings:
        click.echo(f"machines-server: warning: {warning}", err=True)
    return settings


def _start() -> Settings:
    """What `serve` and `poll` do first: settings, log, schema.

    A database that cannot be written now may be later, and who polls tries again.
    """
    settings = _settings()
    logging.config.dictConfig(log_config(settings.log_level, settings.log_format))
    log = logging.getLogger(__name__)
    try:
        for name in migrate_database(settings.telemetry_db):
            log.info("applied %s", name)
    except StoreError as error:
        if not may_pass(error):
            advice = f"if it is damaged, move {settings.telemetry_db}* away and start again"
            raise StoreError(f"{error}; {advice}") from error
        log.error("%s; it is tried again while all machines are unknown", error)
    return settings


def _check_address(settings: Settings) -> None:
    """Say in one line what gunicorn would say in many."""
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        where = f"MACHINES_HOST={settings.host}, MACHINES_PORT={settings.port}"
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{where}: cannot listen there: {reason}; choose another") from None


def _address(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  only shown
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"


def _free_vram(machine: dict[str, Any]) -> str:
    """The free VRAM of each GPU; what was measured before the machine went away is not shown."""
    if machine["status"] != "online":
        return "-"
    return " + ".join(f"{gpu['vram_free_gb']:g} GB" for gpu in machine["telemetry"].get("gpu", ())) or "-"
