"""How the databases are opened: `telemetry.db` has one writer, `coordination.db` many."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from shutil import disk_usage

from machines_server.errors import StoreError

BUSY_TIMEOUT_MS = 1000
WAL_BYTES = 8 * 2**20
"""What the write-ahead log is cut back to whenever no reader needs more of it."""
_TRIM_TIMEOUT_MS = 20
_LITTLE_ROOM_BYTES = 2**20


def open_writer(path: Path) -> sqlite3.Connection:
    """The connection of the one process that writes; makes the file if need be."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened for writing: {error}") from error
    with translated(path):
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has no effect once there is a table
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
    return connection


def trim_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Cut the write-ahead log back if it has grown, unless a reader is in the way.

    SQLite starts it anew only when a commit finds nobody reading, which many short readers seldom allow.
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
    """A connection of one of many processes that write, under a rollback journal; makes the file if need be.

    Its threads take turns.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened for writing: {error}") from error
    with translated(path):
        connection.execute(f"PRAGMA busy_timeout = {timeout_ms}")
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; the file must be there."""
    with translated(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return connection


def may_stay_open(path: Path) -> bool:
    """Whether a reader may be kept: one that was opened while the folder is read-only must not be.

    All connections of a process share one mapping of telemetry.db-shm. While one of them has it read-only, no
    writer of that process can write, even when the folder can be written again.
    """
    return os.access(f"{path}-shm", os.W_OK)


def inode(path: Path) -> int | None:
    """What tells a file from another that took its place; None when it is not there."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116  asked for every answer, and twice as fast
    except OSError:
        return None


def backup(path: Path, target: Path) -> None:
    """Copy a database, as it is at one moment, while others read and write it; raises StoreError.

    The copy is one file, and `target` is there only when it is whole.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        with closing(open_reader(path)) as source, translated(target), closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        part.rename(target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; takes the write lock at once, so that it cannot fail half-way for want of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk rolls back by itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as StoreError, with the name of the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path.name}: {error}{_no_room(path, error)}") from error


def may_pass(error: StoreError) -> bool:
    """Whether it may be well later: a full disk, a lock, a folder that is read-only; not a damaged file."""
    return isinstance(error.__cause__, OSError | sqlite3.OperationalError)


def _no_room(path: Path, error: sqlite3.Error) -> str:
    """What SQLite does not say when there is no room for telemetry.db-shm."""
    with suppress(OSError):
        if "I/O" in str(error) and disk_usage(path.parent).free < _LITTLE_ROOM_BYTES:
            return "; its disk is full"
    return ""
