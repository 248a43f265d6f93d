"""Databases as earlier versions left them."""

import sqlite3
from contextlib import closing
from pathlib import Path

from machines_server.store.sqlite.migrate import known_migrations, migrate

_STATE = """
SELECT state FROM newer.endpoint_state AS one
WHERE one.machine_id = sample.machine_id AND endpoint = :kind AND one.at_ms <= sample.at_ms
ORDER BY one.at_ms DESC LIMIT 1"""


def as_version(version: int, newer: Path, path: Path) -> None:
    """The same past in a database of version 2, 3 or 4, which had no rollups of ten minutes."""
    migrate(path, known_migrations()[:version])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ATTACH ? AS newer", (str(newer),))
        for table, columns in kept_columns(connection).items():
            names = ", ".join(columns)
            # One size of a model was kept for all machines together.
            connection.execute(
                f"INSERT OR IGNORE INTO main.{table} ({names}) SELECT {names} FROM newer.{table}"
            )
        for kind in ("sidecar", "ollama"):
            connection.execute(f"UPDATE main.sample SET {kind} = ({_STATE})", {"kind": kind})
        connection.execute(
            "UPDATE main.latest SET answer = (SELECT coalesce(host, models) FROM newer.latest AS one"
            " WHERE one.machine_id = latest.machine_id AND one.endpoint = latest.endpoint)"
        )
        connection.execute("DELETE FROM main.retention WHERE tier = '10m'")
        connection.execute(
            "INSERT OR IGNORE INTO main.rollup_due"
            " SELECT 3600, at_s / 3600 * 3600, machine_id FROM newer.rollup_due WHERE tier = 600"
        )
        connection.execute("DELETE FROM main.rollup_due WHERE tier = 600")
        connection.commit()


def kept_columns(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table that this version has as well, without what tells of the version."""
    tables = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name != 'schema_migrations'"
    ).fetchall()
    names = "SELECT name FROM pragma_table_info(?, 'main')"
    with closing(sqlite3.connect(":memory:")) as newest:
        for migration in known_migrations():
            newest.executescript(migration.sql)
        return {
            table: [
                name
                for (name,) in connection.execute(names, (table,))
                if newest.execute(f"{names} WHERE name = ?", (table, name)).fetchone()
            ]
            for (table,) in tables
        }
