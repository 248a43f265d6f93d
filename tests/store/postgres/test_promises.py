"""Many servers and agents on a few GPUs: never more is promised than there is, whoever dies or stalls."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from tests.fakes import wait_until
from tests.postgres import Postgres
from tests.store.postgres.agents import (
    FREE_GB,
    Agent,
    few_machines,
    leases_at,
    most_promised,
    promises_in,
    work,
)

SERVERS, LASTS_S = 4, 6.0


def killed(process: SpawnProcess) -> None:
    process.kill()


def stalled(process: SpawnProcess) -> None:
    """Longer than others wait for a lock, so that they fail, and do without what it holds."""
    pid = process.pid or 0
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(4.0, os.kill, (pid, signal.SIGCONT)).start()


@pytest.mark.parametrize("disturbance", [None, killed, stalled])
def test_never_more_is_promised_than_there_is(
    postgres: Postgres, tmp_path: Path, disturbance: Callable[[SpawnProcess], None] | None
) -> None:
    url, context = postgres.new_database(), multiprocessing.get_context("spawn")
    until = time.monotonic() + 60
    processes = []
    try:
        for seed in range(SERVERS):
            processes.append(context.Process(target=work, args=(url, tmp_path, seed, until)))
            processes[-1].start()
        wait_until(lambda: len(granted(tmp_path)) >= 3 * SERVERS, 60)
        began = time.monotonic()
        if disturbance:
            disturbance(processes[0])
        time.sleep(LASTS_S)
        ended = time.monotonic()
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()
    promises = [one for one in promises_in(tmp_path.iterdir(), ended) if one.from_s < ended]
    assert [one for one in promises if one.from_s > began]
    assert most_promised(promises).keys() == {"m0-0", "m1-0", "m2-0"}
    most = max(most_promised(promises).values())
    assert most <= FREE_GB
    assert most > FREE_GB - 8, "or nobody had to be refused"


def granted(folder: Path) -> set[str]:
    return {line.split()[0] for path in folder.iterdir() for line in path.read_text().splitlines()}


def test_what_would_be_promised_twice_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a m0-0 16106127360 1.0 5.0 held\na m0-0 16106127360 1.0 4.0 released\n")
    (tmp_path / "two").write_text("b m0-0 16106127360 3.0 9.0 held\nc m1-0 1073741824 1.0 9.0 held\n")
    assert most_promised(promises_in(tmp_path.iterdir(), 9.0)) == {"m0-0": 30.0, "m1-0": 1.0}


def test_agents_work_alone(postgres: Postgres, tmp_path: Path) -> None:
    with ExitStack() as opened:
        agent = Agent(leases_at(postgres.new_database(), opened), few_machines(), tmp_path / "notes", 1)
        agent.work(time.monotonic() + 2)
    assert agent.granted
    assert not agent.failed
