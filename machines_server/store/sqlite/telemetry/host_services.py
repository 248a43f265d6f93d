"""The table of services on hosts."""

import sqlite3

from machines_server.core.host_services import PolledService, ServiceStatus
from machines_server.core.times import checked_time
from machines_server.store.sql.events import to_ms
from machines_server.store.sql.host_services import ServiceRow, status_named

_ALL_SERVICES = "SELECT machine, name, url, status, reason, since_ms / 1000.0, known FROM host_service"
_FORGET_STATUS = "UPDATE host_service SET status = ?, reason = NULL, since_ms = ?, revision = ?"
_SET = """
INSERT INTO host_service (machine, name, url, status, reason, since_ms, known, revision)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (machine, name) DO UPDATE SET
    url = excluded.url, status = excluded.status, reason = excluded.reason, since_ms = excluded.since_ms,
    known = coalesce(excluded.known, known), revision = excluded.revision"""


class SqliteServices:
    """Implements ServiceTable; rows that are written have the current `revision`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self.revision = connection, 0

    def read(self) -> list[ServiceRow]:
        """All rows."""
        return read_services(self._connection)

    def set(self, row: ServiceRow) -> None:
        """Write a row."""
        service = row.service
        values = (service.url, service.status, service.reason, to_ms(service.since), row.told, self.revision)
        self._connection.execute(_SET, (row.machine, row.name, *values))

    def delete(self, machine: str, name: str) -> None:
        """Delete a row."""
        self._connection.execute("DELETE FROM host_service WHERE machine = ? AND name = ?", (machine, name))

    def forget_statuses(self, since: float) -> None:
        """Set every status to unknown."""
        values = (ServiceStatus.UNKNOWN, to_ms(since), self.revision)
        self._connection.execute(_FORGET_STATUS, values)


def read_services(connection: sqlite3.Connection) -> list[ServiceRow]:
    """All rows; raises ValueError for a damaged one."""
    return [
        ServiceRow(
            machine.casefold(),
            name,
            PolledService(url, status_named(status), reason, checked_time(since)),
            told,
        )
        for machine, name, url, status, reason, since, told in connection.execute(_ALL_SERVICES)
    ]
