"""How long loads of models took, learned from cold leases; statements in their caller's transaction."""

import sqlite3
from collections.abc import Iterable

from machines_server.core.model_names import model_key
from machines_server.core.routing.fleet import Fleet, loaded_in_s
from machines_server.core.routing.leases import Lease
from machines_server.core.routing.loading import LATEST_LOADS, LoadTime

_FORGET_OLDER = """
DELETE FROM load_time WHERE machine = :machine AND key = :key AND id NOT IN (
    SELECT id FROM load_time WHERE machine = :machine AND key = :key ORDER BY id DESC LIMIT :kept)"""


def read_load_times(connection: sqlite3.Connection) -> list[LoadTime]:
    """The stored load times, oldest first."""
    rows = connection.execute("SELECT machine, key, size_bytes, load_s FROM load_time ORDER BY id")
    return [LoadTime(*row) for row in rows]


def learn_load_times(
    connection: sqlite3.Connection, cold: Iterable[tuple[Lease, int | None]], fleet: Fleet
) -> None:
    """Record how long the finished loads of `cold` leases, of so many bytes, took."""
    for lease, size_bytes in cold:
        load_s = loaded_in_s(lease, fleet)
        if load_s is None:
            continue
        key = model_key(lease.model)
        connection.execute("UPDATE lease SET is_learned = 1 WHERE id = ?", (lease.id,))
        connection.execute(
            "INSERT INTO load_time (machine, key, size_bytes, load_s) VALUES (?, ?, ?, ?)",
            (lease.machine, key, size_bytes, load_s),
        )
        connection.execute(_FORGET_OLDER, {"machine": lease.machine, "key": key, "kept": LATEST_LOADS})
