"""The leases in `coordination.db`."""

import sqlite3
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.errors import DamagedStoreError
from machines_server.store.api import Chooser
from machines_server.store.lease_limits import valid_s
from machines_server.store.sqlite.coordination import lease_rows
from machines_server.store.sqlite.coordination.database import CoordinationDatabase
from machines_server.store.sqlite.coordination.load_times import learn_load_times, read_load_times
from machines_server.store.sqlite.failures import decoding
from machines_server.store.values import LeaseRequest, LeaseSnapshot

_EMPTY = LeaseSnapshot()


class _Cached(NamedTuple):
    """The latest snapshot, the file's version, and until when (monotonic) it may be returned."""

    file_version: Hashable = None
    snapshot: LeaseSnapshot = _EMPTY
    until: float = 0.0


class LeaseStore:
    """Reads and writes leases on one connection; implements Leases."""

    def __init__(self, path: Path, note: Callable[[str, int], object] = lambda _what, number: number) -> None:
        """`note` is called after leases were `granted` or have `expired`, with how many."""
        self._path, self._note = path, note
        self._database = CoordinationDatabase(path)
        self._cached = _Cached()
        self._versions = count(1)

    def read(self) -> LeaseSnapshot:
        """The active leases: the same object as before if nothing was written and no second has passed."""
        if not self._database.exists():
            return _EMPTY
        with self._database.reading() as connection:
            version, now = self._database.version(connection), time.monotonic()
            if self._cached.file_version != version or now >= self._cached.until:
                snapshot = self._snapshot(connection)
                self._cached = _Cached(
                    version, snapshot, now + valid_s([*snapshot.leases, *snapshot.released])
                )
            return self._cached.snapshot

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
            with self._writing(fleet):
                pass

    def reserve(self, fleet: Fleet, request: LeaseRequest, chooser: Chooser) -> Lease:
        """Grant a lease on the best candidate, in the same transaction."""
        with self._writing(fleet) as connection:
            with self._decoding():
                known = None if request.key is None else lease_rows.lease_by_key(connection, request)
            if known:
                return known
            lease_rows.refuse_too_many(connection, request)
            best = chooser.candidates(self._snapshot(connection))[0]
            lease = lease_rows.insert_lease(connection, request, best)
        self._note("granted", 1)
        return lease

    def renew(self, fleet: Fleet, lease: str, ttl_s: float | None, check: Callable[[Lease], None]) -> Lease:
        """Restart a lease's duration unless `check` raises; raises UnknownLeaseError if it has ended."""
        with self._writing(fleet) as connection:
            with self._decoding():
                current = lease_rows.lease_by_id(connection, lease)
            check(current)
            return lease_rows.renew_lease(connection, lease, ttl_s or current.ttl_s)

    def release(self, fleet: Fleet, lease: str, check: Callable[[Lease], object] = bool) -> Lease:
        """End a lease unless `check` raises; raises UnknownLeaseError if it has already ended."""
        with self._writing(fleet) as connection:
            with self._decoding():
                released = lease_rows.lease_by_id(connection, lease)
            check(released)
            lease_rows.end_lease(connection, released, is_loaded=_is_loaded(released, fleet))
            return released

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._database.close()

    @contextmanager
    def _writing(self, fleet: Fleet) -> Iterator[sqlite3.Connection]:
        with self._database.writing() as connection:
            lease_rows.discard_mistimed_loads(connection)
            with self._decoding():
                cold = lease_rows.read_cold_leases(connection)
            learn_load_times(connection, cold, fleet)
            expired = lease_rows.delete_expired(connection)
            yield connection
        if expired:  # counted once they are written, since others would find them again
            self._note("expired", expired)

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
