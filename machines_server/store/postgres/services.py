"""The table of services on hosts."""

from machines_server.core.host_services import OWN_HOST, PolledService, ServiceStatus
from machines_server.core.shards import shard_of
from machines_server.store.postgres.database import Connection
from machines_server.store.sql.events import to_ms
from machines_server.store.sql.host_services import ServiceRow, status_named

_ROWS = """
SELECT key, host_service.name, url, status, reason, since_ms / 1000.0::double precision, known
FROM host_service JOIN machine ON machine.id = machine_id JOIN shard ON shard.id = shard_id
WHERE machine.site = %s AND number = ANY(%s)"""
_SET_SERVICE = """
INSERT INTO host_service (machine_id, name, url, status, reason, since_ms, known)
SELECT id, %s, %s, %s, %s, %s, %s FROM machine WHERE site = %s AND key = %s
ON CONFLICT (machine_id, name) DO UPDATE SET
    url = excluded.url, status = excluded.status, reason = excluded.reason, since_ms = excluded.since_ms,
    known = coalesce(excluded.known, host_service.known)"""
_OWN_ROWS = """
SELECT name, url, status, reason, (since_ms - %s) / 1000.0::double precision, known FROM own_service
WHERE site = %s AND server = %s"""
_SET_OWN = """
INSERT INTO own_service (name, url, status, reason, since_ms, known, site, server)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (site, server, name) DO UPDATE SET
    url = excluded.url, status = excluded.status, reason = excluded.reason, since_ms = excluded.since_ms,
    known = coalesce(excluded.known, own_service.known)"""
_DELETE = """
DELETE FROM host_service USING machine WHERE machine.id = machine_id AND site = %s AND key = %s
    AND host_service.name = %s"""
_FORGET_STATUSES = """
UPDATE host_service SET status = %s, reason = NULL, since_ms = %s
FROM machine JOIN shard ON shard.id = shard_id
WHERE machine.id = machine_id AND machine.site = %s AND number = ANY(%s)
RETURNING number"""


class PostgresServices:
    """Implements ServiceTable for the machines of some shards, and for the host of one server."""

    def __init__(self, connection: Connection, site: str, server: str) -> None:
        self._connection, self._site, self._server = connection, site, server
        self.shards: list[int] = []
        self.changed: set[int] = set()
        """The shards of services that were written."""

    def read(self) -> list[ServiceRow]:
        """All rows."""
        rows = self._connection.execute(_ROWS, (self._site, self.shards)).fetchall()
        return [
            *(
                ServiceRow(key, name, PolledService(url, status_named(status), reason, since), told)
                for key, name, url, status, reason, since, told in rows
            ),
            *own_services(self._connection, self._site, self._server),
        ]

    def set(self, row: ServiceRow) -> None:
        """Write a row."""
        service = row.service
        values = (row.name, service.url, service.status, service.reason, to_ms(service.since), row.told)
        if row.machine == OWN_HOST:
            self._connection.execute(_SET_OWN, (*values, self._site, self._server))
        else:
            self.changed.add(shard_of(row.machine))
            self._connection.execute(_SET_SERVICE, (*values, self._site, row.machine))

    def delete(self, machine: str, name: str) -> None:
        """Delete a row."""
        self.changed.add(shard_of(machine))
        self._connection.execute(_DELETE, (self._site, machine, name))

    def forget_statuses(self, since: float) -> None:
        """Set every status to unknown."""
        values = ServiceStatus.UNKNOWN, to_ms(since), self._site, self.shards
        self.changed |= {number for (number,) in self._connection.execute(_FORGET_STATUSES, values)}


def own_services(connection: Connection, site: str, server: str, shift_ms: int = 0) -> list[ServiceRow]:
    """The services of the host of a server, with times reduced by `shift_ms`."""
    return [
        ServiceRow(OWN_HOST, name, PolledService(url, status_named(status), reason, since), told)
        for name, url, status, reason, since, told in connection.execute(_OWN_ROWS, (shift_ms, site, server))
    ]
