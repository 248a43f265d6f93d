"""Databases as earlier versions left them."""

import sqlite3
from contextlib import closing
from pathlib import Path

from machines_server.store.migrate import known_migrations, migrate


def as_version(version: int, newer: Path, path: Path) -> None:
    """The same past in a database of version 2, 3 or 4, which had no rollups of ten minutes."""
    migrate(path, known_migrations()[:version])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ATTACH ? AS newer", (str(newer),))
        for table, columns in columns_of(connection).items():
            names = ", ".join(columns)
            connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM newer.{table}")
        connection.execute("DELETE FROM main.retention WHERE tier = '10m'")
        connection.execute(
            "INSERT OR IGNORE INTO main.rollup_due"
            " SELECT 3600, at_s / 3600 * 3600, machine_id FROM newer.rollup_due WHERE tier = 600"
        )
        connection.execute("DELETE FROM main.rollup_due WHERE tier = 600")
        connection.commit()


def columns_of(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table, without what tells of the version."""
    tables = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name != 'schema_migrations'"
    ).fetchall()
    names = "SELECT name FROM pragma_table_info(?, 'main')"
    return {table: [name for (name,) in connection.execute(names, (table,))] for (table,) in tables}
