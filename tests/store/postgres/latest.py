"""Rows of the latest polls, written as a poller writes them."""

from collections.abc import Iterable

from machines_server.store.postgres.database import Connection
from machines_server.store.postgres.latest_rows import LatestRow, LatestRows


def write_together(connection: Connection, latest: LatestRows, rows: Iterable[LatestRow]) -> None:
    """Write rows in a transaction of their own."""
    connection.execute("BEGIN")
    latest.begin()
    for row in rows:
        latest.add(row)
    latest.write()
    connection.execute("COMMIT")
