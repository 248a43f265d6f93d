"""The thread that writes what the poller learned, in small batches.

It is not the poller's thread, so that a slow disk or a locked database never makes a host look slow.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from machines_server.core.machine import Registry
from machines_server.core.poller_counts import Backlog
from machines_server.core.sample import Cycle, PollResult, Sample, State
from machines_server.errors import DamagedStoreError, StoreError
from machines_server.failure_log import logger_of_failures
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

BATCH_PAUSE_S, MAX_BATCH_DELAY_S = 0.03, 0.15
"""A batch is written when nothing has come for BATCH_PAUSE_S, or when its first item has waited for
MAX_BATCH_DELAY_S: writing while answers arrive slows both down, by a tenth of the CPU that it takes to poll
1,000 hosts."""
WRITE_RETRY_S = 1.0
TRIM_EVERY_S = 2.0
MIN_RENEWAL_S = 60.0
"""Minimum interval between two new databases: a bad disk must not be filled with damaged ones."""
MAX_PENDING = 50_000
"""Items kept while the database cannot be written; beyond that the oldest are dropped and logged as lost."""

_ITEM_ERRORS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What SQLite raises for one bad value; its other errors concern the whole file."""
_WRITE_FAILED = "this server failed to write its answer; its log says why"

log = logger_of_failures(__name__)


class WriterThread:
    """Writes items soon, and keeps and retries those that cannot be written; implements Sink."""

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
        """`on_fault` is called with the fault of the database, and with None once it can be written again.

        `renews`: a damaged database is put aside and a new one created; otherwise nothing is written until it
        is repaired.
        """
        self._path, self._max_gap_s, self._on_fault = path, max_gap_s, on_fault
        self._retention, self._max_pending = retention, max_pending
        self._incoming: deque[Update] = deque()
        self._something, self._at_once, self._closing = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._pending: list[Update] = []
        self._lost = self._dropped = 0
        self._waiting_since: float | None = None
        """When the oldest item that is not written came, by the monotonic clock."""
        self._waited_s = 0.0
        """How long the oldest item of the last batch had waited when it was written."""
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._writer: SampleWriter | None = None
        self._rollups: Rollups
        self._registry: Registry | None = None
        self._renews, self._renewed_at = renews, float("-inf")
        self._footprint: Footprint | None = None
        self._damage: DamagedStoreError | None = None
        self._maintained_at = self._trimmed_at = time.monotonic()
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()
        self._checker = Checker(path, self._note_damage)

    def put(self, item: Update) -> None:
        """Queue an item to be written; never waits."""
        if len(self._incoming) >= self._max_pending and not isinstance(item, Registry):
            self._lost += 1  # a write has hung for a long time
            self._dropped += 1
            return
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        self._incoming.append(item)
        if isinstance(item, Cycle):
            self._at_once.set()
        if not self._something.is_set():  # one wake-up for a batch, not one for each item
            self._something.set()

    @property
    def queued(self) -> int:
        """How many items the thread has not taken yet."""
        return len(self._incoming)

    @property
    def unwritten(self) -> int:
        """How many items the thread has taken that are not in the database yet."""
        return len(self._pending)

    def backlog(self) -> Backlog:
        """What waits to be written, and for how long."""
        since = self._waiting_since
        waiting_s = 0.0 if since is None else time.monotonic() - since
        return Backlog(self.queued + self.unwritten, max(self._waited_s, waiting_s), self._dropped)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Try once to write what is left, and close the database; returns False if that takes too long."""
        self._closing.set()
        self._checker.close()
        self._at_once.set()
        self._something.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._something.wait()
            self._gather()
            self._something.clear()
            self._at_once.clear()
            self._guarded(self._work)
            if self._fault:
                self._closing.wait(WRITE_RETRY_S)
                self._something.set()  # try again, even if no more items have come
        self._guarded(self._work)
        if self._pending:
            log.error("%d polled items are lost: %s", len(self._pending), self._fault)
        self._close()

    def _gather(self) -> None:
        """Wait briefly for more items of one batch, at most until a cycle has ended."""
        until, count = time.monotonic() + MAX_BATCH_DELAY_S, 0
        while count < len(self._incoming) and time.monotonic() < until:
            count = len(self._incoming)
            if self._at_once.wait(BATCH_PAUSE_S):
                return

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do the work; report any failure, after which the thread continues with the unwritten items."""
        try:
            with store_errors(self._path):
                work()
        except StoreError as error:
            self._close()  # another connection may succeed: the file may have been replaced
            if isinstance(error, DamagedStoreError):
                self._damage, self._footprint = error, footprint(self._path)
            self._report(f"{error}; {self._damage.remedy}" if self._damage else str(error))
        except Exception as error:
            log.exception("the writer of %s failed", self._path.name)
            self._close()
            self._report(f"{self._path.name}: {error!r}")
        else:
            self._footprint = footprint(self._path)
            self._report(None)
            if self._lost:
                log.error("%d polled items are lost: there were too many to keep", self._lost)
                self._lost = 0
        self._drop_oldest()

    def _work(self) -> None:
        while self._incoming:
            self._pending.append(self._incoming.popleft())
        writer = self._open()
        if self._pending:
            self._write(writer)
        while not self._something.is_set() and not self._closing.is_set():
            now = time.monotonic()
            elapsed_s, self._maintained_at = now - self._maintained_at, now
            if not self._rollups.step(time.time(), elapsed_s):
                break
        if self._connection is not None and time.monotonic() - self._trimmed_at >= TRIM_EVERY_S:
            self._trimmed_at = time.monotonic()
            trim_wal(self._connection, self._path)

    def _write(self, writer: SampleWriter) -> None:
        self._write_all(writer, self._pending)
        registries = (item for item in reversed(self._pending) if isinstance(item, Registry))
        self._registry = next(registries, self._registry)
        self._pending.clear()
        since, now = self._waiting_since, time.monotonic()
        self._waited_s = 0.0 if since is None else now - since
        self._waiting_since = now if self._incoming else None

    def _write_all(self, writer: SampleWriter, items: Sequence[Update]) -> None:
        """Write all items; if one of them makes that fail, write each half by itself."""
        try:
            writer.write(items)
        except (MemoryError, UnicodeDecodeError):  # the second comes from rows that are there already
            raise
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, _ITEM_ERRORS):
                raise  # no item can be written
            if len(items) > 1:
                half = len(items) // 2
                self._write_all(writer, items[:half])
                self._write_all(writer, items[half:])
            elif isinstance(items[0], PollResult | Sample):
                log.exception("a poll of machine %s cannot be written", items[0].machine)
                writer.write([_without_answers(items[0])])
            else:
                log.exception("one %s cannot be written", type(items[0]).__name__)

    def _open(self) -> SampleWriter:
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
        return self._writer

    def _check_file(self) -> None:
        """Check the file if others have changed it since we last wrote; nobody else should."""
        left, found = self._footprint, footprint(self._path)
        if left is None or (found == left and not self._has_lost_files(found)):
            return
        self._close()
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
        self._close()
        if not self._renews or time.monotonic() - self._renewed_at < MIN_RENEWAL_S:
            raise DamagedStoreError(str(damage))
        aside = put_aside(self._path)
        log.error("%s; it is kept as %s, and a new one is created", damage, aside.name)
        self._damage, self._renewed_at = None, time.monotonic()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            # What was in the log is in the file now.
            self._footprint = self._footprint and footprint(self._path)
        self._connection = self._writer = None

    def _drop_oldest(self) -> None:
        lost = self._pending[: -self._max_pending]
        latest = [item for item in lost if isinstance(item, Registry)][-1:]
        self._pending[: len(lost)] = latest
        self._lost += len(lost) - len(latest)
        self._dropped += len(lost) - len(latest)

    def _report(self, fault: str | None) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        if fault:
            log.error("%s; unwritten polls are kept and retried", fault)
        else:
            log.info("%s can be written again", self._path.name)
        self._on_fault(fault)


def _without_answers(item: PollResult | Sample) -> PollResult | Sample:
    """The item to write instead: a poll whose answer is unknown."""
    if isinstance(item, Sample):
        polls = {endpoint: _without_answer(result) for endpoint, result in item.results.items()}
        return Sample(item.machine, polls)
    return _without_answer(item)


def _without_answer(result: PollResult) -> PollResult:
    return replace(result, state=State.ERROR, reason=_WRITE_FAILED, answer=None, clock_ahead_s=None)
