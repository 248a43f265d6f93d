"""A telemetry database with one machine, and everything that writes and reads it."""

from pathlib import Path
from typing import Any

from machines_server.core.past.metrics import METRICS
from machines_server.core.past.rollup import Fold
from machines_server.core.sample import GpuSample, HostSample, Sample, State
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.past import PastReader
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention, SeriesKey
from tests.core.machines import SIDECAR
from tests.store.polls import REGISTRY, polled
from tests.store.sqlite.telemetry.folds import rollups_that_differ

START = 1_700_000_000 // 3600 * 3600
KEPT = Retention(raw_s=48 * 3600, minute_s=30 * 86_400, hour_s=730 * 86_400)
CPU, VRAM = METRICS["cpu_percent"], METRICS["vram_used_gb"]


class Database:
    """A database with one machine, its writer, its rollups and its reader."""

    def __init__(self, path: Path, kept: Retention = KEPT) -> None:
        migrate(path)
        self.connection = open_writer(path)
        self.rollups = Rollups(self.connection, kept)
        self.writer = SampleWriter(self.connection, 12, self.rollups)
        self.writer.write([REGISTRY])
        self.reader = PastReader(path)
        self.path = path

    def add(self, at: float, cpu: float | None = 1.0, *, vram: int = 2**30, state: State = State.OK) -> None:
        gpu = GpuSample(0, "GPU-a", "card", "dedicated", 2**34, vram, 2**34 - vram)
        answer = HostSample(cpu_percent=cpu, gpu=(gpu,)) if state is State.OK else None
        self.writer.write([Sample("one", {"sidecar": polled(SIDECAR, at, answer, state)})])

    def roll(self, now: float, elapsed_s: float = 0.0) -> None:
        """All that is due at `now`."""
        while self.rollups.step(now, elapsed_s):
            elapsed_s = 0.0

    def series(self, from_s: int, to_s: int, step_s: int) -> list[tuple[int, Fold]]:
        return self.reader.series([SeriesKey("one", CPU)], from_s, to_s, step_s)[0]

    def rows(self, sql: str) -> list[Any]:
        return self.connection.execute(sql).fetchall()

    def rollups_that_differ(self) -> list[Any]:
        """Buckets that are not what the samples of the database make them."""
        return rollups_that_differ(self.connection)
