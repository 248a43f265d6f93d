"""What the database knows about machines from before the writing process was started."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from machines_server.core.identity import Identity, identity
from machines_server.core.past.events import Uptime
from machines_server.core.sample import THOUSANDTHS
from machines_server.core.status import Status
from machines_server.store.sql.latest import decode_host

_HOSTS = """
SELECT machine_id, url, answered_at_ms / 1000.0, host FROM latest WHERE host IS NOT NULL"""
_LAST_STATUS = """
SELECT type FROM event WHERE machine_id = ? AND type IN (?, ?, ?, ?, 'machine_removed')
ORDER BY at_ms DESC, id DESC LIMIT 1"""
_LAST_UPTIME = """
SELECT at_ms, uptime_s FROM sample WHERE machine_id = ? AND uptime_s IS NOT NULL
ORDER BY at_ms DESC LIMIT 1"""


class SqliteBefore:
    """Implements KnownBefore."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def identities(self) -> Iterator[tuple[int, Identity]]:
        """The identity of each host that was ever reported; damaged rows are skipped."""
        for machine, url, at, text in self._connection.execute(_HOSTS):
            with suppress(msgspec.MsgspecError, TypeError):
                yield machine, identity(str(url), float(at), decode_host(text))

    def status(self, machine: int) -> str | None:
        """The type of the latest event about a status."""
        row = self._connection.execute(_LAST_STATUS, (machine, *Status)).fetchone()
        return None if row is None else str(row[0])

    def uptime(self, machine: int) -> Uptime | None:
        """The latest time since its start that the host has reported."""
        row = self._connection.execute(_LAST_UPTIME, (machine,)).fetchone()
        return Uptime(row[0] / 1000, row[1] / THOUSANDTHS) if row else None
