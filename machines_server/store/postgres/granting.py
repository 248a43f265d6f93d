"""Grants leases: those that threads of this process want at the same moment in one transaction."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.leases import Lease
from machines_server.errors import DamagedStoreError, StoreError
from machines_server.store.api import Chooser
from machines_server.store.group_commit import GroupCommit, Take
from machines_server.store.postgres import lease_rows
from machines_server.store.postgres.database import Connection
from machines_server.store.postgres.known_leases import KnownLeases
from machines_server.store.postgres.lease_rows import LeaseRow, RowsRead
from machines_server.store.values import LeaseRequest

WISHES_GATHER_S = 0.001
"""How long wishes are gathered for one transaction while several threads have some."""


@dataclass(slots=True, eq=False)
class Wish:
    """A lease that a thread wants on a candidate, unless one of the others has become better.

    `parts` are those of its host. If it `is_counted`, it is granted alone, after the leases were counted.
    """

    request: LeaseRequest
    chooser: Chooser
    candidate: Candidate
    others: Sequence[Candidate]
    parts: Sequence[str]
    is_counted: bool
    is_decided: bool = False
    lease: Lease | None = None


class _NothingGrantedError(Exception):
    """Ends a transaction that granted nothing, so that it waits for no disk."""


class Granting:
    """Grants the leases of one site, for several threads.

    A thread that comes while another one writes waits; then one writes for all that have come meanwhile, on
    several hosts at once. A wish left undecided by that is decided by its own thread and transaction.
    """

    def __init__(
        self,
        site: str,
        known: KnownLeases,
        writing: Callable[[], AbstractContextManager[Connection]],
        count: Callable[[Connection, LeaseRequest], None],
    ) -> None:
        """`count` raises if the holder of a request, or all together, may have no more leases."""
        self._site, self._known, self._writing, self._count = site, known, writing, count
        self._together = GroupCommit[Wish](self._decide_together)
        self._were_several = False

    def grant(self, wish: Wish) -> Lease | None:
        """The lease, which is committed; None if its candidate is no longer fit."""
        if not wish.is_counted:
            self._together.add(wish)
        if not wish.is_decided:
            with self._writing() as connection:
                lease_rows.add_parts(connection, self._site, wish.parts)
            self._decide([wish], is_alone=True)
        return wish.lease

    def _decide_together(self, take: Take[Wish]) -> None:
        """Decide the wishes of several threads, except those that something keeps from being decided."""
        if self._were_several:  # the others come again soon
            time.sleep(WISHES_GATHER_S)
        wishes = take()
        self._were_several = len(wishes) > 1
        with suppress(StoreError):  # each thread tries again
            self._decide(wishes)

    def _decide(self, wishes: Sequence[Wish], *, is_alone: bool = False) -> None:
        looks = self._known.looks
        decided: dict[Wish, LeaseRow | None] = {}
        with suppress(_NothingGrantedError):
            with self._writing() as connection:
                decided = self._decisions(connection, wishes, is_alone=is_alone)
                new = {row.id: (wish, row) for wish, row in decided.items() if row is not None}
                if not new:
                    raise _NothingGrantedError
                rows = [(row, wish.request) for wish, row in new.values()]
                inserted = lease_rows.insert_leases(connection, self._site, rows)
            written = []
            for lease_id, created_at_ms in inserted():
                wish, row = new[lease_id]
                written.append(row := row.begun(created_at_ms))
                wish.lease = self._known.lease(RowsRead(created_at_ms, "", [row]))
            self._known.note(written, looks)
        for wish in decided:
            wish.is_decided = True

    def _decisions(
        self, connection: Connection, wishes: Sequence[Wish], *, is_alone: bool
    ) -> dict[Wish, LeaseRow | None]:
        """Lock the hosts of wishes; returns those that can be decided, each with a row if it is granted."""
        if not is_alone:
            lease_rows.hold_locks_briefly(connection)
        parts = {part for wish in wishes for part in wish.parts}
        locking = lease_rows.lock_parts(connection, self._site, parts)
        now_ms, on_hosts = self._on_hosts(connection, parts)
        locked, decided = locking(), dict[Wish, LeaseRow | None]()
        for wish in wishes:
            if not locked.issuperset(wish.parts):
                continue
            if wish.is_counted:
                self._count(connection, wish.request)
            try:
                found = self._fit(wish, on_hosts)
            except Exception:
                if is_alone:
                    raise
                continue  # the thread whose wish it is meets the error
            decided[wish] = row = found and lease_rows.new_row(wish.request, found, wish.parts, now_ms)
            if row and (lease := self._known.lease(RowsRead(now_ms, "", [row]))):
                on_hosts.append((row.parts, lease))
        return decided

    def _on_hosts(
        self, connection: Connection, parts: Iterable[str]
    ) -> tuple[int, list[tuple[Sequence[str], Lease]]]:
        """The time, and the leases on the hosts that have these parts, each with the parts of its host."""
        for seen in (self._known.seen, None):
            read = lease_rows.leases_on(connection, self._site, parts, seen)
            if (on_hosts := self._known.on_hosts(read, seen)) is not None:
                return read.changed.now_ms, on_hosts
        raise DamagedStoreError("PostgreSQL: a lease on a host has no row")

    def _fit(self, wish: Wish, on_hosts: Sequence[tuple[Sequence[str], Lease]]) -> Candidate | None:
        """The candidate of a wish given the leases on its host; None if it is no longer to be taken."""
        mine = set(wish.parts)
        on_host = self._known.snapshot_of(lease for parts, lease in on_hosts if not mine.isdisjoint(parts))
        found = wish.chooser.again(wish.candidate, on_host)
        return None if found and wish.others and _rank(found) > _rank(wish.others[0]) else found


def _rank(candidate: Candidate) -> tuple[object, int]:
    """The order of candidates that were ranked with different leases in force."""
    return candidate.preference, candidate.leases
