"""What the database says of the present, for those who only read."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from machines_server.core.live import Latest
from machines_server.core.registry import Endpoint
from machines_server.core.sample import (
    Answer,
    Cycle,
    GpuSample,
    GpuUnreadable,
    HostSample,
    LoadedModel,
    State,
)
from machines_server.core.snapshot import Snapshot
from machines_server.store.connection import inode, open_reader, translated


class LatestReader:
    """Reads on one connection, opened at the first question; may be shared by threads, not by processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None

    def version(self) -> tuple[int | None, int]:
        """Something that changes when something was written; raises StoreError when it cannot be read."""
        with self._reading() as connection:
            return self._inode, connection.execute("PRAGMA data_version").fetchone()[0]

    def snapshot(self) -> Snapshot:
        """Everything at one moment; raises StoreError when it cannot be read."""
        latest: dict[str, dict[Endpoint, Latest]] = {}
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                rows = connection.execute(
                    "SELECT name, endpoint, url, state, reason, polled_at_ms / 1000.0,"
                    " answered_at_ms / 1000.0, answer FROM latest JOIN machine ON machine.id = machine_id"
                )
                for name, endpoint, url, state, reason, polled_at, answered_at, answer in rows:
                    typed = answer and _answer(endpoint, answer)
                    found = Latest(url, State(state), reason, polled_at, answered_at, typed)
                    latest.setdefault(name.casefold(), {})[Endpoint(endpoint)] = found
                cycle = _cycle(connection)
            finally:
                connection.execute("COMMIT")
        return Snapshot(latest, cycle)

    def cycle(self) -> Cycle | None:
        """The latest finished cycle; raises StoreError when it cannot be read."""
        with self._reading() as connection:
            return _cycle(connection)

    def last_good(self, file: str | None) -> dict[str, str]:
        """The last good version of a machine file, or of all (None), as JSON by name; raises StoreError."""
        sql = "SELECT file, declared FROM machine WHERE removed_at_ms IS NULL AND coalesce(file = ?, 1)"
        with self._reading() as connection:
            return dict(connection.execute(sql, (file,)))

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(self._path):
            found = inode(self._path)
            if self._connection is not None and found != self._inode:  # it was replaced, or deleted
                self._connection.close()
                self._connection = None
            if self._connection is None:
                self._connection, self._inode = open_reader(self._path), found
            yield self._connection


def _cycle(connection: sqlite3.Connection) -> Cycle | None:
    row = connection.execute(
        "SELECT cycle_started_at_ms / 1000.0, ended_at_ms / 1000.0, interval_s, timeout_s"
        " FROM poll_span ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return Cycle(*row) if row else None


def _answer(endpoint: str, text: str) -> Answer:
    """What `samples.py` wrote."""
    raw = orjson.loads(text)
    if endpoint == Endpoint.OLLAMA:
        return tuple(LoadedModel(**model) for model in raw)
    raw["gpu"] = tuple(GpuSample(**gpu) for gpu in raw["gpu"])
    raw["gpu_unreadable"] = tuple(GpuUnreadable(**gpu) for gpu in raw["gpu_unreadable"])
    return HostSample(**raw)
