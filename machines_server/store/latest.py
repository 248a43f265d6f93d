"""What the database says of the present, for those who only read."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from machines_server.core.live import Latest
from machines_server.core.registry import Endpoint
from machines_server.core.sample import (
    Answer,
    Cycle,
    GpuSample,
    GpuUnreadable,
    HostSample,
    Library,
    LoadedModel,
    ModelSize,
    State,
    StoredModel,
)
from machines_server.core.snapshot import Snapshot
from machines_server.store.connection import inode, may_stay_open, open_reader, translated

_LATEST = """
SELECT machine_id, endpoint, name, url, state, reason, clock_ahead_s, polled_at_ms, answered_at_ms
FROM latest JOIN machine ON machine.id = machine_id"""
_ANSWER = "SELECT answer FROM latest WHERE machine_id = ? AND endpoint = ?"
_LIBRARIES = "SELECT machine_id, name, url, asked_at_ms FROM library JOIN machine ON machine.id = machine_id"
_SIZES = """
SELECT model, nullif(digest, ''), nullif(context_length, 0), size_bytes, size_vram_bytes, seen_at_ms / 1000.0
FROM model_size"""
_HELD_SINCE = """
SELECT name, model, first_seen_at_ms / 1000.0 FROM model_span JOIN machine ON machine.id = machine_id
WHERE last_seen_at_ms IS NULL"""

_ENDPOINTS = {str(endpoint): endpoint for endpoint in Endpoint}


class _Known(NamedTuple):
    """A poll as it was read, and what was made of it."""

    row: tuple[Any, ...]
    latest: Latest


class LatestReader:
    """Reads on one connection, opened at the first question; may be shared by threads, not by processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._known: dict[tuple[int, str], _Known] = {}
        self._libraries: dict[tuple[str, str, int], Library] = {}

    def version(self) -> tuple[int | None, int]:
        """Something that changes when something was written; raises StoreError when it cannot be read."""
        with self._reading() as connection:
            return self._inode, connection.execute("PRAGMA data_version").fetchone()[0]

    def snapshot(self) -> Snapshot:
        """Everything at one moment; raises StoreError when it cannot be read."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                return Snapshot(
                    latest=self._latest(connection),
                    cycle=_cycle(connection),
                    libraries=self._all_libraries(connection),
                    sizes=tuple(ModelSize(*row) for row in connection.execute(_SIZES)),
                    held_since=_held_since(connection),
                )
            finally:
                connection.execute("COMMIT")

    def _latest(self, connection: sqlite3.Connection) -> dict[str, dict[Endpoint, Latest]]:
        """The latest polls; what has not changed is the same object as before and is not read again."""
        before, self._known = self._known, {}
        latest: dict[str, dict[Endpoint, Latest]] = {}
        for row in connection.execute(_LATEST).fetchall():
            machine, endpoint, name, *_, answered_at_ms = row
            known = before.get((machine, endpoint))
            if known is None or known.row != row:
                answer = known.latest.answer if known and known.row[-1] == answered_at_ms else None
                if answer is None and answered_at_ms is not None:
                    (text,) = connection.execute(_ANSWER, (machine, endpoint)).fetchone()
                    answer = _answer(endpoint, text)
                known = _Known(row, _typed(row, answer))
            self._known[machine, endpoint] = known
            latest.setdefault(name.casefold(), {})[_ENDPOINTS[endpoint]] = known.latest
        return latest

    def _all_libraries(self, connection: sqlite3.Connection) -> dict[str, Library]:
        found = {}
        for machine, name, url, asked_at_ms in connection.execute(_LIBRARIES):
            key = (name, url, asked_at_ms)
            if key not in self._libraries:
                (text,) = connection.execute(
                    "SELECT models FROM library WHERE machine_id = ?", (machine,)
                ).fetchone()
                models = tuple(StoredModel(**model) for model in orjson.loads(text))
                self._libraries[key] = Library(name, url, asked_at_ms / 1000, models)
            found[key] = self._libraries[key]
        self._libraries = found
        return {library.machine.casefold(): library for library in found.values()}

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
            try:
                yield self._connection
            finally:
                if not may_stay_open(self._path):
                    self._connection.close()
                    self._connection = None


def _held_since(connection: sqlite3.Connection) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for machine, model, at in connection.execute(_HELD_SINCE):
        found.setdefault(machine.casefold(), {})[model] = at
    return found


def _cycle(connection: sqlite3.Connection) -> Cycle | None:
    row = connection.execute(
        "SELECT cycle_started_at_ms / 1000.0, ended_at_ms / 1000.0, interval_s, timeout_s"
        " FROM poll_span ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return Cycle(*row) if row else None


def _typed(row: tuple[Any, ...], answer: Answer | None) -> Latest:
    _, _, _, url, state, reason, clock_ahead_s, polled_at_ms, answered_at_ms = row
    answered_at = None if answered_at_ms is None else answered_at_ms / 1000
    return Latest(url, State(state), reason, polled_at_ms / 1000, answered_at, answer, clock_ahead_s)


def _answer(endpoint: str, text: str) -> Answer:
    """What `samples.py` wrote."""
    raw = orjson.loads(text)
    if endpoint == Endpoint.OLLAMA:
        return tuple(LoadedModel(**model) for model in raw)
    raw["gpu"] = tuple(GpuSample(**gpu) for gpu in raw["gpu"])
    raw["gpu_unreadable"] = tuple(GpuUnreadable(**gpu) for gpu in raw["gpu_unreadable"])
    return HostSample(**raw)
