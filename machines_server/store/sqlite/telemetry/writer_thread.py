"""The thread that writes to `telemetry.db` and looks after the file."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from machines_server.errors import DamagedStoreError, StoreError
from machines_server.failure_log import logger_of_failures
from machines_server.store.batches import MAX_PENDING, BatchThread
from machines_server.store.sqlite.connection import inode, open_writer, trim_wal
from machines_server.store.sqlite.damage import (
    Checker,
    Footprint,
    find_damage,
    footprint,
    put_aside,
    put_log_aside,
)
from machines_server.store.sqlite.failures import store_errors
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention, Update

TRIM_EVERY_S = 2.0
MIN_RENEWAL_S = 60.0
"""Minimum interval between two new databases: a bad disk must not be filled with damaged ones."""

_ITEM_ERRORS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""Errors that SQLite raises for one bad value; its others concern the whole file."""

log = logger_of_failures(__name__)


class WriterThread(BatchThread):
    """Writes to a file, which it checks after anybody else has changed it; implements Sink."""

    def __init__(
        self,
        path: Path,
        *,
        max_gap_s: float,
        retention: Retention,
        on_fault: Callable[[str | None], None],
        renews: bool = False,
        max_pending: int = MAX_PENDING,
    ) -> None:
        """`renews`: a damaged database is put aside and a new one created.

        Otherwise nothing is written until it is repaired.
        """
        super().__init__(path.name, on_fault, max_pending=max_pending)
        self._path, self._max_gap_s, self._retention = path, max_gap_s, retention
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._writer: SampleWriter | None = None
        self._rollups: Rollups
        self._renews, self._renewed_at = renews, float("-inf")
        self._footprint: Footprint | None = None
        self._damage: DamagedStoreError | None = None
        self._maintained_at = self._trimmed_at = time.monotonic()
        self._thread.start()
        self._checker = Checker(path, self._note_damage)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Try once to write what is left, and close the database; returns False if that takes too long."""
        self._closing.set()
        self._checker.close()
        return super().close(timeout_s)

    def _errors(self) -> AbstractContextManager[None]:
        return store_errors(self._path)

    def _explained(self, error: StoreError) -> str:
        if isinstance(error, DamagedStoreError):
            self._damage, self._footprint = error, footprint(self._path)
        return f"{error}; {self._damage.remedy}" if self._damage else str(error)

    def _has_written(self) -> None:
        self._footprint = footprint(self._path)

    def _maintain(self) -> None:
        while not self._something.is_set() and not self._closing.is_set():
            now = time.monotonic()
            elapsed_s, self._maintained_at = now - self._maintained_at, now
            if not self._rollups.step(time.time(), elapsed_s):
                break
        if self._connection is not None and time.monotonic() - self._trimmed_at >= TRIM_EVERY_S:
            self._trimmed_at = time.monotonic()
            trim_wal(self._connection, self._path)

    def _write(self, items: Sequence[Update]) -> None:
        if self._writer is not None:
            self._writer.write(items)

    def _concerns_all(self, error: Exception) -> bool:
        # UnicodeDecodeError comes from rows that are there already.
        is_of_file = isinstance(error, sqlite3.Error) and not isinstance(error, _ITEM_ERRORS)
        return is_of_file or isinstance(error, MemoryError | UnicodeDecodeError)

    def _prepare(self) -> None:
        self._check_file()
        if self._damage:
            self._renew(self._damage)
        if self._writer is None:
            migrate(self._path)
            self._connection, self._inode = open_writer(self._path), inode(self._path)
            self._rollups = Rollups(self._connection, self._retention)
            self._writer = SampleWriter(self._connection, self._max_gap_s, self._rollups)
            if self._registry is not None:  # a new database lacks it
                self._writer.write([self._registry])

    def _check_file(self) -> None:
        """Check the file if others have changed it since we last wrote; nobody else should."""
        left, found = self._footprint, footprint(self._path)
        if left is None or (found == left and not self._has_lost_files(found)):
            return
        self._let_go()
        self._footprint = left  # until it is checked
        if found[0] is not None:
            log.warning("%s was changed by another program; checking it", self._path)
            self._damage = find_damage(self._path, self._closing.is_set, is_at_rest=True)
            found = footprint(self._path)
        if found[0] is None:  # it may have been deleted during the check
            put_log_aside(self._path)
            log.error("%s was moved away or deleted; creating a new one", self._path)
            self._damage = None
        self._footprint = footprint(self._path)

    def _has_lost_files(self, found: Footprint) -> bool:
        """Return whether open files were replaced or deleted, perhaps before the last footprint."""
        return self._connection is not None and (inode(self._path) != self._inode or None in found)

    def _note_damage(self, damage: DamagedStoreError) -> None:
        """Take a finding of the checking thread, in that thread."""
        self._damage = damage
        self._something.set()

    def _renew(self, damage: DamagedStoreError) -> None:
        """Put the damaged file aside if that is configured; otherwise raise its error."""
        self._let_go()
        if not self._renews or time.monotonic() - self._renewed_at < MIN_RENEWAL_S:
            raise DamagedStoreError(str(damage))
        aside = put_aside(self._path)
        log.error("%s; it is kept as %s, and a new one is created", damage, aside.name)
        self._damage, self._renewed_at = None, time.monotonic()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            # What was in the log is in the file now.
            self._footprint = self._footprint and footprint(self._path)
        self._connection = self._writer = None
