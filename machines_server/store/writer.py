"""The thread that writes: takes what the poller learned and puts it into the database in small batches.

Apart from the poller's thread, so that a slow disk or a locked database never makes a host look slow.
"""

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from machines_server.core.registry import Registry
from machines_server.core.sample import Cycle
from machines_server.errors import StoreError
from machines_server.store.connection import inode, open_writer, translated, trim_wal
from machines_server.store.migrate import migrate
from machines_server.store.rollups import Retention, Rollups
from machines_server.store.samples import Item, SampleWriter

LULL_S, WAIT_S = 0.03, 0.15
"""A batch is written when nothing has come for a lull, or when its first item has waited so long: to write
while answers still come in slows both, by a tenth of the CPU of polling 1,000 hosts."""
RETRY_S = 1.0
TRIM_EVERY_S = 2.0
MAX_PENDING = 50_000
"""Items kept while the database cannot be written; of more the oldest are lost, and it is said."""

log = logging.getLogger(__name__)


class WriterThread:
    """Writes every item within a moment, or keeps it and tries again until the database takes it."""

    def __init__(
        self,
        path: Path,
        *,
        max_gap_s: float,
        retention: Retention,
        on_fault: Callable[[str | None], None],
    ) -> None:
        """`on_fault` hears what is wrong with the database, and None when it is well again."""
        self._path, self._max_gap_s, self._on_fault = path, max_gap_s, on_fault
        self._retention = retention
        self._incoming: deque[Item] = deque()
        self._something, self._at_once, self._closing = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._pending: list[Item] = []
        self._lost = 0
        self._connection: sqlite3.Connection | None = None
        self._writer: SampleWriter | None = None
        self._rollups: Rollups
        self._registry: Registry | None = None
        self._inode: int | None = None
        self._maintained_at = self._trimmed_at = time.monotonic()
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Have an item written; never waits."""
        if len(self._incoming) >= MAX_PENDING and not isinstance(item, Registry):
            self._lost += 1  # a write has been hanging for long
            return
        self._incoming.append(item)
        if isinstance(item, Cycle):
            self._at_once.set()
        if not self._something.is_set():  # one wake-up for a batch, not one for each item
            self._something.set()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what is left, once, and close the database; whether it has ended."""
        self._closing.set()
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
                self._closing.wait(RETRY_S)
                self._something.set()  # it is tried again, whether or not more has come
        self._guarded(self._work)
        if self._pending:
            log.error("%d items that were polled are lost: %s", len(self._pending), self._fault)
        self._close()

    def _gather(self) -> None:
        """Let what belongs together come in: until a cycle has ended, and not for long."""
        until, count = time.monotonic() + WAIT_S, 0
        while count < len(self._incoming) and time.monotonic() < until:
            count = len(self._incoming)
            if self._at_once.wait(LULL_S):
                return

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do it; whatever goes wrong is said, and the thread goes on with what is still to be written."""
        try:
            with translated(self._path):
                work()
        except StoreError as error:
            self._close()  # another connection may do better: the file may have been replaced
            self._say(str(error))
        except Exception as error:
            log.exception("the writer of %s failed", self._path.name)
            self._close()
            self._say(f"{self._path.name}: {error!r}")
        else:
            self._say(None)
            if self._lost:
                log.error("%d items that were polled are lost: there were too many to keep", self._lost)
                self._lost = 0
        self._forget_the_oldest()

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
        try:
            writer.write(self._pending)
        except (TypeError, ValueError, OverflowError, sqlite3.DataError, sqlite3.IntegrityError):
            log.exception("one of %d items cannot be written; the others are", len(self._pending))
            for item in self._pending:
                with suppress(
                    TypeError, ValueError, OverflowError, sqlite3.DataError, sqlite3.IntegrityError
                ):
                    writer.write([item])
        registries = (item for item in reversed(self._pending) if isinstance(item, Registry))
        self._registry = next(registries, self._registry)
        self._pending.clear()

    def _open(self) -> SampleWriter:
        if self._writer is not None and self._inode != inode(self._path):
            log.error("%s was moved away or deleted; a new one is made", self._path)
            self._close()
        if self._writer is None:
            migrate(self._path)
            self._connection = open_writer(self._path)
            self._inode = inode(self._path)
            self._rollups = Rollups(self._connection, self._retention)
            self._writer = SampleWriter(self._connection, self._max_gap_s, self._rollups)
            if self._registry is not None:  # the last one written, which a new database does not know
                self._writer.write([self._registry])
        return self._writer

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._writer = None

    def _forget_the_oldest(self) -> None:
        lost = self._pending[:-MAX_PENDING]
        latest = [item for item in lost if isinstance(item, Registry)][-1:]
        self._pending[: len(lost)] = latest
        self._lost += len(lost) - len(latest)

    def _say(self, fault: str | None) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        if fault:
            log.error("%s; what was polled is kept and tried again", fault)
        else:
            log.info("%s is written again", self._path.name)
        self._on_fault(fault)
