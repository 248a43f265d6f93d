"""What the database knows about machines from before this process polled them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import msgspec

from machines_server.core.identity import Identity, identity
from machines_server.core.past.events import Uptime
from machines_server.store.postgres.database import Connection
from machines_server.store.sql.latest import decode_host

_LAST_STATUSES = """
SELECT machine.id, last.type FROM machine JOIN shard ON shard.id = shard_id
CROSS JOIN LATERAL (
    SELECT type FROM event WHERE machine_id = machine.id
    AND type IN ('online', 'degraded', 'offline', 'unknown', 'machine_removed')
    ORDER BY at_ms DESC, event.id DESC LIMIT 1) AS last
WHERE machine.site = %s AND number = ANY(%s) AND removed_at_ms IS NULL"""
_HOSTS_OF_SHARDS = """
SELECT machine_id, url, answered_at_ms, host FROM latest JOIN shard ON shard.id = shard_id
WHERE site = %s AND number = ANY(%s) AND host IS NOT NULL AND answered_at_ms IS NOT NULL"""


class PostgresBefore:
    """Implements KnownBefore; reads everything at once to save round trips."""

    def __init__(self) -> None:
        self._statuses: Mapping[int, str] = {}
        self._uptimes: dict[int, Uptime] = {}
        self._identities: dict[int, Identity] = {}

    def read_back(self, connection: Connection, site: str, shards: Mapping[int, int]) -> None:
        """Read what is known about the machines of these shards."""
        numbers = list(shards)
        self._statuses = dict(connection.execute(_LAST_STATUSES, (site, numbers)).fetchall())
        self._uptimes, self._identities = {}, {}
        for machine, url, at_ms, text in connection.execute(_HOSTS_OF_SHARDS, (site, numbers)):
            with suppress(msgspec.MsgspecError):
                host = decode_host(text)
                self._identities[machine] = identity(url, at_ms / 1000, host)
                if host.uptime_s is not None:
                    self._uptimes[machine] = Uptime(at_ms / 1000, host.uptime_s)

    def identities(self) -> Iterator[tuple[int, Identity]]:
        """The last reported identity of each host."""
        return iter(self._identities.items())

    def status(self, machine: int) -> str | None:
        """The type of the latest event about a status."""
        return self._statuses.get(machine)

    def uptime(self, machine: int) -> Uptime | None:
        """The latest time since its start that the host has reported."""
        return self._uptimes.get(machine)
