"""The rows of leases, and the statements that read and write them in their caller's transaction."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from machines_server.core.memory import Share
from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.leases import Lease, Warmth
from machines_server.errors import DamagedStoreError
from machines_server.store.lease_limits import KEEP_RELEASED_S
from machines_server.store.postgres.database import Connection, Row
from machines_server.store.sql.lease_values import lease_values
from machines_server.store.values import LeaseRequest

KEEP_RELEASED_MS = round(1000 * KEEP_RELEASED_S)
_WARMTH_OF = {str(warmth): warmth for warmth in Warmth}
_LEASE_FIELDS = (
    *("id", "machine", "hostname", "port", "url", "credential", "model", "digest", "warmth", "shares"),
    *("holder", "ttl_s", "created_at_ms", "ends_at_ms", "load_s", "is_exclusive", "released_at_ms", "agent"),
    *("parts", "size_bytes", "is_learned"),
)
_LEASE_COLUMNS = f"{', '.join(_LEASE_FIELDS)}, gone_at_ms IS NOT NULL"
"""The fields of a LeaseRow, in its order."""
_NOW_MS = "(SELECT now_ms())"
IS_IN_FORCE = f"released_at_ms IS NULL AND gone_at_ms IS NULL AND ends_at_ms > {_NOW_MS}"
_LEASE_HEAD = (
    "SELECT now_ms(), pg_current_snapshot() || ' ' || extract(epoch FROM pg_postmaster_start_time())"
)
_LOCK_PARTS = """
SELECT part FROM lease_lock WHERE site = %(site)s AND part = ANY(%(parts)s) ORDER BY part FOR UPDATE"""
_HOLD_LOCKS_BRIEFLY = """
SELECT set_config('lock_timeout', '1s', true),
    set_config('idle_in_transaction_session_timeout', '2s', true)"""
_LEASES_ON = f"""
SELECT head.*, ids.lease, found.* FROM ({_LEASE_HEAD}) AS head LEFT JOIN (
    SELECT DISTINCT lease FROM unnest(%(parts)s::text[]) AS wanted (part), LATERAL (
        SELECT lease FROM lease_part WHERE lease_part.part = wanted.part AND site = %(site)s OFFSET 0
    ) AS promised
) AS ids ON true LEFT JOIN LATERAL (
    SELECT {_LEASE_COLUMNS} FROM lease WHERE id = ids.lease AND (%(seen)s::pg_snapshot IS NULL
        OR NOT pg_visible_in_snapshot(changed_in, %(seen)s::pg_snapshot)) OFFSET 0
) AS found ON true"""
_CHANGED = """
site = %(site)s AND changed_in >= pg_snapshot_xmin(%(seen)s::pg_snapshot)
AND NOT pg_visible_in_snapshot(changed_in, %(seen)s::pg_snapshot)"""
"""Rows of transactions that were not visible before."""
_WITH_KEY = "site = %(site)s AND idempotency_key = %(key)s"
_INSERT_LEASES = """
WITH new AS (
    INSERT INTO lease (
        id, site, parts, machine, hostname, port, url, credential, model, digest, warmth, is_warm, shares,
        holder, address, ttl_s, created_at_ms, ends_at_ms, load_s, size_bytes, is_learned, is_exclusive,
        idempotency_key, request_digest, agent, changed_in)
    SELECT
        id, %(site)s, parts, machine, hostname, port, url, credential, model, digest, warmth, is_warm, shares,
        holder, address, ttl_s, now_ms, now_ms + (1000 * ttl_s)::bigint, load_s, size_bytes, is_learned,
        is_exclusive, key, request_digest, agent, pg_current_xact_id()
    FROM (SELECT now_ms() AS now_ms) AS clock, json_to_recordset(%(rows)s::json) AS given (
        id text, parts text[], machine text, hostname text, port integer, url text, credential text,
        model text, digest text, warmth text, is_warm boolean, shares text, holder text, address text,
        ttl_s double precision, load_s double precision, size_bytes bigint, is_learned boolean,
        is_exclusive boolean, key text, request_digest bytea, agent text)
    ON CONFLICT DO NOTHING RETURNING id, site, parts, created_at_ms
), parts AS (
    INSERT INTO lease_part SELECT site, unnest(parts), id FROM new
)
SELECT id, created_at_ms FROM new"""
_RENEW_LEASE = f"""
UPDATE lease SET ttl_s = %(ttl_s)s, ends_at_ms = now_ms() + %(ttl_ms)s, changed_in = pg_current_xact_id()
WHERE id = %(id)s AND {IS_IN_FORCE} RETURNING now_ms(), '', {_LEASE_COLUMNS}"""
_RELEASE = f"""
UPDATE lease SET released_at_ms = now_ms(), ends_at_ms = now_ms() + {KEEP_RELEASED_MS},
    idempotency_key = NULL, changed_in = pg_current_xact_id()
WHERE id = %(id)s RETURNING now_ms(), '', {_LEASE_COLUMNS}"""
_END = f"""
WITH parts AS (DELETE FROM lease_part WHERE site = %(site)s AND part = ANY(%(parts)s) AND lease = %(id)s)
UPDATE lease SET gone_at_ms = now_ms(), idempotency_key = NULL, changed_in = pg_current_xact_id()
WHERE id = %(id)s RETURNING now_ms(), '', {_LEASE_COLUMNS}"""


class LeaseRow(NamedTuple):
    """A row of the table `lease`; times are milliseconds by the database's clock."""

    id: str
    machine: str
    hostname: str
    port: int
    url: str
    credential: str | None
    model: str
    digest: str | None
    warmth: Warmth
    shares: tuple[Share, ...]
    holder: str
    ttl_s: float
    created_at_ms: int
    ends_at_ms: int
    load_s: float | None
    is_exclusive: bool
    released_at_ms: int | None
    agent: str | None
    parts: Sequence[str]
    size_bytes: int | None
    is_learned: bool
    is_gone: bool

    @property
    def until_ms(self) -> int:
        """When it stops promising anything: a model that had to be loaded may be seen a little later."""
        may_be_unseen = self.released_at_ms is None and not self.warmth.is_in_memory
        return self.ends_at_ms + KEEP_RELEASED_MS if may_be_unseen else self.ends_at_ms

    def begun(self, at_ms: int) -> "LeaseRow":
        """The same lease, beginning at `at_ms`."""
        return self._replace(created_at_ms=at_ms, ends_at_ms=at_ms + round(1000 * self.ttl_s))

    def lease(self, now_ms: float, ahead_s: float) -> Lease | None:
        """The lease now, with times by our clock, which is behind the database's; None once it is over."""
        if self.is_gone or self.until_ms <= now_ms:
            return None
        released_at_ms, ends_at_ms = self.released_at_ms, self.ends_at_ms
        if released_at_ms is None and ends_at_ms <= now_ms:
            released_at_ms, ends_at_ms = ends_at_ms, self.until_ms
        return Lease(
            *self[:12],
            self.created_at_ms / 1000 - ahead_s,
            ends_at_ms / 1000 - ahead_s,
            (ends_at_ms - now_ms) / 1000,
            self.load_s,
            self.is_exclusive,
            None if released_at_ms is None else released_at_ms / 1000 - ahead_s,
            self.agent,
        )


class RowsRead(NamedTuple):
    """Rows, the database's time, the transactions that were visible, and the server's identity."""

    now_ms: int
    seen: str
    rows: list[LeaseRow]

    @property
    def server(self) -> str:
        """Identifies the database server, so that a replacement of it is noticed."""
        return server_of(self.seen)


class HostsRead(NamedTuple):
    """The ids of the leases on some hosts, and the rows of those that were written since an earlier look."""

    ids: Sequence[str]
    changed: RowsRead


def hold_locks_briefly(connection: Connection) -> None:
    """Fail soon if others hold a lock, and hold none for long if this process freezes."""
    connection.execute(_HOLD_LOCKS_BRIEFLY)


def lock_parts(connection: Connection, site: str, parts: Iterable[str]) -> Callable[[], set[str]]:
    """Lock parts of hosts until the transaction ends; returns a function that reads which ones were locked.

    Parts without a row are not locked: call `add_parts` for them in another transaction, since waiting for
    another process's new row while holding locks might never end. Lock all parts in one call: everyone then
    locks them in the same order.
    """
    locked = connection.execute(_LOCK_PARTS, {"site": site, "parts": list(parts)})
    return lambda: {part for (part,) in locked.fetchall()}


def leases_on(connection: Connection, site: str, parts: Iterable[str], seen: str | None) -> HostsRead:
    """The leases that promise something on these parts.

    `seen` is that of an earlier look, whose rows need not be read again; None to read all rows.
    """
    values = {"site": site, "parts": list(parts), "seen": None if seen is None else _snapshot(seen)}
    rows = connection.execute(_LEASES_ON, values).fetchall()
    ids = [row[2] for row in rows if row[2] is not None]
    return HostsRead(ids, read_rows([(*row[:2], *row[3:]) for row in rows]))


def has_written(connection: Connection) -> bool:
    """Return whether the transaction has changed anything, so that its commit waits for the standbys."""
    ((is_numbered,),) = connection.execute("SELECT txid_current_if_assigned() IS NOT NULL").fetchall()
    return bool(is_numbered)


def add_parts(connection: Connection, site: str, parts: Iterable[str]) -> None:
    """Add rows to lock."""
    connection.execute(
        "INSERT INTO lease_lock SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING", (site, sorted(parts))
    )


def all_rows(connection: Connection, site: str) -> RowsRead:
    """All rows that promise something."""
    condition = "site = %(site)s AND gone_at_ms IS NULL"
    return read_rows(connection.execute(_select(condition), {"site": site}).fetchall())


def changed_rows(connection: Connection, site: str, seen: str) -> tuple[RowsRead, bool]:
    """The rows that were written since, and whether load times were, too."""
    values = {"site": site, "seen": _snapshot(seen)}
    rows = connection.execute(_select(_CHANGED), values)
    loads = connection.execute(f"SELECT EXISTS (SELECT FROM load_time WHERE {_CHANGED})", values)
    ((has_loads,),) = loads.fetchall()
    return read_rows(rows.fetchall()), bool(has_loads)


def row_with_key(connection: Connection, site: str, key: str) -> tuple[RowsRead, bytes | None, bool] | None:
    """The row of that key, the digest of its request, and whether the lease is in force."""
    sql = f"""
    SELECT now_ms(), '', {_LEASE_COLUMNS}, request_digest, {IS_IN_FORCE} FROM lease WHERE {_WITH_KEY}"""
    found = connection.execute(sql, {"site": site, "key": key}).fetchone()
    if found is None:
        return None
    *columns, digest, is_in_force = found
    return read_rows([columns]), digest, is_in_force


def forget_key(connection: Connection, site: str, key: str) -> None:
    """Free the key of a lease that has ended."""
    connection.execute(
        f"UPDATE lease SET idempotency_key = NULL WHERE {_WITH_KEY} AND NOT ({IS_IN_FORCE})",
        {"site": site, "key": key},
    )


def confirm_key(connection: Connection, site: str, key: str) -> None:
    """Write the lease of a key as it is, so that the transaction ends only when the standby has it as well.

    Its own transaction may have been cut short while it waited for the standby.
    """
    connection.execute(f"UPDATE lease SET id = id WHERE {_WITH_KEY}", {"site": site, "key": key})


def row_by_id(connection: Connection, site: str, lease: str, *, locks: bool = False) -> RowsRead:
    """The row of a lease in force, if there is one; with `locks`, locked until the transaction ends."""
    condition = f"site = %(site)s AND id = %(id)s AND {IS_IN_FORCE}"
    sql = f"SELECT now_ms(), '', {_LEASE_COLUMNS} FROM lease WHERE {condition}"
    if locks:
        sql += " FOR UPDATE"
    return read_rows(connection.execute(sql, {"site": site, "id": lease}).fetchall())


def new_row(request: LeaseRequest, candidate: Candidate, parts: Sequence[str], now_ms: int) -> LeaseRow:
    """The row of a lease on a candidate that begins now."""
    values = lease_values(request, candidate) | {
        "shares": candidate.shares,
        "ttl_s": request.ttl_s,
        "created_at_ms": now_ms,
        "ends_at_ms": now_ms + round(1000 * request.ttl_s),
        "released_at_ms": None,
        "parts": parts,
        "is_gone": False,
    }
    return LeaseRow(**{name: values[name] for name in LeaseRow._fields})


def insert_leases(
    connection: Connection, site: str, new: Iterable[tuple[LeaseRow, LeaseRequest]]
) -> Callable[[], list[tuple[str, int]]]:
    """Write leases that begin now; in a pipelined transaction nobody waits for it before the commit.

    Returns a function that reads the id and start (ms) of each, without those whose key another lease has.
    """
    rows = [
        {
            **row._asdict(),
            "shares": orjson.dumps([list(share) for share in row.shares]).decode(),
            "is_warm": row.warmth.is_in_memory,
            "address": request.address,
            "key": request.key,
            "request_digest": None if request.digest is None else rf"\x{request.digest.hex()}",
        }
        # In the order of keys, so that no two transactions wait for each other's.
        for row, request in sorted(new, key=lambda one: one[1].key or "")
    ]
    written = connection.execute(_INSERT_LEASES, {"site": site, "rows": orjson.dumps(rows).decode()})
    return written.fetchall


def renew_lease(connection: Connection, lease: str, ttl_s: float) -> RowsRead:
    """Make a lease in force end `ttl_s` from now, and return its row."""
    return read_rows(connection.execute(_RENEW_LEASE, {"id": lease, **_ttl(ttl_s)}).fetchall())


def end_lease(connection: Connection, site: str, row: LeaseRow, *, is_loaded: bool) -> RowsRead:
    """End a lease; unless a sample shows its model to be loaded, keep it as released for a while."""
    values = {"id": row.id, "site": site, "parts": row.parts}
    return read_rows(connection.execute(_END if is_loaded else _RELEASE, values).fetchall())


def read_rows(rows: Iterable[Sequence[Any] | Row]) -> RowsRead:
    """The result of a statement whose rows begin with the time and what was visible."""
    now_ms, seen, leases = 0, "", []
    for now_ms, seen, *columns in rows:  # noqa: B007  the same in all of them
        if columns[0] is not None:
            leases.append(_lease_row(columns))
    return RowsRead(now_ms, seen, leases)


def _lease_row(columns: Sequence[Any]) -> LeaseRow:
    try:
        shares = tuple(Share(*share) for share in orjson.loads(columns[9]))
        return LeaseRow._make((*columns[:8], _WARMTH_OF[columns[8]], shares, *columns[10:]))
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedStoreError("PostgreSQL: a stored lease is damaged") from error


def _select(condition: str) -> str:
    """A query for rows, each after the time and what is visible; without any, one row with only these."""
    return f"""
    SELECT head.*, found.* FROM ({_LEASE_HEAD}) AS head
    LEFT JOIN (SELECT {_LEASE_COLUMNS} FROM lease WHERE {condition}) AS found ON true"""


def server_of(seen: str) -> str:
    """What tells the server that was seen from one that takes its place."""
    return seen.partition(" ")[2]


def _snapshot(seen: str) -> str:
    """The transactions of a look, without what tells servers apart."""
    return seen.partition(" ")[0]


def _ttl(ttl_s: float) -> dict[str, float]:
    return {"ttl_s": ttl_s, "ttl_ms": round(ttl_s * 1000)}
