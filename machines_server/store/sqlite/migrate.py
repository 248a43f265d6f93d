"""Migrating a database to this version's schema by numbered SQL files, each applied in a transaction."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from machines_server.errors import MigrationError
from machines_server.store.migration_files import Migration, check_applied, migrations_in
from machines_server.store.sqlite.connection import is_empty_file, open_reader, open_writer, transaction
from machines_server.store.sqlite.failures import store_errors

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL
) STRICT"""

Open = Callable[[Path], sqlite3.Connection]


def known_migrations(folder: Traversable | None = None) -> list[Migration]:
    """The migrations of this version, in order."""
    return migrations_in(folder or files("machines_server.migrations"))


def migrate(
    path: Path,
    known: list[Migration] | None = None,
    open_to_write: Open = open_writer,
    open_to_read: Open = open_reader,
) -> list[str]:
    """Apply the missing migrations and return their names; raises MigrationError before changing anything.

    Several processes may call it at once; each migration is applied by one of them. An up-to-date database is
    only read.
    """
    known = known_migrations() if known is None else known
    if path.exists() and not is_empty_file(path) and not pending(path, known, open_to_read):
        return []
    connection = open_to_write(path)
    try:
        with store_errors(path, is_migrated=False):
            return list(_apply_all(connection, known))
    finally:
        connection.close()


def pending(path: Path, known: list[Migration] | None = None, open_to_read: Open = open_reader) -> list[str]:
    """The names of the migrations that a database lacks; raises MigrationError if it cannot be migrated."""
    known = known_migrations() if known is None else known
    connection = open_to_read(path)
    try:
        with store_errors(path, is_migrated=False):
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
    """How many migrations were applied; raises MigrationError unless they are the first known ones."""
    # In one statement, since another process may create all tables between two.
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "schema_migrations" not in tables:
        if tables:
            raise MigrationError("the database was not created by machines-server; move it away")
        return 0
    rows = connection.execute(
        "SELECT version, name, sha256 FROM schema_migrations ORDER BY version"
    ).fetchall()
    return check_applied(rows, known)


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements; `executescript` would commit the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise MigrationError("a migration ends in the middle of a statement")
