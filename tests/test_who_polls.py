"""One process of the running server polls; whatever becomes of it, no host is blamed."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sized
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import requests

from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, wait_for_status

INTERVAL_S, SLOWER_S = 1.0, 3.0


def _is_another(server: RunningServer, poller: int) -> bool:
    return server.poller_pid() != poller


def _more_than(there: Sized, number: int) -> bool:
    return len(there) > number


@pytest.fixture
def slower(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that polls so seldom that the start of a process is short beside it, on a busy machine too."""
    pace, timeout = str(SLOWER_S), str(SLOWER_S / 2)
    with RunningServer(tmp_path, MACHINES_POLL_INTERVAL_S=pace, MACHINES_POLL_TIMEOUT_S=timeout) as running:
        yield running


def test_when_the_polling_worker_is_killed_another_polls_within_an_interval(
    slower: RunningServer, fakes: FakeFleet
) -> None:
    server, sidecar = slower, fakes.sidecar()
    server.write("one.yaml", machine_yaml("one", sidecar, fakes.ollama()))
    wait_for_status(server, "one", "online")
    statuses: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            try:
                statuses.append(server.fleet()["one"]["status"])
            except requests.ConnectionError:
                continue  # it was being answered by the worker that was killed

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = len(sidecar.asked_at) - 1  # a new machine is polled at once, and so may be close to a cycle
    for _ in range(6):
        asked = len(sidecar.asked_at)
        os.kill(server.poller_pid(), signal.SIGKILL)
        wait_until(partial(_more_than, sidecar.asked_at, asked + 1))
    ended.set()
    watcher.join()
    assert set(statuses) == {"online"}
    gaps = [later - earlier for earlier, later in pairwise(sidecar.asked_at[before:])]
    assert max(gaps) < 2 * SLOWER_S + 2, gaps  # one cycle may be lost, not two
    assert sum(gap < SLOWER_S / 2 for gap in gaps) <= 6, gaps  # at most one early poll for each take-over
    connection = sqlite3.connect(server.data / "telemetry.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_worker_that_polls_takes_no_connections(server: RunningServer) -> None:
    port = int(server.settings["MACHINES_PORT"])
    for _ in range(3):
        poller = server.poller_pid()
        time.sleep(1.5)  # the workers that answer are there
        sessions = [requests.Session() for _ in range(16)]
        for session in sessions:
            assert session.get(f"{server.url}/health", timeout=10).ok
        served = psutil.Process(poller).net_connections()
        assert not [one for one in served if one.status == "ESTABLISHED" and one.laddr.port == port]
        for session in sessions:
            session.close()
        os.kill(poller, signal.SIGKILL)
        wait_until(partial(_is_another, server, poller))


def test_a_poller_that_stops_makes_machines_unknown_and_never_offline(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    with RunningServer(tmp_path, MACHINES_POLLER="off") as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
        assert server.fleet()["one"]["status"] == "unknown"
        assert server.get("/health/ready").status_code == 503
        settings = {name: value for name, value in server.settings.items() if name != "MACHINES_POLLER"}
        with RunningServer(tmp_path, command="poll", **settings) as poller:
            wait_for_status(server, "one", "online")
            assert server.get("/health/ready").status_code == 200
            poller.process.send_signal(signal.SIGSTOP)
            stalled = wait_for_status(server, "one", "unknown")
            assert "stalled" in stalled["status_reason"]
            assert stalled["loaded_models"] == []
            assert server.get("/health").json()["poller"]["state"] == "stalled"
            poller.process.send_signal(signal.SIGCONT)
            wait_for_status(server, "one", "online")
        wait_until(lambda: server.get("/health").json()["poller"]["state"] == "stopped")
        assert server.fleet()["one"]["status"] == "unknown"
        refused = server.get("/health/ready")
        assert (refused.status_code, refused.json()["error"]) == (503, "not_ready")


def test_a_stopped_poller_does_not_blame_the_hosts_when_it_goes_on(tmp_path: Path, fakes: FakeFleet) -> None:
    with RunningServer(tmp_path, MACHINES_POLLER="off") as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
        settings = {name: value for name, value in server.settings.items() if name != "MACHINES_POLLER"}
        with RunningServer(tmp_path, command="poll", **settings) as poller:
            wait_for_status(server, "one", "online")
            for _ in range(2):
                poller.process.send_signal(signal.SIGSTOP)
                time.sleep(3 * INTERVAL_S)
                poller.process.send_signal(signal.SIGCONT)
                statuses = set()
                until = time.monotonic() + INTERVAL_S
                while time.monotonic() < until:
                    statuses.add(server.fleet()["one"]["status"])
                assert statuses <= {"online", "unknown"}


def test_two_servers_with_different_folders_on_one_database_say_so(tmp_path: Path, fakes: FakeFleet) -> None:
    with RunningServer(tmp_path) as first:
        first.poller_pid()
        (tmp_path / "other").mkdir()
        other = {"MACHINES_DATA_DIR": str(first.data)}
        with RunningServer(tmp_path / "other", **other) as second:
            second.write("two.yaml", machine_yaml("two", fakes.sidecar(), fakes.ollama()))
            machine = wait_for_status(second, "two", "unknown")
            assert f"polls the machine files of another folder, {first.machines}" in machine["status_reason"]
            assert second.get("/health/ready").status_code == 503
            assert second.get("/health").json()["poller"]["state"] == "stopped"
            wait_until(lambda: "each server needs its own MACHINES_DATA_DIR" in second.log.read_text())
        assert first.get("/health/ready").ok


def test_a_lock_file_that_is_deleted_leaves_one_poller(server: RunningServer, fakes: FakeFleet) -> None:
    sidecar = fakes.sidecar()
    server.write("one.yaml", machine_yaml("one", sidecar, fakes.ollama()))
    wait_for_status(server, "one", "online")
    (server.data / "poller.lock").unlink()
    wait_until(lambda: "lock was deleted" in server.log.read_text())
    asked = len(sidecar.asked_at) + 1
    wait_until(partial(_more_than, sidecar.asked_at, asked + 6))
    took_s = sidecar.asked_at[asked + 6] - sidecar.asked_at[asked]
    assert took_s > 0.6 * 6 * INTERVAL_S  # two pollers would ask twice as often
    assert wait_for_status(server, "one", "online")
