"""Fills a database with a history, using the production code, as fast as it can write."""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from machines_server.core.machine import Endpoint, Machine, Registry
from machines_server.core.sample import (
    GIB,
    Cycle,
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    RuntimeState,
    Sample,
    State,
)
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention

DAY_S = 86_400
DEFAULT_RETENTION = Retention(raw_s=2 * DAY_S, minute_s=30 * DAY_S, hour_s=730 * DAY_S)
LOADED_MODEL = LoadedModel("llama3.1:70b", "a" * 64, 40 * GIB, 40 * GIB, 8192, "2318-12-04T10:11:12Z")
SIDECAR = Endpoint("sidecar", "127.0.0.1", 3039, reports_host=True)
OLLAMA = Endpoint("ollama", "127.0.0.1", 11434)
OnSample = Callable[[Sample], None]


@dataclass(frozen=True, slots=True)
class Period:
    """A period of the past (epoch seconds) with a cycle every `interval_s`."""

    from_s: int
    to_s: int
    interval_s: int


def periods(now_s: int, past: Sequence[tuple[float, int]]) -> list[Period]:
    """Periods up to now from pairs of how many days ago each began and its interval, oldest first."""
    froms_s = [now_s - round(days * DAY_S) for days, _ in past]
    return [
        Period(from_s, to_s, interval_s)
        for (_, interval_s), from_s, to_s in zip(past, froms_s, [*froms_s[1:], now_s], strict=True)
    ]


class Host:
    """A host with random values that change as on a real one, and that are sometimes unknown."""

    def __init__(self, name: str, offline_share: float = 0.02) -> None:
        """`offline_share` is the part of all hours in which the host is off."""
        self.name = name
        self._offline_share = offline_share
        self._random = random.Random(name)
        self._offline_hours: dict[int, bool] = {}
        self._cpu = 20.0
        self.gpus = [f"GPU-{self._random.randrange(16**8):08x}-{index}" for index in range(2)]

    def machine(self) -> Machine:
        """The host as a machine file declares it."""
        declared = {
            "name": self.name,
            "role": "bench",
            "hardware": {},
            "network": {"hostname": "127.0.0.1"},
            "models": [LOADED_MODEL.model],
        }
        return Machine(
            name=self.name,
            file=f"{self.name}.yaml",
            role="bench",
            hostname="127.0.0.1",
            port=11434,
            endpoints={one.kind: one for one in (SIDECAR, OLLAMA)},
            models=(LOADED_MODEL.model,),
            declared=declared,
            declared_json={key: json.dumps(value) for key, value in declared.items()},
        )

    def sample(self, at: float) -> Sample:
        """The sample of the cycle that begins at `at`."""
        offline = self._offline_hours.setdefault(int(at // 3600), self._random.random() < self._offline_share)
        state = State.UNREACHABLE if offline else State.OK
        reason = "connection refused" if offline else None
        took = 0.003 + 0.01 * self._random.random()
        host, models = (
            (None, None)
            if offline
            else (RuntimeState(host=self._host(at)), RuntimeState(models=(LOADED_MODEL,)))
        )
        return Sample(
            self.name,
            {
                endpoint.kind: PollResult(self.name, endpoint, state, at + took, took, reason, answer)
                for endpoint, answer in ((SIDECAR, host), (OLLAMA, models))
            },
        )

    def _host(self, at: float) -> HostSample:
        chance = self._random.random
        self._cpu = min(100.0, max(0.0, self._cpu + 20 * chance() - 10))
        ram, disk = int((30 + 60 * chance()) * GIB), int((900 + at % DAY_S / 1000 + chance()) * GIB)
        return HostSample(
            cpu_percent=None if chance() < 0.01 else round(self._cpu, 1),
            load_1m=round(self._cpu / 3 * chance(), 2),
            load_5m=round(self._cpu / 3 * chance(), 2),
            load_15m=round(self._cpu / 3 * chance(), 2),
            ram_used_bytes=ram,
            ram_total_bytes=128 * GIB,
            ram_available_bytes=128 * GIB - ram,
            disk_used_bytes=disk,
            disk_total_bytes=8000 * GIB,
            disk_available_bytes=8000 * GIB - disk,
            uptime_s=round(at % 10_000_000, 1),
            gpu=tuple(self._gpu(index, uuid) for index, uuid in enumerate(self.gpus)),
        )

    def _gpu(self, index: int, uuid: str) -> GpuSample:
        chance = self._random.random
        used = int(24 * chance() * 2**10) * 2**20
        return GpuSample(
            index=index,
            uuid=uuid,
            model="24GB consumer GPU",
            memory_kind="dedicated",
            vram_total_bytes=24 * GIB,
            vram_used_bytes=used,
            vram_free_bytes=24 * GIB - used,
            utilisation=round(100 * chance()),
            temperature_c=round(40 + 40 * chance()),
            power_w=None if chance() < 0.02 else round(30 + 400 * chance(), 1),
        )


def fill(
    path: Path,
    hosts: Sequence[Host],
    past: Sequence[Period],
    *,
    retention: Retention = DEFAULT_RETENTION,
    on_sample: OnSample | None = None,
) -> int:
    """Write the history of `hosts`, an hour at a time, with rollups; returns the number of samples.

    Each sample is passed to `on_sample`.
    """
    migrate(path)
    connection = open_writer(path)
    rollups = Rollups(connection, retention)
    max_gap_s = 3.0 * max(one.interval_s for one in past)
    writer = SampleWriter(connection, max_gap_s, rollups)
    writer.write([Registry(tuple(host.machine() for host in hosts), loaded_at=past[0].from_s)])
    written, before_s = 0, past[0].from_s
    for hour_s, cycles in _hours(past):
        items: list[Sample | Cycle] = []
        for at, interval_s in cycles:
            samples = [host.sample(at) for host in hosts]
            items += samples
            items.append(Cycle(at, at + 0.1, interval_s, 2))
            if on_sample is not None:
                for sample in samples:
                    on_sample(sample)
            written += len(samples)
        writer.write(items)
        elapsed_s, before_s = hour_s - before_s, hour_s
        while rollups.step(hour_s, elapsed_s):
            elapsed_s = 0
    connection.close()
    return written


def _hours(past: Sequence[Period]) -> Iterator[tuple[int, list[tuple[float, int]]]]:
    """The end of every hour, and when its cycles began: never on a full second, as in production."""
    for period in past:
        for from_s in range(period.from_s, period.to_s, 3600):
            to_s = min(from_s + 3600, period.to_s)
            ats = range(from_s, to_s, period.interval_s)
            yield to_s, [(at + 0.137, period.interval_s) for at in ats]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--machines", default=1, show_default=True)
@click.option("--days", default=365.0, show_default=True)
@click.option("--interval", default=5, show_default=True, help="Seconds between two cycles.")
def main(file: Path, machines: int, days: float, interval: int) -> None:
    """Write a database FILE with the history of machines up to now; a year at 5 s takes about ten minutes."""
    if file.exists():
        click.echo(f"{file} exists already", err=True)
        sys.exit(2)
    hosts = [Host(f"bench{number}") for number in range(machines)]
    began = time.monotonic()
    written = fill(file, hosts, periods(int(time.time()), [(days, interval)]))
    took_s = time.monotonic() - began
    click.echo(f"{written} samples in {took_s:.1f} s, {file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
