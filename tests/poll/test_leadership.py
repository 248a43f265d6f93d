"""Who polls: one of several threads and processes, and later another one."""

import subprocess
import sys
import time
from pathlib import Path

from machines_server.core.sample import Cycle
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from tests.fakes import FakeFleet, wait_until
from tests.poll.world import World


def test_a_poller_can_run_again_after_it_was_stopped(world: World, fakes: FakeFleet) -> None:
    world.declare("one", fakes.ollama())
    for number in (1, 2):
        with world.polled(300, 5):
            wait_until(lambda: len(world.came(Cycle)) > world.closed)
        assert world.closed == number


def test_a_new_leader_polls_at_once(world: World) -> None:
    with world.polled(600, 0.5):
        wait_until(lambda: world.came(Cycle))


def test_only_one_of_two_pollers_of_one_process_leads(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.lock = world.lock
    with world.polled(0.5, 0.3):
        wait_until(lambda: world.came(Cycle))
        with other.polled(0.5, 0.3):
            seen = len(world.came(Cycle))
            wait_until(lambda: len(world.came(Cycle)) >= seen + 3)
            assert other.items == []


def test_a_poller_that_cannot_make_its_lock_waits_until_it_can(world: World) -> None:
    world.lock.parent.write_text("in the way")
    with world.polled(300, 5):
        time.sleep(0.6)  # it tries twice
        assert world.items == []
        world.lock.parent.unlink()
        wait_until(lambda: world.came(Cycle))


def test_of_two_processes_one_leads_and_the_other_takes_over_when_it_is_killed(tmp_path: Path) -> None:
    lock, interval_s = tmp_path / "poller.lock", 15.0
    output = tmp_path / "cycles"
    with output.open("ab") as cycles:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.poll.leader", str(lock), str(interval_s)], stdout=cycles
            )
            for _ in range(2)
        ]

    def cycles_of(pid: int) -> list[float]:
        lines = [line.split() for line in output.read_text().splitlines()]
        return [float(at) for process, at in lines if int(process) == pid]

    try:
        wait_until(lambda: (one := PollerLock(lock).leader()) and one.pid)  # which it writes a moment later
        leader = PollerLock(lock).leader()
        assert leader is not None
        first, second = sorted(processes, key=lambda process: process.pid != leader.pid)
        assert first.pid == leader.pid
        wait_until(lambda: cycles_of(first.pid))
        assert cycles_of(second.pid) == []
        first.kill()
        killed_at = time.time()
        first.wait()
        wait_until(lambda: cycles_of(second.pid))
        assert cycles_of(second.pid)[0] - killed_at < interval_s
        found = PollerLock(lock).leader()
        assert found is not None
        assert found.pid == second.pid
        second.terminate()
        assert second.wait(20) == 0
        assert PollerLock(lock).leader() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()
