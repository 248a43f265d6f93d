"""Migrates the database of several servers, one server at a time."""

import re
from importlib.resources import files

from machines_server.errors import MigrationError, SchemaGoneError
from machines_server.store.migration_files import Migration, check_applied, migrations_in
from machines_server.store.postgres.database import Connection, Database

_TURN = "SELECT pg_advisory_xact_lock(7203571, 1)"
"""A lock that ends with the transaction, whatever becomes of the process."""
_TABLE_OF_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"""
_EVERY_TABLE = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND nspname = current_schema"""
_CREATED = re.compile(r"^CREATE (?:UNLOGGED )?TABLE (\w+)", re.MULTILINE)
_LONGEST_MIGRATION_S = 600.0


def known_migrations() -> list[Migration]:
    """The migrations of this version, in order."""
    return migrations_in(files("machines_server.migrations") / "postgresql")


def migrate(database: Database, known: list[Migration] | None = None) -> list[str]:
    """Apply the missing migrations and return their names.

    Raises MigrationError, before changing anything, if this version cannot use the database. Several servers
    may call it at once.
    """
    known = known_migrations() if known is None else known
    names = []
    for migration in known[len(known) - len(pending(database, known)) :]:
        with database.transaction(_LONGEST_MIGRATION_S) as connection:
            connection.execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
            connection.execute(_TURN)
            connection.execute(_TABLE_OF_MIGRATIONS)
            if _applied(connection, known) >= migration.version:
                continue
            connection.execute(migration.sql.encode())
            connection.execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES (%s, %s, %s)",
                (migration.version, migration.name, migration.sha256),
            )
        names.append(migration.name)
    return names


def pending(database: Database, known: list[Migration] | None = None) -> list[str]:
    """The names of the migrations that the database lacks; raises MigrationError if it cannot be migrated."""
    known = known_migrations() if known is None else known
    with database.transaction() as connection:
        return [one.name for one in known[_applied(connection, known) :]]


def missing_tables(database: Database) -> list[str]:
    """The tables that a migrated database has lost; raises StoreError."""
    made = {name for migration in known_migrations() for name in _CREATED.findall(migration.sql)}
    with database.transaction() as connection:
        return sorted(made - {name for (name,) in connection.execute(_EVERY_TABLE)})


def check_version(connection: Connection, known: list[Migration]) -> None:
    """Check that the database is still as this process has migrated it.

    Raises MigrationError if a newer version has migrated it since, and SchemaGoneError if it is an older one,
    from a backup.
    """
    ((version,),) = connection.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchall()
    if version > len(known):
        _applied(connection, known)
    if version < len(known):
        raise SchemaGoneError("PostgreSQL: the database is that of an older version, from a backup")


def _applied(connection: Connection, known: list[Migration]) -> int:
    tables = {name for (name,) in connection.execute(_EVERY_TABLE)}
    if "schema_migrations" not in tables:
        if tables:
            raise MigrationError(
                "the database has tables of another program; give machines-server its own database"
            )
        return 0
    rows = connection.execute(
        "SELECT version, name, sha256 FROM schema_migrations ORDER BY version"
    ).fetchall()
    return check_applied([(version, name, sha256) for version, name, sha256 in rows], known)
