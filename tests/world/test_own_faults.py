"""Whatever goes wrong with the server itself, no machine is shown offline, and all recovers afterwards."""

import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.fakes import FakeFleet, wait_until
from tests.running import RunningServer
from tests.world.scene import HOSTS, INTERVAL_S, TIMEOUT_S, declare, scene, tell

pytestmark = pytest.mark.slow

LOCKED_S, STOPPED_S, KILLS = 30.0, 3 * INTERVAL_S + 0.5, 60
LEASES_LOCKED_S, ASKERS, CLIENT_TIMEOUT_S = 10.0, 24, 10.0
"""More ask than the server has threads; the time-out is the one of our client."""
UNKNOWN_AFTER_S = 2 * INTERVAL_S + TIMEOUT_S + 2
OF_KILLED_POLLERS = {"poller: no poller is running", "poller: the poller is stalled"}
"""All that /health may say while pollers are killed: it is of ourselves, and true."""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_database_locked_for_long_by_another_program(
    tmp_path: Path, fakes: FakeFleet, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    with scene(tmp_path, declare(tmp_path, fakes)) as seen:
        with closing(sqlite3.connect(seen.database, isolation_level=None)) as other:
            began = time.monotonic()
            other.execute(f"BEGIN {kind}")
            unknown_s = seen.wait_for_all("unknown", began, UNKNOWN_AFTER_S)
            word = seen.wait_for_word("locked", began, 5)
            time.sleep(began + LOCKED_S - time.monotonic())
            assert "locked" in str(seen.server.get("/health").json()["store"]["message"])
            other.execute("ROLLBACK")
        ended = time.monotonic()
        well_s = seen.wait_until_well(ended)
        assert seen.longest_gap_s(began) < 2 * INTERVAL_S
        assert seen.unwritten(began, ended) == []
        assert seen.watch.failures == []
        tell(
            capsys,
            f"database locked {LOCKED_S:g} s ({kind}): unknown after {unknown_s:.1f} s, {word!r}, "
            f"well {well_s:.1f} s after it ended, every sample of the {LOCKED_S:g} s is there",
        )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_leases_locked_by_another_program(
    tmp_path: Path, fakes: FakeFleet, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    with scene(tmp_path, declare(tmp_path, fakes)) as seen, ThreadPoolExecutor(ASKERS) as askers:
        body = {"model": "phi3:mini", "ttl_s": 600}
        wait_until(lambda: seen.server.post("/api/leases", body).status_code == 201)

        def ask(number: int) -> tuple[str, int, str, float]:
            began = time.monotonic()
            if number % 2:
                what, answer = "lease", seen.server.post("/api/leases", body)
            else:
                what, answer = "advice", seen.server.get("/api/route?model=phi3:mini")
            return what, answer.status_code, answer.json().get("message", ""), time.monotonic() - began

        began, answers = time.monotonic(), list[tuple[str, int, str, float]]()
        with closing(sqlite3.connect(seen.server.data / "coordination.db", isolation_level=None)) as other:
            other.execute(f"BEGIN {kind}")
            while time.monotonic() < began + LEASES_LOCKED_S:
                answers += askers.map(ask, range(ASKERS))
            other.execute("ROLLBACK")
        refused = (503, "The database cannot be used: coordination.db: database is locked.")
        advice = {"IMMEDIATE": (200, ""), "EXCLUSIVE": refused}[kind]
        assert {one[:3] for one in answers} == {("lease", *refused), ("advice", *advice)}
        slowest_s = max(took_s for *_, took_s in answers)
        assert slowest_s < CLIENT_TIMEOUT_S
        assert {status for _, status, _, _ in askers.map(ask, range(ASKERS))} == {200, 201}
        assert seen.server.get("/api/leases").json()["total"] == 1 + ASKERS // 2
        assert seen.watch.seen(began) == {"online"}
        assert seen.watch.failures == []
        assert seen.longest_gap_s(began) < 2 * INTERVAL_S
        tell(
            capsys,
            f"leases locked {LEASES_LOCKED_S:g} s ({kind}): {len(answers)} answers, slowest {slowest_s:.1f} s"
            f", advice {advice}, leases {refused}; well at once, all machines online throughout",
        )
    with closing(sqlite3.connect(seen.server.data / "coordination.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.long
def test_a_polling_process_that_is_stopped_for_three_intervals(
    tmp_path: Path, fakes: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    with scene(tmp_path, declare(tmp_path, fakes)) as seen:
        for _ in range(3):
            poller = seen.server.poller_pid()
            began = time.monotonic()
            os.kill(poller, signal.SIGSTOP)
            try:
                time.sleep(STOPPED_S)
            finally:
                os.kill(poller, signal.SIGCONT)
            ended = time.monotonic()
            unknown_s = seen.wait_for_all("unknown", began, STOPPED_S + 1)
            word = seen.wait_for_word("stalled", began, 1)
            well_s = seen.wait_until_well(ended)
            assert seen.server.poller_pid() == poller
            told.append(f"unknown after {unknown_s:.1f} s, well {well_s:.1f} s after it went on")
        assert seen.watch.failures == []
        tell(capsys, f"poller stopped {STOPPED_S:g} s: {'; '.join(told)}; {word!r}")


@contextmanager
def without_descriptors(pid: int) -> Iterator[None]:
    """A process that can open no file and no connection more; what it has open, it keeps."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("polls", [pytest.param("process apart", marks=pytest.mark.long), "worker"])
def test_file_descriptors_of_what_polls_run_out(
    tmp_path: Path, fakes: FakeFleet, capsys: pytest.CaptureFixture[str], polls: str
) -> None:
    hosts = declare(tmp_path, fakes)
    for name in HOSTS[:2]:  # the others keep their connections, and so can still be asked
        closing_each = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        hosts[name].answer = (hosts[name].answer or b"").replace(b"HTTP/1.1 200 OK\r\n", closing_each)
    with ExitStack() as stack:
        if polls == "worker":
            seen = stack.enter_context(scene(tmp_path, hosts))
        else:
            stack.enter_context(RunningServer(tmp_path, command="poll"))
            seen = stack.enter_context(scene(tmp_path, hosts, MACHINES_POLLER="off"))
        poller = seen.server.poller_pid()
        began = time.monotonic()
        with without_descriptors(poller):
            word = seen.wait_for_word("could not open a connection", began, 10)
            wait_until(lambda: [one for one in seen.server.fleet().values() if one["status"] == "unknown"])
            unknown_s = time.monotonic() - began
            time.sleep(began + 10 - time.monotonic())
            fleet = {name: one["status"] for name, one in seen.server.fleet().items()}
            assert "could not open a connection" in seen.server.get("/health").json()["poller"]["message"]
        ended = time.monotonic()
        well_s = seen.wait_until_well(ended)
        wait_until(lambda: seen.server.get("/health").json()["poller"]["message"] is None)
        assert seen.server.poller_pid() == poller
        assert seen.watch.failures == []
        unknown = {name for name, status in fleet.items() if status == "unknown"}
        assert unknown == set(HOSTS[:2]), fleet
        tell(
            capsys,
            f"poller ({polls}) without file descriptors 10 s: {word!r}, {len(unknown)} hosts that need a new "
            f"connection unknown after {unknown_s:.1f} s, the others online, well {well_s:.1f} s after",
        )


def test_file_descriptors_of_a_worker_that_answers_run_out(
    tmp_path: Path, fakes: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    with scene(tmp_path, declare(tmp_path, fakes)) as seen:
        poller, before = seen.server.poller_pid(), _workers(seen.server)
        starved = min(before - {poller})
        began = time.monotonic()
        with without_descriptors(starved):
            wait_until(
                lambda: "cannot accept connections: Too many open files" in seen.server.log.read_text()
            )
            answers = seen.watch.answers
            wait_until(lambda: seen.watch.answers > answers + 40)
        assert _workers(seen.server) == before
        seen.wait_until_well(time.monotonic())
        assert seen.server.poller_pid() == poller
        assert seen.watch.seen(began) == {"online"}
        assert seen.watch.failures == []
        assert seen.watch.said(began) == set()
        assert seen.longest_gap_s(began) < 2 * INTERVAL_S
        tell(
            capsys,
            f"a worker that answers without file descriptors: the other one answers, none of"
            f" {seen.watch.answers} answers failed, all machines online throughout",
        )


def _workers(server: RunningServer) -> set[int]:
    return {worker.pid for worker in psutil.Process(server.process.pid).children()}


@pytest.mark.long
def test_a_worker_is_killed_every_second_for_a_minute(
    tmp_path: Path, fakes: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(KILLS)
    pollers: set[int] = set()
    with scene(tmp_path, declare(tmp_path, fakes)) as seen:
        began = time.monotonic()
        for kill in range(1, KILLS + 1):
            workers = wait_until(psutil.Process(seen.server.process.pid).children)
            pollers.add(seen.server.poller_pid())
            chance.choice(workers).kill()
            seen.note_committed()
            time.sleep(max(0.0, began + kill - time.monotonic()))
        ended = time.monotonic()
        well_s = seen.wait_until_well(ended)
        failures, answers = seen.watch.failures, seen.watch.answers
        gap_s = seen.longest_gap_s(began)
        assert len(failures) <= KILLS, failures  # at most the answer that was being given
        assert answers > KILLS
        assert gap_s < 4 * INTERVAL_S
        assert len(pollers) > 1
        said = {fault.partition(";")[0] for fault in seen.watch.said(began)}
        assert said <= OF_KILLED_POLLERS
        unknown = sum("unknown" in fleet.values() for _, fleet in seen.watch.statuses)
        tell(
            capsys,
            f"a worker killed {KILLS} times in {ended - began:.0f} s: {len(failures)} of {answers} answers "
            f"failed, {len(pollers)} processes polled, no host unasked for more than {gap_s:.1f} s, "
            f"{unknown} of {len(seen.watch.statuses)} looks saw unknown, /health said {sorted(said)},"
            f" well {well_s:.1f} s after the last",
        )
