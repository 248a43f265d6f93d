"""Small writes that nobody waits for, in one thread of each process."""

import logging
import threading
import time
from collections.abc import Callable, Hashable

from machines_server.errors import StoreError
from machines_server.store.postgres.database import Connection, Database

MAX_WAITING = 1000
"""The most writes that may wait; later ones are dropped."""
GATHER_S = 0.01
"""How long writes are gathered for one transaction."""
PAUSE_AFTER_WRITE_S = 0.05
"""How long after one transaction the next begins at the earliest."""
_LONGEST_WRITE_S = 2.0

log = logging.getLogger(__name__)
Write = Callable[[Connection], object]


class Background:
    """Writes soon, several together and in order; what cannot be written is dropped."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, Write] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def do(self, key: Hashable, write: Write) -> None:
        """Queue a write unless one with the same key is waiting; never blocks, never raises."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                return
            self._waiting.setdefault(key, write)
            if self._thread is None:
                self._is_closed = False
                self._thread = threading.Thread(target=self._run, name="database background", daemon=True)
                self._thread.start()
            self._changed.notify()

    def announce(self, channel: str, payload: str) -> None:
        """Announce something on a channel to other processes.

        Never in a transaction that makes changes: PostgreSQL commits transactions that announce one at a
        time, each only when the one before is on all disks.
        """
        self.do((channel, payload), lambda on: on.execute("SELECT pg_notify(%s, %s)", (channel, payload)))

    def close(self) -> None:
        """Write what is waiting and stop; the next write restarts the thread."""
        with self._changed:
            thread, self._thread, self._is_closed = self._thread, None, True
            self._changed.notify()
        if thread is not None:
            thread.join(_LONGEST_WRITE_S)

    def _run(self) -> None:
        next_at = float("-inf")
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                next_at = max(next_at, time.monotonic() + GATHER_S)
                while not self._is_closed and (wait_s := next_at - time.monotonic()) > 0:
                    self._changed.wait(wait_s)
                writes, self._waiting = self._waiting, {}
                if not writes and self._is_closed:
                    return
            try:
                with self._database.transaction(_LONGEST_WRITE_S, pipelined=True) as connection:
                    connection.execute("SET LOCAL synchronous_commit = off")
                    for write in writes.values():
                        write(connection)
            except StoreError as error:
                log.debug("dropped %d writes: %s", len(writes), error)
            except Exception:
                log.exception("dropped %d writes", len(writes))
            next_at = time.monotonic() + PAUSE_AFTER_WRITE_S
