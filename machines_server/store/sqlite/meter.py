"""Measures the databases: the sizes of their files, and the rollups that are due."""

from contextlib import suppress
from pathlib import Path

from machines_server.store.sqlite.telemetry.read_pool import ReadPool
from machines_server.store.values import StoreSizes

_COUNT_DUE_ROLLUPS = "SELECT count(*) FROM rollup_due WHERE at_s + tier <= ?"


class FileMeter:
    """Reads on its own connections; implements StoreMeter."""

    def __init__(self, telemetry: Path, *others: Path) -> None:
        """The databases' paths; rollups are those of `telemetry`."""
        self._paths = (telemetry, *others)
        self._pool = ReadPool(telemetry)

    def sizes(self) -> StoreSizes:
        """The sizes of the files that exist."""
        databases, logs = dict[str, int](), dict[str, int]()
        for path in self._paths:
            with suppress(OSError):
                databases[path.stem] = path.stat().st_size
            with suppress(OSError):
                logs[path.stem] = path.with_name(f"{path.name}-wal").stat().st_size
        return StoreSizes(databases, logs)

    def due_rollups(self, now: float) -> int:
        """How many rollups could have been computed by `now` and were not; raises StoreError."""
        with self._pool.transaction() as connection:
            return int(connection.execute(_COUNT_DUE_ROLLUPS, (now,)).fetchone()[0])
