"""What an operator must know about the database that several servers share."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from machines_server.store.postgres.clock import DatabaseClock
from machines_server.store.postgres.database import Connection
from machines_server.store.postgres.failures import store_errors

_SERVER = """
SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names'),
    pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"""
_STANDBYS = "SELECT application_name, sync_state FROM pg_stat_replication"
_UNWRITABLE = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND nspname = current_schema AND relname != 'schema_migrations'
AND NOT (has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'INSERT')
    AND has_table_privilege(pg_class.oid, 'UPDATE') AND has_table_privilege(pg_class.oid, 'DELETE')
    AND has_table_privilege(pg_class.oid, 'TRUNCATE'))
ORDER BY relname"""
_MAY_MAKE_TEMPORARY = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
_TAKING_PART = """
SELECT server, pid, since_ms, files,
    (SELECT count(*) FROM shard WHERE owner = poller.id AND shard.expires_at_ms > now_ms())
FROM poller WHERE site = %s AND expires_at_ms > now_ms() ORDER BY server, since_ms"""
_UNHELD = "SELECT count(*) FROM shard WHERE site = %s AND (owner IS NULL OR expires_at_ms <= now_ms())"

_LAST_GOOD_OF_ALL = "SELECT file, declared FROM machine WHERE site = %s AND removed_at_ms IS NULL"


class Standby(NamedTuple):
    """A connected standby; `is_synchronous` is None if this role may not see that."""

    name: str
    is_synchronous: bool | None


class ServerFacts(NamedTuple):
    """The database server behind a connection."""

    version: int
    """As libpq numbers it: 150018 is 15.18."""
    is_primary: bool
    is_pooled: bool
    standbys: Sequence[Standby]
    synchronous_names: str
    """Which standbys transactions wait for, as `synchronous_standby_names` says."""
    clock_ahead_s: float
    """How far its clock is ahead of this host's; small differences count as none."""


class PollerFacts(NamedTuple):
    """A poller that takes part, with the number of shards that it holds and the hash of its machine files."""

    server: str
    pid: int
    since: float
    files: str
    shards: int


def server_facts(connection: Connection) -> ServerFacts:
    """The server of a connection; raises StoreError."""
    clock = DatabaseClock()
    with store_errors():
        clock.measure(connection)
        ((is_standby, names, may_see),) = connection.execute(_SERVER).fetchall()
        standbys = [
            Standby(name or "unnamed", state in ("sync", "quorum") if may_see else None)
            for name, state in connection.execute(_STANDBYS)
        ]
    version = connection.info.server_version
    return ServerFacts(version, not is_standby, connection.is_pooled, standbys, names, clock.ahead_s)


def pollers_of(connection: Connection, site: str) -> tuple[list[PollerFacts], int]:
    """The pollers of a site that take part, and how many shards nobody holds; raises StoreError."""
    with store_errors():
        pollers = [
            PollerFacts(server, pid, since_ms / 1000, files, shards)
            for server, pid, since_ms, files, shards in connection.execute(_TAKING_PART, (site,))
        ]
        ((unheld,),) = connection.execute(_UNHELD, (site,)).fetchall()
    return pollers, unheld


def unwritable_tables(connection: Connection) -> list[str]:
    """The tables on which this role lacks a right that servers need; raises StoreError."""
    with store_errors():
        return [name for (name,) in connection.execute(_UNWRITABLE)]


def may_make_temporary_tables(connection: Connection) -> bool:
    """Return whether this role has that right, which servers need; raises StoreError."""
    with store_errors():
        ((may,),) = connection.execute(_MAY_MAKE_TEMPORARY).fetchall()
    return bool(may)


def last_good_of(connection: Connection, site: str) -> Mapping[str, str]:
    """The last good version of each machine file of a site; raises StoreError."""
    with store_errors():
        return dict(connection.execute(_LAST_GOOD_OF_ALL, (site,)).fetchall())
