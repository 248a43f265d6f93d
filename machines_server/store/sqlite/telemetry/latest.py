"""Reads the present from the database: the latest polls, the latest cycle, models on disk and in memory."""

import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from machines_server.core.host_services import PolledService
from machines_server.core.sample import (
    Cycle,
    Library,
    ModelSize,
    StoredModel,
)
from machines_server.core.snapshot import Latest, Snapshot
from machines_server.core.times import checked_time
from machines_server.store.sql.host_services import by_machine
from machines_server.store.sql.latest import latest_of
from machines_server.store.sqlite.connection import BUSY_TIMEOUT_MS, inode, may_stay_open, open_reader
from machines_server.store.sqlite.failures import decoding, store_errors
from machines_server.store.sqlite.telemetry.host_services import read_services

_LATEST_MARK = "SELECT count(*), max(revision) FROM latest"
_LATEST_SINCE = """
SELECT name, endpoint, revision, host, models, url, state, reason, polled_at_ms, answered_at_ms,
    clock_ahead_s, up_since_ms, hint
FROM latest CROSS JOIN machine ON machine.id = machine_id WHERE revision > ?"""
_LIBRARIES_SINCE = """
SELECT name, url, asked_at_ms / 1000.0, models, has_listed, revision
FROM library JOIN machine ON machine.id = machine_id WHERE revision > ?"""
_LIBRARIES_MARK = "SELECT count(*), max(revision) FROM library"
_MODEL_SIZES_MARK = "SELECT count(*), total(seen_at_ms) FROM model_size"
_MODEL_SIZES = """
SELECT model, nullif(digest, ''), nullif(context_length, 0), size_bytes, size_vram_bytes, seen_at_ms / 1000.0,
    name
FROM model_size LEFT JOIN machine ON machine.id = machine_id"""
_HELD_MARK = "SELECT count(*), total(id) FROM model_span WHERE last_seen_at_ms IS NULL"
_HELD = """
SELECT name, model, first_seen_at_ms / 1000.0, absent_at_ms / 1000.0
FROM model_span JOIN machine ON machine.id = machine_id
WHERE last_seen_at_ms IS NULL"""
_CYCLE = """
SELECT cycle_started_at_ms / 1000.0, ended_at_ms / 1000.0, interval_s, timeout_s
FROM poll_span ORDER BY id DESC LIMIT 1"""
_SERVICES_MARK = "SELECT count(*), max(revision) FROM host_service"
_CHANGE_MARKS = (_LATEST_MARK, _CYCLE, _LIBRARIES_MARK, _MODEL_SIZES_MARK, _HELD_MARK, _SERVICES_MARK)

T = TypeVar("T")

_stored_models = msgspec.json.Decoder(tuple[StoredModel, ...]).decode
_library = partial(msgspec.convert, type=tuple[str, str, float, str, int, int])
_size = partial(msgspec.convert, type=tuple[str, str | None, int | None, int, int | None, float, str | None])
_held_row = partial(msgspec.convert, type=tuple[str, str, float, float | None])
"""A damaged row may hold anything; `msgspec.ValidationError` is a ValueError."""


@dataclass(slots=True)
class _Known:
    """What has been read of a database: polls and libraries up to a revision, and values by change mark."""

    revision: int = -1
    latest: dict[str, Mapping[str, Latest]] = field(default_factory=dict)
    library_revision: int = -1
    libraries: dict[str, Library] = field(default_factory=dict)
    cached: dict[str, tuple[Any, Any]] = field(default_factory=dict)


class LatestReader:
    """Reads on one connection, opened when first needed; for several threads, not for several processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._data_version: int | None = None
        self._version: Hashable = None
        self._known = _Known()

    def version(self) -> Hashable:
        """A value that changes when the present does; raises StoreError if it cannot be read."""
        with self._reading() as connection:
            (data_version,) = connection.execute("PRAGMA data_version").fetchone()
            if data_version != self._data_version:  # something was written, perhaps only to the past
                self._version = self._inode, *(connection.execute(sql).fetchone() for sql in _CHANGE_MARKS)
                self._data_version = data_version
            return self._version

    def version_nowait(self) -> Hashable:
        """The latest `version` if nothing has been written since; None if finding out would have to wait."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            connection = self._connection
            if connection is None or inode(self._path) != self._inode or not may_stay_open(self._path):
                return None
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                (data_version,) = connection.execute("PRAGMA data_version").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            return self._version if data_version == self._data_version else None
        except sqlite3.Error:
            return None
        finally:
            self._lock.release()

    def catch_up(self) -> None:
        """Do nothing: every version is current."""

    def snapshot(self) -> Snapshot:
        """Everything at one moment; raises StoreError if it cannot be read."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                sizes, vram_users = self._cached(connection, _MODEL_SIZES_MARK, _sizes)
                held_since, absent_at = self._cached(connection, _HELD_MARK, _held)
                return Snapshot(
                    latest=self._latest(connection),
                    cycle=_cycle(connection),
                    libraries=self._libraries(connection),
                    sizes=sizes,
                    vram_users=vram_users,
                    held_since=held_since,
                    absent_at=absent_at,
                    services=self._cached(connection, _SERVICES_MARK, _services),
                )
            finally:
                connection.execute("COMMIT")

    def _latest(self, connection: sqlite3.Connection) -> dict[str, Mapping[str, Latest]]:
        """The latest polls by machine; for a machine without a new one, the same object as before."""
        (rows,) = connection.execute("SELECT count(*) FROM latest").fetchone()
        known = self._known
        for _ in range(2):
            for name, endpoint, revision, *row in connection.execute(
                _LATEST_SINCE, (known.revision,)
            ).fetchall():
                key = name.casefold()
                latest = {endpoint: latest_of(*row)}
                known.latest[key] = {**known.latest.get(key, {}), **latest}
                known.revision = max(known.revision, revision)
            if sum(len(polls) for polls in known.latest.values()) == rows:
                break
            # Some rows were deleted, and nothing says which.
            known.revision, known.latest = -1, {}
        return dict(known.latest)

    def _libraries(self, connection: sqlite3.Connection) -> dict[str, Library]:
        """The libraries by machine; an unchanged one is the same object as before."""
        (rows,) = connection.execute("SELECT count(*) FROM library").fetchone()
        known = self._known
        for _ in range(2):
            for row in connection.execute(_LIBRARIES_SINCE, (known.library_revision,)).fetchall():
                name, url, at, text, has_listed, revision = _library(row)
                library = Library(name, url, checked_time(at), _stored_models(text), bool(has_listed))
                known.libraries[name.casefold()] = library
                known.library_revision = max(known.library_revision, revision)
            if len(known.libraries) == rows:
                break
            known.library_revision, known.libraries = -1, {}
        return dict(known.libraries)

    def _cached(
        self, connection: sqlite3.Connection, mark: str, read: Callable[[sqlite3.Connection], T]
    ) -> T:
        """What `read` returns; the same object while `mark`, a cheaper query, returns the same row."""
        row = connection.execute(mark).fetchone()
        before = self._known.cached.get(mark)
        if before is None or before[0] != row:
            before = self._known.cached[mark] = row, read(connection)
        value: T = before[1]
        return value

    def cycle(self) -> Cycle | None:
        """The latest finished cycle; raises StoreError if it cannot be read."""
        with self._reading() as connection:
            return _cycle(connection)

    def last_good(self, file: str | None) -> dict[str, str]:
        """The last good version of a machine file, or of all (None), as JSON by name; raises StoreError."""
        sql = "SELECT file, declared FROM machine WHERE removed_at_ms IS NULL AND coalesce(file = ?, 1)"
        with self._reading() as connection:
            return dict(connection.execute(sql, (file,)))

    def close(self) -> None:
        """Close the connection; the next read opens another one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, decoding(self._path), store_errors(self._path):
            file = inode(self._path)
            if self._connection is not None and file != self._inode:  # it was replaced or deleted
                self._connection.close()
                self._connection = None
            if self._connection is None:
                if file != self._inode:
                    self._known = _Known()
                self._connection, self._inode = open_reader(self._path), file
                self._data_version = None  # each connection has a count of its own
            is_done = False
            try:
                yield self._connection
                is_done = True
            finally:
                if not is_done:  # what was read only in part is not valid
                    self._known = _Known()
                if not is_done or not may_stay_open(self._path):
                    self._connection.close()
                    self._connection = None


def _sizes(connection: sqlite3.Connection) -> tuple[tuple[ModelSize, ...], frozenset[str]]:
    """Sizes of models in memory, and the machines whose latest load took GPU memory."""
    sizes = tuple(ModelSize(*_size(row)) for row in connection.execute(_MODEL_SIZES))
    latest = {size.machine: size for size in sorted(sizes, key=lambda size: size.seen_at)}
    return sizes, frozenset(name.casefold() for name, size in latest.items() if name and size.size_vram_bytes)


def _services(connection: sqlite3.Connection) -> Mapping[str, Mapping[str, PolledService]]:
    return by_machine(read_services(connection))


_Times = dict[str, dict[str, float]]
"""Epoch seconds by machine and model."""


def _held(connection: sqlite3.Connection) -> tuple[_Times, _Times]:
    """When each loaded model was first listed, and when it was last not listed, if known."""
    since, absent = _Times(), _Times()
    for machine, model, since_at, absent_at in map(_held_row, connection.execute(_HELD)):
        since.setdefault(machine.casefold(), {})[model] = checked_time(since_at)
        if absent_at is not None:
            absent.setdefault(machine.casefold(), {})[model] = checked_time(absent_at)
    return since, absent


def _cycle(connection: sqlite3.Connection) -> Cycle | None:
    row = connection.execute(_CYCLE).fetchone()
    return Cycle(checked_time(row[0]), checked_time(row[1]), float(row[2]), float(row[3])) if row else None
