"""The leases in `coordination.db`."""

import os
import sqlite3
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.errors import DamagedStoreError, StoreError
from machines_server.store.api import Chooser
from machines_server.store.group_commit import GroupCommit, Take
from machines_server.store.lease_limits import MAX_SNAPSHOT_AGE_S, valid_s
from machines_server.store.sqlite.coordination import lease_rows
from machines_server.store.sqlite.coordination.database import CoordinationDatabase
from machines_server.store.sqlite.coordination.load_times import learn_load_times, read_load_times
from machines_server.store.sqlite.failures import decoding
from machines_server.store.values import LeaseRequest, LeaseSnapshot

SETTLED_NS, COARSE_NS, COARSELY_SETTLED_NS = 20_000_000, 10_000_000, 2_100_000_000
"""How long ago a file must have been written for the next write to give it another time for certain. If its
time is a multiple of COARSE_NS, the file system may keep nothing finer than two seconds."""
MAX_TOGETHER = 8
"""How many changes are made in one transaction, since other processes wait meanwhile."""
_EMPTY = LeaseSnapshot()


class _Cached(NamedTuple):
    """The latest snapshot, the file's version, and until when (monotonic) it may be returned.

    `stamp` is what the file system said of the file before it was read, or None if the file may change
    without another stamp.
    """

    file_version: Hashable = None
    snapshot: LeaseSnapshot = _EMPTY
    until: float = 0.0
    read_at: float = float("-inf")
    stamp: Hashable = None


_Changed = TypeVar("_Changed")
_FAULTS_OF_FILE = sqlite3.Error, StoreError, UnicodeDecodeError


@dataclass(slots=True, eq=False)
class _Wish(Generic[_Changed]):
    """A change to the leases that a thread wants, and what came of it: a result, or an error."""

    fleet: Fleet
    change: Callable[[sqlite3.Connection], _Changed]
    result: _Changed | None = None
    error: Exception | None = None

    def make(self, connection: sqlite3.Connection) -> None:
        """Make the change, or nothing of it if it raises, in a transaction; raises only what concerns all."""
        connection.execute("SAVEPOINT wish")
        try:
            self.result = self.change(connection)
        except _FAULTS_OF_FILE:
            raise
        except Exception as error:  # noqa: BLE001  raised in the thread whose wish it is
            self.error = error
            connection.execute("ROLLBACK TO wish")
        connection.execute("RELEASE wish")

    def outcome(self) -> _Changed:
        """The result, or raises the error; may be called once."""
        error, self.error = self.error, None
        if error is None:
            return cast(_Changed, self.result)
        try:
            raise error
        finally:
            del error  # it refers to this frame


class LeaseStore:
    """Reads and writes leases on one connection; implements Leases."""

    def __init__(self, path: Path, note: Callable[[str, int], object] = lambda _what, number: number) -> None:
        """`note` is called after leases were `granted` or have `expired`, with how many."""
        self._path, self._note = path, note
        self._database = CoordinationDatabase(path)
        self._together = GroupCommit[_Wish[Any]](self._write_together, MAX_TOGETHER)
        self._cached = _Cached()
        self._versions = count(1)

    def read(self) -> LeaseSnapshot:
        """The active leases: the same object as before if nothing was written and no second has passed."""
        if not self._database.exists():
            return _EMPTY
        with self._database.reading() as connection:
            stamp = self._stamp()
            version, now = self._database.version(connection), time.monotonic()
            cached = self._cached
            if cached.file_version != version or now >= cached.until:
                snapshot = self._snapshot(connection)
                until = now + valid_s([*snapshot.leases, *snapshot.released])
                cached = _Cached(version, snapshot, until)
            self._cached = cached._replace(read_at=now, stamp=stamp)
            return cached.snapshot

    def read_nowait(self) -> LeaseSnapshot | None:
        """The same if the file has not changed since it was last read, less than a second ago; else None."""
        if not self._database.exists():
            return _EMPTY
        cached, now = self._cached, time.monotonic()
        is_valid = now < min(cached.until, cached.read_at + MAX_SNAPSHOT_AGE_S)
        return cached.snapshot if is_valid and cached.stamp and cached.stamp == self._stamp() else None

    def newest(self) -> LeaseSnapshot:
        """The same as `read`, which misses nothing."""
        return self.read()

    def expired(self) -> int:
        """How many leases expired in the last ten minutes without being released."""
        if not self._database.exists():
            return 0
        with self._database.reading() as connection:
            return lease_rows.count_expired(connection)

    def expire(self, fleet: Fleet) -> None:
        """End the leases whose time is up; writes nothing if there are none."""
        if not self._database.exists():
            return
        with self._database.reading() as connection:
            has_expired = lease_rows.has_expired(connection)
        if has_expired:
            self._write(fleet, lambda _: None)

    def reserve(self, fleet: Fleet, request: LeaseRequest, chooser: Chooser) -> Lease:
        """Grant a lease on the best candidate, in the transaction in which it is chosen."""

        def grant(connection: sqlite3.Connection) -> tuple[Lease, int]:
            with self._decoding():
                known = None if request.key is None else lease_rows.lease_by_key(connection, request)
            if known:
                return known, 0
            lease_rows.refuse_too_many(connection, request)
            best = chooser.candidates(self._snapshot(connection))[0]
            return lease_rows.insert_lease(connection, request, best), 1

        lease, granted = self._write(fleet, grant)
        if granted:
            self._note("granted", granted)
        return lease

    def renew(self, fleet: Fleet, lease: str, ttl_s: float | None, check: Callable[[Lease], None]) -> Lease:
        """Restart a lease's duration unless `check` raises; raises UnknownLeaseError if it has ended."""

        def renewed(connection: sqlite3.Connection) -> Lease:
            with self._decoding():
                current = lease_rows.lease_by_id(connection, lease)
            check(current)
            return lease_rows.renew_lease(connection, lease, ttl_s or current.ttl_s)

        return self._write(fleet, renewed)

    def release(self, fleet: Fleet, lease: str, check: Callable[[Lease], object] = bool) -> Lease:
        """End a lease unless `check` raises; raises UnknownLeaseError if it has already ended."""

        def ended(connection: sqlite3.Connection) -> Lease:
            with self._decoding():
                released = lease_rows.lease_by_id(connection, lease)
            check(released)
            lease_rows.end_lease(connection, released, is_loaded=_is_loaded(released, fleet))
            return released

        return self._write(fleet, ended)

    def fault(self) -> str | None:
        """Why leases could not be read or changed within the last minute, or None; never waits."""
        return self._database.fault()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._database.close()

    def _stamp(self) -> Hashable:
        """A value that changes with the file; None if it may not, since clocks of file systems are coarse."""
        try:
            status = os.stat(self._path)  # noqa: PTH116  called for every answer, and twice as fast
        except OSError:
            return None
        settled_ns = SETTLED_NS if status.st_mtime_ns % COARSE_NS else COARSELY_SETTLED_NS
        is_settled = time.time_ns() - status.st_mtime_ns > settled_ns
        return (status.st_ino, status.st_size, status.st_mtime_ns) if is_settled else None

    def _write(self, fleet: Fleet, change: Callable[[sqlite3.Connection], _Changed]) -> _Changed:
        """Make a change to the leases, together with those that other threads want now."""
        wish = _Wish(fleet, change)
        self._together.add(wish)
        return wish.outcome()

    def _write_together(self, take: Take[_Wish[Any]]) -> None:
        """Make the changes that several threads want, one after the other, in one transaction.

        A change that cannot be made leaves nothing behind; if the file cannot be written, none is made.
        """
        wishes: Sequence[_Wish[Any]] = ()
        try:
            with self._database.writing() as connection:
                wishes = take()
                expired = self._expire(connection, {id(one.fleet): one.fleet for one in wishes}.values())
                for wish in wishes:
                    wish.make(connection)
        except Exception as error:  # noqa: BLE001  raised in each thread
            for wish in wishes or take():
                wish.error = copy(error)  # each thread adds its own traceback
                wish.error.__cause__ = error.__cause__
        else:
            if expired:  # counted once they are written, since others would find them again
                self._note("expired", expired)

    def _expire(self, connection: sqlite3.Connection, fleets: Iterable[Fleet]) -> int:
        """Delete the leases that have expired, learning how long finished loads took; returns how many."""
        lease_rows.discard_mistimed_loads(connection)
        for fleet in fleets:
            with self._decoding():
                cold = lease_rows.read_cold_leases(connection)
            learn_load_times(connection, cold, fleet)
        return lease_rows.delete_expired(connection)

    def _snapshot(self, connection: sqlite3.Connection) -> LeaseSnapshot:
        with self._decoding():
            (held, released), load_times = lease_rows.read_leases(connection), read_load_times(connection)
        return LeaseSnapshot(held, released, load_times, next(self._versions))

    def _decoding(self) -> AbstractContextManager[None]:
        return decoding(self._path, DamagedStoreError)


def _is_loaded(lease: Lease, fleet: Fleet) -> bool:
    """Whether the model of a lease is in memory, as samples show."""
    state = fleet.state_of(lease.machine)
    return lease.is_warm or (state is not None and lease.is_loaded(state, fleet.held_since_on(state)))
