"""The interface on which statements that SQLite and PostgreSQL share are executed.

Parameters are `?`, or `:name` with a mapping, and no statement has these characters for anything else.
"""

from collections.abc import Iterator
from typing import Any, Protocol


class Result(Protocol):
    """The rows of one statement."""

    @property
    def rowcount(self) -> int:
        """How many rows it has changed."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """All rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """The rows that are left."""


class Rows(Protocol):
    """An open transaction."""

    def execute(self, statement: str, parameters: Any = (), /) -> Result:
        """Execute a statement."""
