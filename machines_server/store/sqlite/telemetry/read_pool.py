"""Connections that read the past, one per query, so that queries run in parallel."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from machines_server.errors import TooMuchError
from machines_server.store.sqlite.connection import closed_on_failure, inode, may_stay_open, open_reader
from machines_server.store.sqlite.failures import decoding, store_errors

MAX_IDLE_CONNECTIONS = 4
"""Connections kept for later queries: opening one costs as much as reading a day."""
CACHE_KIB = 4096
"""Page cache of each connection; the minutes of one machine over a week take 2.5 MiB."""
MAX_INSTRUCTIONS = 60_000_000
"""SQLite instructions per query, which take a second or two; reading every sample of all metrics of a host
with 8 GPUs over two days takes a third of them."""
_CHECKS = 100
"""How many times per query the instructions are checked."""
_TOO_MUCH = (
    "This reads more of the past than one answer may: ask for a shorter span, for fewer metrics or GPUs,"
    " or for a step that is a multiple of 60 s, or of 600."
)


class ReadPool:
    """Opens connections as they are needed and keeps a few; shared by threads."""

    def __init__(self, path: Path, max_instructions: int = MAX_INSTRUCTIONS) -> None:
        self._path, self._max_instructions = path, max_instructions
        self._idle: list[tuple[int | None, sqlite3.Connection]] = []

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads one snapshot; raises TooMuchError if the query reads too much."""
        with decoding(self._path), store_errors(self._path):
            file, connection = self._take()
            checks = count(1)
            connection.set_progress_handler(
                lambda: next(checks) >= _CHECKS, self._max_instructions // _CHECKS
            )
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                connection.close()
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                    raise TooMuchError(_TOO_MUCH) from None
                raise
            if len(self._idle) < MAX_IDLE_CONNECTIONS and may_stay_open(self._path):
                self._idle.append((file, connection))
            else:
                connection.close()

    def close(self) -> None:
        """Close the idle connections; the next query opens another."""
        while self._idle:
            self._idle.pop()[1].close()

    def _take(self) -> tuple[int | None, sqlite3.Connection]:
        """The inode of the current file, and a connection to it."""
        file = inode(self._path)
        with suppress(IndexError):
            while True:
                opened, connection = self._idle.pop()
                if opened == file:
                    return file, connection
                connection.close()  # its file was moved or deleted
        connection = open_reader(self._path)
        with closed_on_failure(connection):
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return file, connection
