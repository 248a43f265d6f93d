"""The GPUs of machines in PostgreSQL: written when they are new or have changed, many rows at a time."""

from collections.abc import Iterable

from machines_server.core.sample import GpuSample
from machines_server.store.postgres.database import Connection
from machines_server.store.sql.budget import Budgets

_SET_GPU = """
INSERT INTO gpu (machine_id, uuid, position, model, memory_kind, first_seen_at_ms)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (machine_id, uuid) DO UPDATE SET
    position = excluded.position, model = excluded.model, memory_kind = excluded.memory_kind"""
_GPUS = """
SELECT machine_id, uuid, position, gpu.model, memory_kind
FROM gpu JOIN machine ON machine.id = machine_id JOIN shard ON shard.id = shard_id
WHERE machine.site = %s AND number = ANY(%s)"""


class GpuRows:
    """What is known of GPUs, and the rows to write; for one thread."""

    def __init__(self, connection: Connection, budgets: Budgets) -> None:
        self._connection, self._budgets = connection, budgets
        self._known: dict[tuple[int, str], tuple[int, str | None, str]] = {}
        self._new: dict[tuple[int, str], tuple[int, str, int, str | None, str, int]] = {}
        """Rows that are written together: a fleet's first cycle has thousands."""

    def note(self, machine: int, gpu: GpuSample, at_ms: int) -> None:
        """Add a GPU if it is new, or has changed its place or name."""
        about, known = (gpu.index, gpu.model, gpu.memory_kind), self._known.get((machine, gpu.uuid))
        if known == about or (known is None and not self._budgets.gpus.take(machine, gpu.uuid, at_ms)):
            return
        self._new[machine, gpu.uuid] = machine, gpu.uuid, *about, at_ms
        self._known[machine, gpu.uuid] = about

    def write(self) -> None:
        """Write what was noted since the last call."""
        if self._new:
            self._connection.cursor().executemany(_SET_GPU, list(self._new.values()))
            self._new.clear()

    def clear(self) -> None:
        """Drop what was noted and not written."""
        self._new.clear()

    def read_back(self, site: str, shards: Iterable[int]) -> None:
        """Reload what is known, for the machines of these shards."""
        self._known = {
            (machine, uuid): (position, model, kind)
            for machine, uuid, position, model, kind in self._connection.execute(_GPUS, (site, list(shards)))
        }
