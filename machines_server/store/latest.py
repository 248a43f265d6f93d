"""What the database says of the present, for those who only read."""

import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from machines_server.core.live import Latest
from machines_server.core.registry import Endpoint
from machines_server.core.sample import (
    Answer,
    Cycle,
    HostSample,
    Library,
    LoadedModel,
    ModelSize,
    State,
    StoredModel,
)
from machines_server.core.snapshot import Snapshot
from machines_server.store.connection import inode, may_stay_open, open_reader, translated

_LATEST_TELLTALE = "SELECT count(*), max(revision) FROM latest"
_LATEST_SINCE = """
SELECT name, endpoint, revision, answer, url, state, reason, polled_at_ms, answered_at_ms, clock_ahead_s
FROM latest CROSS JOIN machine ON machine.id = machine_id WHERE revision > ?"""
_LIBRARIES = (
    "SELECT name, url, asked_at_ms / 1000.0, models FROM library JOIN machine ON machine.id = machine_id"
)
_LIBRARIES_TELLTALE = "SELECT count(*), total(asked_at_ms) FROM library"
_SIZES_TELLTALE = "SELECT count(*), total(seen_at_ms) FROM model_size"
_SIZES = """
SELECT model, nullif(digest, ''), nullif(context_length, 0), size_bytes, size_vram_bytes, seen_at_ms / 1000.0
FROM model_size"""
_HELD_TELLTALE = "SELECT count(*), total(id) FROM model_span WHERE last_seen_at_ms IS NULL"
_HELD_SINCE = """
SELECT name, model, first_seen_at_ms / 1000.0 FROM model_span JOIN machine ON machine.id = machine_id
WHERE last_seen_at_ms IS NULL"""
_CYCLE = """
SELECT cycle_started_at_ms / 1000.0, ended_at_ms / 1000.0, interval_s, timeout_s
FROM poll_span ORDER BY id DESC LIMIT 1"""
_TELLTALES = (_LATEST_TELLTALE, _CYCLE, _LIBRARIES_TELLTALE, _SIZES_TELLTALE, _HELD_TELLTALE)

T = TypeVar("T")

_ENDPOINTS = {str(endpoint): endpoint for endpoint in Endpoint}
_ANSWERS: dict[str, Callable[[str], Answer]] = {
    Endpoint.SIDECAR: msgspec.json.Decoder(HostSample).decode,
    Endpoint.OLLAMA: msgspec.json.Decoder(tuple[LoadedModel, ...]).decode,
}
_stored_models = msgspec.json.Decoder(tuple[StoredModel, ...]).decode
_STATES = {str(state): state for state in State}


@dataclass(slots=True)
class _Known:
    """What was read of a database: the polls up to a revision, and what stood beside a telltale."""

    revision: int = -1
    latest: dict[str, Mapping[Endpoint, Latest]] = field(default_factory=dict)
    told: dict[str, tuple[Any, Any]] = field(default_factory=dict)


class LatestReader:
    """Reads on one connection, opened at the first question; may be shared by threads, not by processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._data_version: int | None = None
        self._version: Hashable = None
        self._known = _Known()

    def version(self) -> Hashable:
        """Something that changes when the present does; raises StoreError when it cannot be read."""
        with self._reading() as connection:
            (data_version,) = connection.execute("PRAGMA data_version").fetchone()
            if data_version != self._data_version:  # something was written, of the past perhaps
                self._version = self._inode, *(connection.execute(sql).fetchone() for sql in _TELLTALES)
                self._data_version = data_version
            return self._version

    def snapshot(self) -> Snapshot:
        """Everything at one moment; raises StoreError when it cannot be read."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                return Snapshot(
                    latest=self._latest(connection),
                    cycle=_cycle(connection),
                    libraries=self._unless_told(connection, _LIBRARIES_TELLTALE, _libraries),
                    sizes=tuple(ModelSize(*row) for row in connection.execute(_SIZES)),
                    held_since=self._unless_told(connection, _HELD_TELLTALE, _held_since),
                )
            finally:
                connection.execute("COMMIT")

    def _latest(self, connection: sqlite3.Connection) -> dict[str, Mapping[Endpoint, Latest]]:
        """The latest polls by machine; of a machine without a new one it is the same object as before."""
        (rows,) = connection.execute("SELECT count(*) FROM latest").fetchone()
        known = self._known
        for _ in range(2):
            for name, endpoint, revision, text, *poll in connection.execute(
                _LATEST_SINCE, (known.revision,)
            ).fetchall():
                key = name.casefold()
                answer = None if text is None else _ANSWERS[endpoint](text)
                found = {_ENDPOINTS[endpoint]: _typed(answer, *poll)}
                known.latest[key] = {**known.latest.get(key, {}), **found}
                known.revision = max(known.revision, revision)
            if sum(len(polls) for polls in known.latest.values()) == rows:
                break
            # some are gone; which ones is not told
            known.revision, known.latest = -1, {}
        return dict(known.latest)

    def _unless_told(
        self, connection: sqlite3.Connection, telltale: str, read: Callable[[sqlite3.Connection], T]
    ) -> T:
        """What `read` gives; the same object while `telltale`, a cheaper query, gives the same row."""
        row = connection.execute(telltale).fetchone()
        before = self._known.told.get(telltale)
        if before is None or before[0] != row:
            before = self._known.told[telltale] = row, read(connection)
        found: T = before[1]
        return found

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
                if found != self._inode:
                    self._known = _Known()
                self._connection, self._inode = open_reader(self._path), found
                self._data_version = None  # each connection counts for itself
            try:
                yield self._connection
            finally:
                if not may_stay_open(self._path):
                    self._connection.close()
                    self._connection = None


def _libraries(connection: sqlite3.Connection) -> dict[str, Library]:
    return {
        name.casefold(): Library(name, url, at, _stored_models(text))
        for name, url, at, text in connection.execute(_LIBRARIES)
    }


def _held_since(connection: sqlite3.Connection) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for machine, model, at in connection.execute(_HELD_SINCE):
        found.setdefault(machine.casefold(), {})[model] = at
    return found


def _cycle(connection: sqlite3.Connection) -> Cycle | None:
    row = connection.execute(_CYCLE).fetchone()
    return Cycle(*row) if row else None


def _typed(
    answer: Answer | None,
    url: str,
    state: str,
    reason: str | None,
    polled_at_ms: int,
    answered_at_ms: int | None,
    clock_ahead_s: float | None,
) -> Latest:
    answered_at = None if answered_at_ms is None else answered_at_ms / 1000
    return Latest(url, _STATES[state], reason, polled_at_ms / 1000, answered_at, answer, clock_ahead_s)
