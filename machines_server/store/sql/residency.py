"""Totals of how long models were in memory, added up as stays end, so that no query reads every stay.

A stay is added when it ends; until then it is found in `model_span`.
"""

from collections.abc import Iterator

from machines_server.store.sql.rows import Rows

_SET_HOLDING = """
INSERT INTO holding (machine_id, model, last_seen_at_ms) VALUES (?, ?, ?)
ON CONFLICT (machine_id, model) DO UPDATE SET last_seen_at_ms = CASE
    WHEN holding.last_seen_at_ms > excluded.last_seen_at_ms THEN holding.last_seen_at_ms
    ELSE excluded.last_seen_at_ms END
RETURNING id"""
_SET_MOMENT = """
INSERT INTO residency (holding_id, at_ms, stays, resident_ms)
SELECT :holding, :at, coalesce(max(stays), 0), coalesce(max(resident_ms + stays * (:at - at_ms)), 0)
FROM (SELECT * FROM residency WHERE holding_id = :holding AND at_ms < :at ORDER BY at_ms DESC LIMIT 1) AS last
WHERE true
ON CONFLICT (holding_id, at_ms) DO NOTHING"""
# While stays end in order this changes two rows; more only after the clock was set back.
_ADD_STAY = """
UPDATE residency SET
    stays = stays + CASE WHEN at_ms < :ended THEN 1 ELSE 0 END,
    resident_ms = resident_ms + CASE WHEN at_ms < :ended THEN at_ms ELSE :ended END - :began
WHERE holding_id = :holding AND at_ms >= :began"""
_FORGET = """
DELETE FROM residency WHERE holding_id = :holding AND at_ms < (
    SELECT max(at_ms) FROM residency WHERE holding_id = :holding AND at_ms < :floor)"""


def add_stay(connection: Rows, machine: int, model: str, began_ms: int, ended_ms: int) -> None:
    """Add a finished stay, in any order."""
    (holding,) = connection.execute(_SET_HOLDING, (machine, model, ended_ms)).fetchone()
    if began_ms < ended_ms:
        for at_ms in (began_ms, ended_ms):
            connection.execute(_SET_MOMENT, {"holding": holding, "at": at_ms})
        connection.execute(_ADD_STAY, {"holding": holding, "began": began_ms, "ended": ended_ms})


def forget_residency(connection: Rows, floor_ms: int) -> Iterator[None]:
    """Delete the rows before `floor_ms`, except each model's last one, where later totals start."""
    for holding, last_seen_at_ms in connection.execute("SELECT id, last_seen_at_ms FROM holding").fetchall():
        if last_seen_at_ms < floor_ms:
            connection.execute("DELETE FROM residency WHERE holding_id = ?", (holding,))
            connection.execute("DELETE FROM holding WHERE id = ?", (holding,))
        else:
            connection.execute(_FORGET, {"holding": holding, "floor": floor_ms})
        yield
