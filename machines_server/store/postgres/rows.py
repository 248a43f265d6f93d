"""Executes the statements that SQLite and PostgreSQL share."""

import re
from functools import cache
from typing import Any

import psycopg

_NAMED_PARAMETER = re.compile(r"\?|:([a-z_]+)")


class PostgresRows:
    """Implements Rows on an open transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Any = (), /) -> psycopg.Cursor[Any]:
        """Execute a statement whose parameters are `?` or `:name`."""
        return self._connection.execute(_translated(statement), parameters)


@cache
def _translated(statement: str) -> bytes:
    return _NAMED_PARAMETER.sub(lambda found: f"%({found[1]})s" if found[1] else "%s", statement).encode()
