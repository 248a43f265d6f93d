"""How `coordination.db`, which several processes write, is opened, locked and repaired.

A rollback journal and `BEGIN IMMEDIATE` allow one writer at a time among all processes, and a process that is
killed midway leaves nothing behind. The file may be deleted at any time.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path

from machines_server.errors import DamagedStoreError, LockedError, StoreError
from machines_server.store.sqlite.connection import inode, open_coordination, transaction
from machines_server.store.sqlite.coordination.turns import FileTurns
from machines_server.store.sqlite.failures import error_code, store_errors
from machines_server.store.sqlite.migrate import known_migrations, migrate

LOCK_WAIT_MS, SHORT_LOCK_WAIT_MS = 3000, 100
"""How long a call waits while another program locks the file, and how long if a call recently waited in vain:
each waiting call, and each call behind it, occupies one of the server's few threads."""
TURN_WAIT_S, SHORT_TURN_WAIT_S = 7.0, 0.1
"""How long a call waits for its turn, since two others may wait first; less if one timed out lately."""
RECENT_WAIT_S = 10.0
"""How long after a call waited in vain others wait only the short time."""
_TELL_FAULT_S = 60.0
"""How long a failure is reported if nobody has tried since."""

_MIGRATIONS = files("machines_server.migrations") / "coordination"
_READ, _WRITE = "read", "write"

log = logging.getLogger(__name__)


class CoordinationDatabase:
    """One connection for one thread at a time; may be shared by threads, but not across a fork.

    A damaged file is renamed: the call that finds it raises DamagedStoreError, the next creates a new one.
    """

    def __init__(self, path: Path) -> None:
        """Opens nothing until the first call."""
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._turns, self._has_turn = FileTurns(path.with_suffix(".lock")), False
        self._turn_missed_at = float("-inf")
        self._lock_wait_ms = LOCK_WAIT_MS
        self._not_moved: str | None = None
        """Why a damaged file could not be moved aside."""
        self._found_locked: dict[str, tuple[float, str]] = {}
        """When a call to read, or to write, last found the file locked, and its error."""
        self._failed: dict[str, tuple[float, int | None, str]] = {}
        """When the latest call to read, or to write, failed, if it did, with which file, and its error."""

    def exists(self) -> bool:
        """Return whether the file exists; the first call that opens it creates it."""
        if inode(self._path) is not None:
            return True
        if self._connection is not None:
            with self._lock:
                self._close_if_replaced()
        return False

    def fault(self) -> str | None:
        """Why leases could not be read or changed within the last minute, or None; never waits."""
        if self._not_moved and inode(self._path) == self._inode:
            return self._not_moved
        recent, now = time.monotonic() - _TELL_FAULT_S, inode(self._path)
        faults = (fault for at, file, fault in list(self._failed.values()) if at > recent and file == now)
        return next(faults, None)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for statements that only read; raises StoreError."""
        with self._one_thread(_READ), self._open() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection, in a transaction that excludes all other writers; raises StoreError."""
        with (
            self._one_thread(_WRITE),
            self._turn(),
            self._open() as connection,
            transaction(connection),
        ):
            yield connection

    @staticmethod
    def version(connection: sqlite3.Connection) -> Hashable:
        """A value that changes with every write by any process."""
        (by_others,) = connection.execute("PRAGMA data_version").fetchone()
        return connection, by_others, connection.total_changes

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            self._close()

    @contextmanager
    def _one_thread(self, purpose: str) -> Iterator[None]:
        """Admit one thread at a time; fail those that queued behind one that found the file locked.

        Readers and writers are told apart, since another program that is about to write lets us read.
        """
        arrived_at = time.monotonic()
        with self._lock:
            locked_at, fault = self._found_locked.get(purpose, (float("-inf"), ""))
            if locked_at >= arrived_at:
                raise StoreError(fault)
            was_locked = any(arrived_at - at < RECENT_WAIT_S for at, _ in self._found_locked.values())
            self._set_lock_wait(SHORT_LOCK_WAIT_MS if was_locked else LOCK_WAIT_MS)
            try:
                yield
                self._failed.pop(purpose, None)
            except StoreError as error:
                self._note_failure(purpose, error)
                if isinstance(error, LockedError):
                    self._turn_missed_at = time.monotonic()
                if isinstance(error, LockedError) or error_code(error.__cause__) == sqlite3.SQLITE_BUSY:
                    self._found_locked[purpose] = time.monotonic(), str(error)
                raise

    def _note_failure(self, purpose: str, error: StoreError) -> None:
        if isinstance(error, DamagedStoreError):  # it is moved aside, or _not_moved says why not
            return
        *_, before = self._failed.get(purpose, ("",))
        self._failed[purpose] = time.monotonic(), inode(self._path), str(error)
        if str(error) != before and not isinstance(error, LockedError):
            log.error("leases cannot be %s: %s", "read" if purpose == _READ else "changed", error)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Admit one process at a time, first come, first served.

        SQLite itself waits by sleeping, up to 100 ms at a time, while others overtake. A worker that is
        stopped during its turn is killed by gunicorn after half a minute.
        """
        if self._has_turn:
            yield
            return
        missed_lately = time.monotonic() - self._turn_missed_at <= RECENT_WAIT_S
        with self._turns.turn(SHORT_TURN_WAIT_S if missed_lately else TURN_WAIT_S):
            self._has_turn = True
            try:
                yield
            finally:
                self._has_turn = False

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection to the current file; a damaged file is renamed, and the next call creates one."""
        self._close_if_replaced()
        try:
            with store_errors(self._path):
                if self._connection is None:
                    # Not while another process writes the deleted file: their journals share a name.
                    with self._turn():
                        self._inode = inode(self._path)
                        self._connection = self._connect()
                        self._inode = inode(self._path)
                yield self._connection
            self._not_moved = None
        except DamagedStoreError as error:
            self._close()
            self._move_aside(error)
            raise

    def _move_aside(self, error: DamagedStoreError) -> None:
        """Rename the damaged file, unless another process has done so and there is a new one."""
        aside = self._path.with_name(f"{self._path.name}.damaged")
        try:
            with self._turn():
                if inode(self._path) == self._inode:
                    self._path.replace(aside)
                    log.error("%s; it was moved to %s, and its leases are lost", error, aside.name)
            self._not_moved = None
        except (OSError, StoreError) as failure:
            reason = getattr(failure, "strerror", None) or failure
            fault = f"{error}; it cannot be moved to {aside.name}: {reason}"
            if fault != self._not_moved:
                log.error("%s", fault)
            self._not_moved = fault

    def _connect(self) -> sqlite3.Connection:
        # Writable even to read: a killed process leaves a journal that only a writer can roll back.
        opened = partial(open_coordination, timeout_ms=self._lock_wait_ms)
        migrate(self._path, known_migrations(_MIGRATIONS), opened, opened)
        return opened(self._path)

    def _set_lock_wait(self, wait_ms: int) -> None:
        if wait_ms != self._lock_wait_ms:
            self._lock_wait_ms = wait_ms
            if self._connection is not None:
                self._connection.execute(f"PRAGMA busy_timeout = {wait_ms}")

    def _close_if_replaced(self) -> None:
        if self._connection is not None and inode(self._path) != self._inode:
            log.error("%s was deleted or replaced: leases that were only in it are lost", self._path.name)
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
