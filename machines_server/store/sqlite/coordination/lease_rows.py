"""The statements that read and write leases; each runs in its caller's transaction.

The end of a lease is stored twice: by the wall clock, and by the clock of this boot, which cannot be set. The
latter applies until the host is restarted.
"""

import sqlite3
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from machines_server.core.machine import endpoint_url
from machines_server.core.memory import Share
from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.leases import Lease, Warmth
from machines_server.errors import UnknownLeaseError
from machines_server.store.lease_limits import (
    COUNT_EXPIRED_S,
    KEEP_RELEASED_S,
    MAX_LEASES,
    MAX_LEASES_PER_HOLDER,
    refuse_another_request,
    too_many_in_all,
    too_many_of_holder,
)
from machines_server.store.sql.lease_values import lease_values
from machines_server.store.values import LeaseRequest

_LEFT_MS = "iif(boot = :boot, ends_boot_ms - :boot_ms, ends_at_ms - :now_ms)"
_ENDS_AT_MS = f"iif(abs(ends_at_ms - :now_ms - {_LEFT_MS}) < 1000, ends_at_ms, :now_ms + {_LEFT_MS})"
"""The end that was first reported, unless the wall clock has been set since."""
_FIELDS = (
    "id, machine, hostname, port, url, credential, model, digest, warmth, json(shares), holder, ttl_s,"
    f" created_at_ms / 1000.0, {_ENDS_AT_MS} / 1000.0, {_LEFT_MS} / 1000.0, load_s,"
    " json(iif(is_exclusive, 'true', 'false')), released_at_ms / 1000.0, agent"
)
"""The fields of a Lease, in its order, as SQL."""
_IS_HELD = "released_at_ms IS NULL"
_IS_WARM = f"warmth IN ({', '.join(repr(str(one)) for one in Warmth if one.is_in_memory)})"
_OF_HOLDER = "holder = :holder AND (:holder != '' OR address = :address)"
_WARMTHS = {str(warmth): warmth for warmth in Warmth}
_INSERT = """
INSERT INTO lease (
    id, machine, hostname, port, url, credential, model, digest, warmth, shares, holder, address, ttl_s,
    load_s, size_bytes, is_learned, is_exclusive, idempotency_key, request_digest, agent, boot,
    created_at_ms, ends_at_ms, ends_boot_ms)
VALUES (
    :id, :machine, :hostname, :port, :url, :credential, :model, :digest, :warmth, :shares, :holder, :address,
    :ttl_s, :load_s, :size_bytes, :is_learned, :is_exclusive, :key, :request_digest, :agent, :boot,
    :now_ms, :now_ms + :ttl_ms, :boot_ms + :ttl_ms)"""


def read_leases(connection: sqlite3.Connection) -> tuple[list[Lease], list[Lease]]:
    """All leases that are held, and those that were released before a sample could show their models."""
    # As one row: SQLite yields to other threads at every row, while everyone waits for this one.
    sql = f"SELECT json_group_array(json_array({_FIELDS})) FROM lease WHERE {_LEFT_MS} > 0"
    (rows,) = connection.execute(sql, _now()).fetchone()
    leases = [_lease(row) for row in orjson.loads(rows)]
    held = [lease for lease in leases if lease.released_at is None]
    return held, [lease for lease in leases if lease.released_at is not None]


def read_cold_leases(connection: sqlite3.Connection) -> list[tuple[Lease, int | None]]:
    """The leases, ended ones included, whose load time is not yet learned, and the bytes that each loads."""
    sql = f"SELECT json_array({_FIELDS}), size_bytes FROM lease WHERE NOT is_learned"
    return [
        (_lease(orjson.loads(fields)), size_bytes)
        for fields, size_bytes in connection.execute(sql, _now()).fetchall()
    ]


def lease_by_id(connection: sqlite3.Connection, lease: str) -> Lease:
    """One lease; raises UnknownLeaseError."""
    sql = f"SELECT json_array({_FIELDS}) FROM lease WHERE id = :id AND {_IS_HELD}"
    row = connection.execute(sql, {**_now(), "id": lease}).fetchone()
    if row is None:
        raise UnknownLeaseError(lease)
    return _lease(orjson.loads(row[0]))


def lease_by_key(connection: sqlite3.Connection, request: LeaseRequest) -> Lease | None:
    """The lease granted for the same key; raises ConflictError if that was for a different request."""
    sql = "SELECT id, request_digest, agent FROM lease WHERE idempotency_key = ?"
    row = connection.execute(sql, (request.key,)).fetchone()
    if row is None:
        return None
    refuse_another_request(request, *row[1:])
    return lease_by_id(connection, row[0])


def refuse_too_many(connection: sqlite3.Connection, request: LeaseRequest) -> None:
    """Raise TooManyError if the leases of the holder, or of all holders, have reached their limit."""
    named = {"holder": request.holder, "address": request.address}
    for condition, limit in ((f"{_OF_HOLDER} AND {_IS_HELD}", MAX_LEASES_PER_HOLDER), (_IS_HELD, MAX_LEASES)):
        (count,) = connection.execute(f"SELECT count(*) FROM lease WHERE {condition}", named).fetchone()
        if count < limit:
            continue
        soonest = f"SELECT min({_LEFT_MS}) / 1000.0 FROM lease WHERE {condition}"
        (wait_s,) = connection.execute(soonest, {**_now(), **named}).fetchone()
        if limit == MAX_LEASES_PER_HOLDER:
            raise too_many_of_holder(request, count, wait_s)
        raise too_many_in_all(count, wait_s)


def insert_lease(connection: sqlite3.Connection, request: LeaseRequest, candidate: Candidate) -> Lease:
    """Write a lease on a candidate and return it."""
    values = lease_values(request, candidate)
    connection.execute(_INSERT, {**_now(), **_ttl(request.ttl_s), **values})
    return lease_by_id(connection, values["id"])


def renew_lease(connection: sqlite3.Connection, lease: str, ttl_s: float) -> Lease:
    """Make a lease end `ttl_s` from now, and return it."""
    connection.execute(
        "UPDATE lease SET ttl_s = :ttl_s, boot = :boot, ends_at_ms = :now_ms + :ttl_ms,"
        " ends_boot_ms = :boot_ms + :ttl_ms WHERE id = :id",
        {**_now(), **_ttl(ttl_s), "id": lease},
    )
    return lease_by_id(connection, lease)


def end_lease(connection: sqlite3.Connection, lease: Lease, *, is_loaded: bool) -> None:
    """Delete a lease or, unless a sample shows its model to be loaded, keep it as released for a while."""
    if is_loaded:
        connection.execute("DELETE FROM lease WHERE id = ?", (lease.id,))
        return
    connection.execute(
        "UPDATE lease SET released_at_ms = :now_ms, idempotency_key = NULL, boot = :boot,"
        " ends_at_ms = :now_ms + :ttl_ms, ends_boot_ms = :boot_ms + :ttl_ms WHERE id = :id",
        {**_now(), **_ttl(KEEP_RELEASED_S), "id": lease.id},
    )
    _keep_last_released(connection)


def delete_expired(connection: sqlite3.Connection) -> int:
    """Delete the expired leases, and record when they expired; returns how many.

    Those whose models may still be loading are kept for a while, as if they had been released at their end.
    """
    released = connection.execute(
        f"UPDATE lease SET released_at_ms = :now_ms + {_LEFT_MS}, idempotency_key = NULL,"
        " ends_at_ms = ends_at_ms + :ttl_ms, ends_boot_ms = ends_boot_ms + :ttl_ms"
        f" WHERE {_IS_HELD} AND NOT {_IS_WARM} AND {_LEFT_MS} BETWEEN 1 - :ttl_ms AND 0"
        " RETURNING released_at_ms",
        {**_now(), **_ttl(KEEP_RELEASED_S)},
    ).fetchall()
    if released:
        _keep_last_released(connection)
    sql = f"DELETE FROM lease WHERE {_LEFT_MS} <= 0 RETURNING :now_ms + {_LEFT_MS}, released_at_ms"
    # Compared here, since IS NULL is never true in a RETURNING clause of SQLite 3.40.
    gone = connection.execute(sql, _now()).fetchall()
    ended = [*released, *((at_ms,) for at_ms, released_at_ms in gone if released_at_ms is None)]
    if ended:
        connection.executemany("INSERT INTO expired VALUES (?)", ended)
        connection.execute("DELETE FROM expired WHERE ended_at_ms <= :from_ms", _now())
    return len(ended)


def _keep_last_released(connection: sqlite3.Connection) -> None:
    """Delete the released leases except the last of each warmth for each model of a machine.

    One of them represents the load, and a cold one tells when it began.
    """
    connection.execute(
        "DELETE FROM lease WHERE released_at_ms IS NOT NULL AND id NOT IN ("
        "SELECT id FROM (SELECT id, max(released_at_ms) FROM lease WHERE released_at_ms IS NOT NULL"
        " GROUP BY machine, model, warmth))"
    )


def discard_mistimed_loads(connection: sqlite3.Connection) -> None:
    """Learn nothing from cold leases during which the wall clock was set, since it times loads."""
    connection.execute(
        "UPDATE lease SET is_learned = 1 WHERE NOT is_learned"
        f" AND abs(ends_at_ms - :now_ms - {_LEFT_MS}) >= 1000",
        _now(),
    )


def has_expired(connection: sqlite3.Connection) -> bool:
    """Return whether the time of a lease is up that was not released."""
    sql = f"SELECT EXISTS (SELECT 1 FROM lease WHERE {_IS_HELD} AND {_LEFT_MS} <= 0)"
    return bool(connection.execute(sql, _now()).fetchone()[0])


def count_expired(connection: sqlite3.Connection) -> int:
    """How many leases expired within COUNT_EXPIRED_S, deleted or not."""
    sql = (
        "SELECT (SELECT count(*) FROM expired WHERE ended_at_ms > :from_ms) + (SELECT count(*) FROM lease"
        f" WHERE {_IS_HELD} AND {_LEFT_MS} <= 0 AND :now_ms + {_LEFT_MS} > :from_ms)"
    )
    (count,) = connection.execute(sql, _now()).fetchone()
    return int(count)


def _lease(fields: Sequence[Any]) -> Lease:
    id_, machine, hostname, port, url, credential, model, digest, warmth, shares, *rest = fields
    url = url or endpoint_url(hostname, port)  # granted by a version that did not keep it
    promised = tuple(Share(*share) for share in shares)
    return Lease(
        id_, machine, hostname, port, url, credential, model, digest, _WARMTHS[warmth], promised, *rest
    )


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _now() -> dict[str, Any]:
    """The time by the wall clock and by the clock of this boot, as parameters of statements."""
    boot_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    now_ms = time.time_ns() // 1_000_000
    from_ms = now_ms - round(COUNT_EXPIRED_S * 1000)
    return {"now_ms": now_ms, "from_ms": from_ms, "boot_ms": boot_ms, "boot": _boot()}


def _ttl(ttl_s: float) -> dict[str, float]:
    return {"ttl_s": ttl_s, "ttl_ms": round(ttl_s * 1000)}
