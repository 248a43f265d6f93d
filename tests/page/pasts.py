"""Pasts of machines with outages at known times, written into a database before a server is started on it."""

from collections.abc import Sequence
from pathlib import Path

from bench.fill import DEFAULT_RETENTION, OLLAMA, SIDECAR, Host
from machines_server.core.machine import Registry
from machines_server.core.sample import Cycle, PollResult, Sample, State
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter


def give_outages(database: Path, name: str, times: range, outages: Sequence[tuple[float, float]]) -> None:
    """A machine that was polled at `times` (epoch seconds) and answered except in `outages` (from, to)."""
    database.parent.mkdir(exist_ok=True)
    migrate(database)
    connection = open_writer(database)
    rollups = Rollups(connection, DEFAULT_RETENTION)
    writer = SampleWriter(connection, 3 * times.step, rollups)
    host = Host(name, offline_share=0)
    writer.write([Registry((host.machine(),), loaded_at=times.start)])
    for at in times:
        is_out = any(began <= at < ended for began, ended in outages)
        sample = _silence(name, at) if is_out else host.sample(at)
        writer.write([sample, Cycle(at, at + 1, times.step, 2)])
    while rollups.step(times.stop, 1):
        pass
    connection.close()


def _silence(name: str, at: float) -> Sample:
    return Sample(
        name,
        {
            endpoint.kind: PollResult(
                name, endpoint, State.UNREACHABLE, at + 0.01, 0.01, "connection refused", None
            )
            for endpoint in (SIDECAR, OLLAMA)
        },
    )
