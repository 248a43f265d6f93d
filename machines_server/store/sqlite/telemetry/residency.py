"""Reads how long models were in memory, and adds up the stays that earlier versions wrote."""

import sqlite3
from collections.abc import Iterator

from machines_server.store.sql.residency import add_stay

_DUE_STAYS = "SELECT from_id, to_id FROM residency_due"
_SOME_DUE_STAYS = """
SELECT id, machine_id, model, first_seen_at_ms, last_seen_at_ms FROM model_span
WHERE id >= ? AND id < ? ORDER BY id LIMIT 50"""
_READ_TEMPLATE = """
WITH recent AS (SELECT * FROM holding ORDER BY last_seen_at_ms DESC LIMIT :limit),
stay AS (
    SELECT model_span.machine_id, model, first_seen_at_ms AS began,
           coalesce(answered_at_ms, first_seen_at_ms) AS ended
    FROM model_span LEFT JOIN latest ON latest.machine_id = model_span.machine_id AND models IS NOT NULL
    WHERE last_seen_at_ms IS NULL
    UNION ALL
    SELECT machine_id, model, first_seen_at_ms, last_seen_at_ms
    FROM residency_due CROSS JOIN model_span ON id >= from_id AND id < to_id WHERE last_seen_at_ms NOT NULL
),
held AS (
    SELECT machine_id, model, last_seen_at_ms AS ended, {until[to]} - {until[from]} AS resident_ms FROM recent
    UNION ALL
    SELECT machine_id, model, ended, max(0, min(ended, :to) - max(began, :from)) FROM stay
)
SELECT name, model, max(ended) / 1000.0, sum(resident_ms) / 1000.0
FROM held JOIN machine ON machine.id = machine_id GROUP BY machine_id, model"""
# Before the first row nothing is known; its total may include deleted rows.
_UNTIL = """
coalesce(
    (SELECT resident_ms + stays * (:{0} - at_ms) FROM residency
     WHERE holding_id = recent.id AND at_ms <= :{0} ORDER BY at_ms DESC LIMIT 1),
    (SELECT resident_ms FROM residency WHERE holding_id = recent.id ORDER BY at_ms LIMIT 1), 0)"""
READ_RESIDENCY = _READ_TEMPLATE.format(until={end: _UNTIL.format(end) for end in ("from", "to")})
"""Machine, model, when it was last seen there (epoch seconds), and its seconds there from `:from` to `:to`
(ms); for the `:limit` seen most recently, and for all that are there now."""


def is_due(connection: sqlite3.Connection, stay: int) -> bool:
    """Return whether a stay written by an earlier version is yet to be added by `add_due`."""
    due = "SELECT 1 FROM residency_due WHERE :stay >= from_id AND :stay < to_id"
    return connection.execute(due, {"stay": stay}).fetchone() is not None


def add_due(connection: sqlite3.Connection) -> Iterator[None]:
    """Add stays that an earlier version wrote, in batches; unfinished ones are added when they end."""
    while due := connection.execute(_DUE_STAYS).fetchone():
        batch = connection.execute(_SOME_DUE_STAYS, due).fetchall()
        for _, machine, model, began_ms, ended_ms in batch:
            if ended_ms is not None:
                add_stay(connection, machine, model, began_ms, ended_ms)
        if batch:
            connection.execute("UPDATE residency_due SET from_id = ?", (batch[-1][0] + 1,))
        else:
            connection.execute("DELETE FROM residency_due")
        yield
