"""Leases in PostgreSQL, for several servers: ranked by any server, checked again when granted."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet, loaded_in_s
from machines_server.core.routing.leases import Lease
from machines_server.core.state import MachineState
from machines_server.errors import LockedError, NoMachineError, UnknownLeaseError
from machines_server.store.api import Chooser
from machines_server.store.lease_limits import (
    MAX_LEASES,
    MAX_LEASES_PER_HOLDER,
    refuse_another_request,
    too_many_in_all,
    too_many_of_holder,
)
from machines_server.store.postgres import lease_ends, lease_rows
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.breaker import CircuitBreaker
from machines_server.store.postgres.database import DEADLINE_S, Connection, Database, wait_for_standbys
from machines_server.store.postgres.granting import Granting, Wish
from machines_server.store.postgres.known_leases import LEASES_CHANNEL, KnownLeases
from machines_server.store.postgres.lease_rows import RowsRead
from machines_server.store.postgres.listener import Listener
from machines_server.store.values import LeaseRequest, LeaseSnapshot

MAX_TRIES = 6
"""How many candidates are tried before the machines are ranked anew."""
MAX_PASSED = 3
"""How many of them may be passed over because others took them meanwhile and the next is better."""
SWEEP_INTERVAL_S = 1.0
"""The minimum interval at which a process sweeps leases whose time is up."""
_UNCERTAIN = 500
"""How many leases others may grant before a process knows: this close to a limit, the database counts."""


class PostgresLeases:
    """The leases of one site; implements Leases. Database, listener and background belong to its caller."""

    def __init__(
        self,
        database: Database,
        site: str,
        listener: Listener,
        background: Background,
        note: Callable[[str, int], object] = lambda _what, number: number,
    ) -> None:
        """`note` is called after leases were `granted` or have `expired`, with how many."""
        self._database, self._site, self._background, self._note = database, site, background, note
        self._known = KnownLeases(database, site, listener)
        self._breaker, self._swept_at = CircuitBreaker(), float("-inf")
        self._granting = Granting(site, self._known, self._writing, self._refuse_by_count)

    def read(self) -> LeaseSnapshot:
        """The active leases: the same object as before if nothing was written and no second has passed."""
        return self._known.snapshot()

    def read_nowait(self) -> LeaseSnapshot | None:
        """The same, or None if the database must be asked or another thread asks it."""
        return self._known.snapshot_nowait()

    def newest(self) -> LeaseSnapshot:
        """The leases active now, with all that any server has written before the call."""
        return self._known.catch_up()

    def expired(self) -> int:
        """How many leases expired in the last ten minutes without being released."""
        with self._database.transaction() as connection:
            return lease_ends.count_expired(connection, self._site)

    def expire(self, fleet: Fleet) -> None:
        """End the leases whose time is up; writes nothing if there are none."""
        self._before_writing(fleet)

    def reserve(self, fleet: Fleet, request: LeaseRequest, chooser: Chooser) -> Lease:
        """Grant a lease on the best candidate that is still fit once its host is locked."""
        with self._breaker.admission():
            return self._reserve(fleet, request, chooser)

    def _reserve(self, fleet: Fleet, request: LeaseRequest, chooser: Chooser) -> Lease:
        known, is_fresh = self._before_writing(fleet), False
        until = time.monotonic() + DEADLINE_S
        while True:
            if request.key is not None and (earlier := self._with_key(request, request.key)):
                return earlier
            self._refuse_too_many(request)
            try:
                candidates = chooser.candidates(known)
            except NoMachineError:
                if is_fresh:
                    raise
                candidates = ()
            lease = self._granted_one(fleet, request, chooser, candidates[: MAX_TRIES + 1])
            if lease:
                return lease
            if time.monotonic() > until:
                raise LockedError("PostgreSQL: other servers took every chosen machine")
            known, is_fresh = self._known.look(), True

    def renew(self, fleet: Fleet, lease: str, ttl_s: float | None, check: Callable[[Lease], None]) -> Lease:
        """Restart a lease's duration unless `check` raises; raises UnknownLeaseError if it has ended."""
        self._before_writing(fleet)
        looks = self._known.looks
        with self._writing() as connection:
            found = lease_rows.row_by_id(connection, self._site, lease)
            parts = found.rows[0].parts if found.rows else ()
            # With its host locked: nobody else may be promised what it was about to lose.
            locked = lease_rows.lock_parts(connection, self._site, parts)
            if not found.rows or not locked().issuperset(parts):
                raise UnknownLeaseError(lease)
            current = self._known.lease(lease_rows.row_by_id(connection, self._site, lease))
            if current is None:
                raise UnknownLeaseError(lease)
            check(current)
            read = lease_rows.renew_lease(connection, lease, ttl_s or current.ttl_s)
        return self._written(read, looks) or _unknown(lease)

    def release(self, fleet: Fleet, lease: str, check: Callable[[Lease], object] = bool) -> Lease:
        """End a lease unless `check` raises; raises UnknownLeaseError if it has already ended."""
        self._before_writing(fleet)
        looks = self._known.looks
        with self._writing() as connection:
            found = lease_rows.row_by_id(connection, self._site, lease, locks=True)
            released = self._known.lease(found)
            if released is None:
                raise UnknownLeaseError(lease)
            check(released)
            is_loaded = _is_loaded(released, fleet)
            read = lease_rows.end_lease(connection, self._site, found.rows[0], is_loaded=is_loaded)
        self._written(read, looks)
        return released

    def fault(self) -> str | None:
        """Why the last change, or look at the leases, failed, if it did so within the last minute."""
        return self._breaker.fault() or self._known.fault()

    def close(self) -> None:
        """Nothing to close: everything is shared."""

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        is_proof = False
        with self._breaker.attempt() as is_trial, self._database.transaction(pipelined=True) as connection:
            wait_for_standbys(connection)
            yield connection
            if is_trial:  # a transaction that only reads waits for no standby
                is_proof = lease_rows.has_written(connection)
        if is_proof:
            self._breaker.reset()

    def _written(self, read: RowsRead, looks: int) -> Lease | None:
        """The lease in a row that was written and committed; announces it."""
        self._known.note(read.rows, looks)
        self._background.announce(LEASES_CHANNEL, self._known.announcement)
        return self._known.lease(read)

    def _before_writing(self, fleet: Fleet) -> LeaseSnapshot:
        """Learn from finished loads, and sweep ended leases; returns all leases."""
        known = self._known.snapshot()
        loads = [
            (row, load_s)
            for row, lease in self._known.unlearned()
            if (load_s := loaded_in_s(lease, fleet)) is not None
        ]
        if loads:
            with self._writing() as connection:
                lease_ends.learn(connection, self._site, loads)
            self._tell()
        if self._known.has_ended() and time.monotonic() - self._swept_at >= SWEEP_INTERVAL_S:
            self._swept_at = time.monotonic()
            with self._writing() as connection:
                expired = lease_ends.sweep(connection, self._site)
            if expired:  # counted once they are written, since others would find them again
                self._note("expired", expired)
            self._tell()
        return known

    def _tell(self) -> None:
        self._known.look_soon()
        self._background.announce(LEASES_CHANNEL, self._known.announcement)

    def _with_key(self, request: LeaseRequest, key: str) -> Lease | None:
        """The lease granted for the same key; raises ConflictError if that was for a different request."""
        with self._database.transaction(pipelined=True) as connection:
            if lease_rows.row_with_key(connection, self._site, key) is None:
                return None
        with self._writing() as connection:
            found = lease_rows.row_with_key(connection, self._site, key)
            if found is None:
                return None
            read, digest, is_in_force = found
            if not is_in_force:
                lease_rows.forget_key(connection, self._site, key)
                return None
            refuse_another_request(request, digest, read.rows[0].agent)
            lease_rows.confirm_key(connection, self._site, key)
        return self._known.lease(read)

    def _refuse_too_many(self, request: LeaseRequest) -> None:
        """Raise TooManyError if the leases of the holder, or of all holders, have reached their limit."""
        if self._near_limits(request):
            with self._database.transaction() as connection:
                self._refuse_by_count(connection, request)

    def _near_limits(self, request: LeaseRequest) -> list[tuple[LeaseRequest | None, int]]:
        """Whose leases may have reached a limit, and which: a holder's, and those of all."""
        of_holder = self._known.count(request.holder) + _UNCERTAIN >= MAX_LEASES_PER_HOLDER
        of_all = self._known.count() + _UNCERTAIN >= MAX_LEASES
        return [(request, MAX_LEASES_PER_HOLDER)] * of_holder + [(None, MAX_LEASES)] * of_all

    def _refuse_by_count(self, connection: Connection, request: LeaseRequest) -> None:
        """Raise TooManyError at a limit; near one, transactions that grant leases take turns to count."""
        for whose, limit in self._near_limits(request):
            count, wait_s = lease_ends.count_held(connection, self._site, whose)
            if limit - _UNCERTAIN <= count < limit:
                lease_ends.wait_for_turn(connection, self._site)
                count, wait_s = lease_ends.count_held(connection, self._site, whose)
            if count >= limit:
                raise too_many_of_holder(request, count, wait_s) if whose else too_many_in_all(count, wait_s)

    def _granted_one(
        self, fleet: Fleet, request: LeaseRequest, chooser: Chooser, candidates: Sequence[Candidate]
    ) -> Lease | None:
        """A lease on the first fit candidate."""
        for place, candidate in enumerate(candidates[:MAX_TRIES]):
            others = candidates[place + 1 :] if place < MAX_PASSED else ()
            parts, is_counted = _parts(candidate.state, fleet), bool(self._near_limits(request))
            wish = Wish(request, chooser, candidate, others, parts, is_counted)
            if lease := self._granting.grant(wish):
                self._note("granted", 1)
                self._background.announce(LEASES_CHANNEL, self._known.announcement)
                return lease
        return None


def _parts(state: MachineState, fleet: Fleet) -> Sequence[str]:
    """What a lease on a machine locks: the parts of its host, and all machines on it by name.

    So no memory is granted twice, even with different versions of a machine file or an unknown GPU.
    """
    machines = (state, *fleet.others_on_host(state))
    return sorted({*state.parts, *(f"machine {one.machine.name.casefold()}" for one in machines)})


def _is_loaded(lease: Lease, fleet: Fleet) -> bool:
    """Whether the model of a lease is in memory, as samples show."""
    state = fleet.state_of(lease.machine)
    return lease.is_warm or (state is not None and lease.is_loaded(state, fleet.held_since_on(state)))


def _unknown(lease: str) -> Lease:
    raise UnknownLeaseError(lease)
