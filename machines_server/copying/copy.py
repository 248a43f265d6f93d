"""Copies the whole history of a source; may be interrupted at any time and repeated."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from machines_server.copying.engine import EngineWriter
from machines_server.copying.measurements import ANSWER_WITHIN_S, MeasurementCopy
from machines_server.copying.progress import Progress
from machines_server.copying.rows import RowCopy
from machines_server.copying.source import Source, open_source
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.migrate import migrate
from machines_server.store.promql.engine import GetAccess
from machines_server.store.promql.series import PromqlSeries


class Destination(NamedTuple):
    """Where the servers of a site keep their history."""

    database: Database
    site: str
    write_url: str
    access: GetAccess
    series: PromqlSeries
    """The URL that answers queries about what was written to `write_url`."""


@dataclass(slots=True)
class Copied:
    """What has been copied so far, and what is being copied."""

    part: str = "machines"
    share: float = 0.0
    """How much of this part has been copied, from 0 to 1."""
    machines: int = 0
    rows: int = 0
    samples: int = 0
    left_out: int = 0
    """How many rollups were left out because no samples could have produced them."""


def copy_past(
    path: Path,
    to: Destination,
    told: Callable[[Copied], None],
    *,
    since: float = 0.0,
    check_s: float = ANSWER_WITHIN_S,
) -> Copied:
    """Copy what has not been copied yet; raises StoreError. `told` is called often with the progress.

    Measurements from before `since` (epoch seconds) are left out. `check_s` is how long the engine may take
    until its answers include the first of them.
    """
    with open_source(path) as source:
        to.database.connect().close()  # a pool would log what a single message says
        migrate(to.database)
        return _Copy(source, to, told).run(since, check_s)


class _Copy:
    """One run."""

    def __init__(self, source: Source, to: Destination, told: Callable[[Copied], None]) -> None:
        self._source, self._to, self._tell = source, to, told
        self._copied, self._total, self._of_part = Copied(), 0, 0

    def run(self, since: float, check_s: float) -> Copied:
        """Copy everything."""
        source, to, copied, counts = self._source, self._to, self._copied, self._source.counts()
        progress = Progress(to.database, to.site, source.identity())
        rows = RowCopy(source, to.database, to.site, progress, self._add_rows)
        targets = rows.machines()
        copied.machines = len(targets)
        rows.of_machines(targets)
        self._begin("stays", counts["stays"])
        rows.stays(targets)
        self._begin("events", counts["events"])
        rows.events(targets)
        self._begin("polling", counts["polling"])
        rows.polling()
        self._begin("measurements", 0)
        engine = EngineWriter(to.write_url, to.access, self._add_samples)
        try:
            measurements = MeasurementCopy(
                source, to.database, engine, to.series, progress, self._come_to, check_s
            )
            measurements.copy(targets, to.site, round(since * 1000))
            copied.left_out = measurements.left_out
        finally:
            engine.close()
        return copied

    def _begin(self, part: str, total: int) -> None:
        self._copied.part, self._copied.share = part, 0.0
        self._total, self._of_part = total, 0

    def _add_rows(self, number: int) -> None:
        self._copied.rows += number
        self._of_part += number
        self._copied.share = min(1.0, self._of_part / self._total) if self._total else 0.0
        self._tell(self._copied)

    def _add_samples(self, number: int) -> None:
        self._copied.samples += number
        self._tell(self._copied)

    def _come_to(self, share: float) -> None:
        self._copied.share = share
        self._tell(self._copied)
