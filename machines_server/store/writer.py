"""The thread that writes: takes what the poller learned and puts it into the database in small batches.

Apart from the poller's thread, so that a slow disk or a locked database never makes a host look slow.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from machines_server.core.registry import Registry
from machines_server.core.sample import Cycle
from machines_server.errors import StoreError
from machines_server.store.connection import open_writer, translated
from machines_server.store.migrate import migrate
from machines_server.store.samples import Item, SampleWriter

FLUSH_S = 0.2
RETRY_S = 1.0
MAX_PENDING = 50_000
"""Items kept while the database cannot be written; after that the oldest are lost, and it is said."""

log = logging.getLogger(__name__)


class WriterThread:
    """Writes every item within 0.2 s, or keeps it and tries again until the database takes it."""

    def __init__(self, path: Path, *, max_gap_s: float, on_fault: Callable[[str | None], None]) -> None:
        """`on_fault` hears what is wrong with the database, and None when it is well again."""
        self._path, self._max_gap_s, self._on_fault = path, max_gap_s, on_fault
        self._incoming: deque[Item] = deque()
        self._something, self._at_once, self._closing = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._pending: list[Item] = []
        self._connection: sqlite3.Connection | None = None
        self._writer: SampleWriter | None = None
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Have an item written; never waits."""
        self._incoming.append(item)
        if isinstance(item, Cycle):
            self._at_once.set()
        if not self._something.is_set():  # one wake-up for a batch, not one for each item
            self._something.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, once, and close the database."""
        self._closing.set()
        self._at_once.set()
        self._something.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._something.wait()
            self._at_once.wait(FLUSH_S)
            self._something.clear()
            self._at_once.clear()
            while self._incoming:
                self._pending.append(self._incoming.popleft())
            self._flush()
            if self._fault:
                self._closing.wait(RETRY_S)
        if self._connection is not None:
            self._connection.close()

    def _flush(self) -> None:
        try:
            with translated(self._path):
                self._open().write(self._pending)
        except StoreError as error:
            self._say(str(error))
            self._forget_the_oldest()
        except Exception as error:  # one item that nobody foresaw must not end the thread
            log.exception("a batch of %d items is lost", len(self._pending))
            self._pending.clear()
            self._say(f"{self._path.name}: a batch was lost: {error!r}")
        else:
            self._pending.clear()
            self._say(None)

    def _forget_the_oldest(self) -> None:
        lost, kept = self._pending[:-MAX_PENDING], self._pending[-MAX_PENDING:]
        self._pending = [item for item in lost if isinstance(item, Registry)] + kept

    def _open(self) -> SampleWriter:
        if self._writer is None:
            migrate(self._path)
            self._connection = open_writer(self._path)
            self._writer = SampleWriter(self._connection, self._max_gap_s)
        return self._writer

    def _say(self, fault: str | None) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        if fault:
            log.error("%s; what was polled is kept and tried again", fault)
        else:
            log.info("%s is written again", self._path.name)
        self._on_fault(fault)
