"""Finding damage to a database, and putting a damaged one aside."""

import os
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from machines_server.errors import DamagedStoreError, StoreError
from machines_server.store.sqlite.connection import open_reader
from machines_server.store.sqlite.failures import store_errors

FIRST_CHECK_S, CHECK_EVERY_S = 5.0, 600.0
TABLE_CHECK_S = 0.25
"""How long each table is checked; the rest of a large one is left unchecked."""
_STEPS = 10_000
_MAGIC = b"SQLite format 3\0"
_SIDE_FILES = ("", "-wal", "-shm")

Footprint = tuple[tuple[int, ...] | None, ...]


def footprint(path: Path) -> Footprint:
    """A value that changes whenever a database's files are written, truncated or replaced."""
    return tuple(_mark(f"{path}{side}", is_mapped=side == "-shm") for side in _SIDE_FILES)


def _mark(path: str, *, is_mapped: bool) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  called around every batch, and twice as fast
    except OSError:
        return None
    if is_mapped:  # every reader writes to it
        return (status.st_ino,)
    return status.st_ino, status.st_size, status.st_mtime_ns


def find_damage(
    path: Path, gives_up: Callable[[], bool] = lambda: False, *, is_at_rest: bool = False
) -> DamagedStoreError | None:
    """The damage found while checking each table for TABLE_CHECK_S, or None.

    `is_at_rest`: nothing writes meanwhile, so the size is checked too. Raises StoreError if the database
    cannot be read at present.
    """
    try:
        _check_header(path, is_at_rest=is_at_rest)
        with closing(open_reader(path)) as connection, store_errors(path):
            tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
            for name, _ in tables:
                _check_table(path, connection, name, gives_up)
    except DamagedStoreError as error:
        return error
    return None


def _check_table(path: Path, connection: sqlite3.Connection, name: str, gives_up: Callable[[], bool]) -> None:
    until = time.monotonic() + TABLE_CHECK_S
    connection.set_progress_handler(lambda: gives_up() or time.monotonic() > until, _STEPS)
    try:
        (finding,) = connection.execute(f'PRAGMA quick_check("{name}")').fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return
    if finding != "ok":
        raise DamagedStoreError(f"{path.name}: its table {name} is damaged")


def _check_header(path: Path, *, is_at_rest: bool) -> None:
    """Check the first bytes, as https://www.sqlite.org/fileformat.html describes them, and the size."""
    try:
        with path.open("rb") as file:
            header, size = file.read(100), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise StoreError(f"{path.name} cannot be read: {error.strerror}") from error
    if not header:  # another process is creating it, or its content is lost
        kind = DamagedStoreError if is_at_rest else StoreError
        raise kind(f"{path.name}: it is empty")
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise DamagedStoreError(f"{path.name}: it does not begin like a database")
    page = struct.unpack_from(">H", header, 16)[0] or 65_536
    pages = struct.unpack_from(">I", header, 28)[0]
    if is_at_rest and size < (65_536 if page == 1 else page) * pages:
        raise DamagedStoreError(f"{path.name}: its end is cut off")


def put_aside(path: Path, files: Sequence[str] = _SIDE_FILES) -> Path:
    """Rename a damaged database, with its log, and return its new name; raises StoreError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    try:
        for side in files:
            if os.path.lexists(f"{path}{side}"):
                Path(f"{path}{side}").rename(f"{aside}{side}")
    except OSError as error:
        raise StoreError(f"{path} cannot be renamed: {error.strerror}") from error
    return aside


def put_log_aside(path: Path) -> None:
    """Rename the log of a database that was moved or deleted, so that no new database uses it.

    Raises StoreError.
    """
    put_aside(path, _SIDE_FILES[1:])


class Checker:
    """Looks for damage every `every_s` in its own thread, which calls `on_damage`."""

    def __init__(
        self,
        path: Path,
        on_damage: Callable[[DamagedStoreError], None],
        *,
        first_s: float = FIRST_CHECK_S,
        every_s: float = CHECK_EVERY_S,
    ) -> None:
        self._path, self._on_damage = path, on_damage
        self._first_s, self._every_s = first_s, every_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, within milliseconds."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = self._first_s
        while not self._closing.wait(wait_s):
            wait_s = self._every_s
            try:
                damage = find_damage(self._path, self._closing.is_set)
            except StoreError:
                continue  # readers and the writer report it
            if damage:
                self._on_damage(damage)
