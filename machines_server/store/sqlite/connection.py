"""How the databases are opened: `telemetry.db` has one writer, `coordination.db` many."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machines_server.errors import StoreError, UnsupportedError
from machines_server.store.sqlite.failures import full_disk_remark, store_errors
from machines_server.store.sqlite.own_files import make_file

OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""
BUSY_TIMEOUT_MS = 1000
WAL_BYTES = 8 * 2**20
"""A larger write-ahead log is truncated as soon as no reader needs it."""
_CACHED_STATEMENTS = 32
"""Prepared statements that each reading connection caches; callers choose their text."""
_TRIM_TIMEOUT_MS = 20


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection for the one process that writes `telemetry.db`; creates the file if there is none."""
    check_sqlite()
    try:
        make_file(path)  # SQLite gives its mode to the files beside it
        connection = sqlite3.connect(path, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened for writing: {error}") from error
    with store_errors(path), closed_on_failure(connection):
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has no effect once there is a table
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
    return connection


def trim_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Truncate the write-ahead log if it has grown, unless a reader is in the way.

    SQLite restarts it only when a commit finds no reader, which is rare when many read.
    """
    try:
        if path.with_name(f"{path.name}-wal").stat().st_size <= WAL_BYTES:
            return
    except OSError:
        return
    connection.execute(f"PRAGMA busy_timeout = {_TRIM_TIMEOUT_MS}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def open_coordination(path: Path, timeout_ms: int) -> sqlite3.Connection:
    """A connection for one of the processes that write `coordination.db`; creates the file if there is none.

    It uses a rollback journal. Threads may share it, one at a time.
    """
    check_sqlite()
    try:
        make_file(path)  # SQLite gives its mode to the files beside it
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened for writing: {error}") from error
    with store_errors(path), closed_on_failure(connection):
        connection.execute(f"PRAGMA busy_timeout = {timeout_ms}")
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection; the file must exist."""
    check_sqlite()
    if is_empty_file(path):
        raise StoreError(f"{path.name}: nothing has been written to it yet{full_disk_remark(path)}")
    with store_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_CACHED_STATEMENTS,
        )
        with closed_on_failure(connection):
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return connection


def check_sqlite() -> None:
    """Raise UnsupportedError if SQLite is too old for our tables and statements."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise UnsupportedError(
            f"SQLite {sqlite3.sqlite_version} is too old, {oldest} or later is needed; install one, or run"
            " the server with a Python that includes one"
        )


@contextmanager
def closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    """Close a connection at once if its caller will not get it, rather than when the error is collected."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def may_stay_open(path: Path) -> bool:
    """Return whether a reading connection may be kept, which one opened in a read-only folder must not be.

    All connections of a process share one mapping of telemetry.db-shm. While one of them maps it
    read-only, no connection of that process can write, even once the folder is writable again.
    """
    return os.access(f"{path}-shm", os.W_OK)


def inode(path: Path) -> int | None:
    """The inode of a file, which changes when the file is replaced; None if there is none."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116  called for every answer, and twice as fast
    except OSError:
        return None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write everything or nothing; takes the write lock first, so that it cannot fail half-way."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk rolls back by itself
            connection.execute("ROLLBACK")
        raise


def is_empty_file(path: Path) -> bool:
    """Return whether the file exists and is empty, as when the disk was full when it was created."""
    try:
        return path.stat().st_size == 0
    except OSError:
        return False
