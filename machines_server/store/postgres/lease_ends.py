"""Work after leases have ended: sweep and count them, and record load times."""

from collections.abc import Iterable, Sequence
from typing import Any

from machines_server.core.model_names import model_key
from machines_server.core.routing.loading import LATEST_LOADS, LoadTime
from machines_server.store.lease_limits import COUNT_EXPIRED_S
from machines_server.store.postgres.database import Connection
from machines_server.store.postgres.lease_rows import IS_IN_FORCE, KEEP_RELEASED_MS, LeaseRow
from machines_server.store.values import LeaseRequest

KEEP_GONE_MS = 120_000
"""How long a row that promises nothing is kept, so that every reader sees it go."""
_COUNT_EXPIRED_MS = round(1000 * COUNT_EXPIRED_S)
_MOST_SWEPT = 1000
_SWEEP = f"""
WITH clock AS MATERIALIZED (SELECT now_ms() AS now_ms), ended AS (
    SELECT id, released_at_ms IS NULL AS has_expired, ends_at_ms,
        released_at_ms IS NULL AND NOT is_warm
            AND ends_at_ms + {KEEP_RELEASED_MS} > (SELECT now_ms FROM clock) AS may_be_unseen
    FROM lease WHERE site = %(site)s AND gone_at_ms IS NULL AND ends_at_ms <= (SELECT now_ms FROM clock)
    ORDER BY ends_at_ms LIMIT {_MOST_SWEPT} FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE lease SET idempotency_key = NULL, changed_in = pg_current_xact_id(),
        gone_at_ms = CASE WHEN NOT may_be_unseen THEN now_ms() END,
        released_at_ms = CASE WHEN may_be_unseen THEN ended.ends_at_ms ELSE released_at_ms END,
        ends_at_ms = ended.ends_at_ms + CASE WHEN may_be_unseen THEN {KEEP_RELEASED_MS} ELSE 0 END
    FROM ended WHERE lease.id = ended.id
    RETURNING lease.id, parts, has_expired, may_be_unseen, ended.ends_at_ms AS ended_at_ms
), parts AS (
    DELETE FROM lease_part
    USING (SELECT id, unnest(parts) AS part FROM changed WHERE NOT may_be_unseen) AS gone
    WHERE site = %(site)s AND lease_part.part = gone.part AND lease_part.lease = gone.id
), expired AS (
    INSERT INTO lease_expired SELECT %(site)s, ended_at_ms FROM changed WHERE has_expired RETURNING 1
)
SELECT count(*) FROM expired"""
_FORGET_GONE = f"""
WITH gone AS (DELETE FROM lease WHERE site = %(site)s AND gone_at_ms < (SELECT now_ms()) - {KEEP_GONE_MS})
DELETE FROM lease_expired WHERE site = %(site)s AND ended_at_ms < (SELECT now_ms()) - {_COUNT_EXPIRED_MS}"""
_COUNT_EXPIRED = f"""
SELECT count(*) FROM (
    SELECT ended_at_ms FROM lease_expired WHERE site = %(site)s
    UNION ALL
    SELECT ends_at_ms FROM lease
    WHERE site = %(site)s AND released_at_ms IS NULL AND gone_at_ms IS NULL
        AND ends_at_ms <= (SELECT now_ms())
) AS ended WHERE ended_at_ms > (SELECT now_ms()) - {_COUNT_EXPIRED_MS}"""
_COUNT_HELD = f"""
SELECT count(*), min(ends_at_ms) - min(now_ms) FROM lease, (SELECT now_ms()) AS clock (now_ms)
WHERE site = %(site)s AND {IS_IN_FORCE}"""
_OF_HOLDER_AT = " AND holder = %(holder)s AND (%(holder)s != '' OR address = %(address)s)"
_LEARN = """
WITH learned AS (
    UPDATE lease SET is_learned = true, changed_in = pg_current_xact_id()
    WHERE id = %(id)s AND NOT is_learned RETURNING site, size_bytes
)
INSERT INTO load_time (site, machine, key, size_bytes, load_s)
SELECT site, %(machine)s, %(key)s, size_bytes, %(load_s)s FROM learned"""
_FORGET_OLDER_LOADS = """
DELETE FROM load_time WHERE site = %(site)s AND machine = %(machine)s AND key = %(key)s AND id NOT IN (
    SELECT id FROM load_time WHERE site = %(site)s AND machine = %(machine)s AND key = %(key)s
    ORDER BY id DESC LIMIT %(kept)s)"""


def sweep(connection: Connection, site: str) -> int:
    """End the leases whose time is up, and return how many of them had not been released.

    Those whose models may still be loading are kept for a while, as if they had been released at their end.
    """
    ((expired,),) = connection.execute(_SWEEP, {"site": site}).fetchall()
    connection.execute(_FORGET_GONE, {"site": site})
    return int(expired)


def count_expired(connection: Connection, site: str) -> int:
    """How many leases expired within COUNT_EXPIRED_S, swept or not."""
    ((count,),) = connection.execute(_COUNT_EXPIRED, {"site": site}).fetchall()
    return int(count)


def wait_for_turn(connection: Connection, site: str) -> None:
    """Make transactions that count the leases of a site take turns, until this one ends.

    After this call, lock nothing that others wait for.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"leases {site}",))


def count_held(connection: Connection, site: str, request: LeaseRequest | None) -> tuple[int, float]:
    """How many leases the holder of a request, or everyone, has, and in how many seconds the first ends."""
    sql, values = _COUNT_HELD, {"site": site}
    if request is not None:
        sql, values = sql + _OF_HOLDER_AT, values | {"holder": request.holder, "address": request.address}
    ((count, left_ms),) = connection.execute(sql, values).fetchall()
    return int(count), (left_ms or 0) / 1000


def learn(connection: Connection, site: str, loads: Iterable[tuple[LeaseRow, float]]) -> None:
    """Record how long loads took, in seconds, unless another process has done so."""
    for row, load_s in sorted(loads):
        values = {"site": site, "machine": row.machine, "key": model_key(row.model)}
        connection.execute(_LEARN, {**values, "id": row.id, "load_s": load_s})
        connection.execute(_FORGET_OLDER_LOADS, {**values, "kept": LATEST_LOADS})


def read_load_times(connection: Connection, site: str) -> tuple[LoadTime, ...]:
    """The stored load times, oldest first."""
    rows: Sequence[tuple[Any, ...]] = connection.execute(
        "SELECT machine, key, size_bytes, load_s FROM load_time WHERE site = %s ORDER BY id", (site,)
    ).fetchall()
    return tuple(LoadTime(*row) for row in rows)
