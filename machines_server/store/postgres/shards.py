"""Which shards this process polls, as agreed with the pollers of other servers through the database.

A shard has an owner, an epoch and an end, in one row. The owner renews the end when a cycle begins and when
one has been written, so that even a poller that hangs loses its shards. Taking or giving a shard raises its
epoch, which every write of a poll checks.
"""

import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from machines_server.core.shards import CHECK_INTERVALS, SHARDS, shares, start_hold_s
from machines_server.errors import MigrationError, SchemaGoneError, StoreError, UnsupportedError
from machines_server.store.postgres.database import Connection, Database
from machines_server.store.postgres.migrate import check_version, known_migrations, migrate
from machines_server.store.values import Leader

HOLD_LOCKS_BRIEFLY = "SET LOCAL idle_in_transaction_session_timeout = '2s'"
"""The database ends the transaction of a poller that freezes while it holds locks."""
_MIN_LOOK_S, _MAX_LOOK_S = 0.05, 1.0
_FORGET_AFTER_MS = 3_600_000
_MAKE_SHARDS = """
INSERT INTO shard (site, number) SELECT %s, generate_series(0, %s) ON CONFLICT DO NOTHING"""
_JOIN = """
INSERT INTO poller (id, site, server, pid, since_ms, expires_at_ms, files, interval_s, timeout_s)
VALUES (%(id)s, %(site)s, %(server)s, %(pid)s, now_ms(), now_ms() + %(hold_ms)s, %(files)s, %(interval_s)s,
    %(timeout_s)s)
ON CONFLICT (id) DO UPDATE SET expires_at_ms = excluded.expires_at_ms, files = excluded.files"""
_LEAVE_SITE = "DELETE FROM poller WHERE id = %s OR expires_at_ms < now_ms() - %s"
_TELL = "UPDATE poller SET files = %s, faults = %s WHERE id = %s AND (files, faults) != (%s, %s)"
_RENEW_POLLER = """
UPDATE poller SET expires_at_ms = greatest(expires_at_ms, now_ms() + %s) WHERE id = %s"""
_RENEW_SHARDS = """
WITH held AS (SELECT id FROM shard WHERE site = %s AND owner = %s ORDER BY id FOR UPDATE)
UPDATE shard SET expires_at_ms = greatest(expires_at_ms, now_ms() + %s) FROM held WHERE shard.id = held.id"""
"""Several shards are always locked in the order of their ids."""
_LIVE_POLLERS = (
    "SELECT id, rests_until_ms > now_ms() FROM poller WHERE site = %s AND expires_at_ms > now_ms()"
)
_EVERY_SHARD = """
SELECT number, owner, epoch, owner IS NULL OR expires_at_ms <= now_ms() FROM shard WHERE site = %s"""
_TAKE_SHARDS = """
WITH free AS (
    SELECT id FROM shard
    WHERE site = %s AND number = ANY(%s) AND (owner IS NULL OR expires_at_ms <= now_ms())
    FOR UPDATE SKIP LOCKED)
UPDATE shard SET owner = %s, epoch = epoch + 1, expires_at_ms = now_ms() + %s
FROM free WHERE shard.id = free.id RETURNING number, epoch"""
"""A shard that somebody is writing is taken next time, so that nobody waits for a frozen poller."""
_GIVE_SHARDS = """
WITH held AS (
    SELECT id FROM shard WHERE site = %s AND number = ANY(%s) AND owner = %s ORDER BY id FOR UPDATE)
UPDATE shard SET owner = NULL, epoch = epoch + 1, expires_at_ms = 0 FROM held WHERE shard.id = held.id"""
_REST = "UPDATE poller SET rests_until_ms = now_ms() + %s WHERE id = %s"

log = logging.getLogger(__name__)


class Member(NamedTuple):
    """How a poller presents itself to others: site, server, intervals, and the hash of its machine files.

    The hash is that of the files that were read last, empty before. `files` must not wait for files: shards
    would be lost meanwhile.
    """

    site: str
    server: str
    interval_s: float
    timeout_s: float
    files: Callable[[], str]


class ShardKeeper:
    """Takes and gives shards in a thread of its own; implements LeaderElection.

    Every poller leads, though only for the shards that it holds.
    """

    def __init__(self, database: Database, member: Member) -> None:
        """Opens nothing until `acquire`."""
        self._database, self._member = database, member
        self.id = ""
        self._held: Mapping[int, int] = {}
        self._faults: Mapping[str, str] = {}
        self._other_faults: dict[str, str | None] = {}
        self._obstacle: str | None = None
        self._known_migrations = known_migrations()
        self._has_begun = False
        self._rests_ms = 0
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def held(self) -> Mapping[int, int]:
        """The shards that this process polls, each with its epoch; another object when they change."""
        return self._held

    def acquire(self) -> bool:
        """Join the pollers; returns False while the database cannot be used."""
        self.id = f"{self._member.server}/{os.getpid()}/{secrets.token_hex(4)}"
        self._held, self._faults = {}, {}
        try:
            migrate(self._database)
            with self._database.transaction() as connection:
                connection.execute(_LEAVE_SITE, (self.id, _FORGET_AFTER_MS))
                connection.execute(_MAKE_SHARDS, (self._member.site, SHARDS - 1))
                self._join(connection)
            self._look()
        except MigrationError as error:
            raise UnsupportedError(str(error)) from error
        except StoreError as error:
            self._obstacle = str(error)
            return False
        self._obstacle = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[self._stop], name="shards", daemon=True)
        self._thread.start()
        return True

    def is_leader(self) -> bool:
        """Return whether it still takes part."""
        return self._thread is not None and self._thread.is_alive()

    def report_faults(self, faults: Mapping[str, str]) -> None:
        """Replace the faults of polling that others see."""
        self._faults = dict(faults)

    def note(self, part: str, fault: str | None) -> None:
        """Note another fault, or that it is over."""
        self._other_faults[part] = fault

    def other_folder(self) -> str | None:
        """None: servers of a site share the hash of their files instead."""
        return None

    def release(self) -> None:
        """Give up all shards, so that others poll them at once."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_MAX_LOOK_S)
            self._thread = None
        try:
            with self._database.transaction() as connection:
                connection.execute(_GIVE_SHARDS, (self._member.site, list(self._held), self.id))
                connection.execute(_LEAVE_SITE, (self.id, _FORGET_AFTER_MS))
        except StoreError as error:
            log.warning("the shards of this poller could not be given up, and will expire: %s", error)
        self._held = {}

    def leader(self) -> Leader | None:
        """This process, if it takes part."""
        return Leader(os.getpid(), 0.0, self._faults) if self.is_leader() else None

    def obstacle(self) -> str | None:
        """Why it cannot take part."""
        return self._obstacle

    def write_fault(self) -> str | None:
        """Why the database cannot be written."""
        return self._obstacle

    def begin_cycle(self) -> None:
        """Note that a cycle begins; its end shows in what it writes."""
        self._has_begun = True
        self._wake.set()

    def rest(self, seconds: float) -> None:
        """Leave all shards to others for a while, since they reach hosts that this process cannot."""
        self._rests_ms = round(seconds * 1000)
        self._wake.set()

    def _run(self, stop: threading.Event) -> None:
        look_s = min(max(CHECK_INTERVALS * self._member.interval_s, _MIN_LOOK_S), _MAX_LOOK_S)
        was_told = False
        while not stop.is_set():
            self._wake.wait(look_s)
            self._wake.clear()
            if stop.is_set():
                return
            try:
                self._look()
                was_told = False
            except (MigrationError, SchemaGoneError) as error:  # `acquire` migrates, or says why it cannot
                self._obstacle = str(error)
                return
            except StoreError as error:
                if not was_told:
                    log.warning("shards cannot be renewed: %s", error)
                was_told = True
            except Exception:
                log.exception("checking the shards failed")

    def _join(self, connection: Connection) -> None:
        member = self._member
        connection.execute(
            _JOIN,
            {
                "id": self.id,
                "site": member.site,
                "server": member.server,
                "pid": os.getpid(),
                "hold_ms": self._hold_ms(),
                "files": member.files(),
                "interval_s": member.interval_s,
                "timeout_s": member.timeout_s,
            },
        )

    def _hold_ms(self) -> int:
        return round(1000 * start_hold_s(self._member.interval_s, self._member.timeout_s))

    def _look(self) -> None:
        """Renew the shards held, and take or give shards as other pollers come and go."""
        renews, rests_ms = self._has_begun, self._rests_ms
        self._has_begun, self._rests_ms = False, 0
        try:
            held = self._agreed(rests_ms, renews=renews)
        except BaseException:  # the next look must renew them, or one failure would cost the shards
            self._has_begun |= renews
            self._rests_ms = self._rests_ms or rests_ms
            raise
        if held != self._held:
            self._held = held

    def _agreed(self, rests_ms: int, *, renews: bool) -> Mapping[int, int]:
        """The shards that this process holds from now on."""
        site, files = self._member.site, self._member.files()
        with self._database.transaction() as connection:
            check_version(connection, self._known_migrations)
            connection.execute(HOLD_LOCKS_BRIEFLY)
            if renews:  # shards first, in the same order as writers of polls
                connection.execute(_RENEW_SHARDS, (site, self.id, self._hold_ms()))
                if connection.execute(_RENEW_POLLER, (self._hold_ms(), self.id)).rowcount == 0:
                    self._join(connection)
            pollers: dict[str, bool] = dict(connection.execute(_LIVE_POLLERS, (site,)).fetchall())
            if rests_ms and self.id in pollers:
                pollers[self.id] = True
            fit = frozenset(one for one, rests in pollers.items() if not rests) or frozenset(pollers)
            share = {number for number, owner in shares(fit).items() if owner == self.id}
            held, free = dict[int, int](), []
            shards_of_site = connection.execute(_EVERY_SHARD, (site,)).fetchall()
            if len(shards_of_site) < SHARDS:  # the database was emptied, or is an older one
                connection.execute(_MAKE_SHARDS, (site, SHARDS - 1))
            for number, owner, epoch, is_free in shards_of_site:
                if owner == self.id:
                    held[number] = epoch
                elif is_free and number in share:
                    free.append(number)
            if free:
                held |= dict(
                    connection.execute(_TAKE_SHARDS, (site, free, self.id, self._hold_ms())).fetchall()
                )
            if fit and self.id in pollers and (surplus := [one for one in held if one not in share]):
                connection.execute(_GIVE_SHARDS, (site, surplus, self.id))
                held = {number: epoch for number, epoch in held.items() if number in share}
            self._tell(connection, files, rests_ms)  # the row of this poller last, as writers of polls do
        return held

    def _tell(self, connection: Connection, files: str, rests_ms: int) -> None:
        if rests_ms:
            connection.execute(_REST, (rests_ms, self.id))
        faults = {**self._faults, **{part: one for part, one in self._other_faults.items() if one}}
        told = files, orjson.dumps(faults).decode()
        connection.execute(_TELL, (*told, self.id, *told))
