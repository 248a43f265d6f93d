"""A primary and a standby: no granted lease is lost, and none is granted that could be lost."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from math import inf
from pathlib import Path

import psycopg
import pytest

from machines_server.contract.errors import answer_to
from machines_server.errors import StoreError, UnreachableStoreError
from tests.fakes import wait_until
from tests.postgres import Postgres, Standby, folder_of_postgres, pair, succeeds
from tests.store.booking import WARM, reserve
from tests.store.postgres.agents import FREE_GB, Agent, few_machines, leases_at, most_promised, promises_in

Pair = tuple[Postgres, Standby, str]


@pytest.fixture
def servers() -> Iterator[Pair]:
    with folder_of_postgres() as folder, pair(folder) as made:
        yield made


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_failover_loses_no_lease_and_promises_nothing_twice(
    servers: Pair, opened: ExitStack, tmp_path: Path
) -> None:
    primary, standby, url = servers
    fleet = few_machines(6)
    agents = [
        Agent(leases, fleet, tmp_path / f"{number}", number)
        for number, leases in enumerate([leases_at(url, opened) for _ in range(2)] * 3)
    ]
    until = time.monotonic() + 90
    stop = threading.Event()
    with ThreadPoolExecutor(len(agents)) as threads:
        running = [threads.submit(agent.work, until, stop) for agent in agents]
        wait_until(lambda: all(agent.granted > 5 for agent in agents), 60)
        primary.kill()
        standby.promote()
        before = [agent.granted for agent in agents]
        wait_until(
            lambda: all(agent.granted > count for agent, count in zip(agents, before, strict=True)), 60
        )
        stop.set()
        for one in running:
            one.result()
    promises = list(promises_in(tmp_path.iterdir(), inf))
    assert max(most_promised(promises).values()) <= FREE_GB
    # Rows of leases that have ended are there for two minutes, too.
    with psycopg.connect(standby.url(url.rpartition("/")[2])) as connection:
        known = {lease for (lease,) in connection.execute("SELECT id FROM lease")}
    granted = {one.lease for one in promises}
    assert granted
    assert granted <= known


def test_a_primary_that_is_cut_off_from_its_standby_promises_nothing(
    servers: Pair, opened: ExitStack
) -> None:
    _, standby, url = servers
    leases = leases_at(url, opened)
    kept = reserve(leases)
    assert leases.fault() is None
    standby.signal_all(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(UnreachableStoreError) as refused:
        reserve(leases)
    assert time.monotonic() - began < 60
    answer = answer_to(refused.value)
    assert answer is not None
    assert (answer.status, answer.retry_after_s) == (503, 1)
    assert leases.fault() == str(refused.value)
    with pytest.raises(StoreError):
        leases.release(WARM, kept.id)
    assert kept.id in [lease.id for lease in leases.read().leases]
    standby.signal_all(signal.SIGCONT)
    wait_until(lambda: succeeds(lambda: reserve(leases)))
    assert leases.fault() is None


def test_a_lease_that_only_the_primary_has_is_not_confirmed_to_who_asks_again(
    servers: Pair, opened: ExitStack
) -> None:
    primary, standby, url = servers
    leases = leases_at(url, opened)
    leases.release(WARM, reserve(leases).id)  # what it locks is known from then on
    standby.signal_all(signal.SIGSTOP)
    with pytest.raises(UnreachableStoreError):
        reserve(leases, key="k")
    # It was cancelled, and is on the primary alone.
    with psycopg.connect(primary.url(url.rpartition("/")[2]), autocommit=True) as connection:
        key = "SELECT FROM lease WHERE idempotency_key = 'k'"
        wait_until(lambda: connection.execute(key).fetchall())
    other = leases_at(url, opened)
    with pytest.raises(UnreachableStoreError):
        reserve(other, key="k")
    standby.signal_all(signal.SIGCONT)
    wait_until(lambda: succeeds(lambda: reserve(other)))
    assert reserve(other, key="k").id == reserve(leases_at(url, opened), key="k").id
