"""Inserts many rows into one table with few statements."""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

_BATCH_SIZES = (64, 8, 1)
"""Rows per statement; there are few sizes, so that each statement is prepared once and kept."""


class Bulk:
    """Collects rows and inserts them together.

    Each statement hands the interpreter to the thread that polls and waits to get it back: with 1,000 hosts,
    one statement per row took a sixth of the CPU of both.
    """

    def __init__(self, insert: str, columns: int, conflict: str = "") -> None:
        """`insert` is the statement before VALUES, `conflict` the part after."""
        row = f"({', '.join('?' * columns)})"
        self._statements = {
            size: f"{insert} VALUES {', '.join([row] * size)} {conflict}" for size in _BATCH_SIZES
        }
        self._rows: list[Sequence[Any]] = []

    def add(self, row: Sequence[Any]) -> None:
        """Add a row, to be inserted after earlier ones."""
        self._rows.append(row)

    def insert(self, connection: sqlite3.Connection) -> None:
        """Insert all rows, within the open transaction."""
        at, count = 0, len(self._rows)
        for size in _BATCH_SIZES:
            while count - at >= size:
                values = tuple(chain.from_iterable(self._rows[at : at + size]))
                connection.execute(self._statements[size], values)
                at += size
        self._rows.clear()

    def clear(self) -> None:
        """Forget the rows that were not inserted."""
        self._rows.clear()
