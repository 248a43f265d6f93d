"""Brings a database to the schema of this version: numbered SQL files, each applied whole or not at all."""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from machines_server.errors import MigrationError
from machines_server.store.connection import open_reader, open_writer, transaction, translated

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL
) STRICT"""

Open = Callable[[Path], sqlite3.Connection]


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file: 0001_samples.sql has version 1."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The checksum that is kept beside what was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations(folder: Traversable | None = None) -> list[Migration]:
    """The migrations of this version, in order."""
    folder = folder or files("machines_server.migrations")
    found = sorted((one for one in folder.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    known = [Migration(int(one.name[:4]), one.name, one.read_text("utf-8")) for one in found]
    if [one.version for one in known] != list(range(1, len(known) + 1)):
        raise MigrationError(
            "the migrations of this installation are not numbered without gaps; install again"
        )
    return known


def migrate(
    path: Path,
    known: list[Migration] | None = None,
    open_to_write: Open = open_writer,
    open_to_read: Open = open_reader,
) -> list[str]:
    """Apply what is missing and return its names; raises MigrationError before anything is changed.

    Safe while others do the same: who comes second finds nothing left to do. A database that is up to date
    is only read.
    """
    known = known_migrations() if known is None else known
    if path.exists() and not pending(path, known, open_to_read):
        return []
    connection = open_to_write(path)
    try:
        with translated(path):
            return list(_apply_all(connection, known))
    finally:
        connection.close()


def pending(path: Path, known: list[Migration] | None = None, open_to_read: Open = open_reader) -> list[str]:
    """The names of the migrations that the database lacks; raises MigrationError when it does not fit."""
    known = known_migrations() if known is None else known
    connection = open_to_read(path)
    try:
        with translated(path):
            return [one.name for one in known[_applied(connection, known) :]]
    finally:
        connection.close()


def _apply_all(connection: sqlite3.Connection, known: list[Migration]) -> Iterator[str]:
    for migration in known:
        with transaction(connection):
            connection.execute(_TABLE)
            if _applied(connection, known) >= migration.version:
                continue
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
                (
                    migration.version,
                    migration.name,
                    migration.sha256,
                    time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                ),
            )
        yield migration.name


def _applied(connection: sqlite3.Connection, known: list[Migration]) -> int:
    """How many of the known migrations are applied; raises MigrationError unless they are the first ones."""
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").fetchone()
    if there is None:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone():
            raise MigrationError("the database was not made by machines-server; move it away")
        return 0
    rows = connection.execute(
        "SELECT version, name, sha256 FROM schema_migrations ORDER BY version"
    ).fetchall()
    for number, (version, name, sha256) in enumerate(rows):
        if number >= len(known):
            raise MigrationError(
                f"the database is newer than this version: it has {name}, which is not known here; "
                "install the newer version or restore a backup"
            )
        if (version, name, sha256) != (known[number].version, known[number].name, known[number].sha256):
            raise MigrationError(
                f"the database was made with another {name} than the one installed; "
                "install the version that made it or restore a backup"
            )
    return len(rows)


def _statements(script: str) -> Iterator[str]:
    """Split a script at its statements' ends; `executescript` would commit behind our back."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise MigrationError("a migration ends in the middle of a statement")
