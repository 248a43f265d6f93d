"""The nonces of signed requests, in a separate file that all workers share.

It is written without fsync. After a crash of the system nonces may be missing, so it is begun anew after
each start of the system, and signatures that are older than that are refused.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from machines_server.errors import DamagedStoreError, StoreError
from machines_server.store.sqlite.connection import check_sqlite, closed_on_failure, transaction
from machines_server.store.sqlite.failures import error_code, store_errors
from machines_server.store.sqlite.own_files import make_file

PERIOD_S = 400.0
"""Nonces are kept for one to two periods; a signature is valid for 360 s at most."""
_BUSY_TIMEOUT_MS = 250
"""How long to wait for another worker, in the event loop; not at all after a wait in vain."""
_CHECK_INTERVAL_S = 0.5
"""How often to check that the file is still the one at its path."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TABLES_OF_NONCES = """
CREATE TABLE IF NOT EXISTS nonce_0 (nonce BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nonce_1 (nonce BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (boot TEXT NOT NULL, since INTEGER NOT NULL, period INTEGER NOT NULL)"""
_USE = [
    f"INSERT OR IGNORE INTO nonce_{table} SELECT ?1"
    f" WHERE NOT EXISTS (SELECT 1 FROM nonce_{1 - table} WHERE nonce = ?1)"
    for table in (0, 1)
]


class NonceStore:
    """Implements Nonces, on one connection for one thread."""

    blocks = False

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Opens nothing until the first call. All processes have the same `monotonic` clock."""
        self._path, self._monotonic = path, monotonic
        self._connection: sqlite3.Connection | None = None
        self._since, self._period = 0, 0
        self._checked_at = float("-inf")
        self._file: tuple[int, int] | None = None
        self._is_blocked = False

    def use(self, nonce: bytes) -> bool:
        """Record a nonce; returns False if it has been recorded before."""
        try:
            connection = self._current()
            if (period := int(self._monotonic() // PERIOD_S)) > self._period:
                self._begin_period(connection, period)
            is_new = connection.execute(_USE[self._period % 2], (nonce,)).rowcount == 1
            if self._is_blocked:
                self._wait_for_others(waits=True)
        except sqlite3.Error as error:
            self._fail(error)
        return is_new

    def since(self) -> float:
        """When recording began: older signatures may have been used before."""
        try:
            self._current()
        except sqlite3.Error as error:
            self._fail(error)
        return self._since

    def _current(self) -> sqlite3.Connection:
        """The connection to the file at the path, which somebody may have deleted or replaced."""
        if (now := self._monotonic()) >= self._checked_at + _CHECK_INTERVAL_S:
            self._checked_at = now
            if self._connection is not None and self._file != _identity(self._path):
                self.close()
        return self._connection or self._open()

    def _wait_for_others(self, *, waits: bool) -> None:
        self._is_blocked = not waits
        if self._connection is not None:
            self._connection.execute(self._busy_timeout())

    def _busy_timeout(self) -> str:
        return f"PRAGMA busy_timeout = {0 if self._is_blocked else _BUSY_TIMEOUT_MS}"

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        """Raise StoreError for an error of SQLite; a damaged file is deleted first."""
        if error_code(error) == sqlite3.SQLITE_BUSY:
            self._wait_for_others(waits=False)
        try:
            with store_errors(self._path):
                raise error
        except DamagedStoreError:
            self._discard()
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        check_sqlite()
        try:
            make_file(self._path)
            connection = sqlite3.connect(self._path, isolation_level=None)
        except OSError as error:
            raise StoreError(f"{self._path.name}: {error.strerror}") from error
        with closed_on_failure(connection):
            connection.execute(self._busy_timeout())
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            self._begin(connection)
        self._connection, self._file = connection, _identity(self._path)
        return connection

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Continue with the file of this start of the system, or begin anew."""
        boot = _boot()
        with transaction(connection):
            for statement in _TABLES_OF_NONCES.split(";"):
                connection.execute(statement)
            state = connection.execute("SELECT since, period FROM state WHERE boot = ?", (boot,)).fetchone()
            if state is None:
                state = int(time.time()), int(self._monotonic() // PERIOD_S)
                for table in ("state", "nonce_0", "nonce_1"):
                    connection.execute(f"DELETE FROM {table}")
                connection.execute("INSERT INTO state VALUES (?, ?, ?)", (boot, *state))
        self._since, self._period = state

    def _begin_period(self, connection: sqlite3.Connection, period: int) -> None:
        """Forget the nonces of the period before the last, unless another worker has done so."""
        with transaction(connection):
            (latest,) = connection.execute("SELECT period FROM state").fetchone()
            if period > latest:
                connection.execute(f"DELETE FROM nonce_{period % 2}")
                if period > latest + 1:
                    connection.execute(f"DELETE FROM nonce_{1 - period % 2}")
                connection.execute("UPDATE state SET period = ?", (period,))
        self._period = max(period, latest)

    def _discard(self) -> None:
        """Delete a damaged file; the next one refuses older signatures."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(f"{self._path.name}{suffix}").unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is at a path; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _boot() -> str:
    """Identifies the current boot of the system or, if that is unknown, the start of this server."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return f"server {os.getppid()}"
