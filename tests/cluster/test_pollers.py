"""Pollers of several servers that start, end, die, freeze and thaw: each host is polled in time by one."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import pytest

from bench.simulation import simulated
from tests.cluster.pooler import Pooler
from tests.cluster.servers import Servers
from tests.fakes import wait_until
from tests.postgres import Postgres, folder_of_postgres
from tests.running import RunningServer
from tests.store.promql.engines import victoria_metrics

MAX_AGE_INTERVALS = 2.5
"""How long after a poll each host is polled again, whatever happens to pollers."""


class Size(NamedTuple):
    """How many hosts are polled, how often, and whether through PgBouncer."""

    hosts: int
    interval_s: float
    is_pooled: bool


FEW, MANY = Size(60, 2, is_pooled=False), Size(1000, 4, is_pooled=True)


class Watch:
    """Looks all the time at how old the latest poll of each host is, and at what servers say of hosts."""

    def __init__(self, servers: Servers, answering: RunningServer) -> None:
        self._servers, self._answering = servers, answering
        self.oldest, self.statuses, self._stop = 0.0, set[str](), Event()
        """The age of the oldest poll, in intervals, and all statuses that were told."""
        self._thread = Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            ((oldest_ms,),) = self._servers.rows("SELECT max(now_ms() - polled_at_ms) FROM latest")
            self.oldest = max(self.oldest, oldest_ms / 1000 / self._servers.interval_s)
            self.statuses |= {machine["status"] for machine in self._answering.fleet().values()}


@pytest.fixture(params=[pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.long)])
def servers(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Iterator[Servers]:
    with ExitStack() as stack:
        engine = stack.enter_context(victoria_metrics(tmp_path / "engine"))
        size: Size = request.param
        fleet = stack.enter_context(simulated(size.hosts, per_process=250))
        url = postgres.new_database()
        if size.is_pooled:
            folder = stack.enter_context(folder_of_postgres())
            url = stack.enter_context(Pooler(folder, postgres, url)).url
        made = Servers(tmp_path, url, engine, size.interval_s)
        stack.callback(made.database.close)
        fleet.declare(made.machines)
        yield made


@pytest.fixture
def answering(servers: Servers) -> Iterator[RunningServer]:
    """A server that does not poll."""
    with servers.server("answering", MACHINES_POLLER="off") as server:
        yield server


def poller(servers: Servers, name: str, **settings: str) -> RunningServer:
    """A process that only polls."""
    return servers.server(name, command="poll", **settings)


def is_well(server: RunningServer) -> bool:
    return {machine["status"] for machine in server.fleet().values()} == {"online"}


@pytest.mark.slow
def test_pollers_come_end_die_freeze_and_thaw(servers: Servers, answering: RunningServer) -> None:
    interval_s = servers.interval_s
    with ExitStack() as stack:
        first, second = (stack.enter_context(poller(servers, name)) for name in ("first", "second"))
        wait_until(lambda: servers.are_divided(2), 60)
        wait_until(lambda: is_well(answering), 60)
        with Watch(servers, answering) as watch:
            third = stack.enter_context(poller(servers, "third"))
            wait_until(lambda: servers.are_divided(3), 60)
            time.sleep(interval_s)
            assert watch.oldest <= MAX_AGE_INTERVALS, "one more has come"

            first.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            wait_until(lambda: servers.are_divided(2), 60)
            assert time.monotonic() - began < 5 * interval_s
            time.sleep(interval_s)
            assert watch.oldest <= MAX_AGE_INTERVALS, "one has ended"

            os.kill(second.process.pid, signal.SIGKILL)
            wait_until(lambda: servers.are_divided(1), 60)
            time.sleep(interval_s)
            assert watch.oldest <= MAX_AGE_INTERVALS, "one has died"

            fourth = stack.enter_context(poller(servers, "fourth"))
            wait_until(lambda: servers.are_divided(2), 60)
            time.sleep(2 * interval_s)
            os.kill(third.process.pid, signal.SIGSTOP)
            wait_until(lambda: servers.are_divided(1), 60)
            time.sleep(2 * interval_s)
            assert watch.oldest <= MAX_AGE_INTERVALS, "one is frozen"
            os.kill(third.process.pid, signal.SIGCONT)
            wait_until(lambda: servers.are_divided(2), 60)
            time.sleep(2 * interval_s)
            assert watch.oldest <= MAX_AGE_INTERVALS, "it has thawed"
        assert watch.statuses == {"online"}
        assert fourth.process.poll() is None
    events = [row[0] for row in servers.rows("SELECT type FROM event WHERE type IN ('offline', 'unknown')")]
    assert events == []
    twice = servers.rows("SELECT machine_id FROM event WHERE type = 'online' GROUP BY 1 HAVING count(*) > 1")
    assert twice == []
