"""The commands about the database: migrate, backup."""

from pathlib import Path

import click

from machines_server.cli.command import command
from machines_server.cli.installation import settings_for_writing
from machines_server.cli.output import as_json, echo, echo_json
from machines_server.cli.shared_database import migrate_shared
from machines_server.errors import StoreError
from machines_server.store.sqlite.backup import backup as backup_database
from machines_server.store.sqlite.migrate import migrate as migrate_database

_OTHER_BACKUPS = (
    "several servers share a database, so there is no file to copy: back up PostgreSQL with pg_basebackup or"
    " pg_dump, and the history with the engine's own tools (VictoriaMetrics: /snapshot/create and"
    " vmbackup; Prometheus: /api/v1/admin/tsdb/snapshot)"
)


@command(
    "migrate", examples=[("machines-server migrate", "Update the database before a new version is started")]
)
@as_json
def migrate(*, as_json: bool) -> None:
    """Update the schema of the database.

    The commands serve and poll also do this when they start.
    """
    settings = settings_for_writing()
    applied = migrate_shared(settings) if settings.is_cluster else migrate_database(settings.telemetry_db)
    where = "the PostgreSQL database" if settings.is_cluster else settings.telemetry_db
    if as_json:
        echo_json({"applied": applied})
    else:
        echo(*[f"applied {name}" for name in applied] or [f"{where} is up to date"])


@command(
    "backup",
    examples=[("machines-server backup /backup/telemetry.db", "Make a copy while the server runs")],
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@as_json
def backup(file: Path, *, as_json: bool) -> None:
    """Copy the database to FILE, even while it is in use.

    Where several servers share PostgreSQL, back that up with pg_basebackup or pg_dump instead, and the
    history with the engine's own tools.
    """
    settings = settings_for_writing()
    if settings.is_cluster:
        raise StoreError(_OTHER_BACKUPS)
    if file.exists():
        raise StoreError(f"{file} already exists; name a new file")
    backup_database(settings.telemetry_db, file)
    size = file.stat().st_size
    if as_json:
        echo_json({"file": str(file), "bytes": size})
    else:
        echo(f"{file}, {size / 2**20:.1f} MiB")
