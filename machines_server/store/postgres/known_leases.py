"""The leases as one process knows them: it reads only what has changed, and only when something may have."""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf

from machines_server.core.routing.leases import Lease, Warmth
from machines_server.core.routing.loading import LoadTime
from machines_server.errors import StoreError
from machines_server.store.lease_limits import MAX_SNAPSHOT_AGE_S
from machines_server.store.postgres.breaker import TELL_FAILURE_S
from machines_server.store.postgres.clock import DatabaseClock
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.lease_ends import read_load_times
from machines_server.store.postgres.lease_rows import (
    HostsRead,
    LeaseRow,
    RowsRead,
    all_rows,
    changed_rows,
    server_of,
)
from machines_server.store.postgres.listener import Listener
from machines_server.store.values import LeaseSnapshot

LEASES_CHANNEL = "machines_leases"
"""The channel of changes; the payload is the process that made them, and the site."""
READ_ALL_S = 60.0
"""After a look this recent, the next reads only changes; ended rows are kept for longer than that."""
REST = 20
"""While many changes are announced, the pause between looks, as a multiple of the time that a look takes."""
CATCH_UP_REST, MAX_CATCH_UP_PAUSE_S = 2, 0.1
"""The same for callers of `catch_up`, who need every change and wait for it, and their longest wait."""
_SAME_FAULT_S = 0.2
"""How long calls repeat the last failure without asking."""


class KnownLeases:
    """The leases of one site; for several threads."""

    def __init__(self, database: Database, site: str, listener: Listener) -> None:
        self._database, self._site, self._listener = database, site, listener
        self._me = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._rows: dict[str, LeaseRow] = {}
        self._held, self._released = dict[str, Lease](), dict[str, Lease]()
        """The rows as leases, converted again at `_until`."""
        self._by_holder = Counter[str]()
        self._unlearned: dict[str, LeaseRow] = {}
        self._ended = set[str]()
        """Rows whose time is up but that nobody has swept yet."""
        self._changes: list[tuple[int, str]] = []
        """When leases end, the earliest first; some may be renewed before that."""
        self._load_times: Sequence[LoadTime] = ()
        self._seen: str | None = None
        self._server = ""
        self._looked_at, self._is_told, self._is_subscribed = -inf, True, False
        self._look_again_at = self._catch_up_at = -inf
        self._fault: tuple[float, StoreError] | None = None
        self._clock, self._database_ahead_ms = DatabaseClock(), 0.0
        self._snapshot, self._is_current, self._until = LeaseSnapshot(), True, inf
        self._versions = count(1)
        self.looks = 0
        """How many times it has looked."""

    def snapshot(self) -> LeaseSnapshot:
        """The leases, at most a second old, and soon after changes are announced; raises StoreError."""
        arrived_at = time.monotonic()
        with self._lock:
            if self._must_look(arrived_at):
                self._look(arrived_at)
            return self._current()

    def snapshot_nowait(self) -> LeaseSnapshot | None:
        """The same, or None if it must look or convert all rows, or another thread does; never raises."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            now = time.monotonic()
            return None if self._must_look(now) or now >= self._until else self._current()
        finally:
            self._lock.release()

    def catch_up(self) -> LeaseSnapshot:
        """The leases now; those who ask for it often wait for each other, and look together."""
        arrived_at = time.monotonic()
        while True:
            with self._lock:
                pause_s = self._catch_up_at - time.monotonic()
                if self._looked_at < arrived_at and pause_s <= 0:
                    self._look(arrived_at)
                if self._looked_at >= arrived_at:
                    return self._current()
            time.sleep(pause_s)

    def look(self) -> LeaseSnapshot:
        """The leases now."""
        arrived_at = time.monotonic()
        with self._lock:
            if self._looked_at < arrived_at:
                self._look(arrived_at)
            return self._current()

    def fault(self) -> str | None:
        """Why the last look failed, if that was within the last minute."""
        fault = self._fault
        return str(fault[1]) if fault and time.monotonic() - fault[0] < TELL_FAILURE_S else None

    @property
    def announcement(self) -> str:
        """The payload that announces a change that this object knows."""
        return f"{self._me} {self._site}"

    def count(self, holder: str | None = None) -> int:
        """How many leases are held, or held by that holder, as far as this process knows."""
        return len(self._held) if holder is None else self._by_holder[holder]

    def look_soon(self) -> None:
        """Make the next snapshot look: this process has changed something, or may have missed changes."""
        self._is_told, self._look_again_at = True, -inf

    def note(self, rows: Iterable[LeaseRow], looks: int) -> None:
        """Note rows that this process has written, unless it has looked again since `looks`."""
        with self._lock:
            if self.looks == looks:
                self._take(rows)
            else:
                self._is_told = True

    @property
    def seen(self) -> str | None:
        """What the last look has seen, so that its rows need not be read again; None before the first."""
        return self._seen

    def on_hosts(self, read: HostsRead, seen: str | None) -> list[tuple[Sequence[str], Lease]] | None:
        """The leases on some hosts, of which only those not yet `seen` were read, each with its parts.

        None if that is not enough.
        """
        if seen is not None and server_of(seen) != read.changed.server:
            return None
        now_ms, ahead_s = read.changed.now_ms, self._clock.ahead_s
        changed = {row.id: row for row in read.changed.rows}
        found: list[tuple[Sequence[str], Lease]] = []
        with self._lock:
            for lease_id in read.ids:
                row = changed.get(lease_id)
                lease = None if row else self._held.get(lease_id)
                if row is None and (row := self._rows.get(lease_id)) is None:
                    return None
                if lease is None or row.ends_at_ms <= now_ms:
                    lease = row.lease(now_ms, ahead_s)
                if lease is not None:
                    found.append((row.parts, lease))
        return found

    def snapshot_of(self, leases: Iterable[Lease]) -> LeaseSnapshot:
        """Some leases, with all load times."""
        held: list[Lease] = []
        released: list[Lease] = []
        for lease in leases:
            (held if lease.released_at is None else released).append(lease)
        return LeaseSnapshot(tuple(held), _last_released(released), self._load_times)

    def lease(self, read: RowsRead) -> Lease | None:
        """The only row that was just read, as a lease."""
        return read.rows[0].lease(read.now_ms, self._clock.ahead_s) if read.rows else None

    def unlearned(self) -> Iterator[tuple[LeaseRow, Lease]]:
        """The leases, including ended ones, whose load times are not known yet."""
        with self._lock:
            rows, now_ms = list(self._unlearned.values()), self._now_ms()
        for row in rows:
            if lease := row.lease(now_ms, self._clock.ahead_s):
                yield row, lease

    def has_ended(self) -> bool:
        """Whether there are leases whose time is up and that nobody has swept."""
        return bool(self._ended)

    def _must_look(self, now: float) -> bool:
        is_told = self._is_told and now >= self._look_again_at
        return is_told or now - self._looked_at >= MAX_SNAPSHOT_AGE_S

    def _look(self, arrived_at: float) -> None:
        """Read what has changed since the last look; callers who waited while one failed fail as well."""
        if self._fault and arrived_at - self._fault[0] < _SAME_FAULT_S:
            raise type(self._fault[1])(str(self._fault[1]))
        if not self._is_subscribed:
            self._is_subscribed = True
            self._listener.subscribe(LEASES_CHANNEL, self._hear, self.look_soon)
        self._is_told, began_at, began = False, time.monotonic(), time.time()
        try:
            is_whole, read, load_times = self._read(began_at)
        except StoreError as error:
            self._fault, self._is_told = (time.monotonic(), error), True
            raise
        self._fault = None
        self._clock.note(read.now_ms / 1000, began, time.time())
        # As if the time had been read when it was requested: no lease seems to last longer than it does.
        self._database_ahead_ms = read.now_ms - 1000 * began_at
        self._seen, self._server, self._looked_at = read.seen, read.server, began_at
        now = time.monotonic()
        self._look_again_at = now + REST * (now - began_at)
        self._catch_up_at = now + min(CATCH_UP_REST * (now - began_at), MAX_CATCH_UP_PAUSE_S)
        self.looks += 1
        if load_times != self._load_times:
            self._load_times, self._is_current = load_times, False
        if is_whole:
            self._is_current = self._is_current and not self._rows
            self._replace({})
        self._take(read.rows)

    def _read(self, began_at: float) -> tuple[bool, RowsRead, Sequence[LoadTime]]:
        """Returns whether all rows were read, the rows, and all load times."""
        with self._database.transaction(pipelined=True) as connection:
            if self._seen is not None and began_at - self._looked_at < READ_ALL_S:
                read, has_loads = changed_rows(connection, self._site, self._seen)
                if read.server == self._server:
                    times = read_load_times(connection, self._site) if has_loads else self._load_times
                    return False, read, times
            # First what may change while the rest is read: reading a row twice does no harm.
            read = all_rows(connection, self._site)
            return True, read, read_load_times(connection, self._site)

    def _take(self, rows: Iterable[LeaseRow]) -> None:
        """Replace what was known about these rows."""
        now_ms = self._now_ms()
        for row in rows:
            self._is_current = False
            self._ended.discard(row.id)
            if before := self._held.pop(row.id, None):
                self._by_holder[before.holder] -= 1
            for known in (self._rows, self._released, self._unlearned):
                known.pop(row.id, None)
            if row.is_gone:
                continue
            self._rows[row.id] = row
            has_ended = row.ends_at_ms <= now_ms
            if has_ended:
                self._ended.add(row.id)
            if (lease := row.lease(now_ms, self._clock.ahead_s)) is None:
                continue
            heappush(self._changes, (row.until_ms if has_ended else row.ends_at_ms, row.id))
            if lease.released_at is None:
                self._held[row.id] = lease
                self._by_holder[lease.holder] += 1
            else:
                self._released[row.id] = lease
            if not row.is_learned:
                self._unlearned[row.id] = row
            self._until = min(self._until, time.monotonic() + MAX_SNAPSHOT_AGE_S)

    def _replace(self, rows: Mapping[str, LeaseRow]) -> None:
        """Replace all known rows."""
        self._rows, self._held, self._released, self._unlearned = {}, {}, {}, {}
        self._ended, self._changes, self._until, self._by_holder = set(), [], inf, Counter()
        self._take(rows.values())

    def _current(self) -> LeaseSnapshot:
        if time.monotonic() >= self._until:
            self._is_current = False
            self._replace(self._rows)
        now_ms = self._now_ms()
        while self._changes and self._changes[0][0] <= now_ms:
            row = self._rows.get(heappop(self._changes)[1])
            if row is not None and row.ends_at_ms <= now_ms:
                self._take([row])
        if not self._is_current:
            released = _last_released(self._released.values())
            held = tuple(self._held.values())
            self._snapshot = LeaseSnapshot(held, released, self._load_times, next(self._versions))
            self._is_current = True
        return self._snapshot

    def _now_ms(self) -> float:
        """The time by the database's clock."""
        return 1000 * time.monotonic() + self._database_ahead_ms

    def _hear(self, payload: str) -> None:
        process, _, site = payload.partition(" ")
        if site == self._site and process != self._me:
            self._is_told = True


def _last_released(leases: Iterable[Lease]) -> tuple[Lease, ...]:
    """Of the released leases, the last of each warmth for each model of a machine.

    One of them represents the load, and a cold one tells when it began.
    """
    last: dict[tuple[str, str, Warmth], Lease] = {}
    for lease in sorted(leases, key=lambda lease: lease.released_at or 0.0):
        if lease.released_at is not None:
            last[lease.machine, lease.model, lease.warmth] = lease
    return tuple(last.values())
