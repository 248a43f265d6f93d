"""The polling process is killed at any moment, and a year is read while it polls: nothing is lost or late."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from bench.fill import DAY_S, Host, Period, fill
from machines_server.core.past.metrics import MACHINE_METRICS
from machines_server.core.sample import HostSample, PollResult, RuntimeState, Sample, State
from machines_server.store.sqlite.connection import open_reader, open_writer
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention
from tests.bodies import gpu_body
from tests.core.machines import SIDECAR
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer
from tests.store.sqlite.telemetry.folds import rollups_that_differ

KILLS = int(os.environ.get("MACHINES_TEST_KILLS", "12"))
KEEP_ALL = Retention(raw_s=1e9, minute_s=1e9, hour_s=1e9)
MACHINES = 5


@contextmanager
def between_two_runs(path: Path) -> Iterator[tuple[sqlite3.Connection, Rollups]]:
    """The database, written by the test while nobody polls; it deletes nothing."""
    with closing(open_writer(path)) as connection:
        yield connection, Rollups(connection, KEEP_ALL)


def add_old_samples(path: Path, from_s: int, to_s: int) -> int:
    """Write samples of all machines that no rollup holds yet; returns how many."""
    names = [f"host{number}" for number in range(MACHINES)]
    samples = [_old(name, at) for at in range(from_s, to_s, 20) for name in names]
    with between_two_runs(path) as (connection, rollups):
        SampleWriter(connection, 1e9, rollups).write(samples)
    return len(samples)


def _old(name: str, at: float) -> Sample:
    answer = RuntimeState(host=HostSample(cpu_percent=at % 97, uptime_s=at))
    result = PollResult(name, SIDECAR, State.OK, at, 0.01, None, answer)
    return Sample(name, {"sidecar": result})


def acknowledged(connection: sqlite3.Connection, since_ms: int) -> tuple[int, int]:
    """The end of the latest cycle, and how many samples there are."""
    (ended_ms,) = connection.execute("SELECT coalesce(max(ended_at_ms), 0) FROM poll_span").fetchone()
    (samples,) = connection.execute("SELECT count(*) FROM sample WHERE at_ms >= ?", (since_ms,)).fetchone()
    return ended_ms, samples


def test_a_poller_that_is_killed_at_any_moment_loses_nothing_that_was_seen(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    chance = random.Random(KILLS)
    path = tmp_path / "var" / "telemetry.db"
    server = RunningServer(
        tmp_path, command="poll", MACHINES_POLL_INTERVAL_S="0.7", MACHINES_POLL_TIMEOUT_S="0.6"
    )
    for number in range(MACHINES):
        sidecar = fakes.sidecar(gpu_body(0, used_gb=number))
        server.write(f"host{number}.yaml", machine_yaml(f"host{number}", sidecar, fakes.ollama("m")))
    since_ms = round(time.time() * 1000)
    old_until_s = since_ms // 3_600_000 * 3600
    with server:
        wait_until(lambda: path.exists() and _samples(path, since_ms) >= MACHINES)
        server.process.kill()
        server.process.wait()
    old_samples = left = add_old_samples(path, old_until_s - (KILLS + 2) * 3600, old_until_s)
    seen, samples, runs_that_deleted = (0, 0), 0, 0
    for kill in range(KILLS):
        server.settings["MACHINES_RETENTION_RAW"] = f"{KILLS - kill + 1}h"  # so that each deletes an hour
        with server, closing(open_reader(path)) as watching:
            if kill % 3:  # the others may be killed while they start
                wait_until(partial(_has_more_samples, watching, since_ms, samples))
            until = time.monotonic() + chance.uniform(0.1, 1.4)
            while time.monotonic() < until:
                seen = acknowledged(watching, since_ms)
                time.sleep(0.005)
            server.process.kill()
            server.process.wait()
        with closing(sqlite3.connect(path)) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",), kill
            ended_ms, samples = acknowledged(opened, since_ms)
            assert ended_ms >= seen[0], kill
            assert samples >= seen[1], kill
            before, left = left, acknowledged(opened, 0)[1] - samples
            runs_that_deleted += left < before
    with between_two_runs(path) as (connection, rollups):
        while rollups.step(time.time() + 2 * 3600, 0):
            pass
        assert rollups_that_differ(connection) == []
        (rolled,) = connection.execute(
            "SELECT sum(up_n) FROM sample_1h WHERE at_s < ?", (old_until_s,)
        ).fetchone()
        assert rolled == old_samples
    assert seen[1] > KILLS * MACHINES / 2
    assert runs_that_deleted > KILLS / 4


def _has_more_samples(connection: sqlite3.Connection, since_ms: int, samples: int) -> bool:
    return acknowledged(connection, since_ms)[1] > samples


def _samples(path: Path, since_ms: int) -> int:
    with closing(sqlite3.connect(path)) as connection:
        try:
            return acknowledged(connection, since_ms)[1]
        except sqlite3.OperationalError:  # the schema is being made
            return 0


@pytest.mark.slow
@pytest.mark.long
def test_reading_a_year_of_the_past_delays_no_cycle(tmp_path: Path, fakes: FakeFleet) -> None:
    path = tmp_path / "var" / "telemetry.db"
    now_s = int(time.time())
    past = [Period(now_s - 365 * DAY_S, now_s - 2 * DAY_S, 1800), Period(now_s - 2 * DAY_S, now_s, 30)]
    fill(path, [Host("old")], past)
    machines = tmp_path / "machines"
    machines.mkdir()
    for number in range(100):
        address = f"127.0.4.{number + 1}"
        sidecar, ollama = (
            fakes.sidecar(gpu_body(0, used_gb=1), address=address),
            fakes.ollama("m", address=address),
        )
        (machines / f"host{number}.yaml").write_text(machine_yaml(f"host{number}", sidecar, ollama))
    metrics = ",".join(metric.name for metric in MACHINE_METRICS)
    question = f"/api/machines/old/history?metric={metrics}&from=-365d&step=3600"
    points: list[int] = []
    ended = threading.Event()

    def read(url: str) -> None:
        with requests.Session() as session:
            while not ended.is_set():
                answer = session.get(url, timeout=30).json()
                points.append(len(answer["series"][0]["points"]))

    with RunningServer(tmp_path) as server:
        wait_until(lambda: _cycle_started_ms(path))
        readers = [threading.Thread(target=read, args=[server.url + question]) for _ in range(4)]
        for reader in readers:
            reader.start()
        starts: list[int] = []

        def cycles() -> bool:
            started_ms = _cycle_started_ms(path)
            if started_ms and started_ms not in starts:
                starts.append(started_ms)
            return len(starts) >= 8

        wait_until(cycles)
        ended.set()
        for reader in readers:
            reader.join()
    assert len(points) >= 4
    assert min(points) > 8000
    interval_ms = 1000
    assert max(after - before for before, after in pairwise(starts)) < 2 * interval_ms, starts
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(
            "SELECT count(*) FROM poll_span WHERE ended_at_ms >= ?", (starts[0],)
        ).fetchone() == (1,)


def _cycle_started_ms(path: Path) -> int | None:
    """When the latest cycle of the server began."""
    with closing(open_reader(path)) as connection:
        row = connection.execute(
            "SELECT cycle_started_at_ms FROM poll_span WHERE interval_s = 1 ORDER BY id DESC LIMIT 1"
        ).fetchone()
    return row[0] if row else None
