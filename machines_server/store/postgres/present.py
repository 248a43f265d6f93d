"""Reads the present that the pollers of all servers of a site have written.

Changes are announced, but also looked for once per poll interval, since announcements can be lost.
"""

import threading
import time
from collections.abc import Hashable, Mapping
from typing import NamedTuple

import orjson

from machines_server.core.host_services import OWN_HOST, PolledService
from machines_server.core.sample import Cycle
from machines_server.core.snapshot import Snapshot
from machines_server.errors import StoreError, UnreachableStoreError
from machines_server.store.postgres.clock import DatabaseClock
from machines_server.store.postgres.database import Connection, Database
from machines_server.store.postgres.failures import store_errors
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.poll_writer import POLLS_CHANNEL
from machines_server.store.postgres.services import own_services
from machines_server.store.postgres.shard_reader import Shard, read_latest, read_rare
from machines_server.store.sql.host_services import by_machine
from machines_server.store.values import Leader

MIN_LOOK_INTERVAL_S, MAX_LOOK_INTERVAL_S = 0.1, 5.0
"""The longest pause between two looks, after an announcement and without one."""
UNANNOUNCED_SHARE = 0.1
"""The pause when no announcements arrive, as behind a pooler, as a share of the poll interval: a host whose
poller has died is polled again only shortly before what is known about it expires."""
LOOKING_SHARE = 0.3
"""The share of time that may be spent looking while announcements keep arriving."""
RETRY_S = 1.0
"""How long a failure is repeated before the database is tried again."""
_EVERY_REVISION = "SELECT id, revision, rare_revision FROM shard WHERE site = %s"
_POLLERS_OF_SITE = """
SELECT server, pid, since_ms - %(shift)s, files, faults, cycle_started_at_ms - %(shift)s,
    cycle_ended_at_ms - %(shift)s, interval_s, timeout_s, expires_at_ms > now_ms()
FROM poller WHERE site = %(site)s ORDER BY cycle_ended_at_ms NULLS FIRST"""
_TRY_WRITING = "UPDATE shard SET revision = revision WHERE false"
"""Changes nothing, and fails where nothing may be changed."""
_LAST_GOOD = """
SELECT file, declared FROM machine
WHERE site = %s AND removed_at_ms IS NULL AND (file = %s OR %s::text IS NULL)"""


class SeenPoller(NamedTuple):
    """A poller of the site, whether it takes part now, and the hash of its machine files."""

    server: str
    pid: int
    since: float
    files: str
    faults: Mapping[str, str]
    cycle: Cycle | None
    is_there: bool


class PostgresPresent:
    """Reads when something has changed; for several threads, not for several processes.

    Implements Present and PollerWatch.
    """

    def __init__(
        self, database: Database, listener: Listener, site: str, server: str, interval_s: float
    ) -> None:
        """`server` is this one, `interval_s` that of polls; opens nothing until the first call."""
        self._database, self._listener, self._site, self._server = database, listener, site, server
        self._look_interval_s = min(interval_s, MAX_LOOK_INTERVAL_S)
        self._clock = DatabaseClock()
        self._lock = threading.Lock()
        self._shards: dict[int, Shard] = {}
        self._pollers: list[SeenPoller] = []
        self._own_services: Mapping[str, PolledService] = {}
        self._looked_at = self._began_at = self._failed_at = float("-inf")
        """When the latest look ended, when it began, and when the latest one failed (monotonic)."""
        self._fault, self._write_fault, self._look_took_s = "", "", 0.0
        self._announced = self._read = 0
        """How many announcements have arrived, and how many of them the latest look has covered."""
        self._generation = 0
        self._is_subscribed = self._is_reading = False

    def version(self) -> Hashable:
        """A value that changes when the present does; raises StoreError."""
        self._look_if_due()
        return self._generation

    def version_nowait(self) -> Hashable:
        """The latest `version`, or None if finding out would have to wait."""
        return None if self._fault or self._is_due() else self._generation

    def catch_up(self) -> None:
        """Look, unless somebody else has begun to since the call; raises StoreError.

        No more often than while announcements keep arriving: a caller that comes sooner waits.
        """
        called_at = time.monotonic()
        while True:
            with self._lock:
                now = time.monotonic()
                if self._began_at >= called_at or now - self._failed_at < RETRY_S:
                    return
                pause_s = self._looked_at + self._least_pause_s() - now
                if pause_s <= 0:
                    self._look()
                    return
            time.sleep(pause_s)

    def snapshot(self) -> Snapshot:
        """Everything known about the present; raises StoreError."""
        with self._lock:
            if self._is_due():
                self._look()
            shards = self._shards.values()
            sizes = tuple(size for shard in shards for size in shard.sizes)
            latest = {size.machine: size for size in sorted(sizes, key=lambda size: size.seen_at)}
            return Snapshot(
                latest={key: polls for shard in shards for key, polls in shard.latest.items()},
                cycle=self._cycle(),
                libraries={key: one for shard in shards for key, one in shard.libraries.items()},
                sizes=sizes,
                vram_users=frozenset(
                    name.casefold() for name, size in latest.items() if name and size.size_vram_bytes
                ),
                held_since={key: one for shard in shards for key, one in shard.held_since.items()},
                absent_at={key: one for shard in shards for key, one in shard.absent_at.items()},
                services={
                    **{key: one for shard in shards for key, one in shard.services.items()},
                    OWN_HOST: self._own_services,
                },
            )

    def cycle(self) -> Cycle | None:
        """The latest finished cycle of any poller; raises StoreError."""
        self._look_if_due()
        return self._cycle()

    def last_good(self, file: str | None) -> Mapping[str, str]:
        """The last good version of a machine file, or of all (None), as JSON by name; raises StoreError."""
        self._look_if_due()
        with self._database.transaction() as connection:
            return dict(connection.execute(_LAST_GOOD, (self._site, file, file)).fetchall())

    def close(self) -> None:
        """Close nothing: connections belong to the database."""

    def now(self) -> float:
        """The time by the database's clock, as far as is known."""
        return time.time() + self._clock.ahead_s

    def pollers(self) -> list[SeenPoller]:
        """The pollers of the site, as of the latest look."""
        return self._pollers

    def leader(self) -> Leader | None:
        """All pollers that take part, combined as one; None if there are none."""
        there = [one for one in self._pollers if one.is_there]
        if not there or self._fault:
            return None
        faults: dict[str, str] = {}
        for one in there:
            for part, fault in one.faults.items():
                told = f"{one.server}: {fault.removesuffix('.')}"
                faults[part] = f"{faults[part]}; {told}" if part in faults else told
        return Leader(there[-1].pid, min(one.since for one in there), faults)

    def obstacle(self) -> str | None:
        """Why nobody can poll, as far as is known: the database cannot be used."""
        return self.write_fault()

    def write_fault(self) -> str | None:
        """Why the database cannot be written, as far as is known."""
        return self._fault or self._write_fault or None

    def _cycle(self) -> Cycle | None:
        cycles = (one.cycle for one in self._pollers if one.cycle is not None)
        return max(cycles, key=lambda cycle: cycle.ended_at, default=None)

    def _look_if_due(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._failed_at < RETRY_S:
                raise UnreachableStoreError(self._fault)
            if self._is_due():
                self._look()

    def _is_due(self) -> bool:
        looked_s = time.monotonic() - self._looked_at
        if self._read == self._announced:
            return looked_s >= self._look_interval_s * (
                1.0 if self._listener.is_listening() else UNANNOUNCED_SHARE
            )
        return looked_s >= self._least_pause_s()

    def _least_pause_s(self) -> float:
        return min(MIN_LOOK_INTERVAL_S, self._look_took_s / LOOKING_SHARE, self._look_interval_s)

    def _look(self) -> None:
        """Read what has changed since the latest look."""
        if not self._is_subscribed:
            self._is_subscribed = True
            self._listener.subscribe(POLLS_CHANNEL, self._note, self._note_all)
        announced, self._is_reading, began = self._announced, False, time.monotonic()
        try:
            with self._database.transaction() as connection, store_errors():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                self._read_changes(connection)
        except BaseException as error:
            if self._is_reading:  # what was read only in part is not valid
                self._shards = {}
            if isinstance(error, StoreError):
                self._fault = str(error)
            if isinstance(error, UnreachableStoreError):
                self._failed_at = time.monotonic()
            raise
        self._looked_at, self._read, self._fault = time.monotonic(), announced, ""
        self._began_at, self._look_took_s = began, self._looked_at - began
        self._failed_at = float("-inf")
        self._write_fault = "" if self.leader() else self._why_nothing_is_written()

    def _why_nothing_is_written(self) -> str:
        """Why pollers cannot take part, which they cannot tell through a database that they cannot write."""
        try:
            with self._database.transaction() as connection:
                connection.execute(_TRY_WRITING)
        except StoreError as error:
            return str(error)
        return ""

    def _read_changes(self, connection: Connection) -> None:
        if self._clock.measure(connection):
            self._shards = {}
        shift_ms = round(self._clock.ahead_s * 1000)
        found = connection.execute(_EVERY_REVISION, (self._site,)).fetchall()
        if not found:
            raise StoreError(f"no server of the site {self._site} has polled yet")
        known, self._shards = self._shards, {}
        for number, revision, _ in found:
            shard = known.get(number)
            # One whose revision went back is of an older database, which was restored.
            is_older = shard is not None and revision < shard.revision
            self._shards[number] = Shard(number) if shard is None or is_older else shard
        rows = [(self._shards[number], *revisions) for number, *revisions in found]
        new = [shard for shard, revision, _ in rows if shard.revision != revision]
        rare = [shard for shard, _, rare_revision in rows if shard.rare_revision != rare_revision]
        pollers = self._read_pollers(connection, shift_ms)
        own = by_machine(own_services(connection, self._site, self._server, shift_ms)).get(OWN_HOST, {})
        self._is_reading = True
        read_latest(connection, new, shift_ms)
        read_rare(connection, rare, shift_ms)
        for shard, revision, rare_revision in rows:
            shard.revision, shard.rare_revision = revision, rare_revision
        if new or rare or pollers != self._pollers or own != self._own_services:
            self._pollers, self._own_services = pollers, own
            self._generation += 1

    def _read_pollers(self, connection: Connection, shift_ms: int) -> list[SeenPoller]:
        pollers = []
        for server, pid, since_ms, files, faults, began_ms, ended_ms, *timing, is_there in connection.execute(
            _POLLERS_OF_SITE, {"site": self._site, "shift": shift_ms}
        ):
            cycle = None if ended_ms is None else Cycle(began_ms / 1000, ended_ms / 1000, *timing)
            pollers.append(
                SeenPoller(server, pid, since_ms / 1000, files, orjson.loads(faults), cycle, is_there)
            )
        return pollers

    def _note(self, payload: str) -> None:
        if payload.startswith(f"{self._site} "):
            self._announced += 1

    def _note_all(self) -> None:
        self._announced += 1
