"""The thread that writes what this process has polled into the database of several servers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import psycopg

from machines_server.core.host_services import ServiceResult
from machines_server.core.machine import Registry
from machines_server.core.sample import Cycle, Library, PollResult, Sample, UnchangedLibrary
from machines_server.core.shards import shard_of
from machines_server.errors import StoreError
from machines_server.store.batches import MAX_PENDING, BatchThread
from machines_server.store.postgres.clock import DatabaseClock
from machines_server.store.postgres.database import DEADLINE_S, Connection, Database, begin
from machines_server.store.postgres.deadlines import Deadlines
from machines_server.store.postgres.failures import ITEM_ERRORS, store_errors
from machines_server.store.postgres.poll_writer import POLLS_CHANNEL, PollerId, PollWriter
from machines_server.store.postgres.shards import HOLD_LOCKS_BRIEFLY
from machines_server.store.values import Update

MAX_BATCH = 3000
"""The most items in one transaction: while it lasts, nobody can take the shards of a poller that died."""
_ANNOUNCE = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"
"""An announcement waits for no disk and no standby: whoever misses it checks regularly anyway."""

_OfShard = PollResult | Sample | ServiceResult | Library | UnchangedLibrary


class Measurements(Protocol):
    """Takes measurements for a history that is kept elsewhere; nothing blocks or raises."""

    def put(self, sample: Sample, site: str = "") -> None:
        """Keep the measurements of a sample."""

    def remove(self, machine: str, at: float) -> None:
        """End the series of a machine that was removed."""

    def forget(self, machine: str) -> None:
        """Forget a machine that others now poll, without ending its series."""


class PostgresSink(BatchThread):
    """Writes only what belongs to shards that this process still holds; implements Sink."""

    def __init__(
        self,
        database: Database,
        poller: PollerId,
        *,
        max_gap_s: float,
        on_fault: Callable[[str | None], None],
        measurements: Measurements | None = None,
        max_pending: int = MAX_PENDING,
    ) -> None:
        """`measurements` gets what was written, with times by the database's clock."""
        super().__init__("PostgreSQL", on_fault, max_pending=max_pending, max_batch=MAX_BATCH)
        self._database, self._poller, self._max_gap_s = database, poller, max_gap_s
        self._measurements, self._clock, self._deadlines = measurements, DatabaseClock(), Deadlines()
        self._connection: Connection | None = None
        self._writer: PollWriter
        self._thread.start()

    def _errors(self) -> AbstractContextManager[None]:
        return store_errors()

    def _concerns_all(self, error: Exception) -> bool:
        is_of_database = isinstance(error, psycopg.Error) and not isinstance(error, ITEM_ERRORS)
        return is_of_database or isinstance(error, StoreError | MemoryError)

    def _arrange(self, items: list[Update]) -> None:
        """Bring items of one shard together, so that each of several transactions locks few shards."""
        if len(items) <= MAX_BATCH:
            return
        arranged: list[Update] = []
        between: list[_OfShard] = []
        for item in items:
            if isinstance(item, Registry | Cycle):
                between.sort(key=_shard)
                arranged += [*between, item]
                between.clear()
            else:
                between.append(item)
        between.sort(key=_shard)
        items[:] = [*arranged, *between]

    def _prepare(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect()
            self._writer = PollWriter(self._connection, self._poller, self._max_gap_s)
            if self._registry is not None:
                self._write([self._registry])

    def _write(self, items: Sequence[Update]) -> None:
        connection = self._connection
        if connection is None:
            raise StoreError("PostgreSQL: the connection was closed")
        with self._deadlines.within(connection, 2 * DEADLINE_S):
            begin(connection)
            try:
                connection.execute(HOLD_LOCKS_BRIEFLY)
                self._clock.measure(connection)
                written = self._writer.write([self._clock.to_write(item) for item in items])
                connection.execute("COMMIT")
            except BaseException:
                with suppress(psycopg.Error):
                    connection.rollback()  # as in Database.transaction
                    self._writer.read_back()
                raise
            # Not in the transaction: transactions that announce commit one after the other.
            if self._writer.news:
                connection.execute(_ANNOUNCE, (POLLS_CHANNEL, self._writer.news))
        if self._measurements is not None:
            for sample in written.samples:
                self._measurements.put(sample, self._poller.site)
            for name, at in written.removed:
                self._measurements.remove(name, at)
            for name in written.lost:
                self._measurements.forget(name)

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _shard(item: _OfShard) -> int:
    return shard_of(item.machine)
