"""The processes of a running server: some answer, exactly one polls, whatever happens to them."""

import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
import requests

from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from tests.bodies import gpu_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import ANEW, RunningServer, wait_for_status
from tests.web.raw import connect, send

GET_HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def server(tmp_path: Path, fakes: FakeFleet) -> RunningServer:
    running = RunningServer(tmp_path, prefix=ANEW)
    running.write("one.yaml", machine_yaml("one", fakes.sidecar(gpu_body(0, used_gb=1)), fakes.ollama("m")))
    return running


def workers(server: RunningServer) -> set[int]:
    return {child.pid for child in psutil.Process(server.process.pid).children()}


def polls_again(server: RunningServer, before: int) -> int:
    """The process that polls in the place of `before`, once all machines are known by it."""

    def another() -> int | None:
        found = PollerLock(server.data / "poller.lock").leader()
        return found.pid if found and found.pid not in (0, before) else None

    pid = wait_until(another)
    assert pid is not None
    assert wait_for_status(server, "one", "online")
    return pid


def test_who_polls_takes_no_connections_and_is_replaced_when_it_is_killed(server: RunningServer) -> None:
    with server:
        first = server.poller_pid()
        wait_until(lambda: len(workers(server)) == 3)
        assert first in workers(server)
        assert not [
            c
            for c in psutil.Process(first).net_connections("tcp")
            if c.status == "ESTABLISHED" and c.laddr.port == int(server.settings["MACHINES_PORT"])
        ]
        os.kill(first, signal.SIGKILL)
        second = polls_again(server, first)
        wait_until(lambda: len(workers(server)) == 3)
        assert second in workers(server)


def test_a_worker_that_answers_is_replaced_and_polling_goes_on(server: RunningServer) -> None:
    with server:
        poller = server.poller_pid()
        wait_until(lambda: len(workers(server)) == 3)
        others = workers(server) - {poller}
        for pid in others:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(workers(server)) == 3 and not others & workers(server))
        wait_until(lambda: requests.get(server.url + "/health", timeout=60).ok)
        assert server.poller_pid() == poller


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTTOU, signal.SIGTTIN])
def test_exactly_one_polls_after_a_reload_and_with_a_worker_more_or_fewer(
    server: RunningServer, number: signal.Signals
) -> None:
    with server:
        poller = server.poller_pid()
        wait_until(lambda: len(workers(server)) == 3)
        before = workers(server)
        server.process.send_signal(number)
        if number == signal.SIGTTIN:
            wait_until(lambda: len(workers(server)) == 4)
            assert server.poller_pid() == poller
        else:
            polls_again(server, poller)
            left = 2 if number == signal.SIGTTOU else 3
            wait_until(lambda: len(workers(server)) == left)
            if number == signal.SIGHUP:
                assert not before & workers(server)
        wait_until(lambda: requests.get(server.url + "/health/ready", timeout=60).ok)


def test_connections_of_a_worker_that_is_gone_count_no_more(tmp_path: Path) -> None:
    most = 10
    settings = {"MACHINES_WORKERS": "1", "MACHINES_MAX_CONNECTIONS_PER_ADDRESS": str(most)}
    with RunningServer(tmp_path, prefix=ANEW, **settings) as server, ExitStack() as stack:
        wait_until(lambda: len(workers(server)) == 2)
        before = workers(server)
        for _ in range(most):
            connection = stack.enter_context(connect(server.url))
            connection.sendall(b"POST /api/leases HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        wait_until(lambda: send(server.url, GET_HEALTH).status == 429)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(workers(server) - before) == 2)  # which have other rows than those before
        for pid in before:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not workers(server) & before)
        assert send(server.url, GET_HEALTH).status == 200


def test_all_end_when_the_server_is_killed(server: RunningServer) -> None:
    with server:
        poller = server.poller_pid()
        wait_until(lambda: len(workers(server)) == 3)
        left = [psutil.Process(pid) for pid in workers(server)]
        server.process.kill()
        server.process.wait()
        _, alive = psutil.wait_procs(left, timeout=10)
        assert not alive
        assert PollerLock(server.data / "poller.lock").leader() is None
        assert poller in {process.pid for process in left}


def test_with_a_poller_elsewhere_all_workers_answer(server: RunningServer) -> None:
    server.settings["MACHINES_POLLER"] = "off"
    with server:
        wait_until(lambda: len(workers(server)) == 2)
        assert PollerLock(server.data / "poller.lock").leader() is None
        assert server.get("/health").json()["poller"]["state"] == "stopped"


@pytest.mark.parametrize("wait_s", [0.0, 0.1, 0.2, 0.4])
def test_a_server_that_is_stopped_while_it_starts_ends_at_once(tmp_path: Path, wait_s: float) -> None:
    with RunningServer(tmp_path, prefix=ANEW) as server:
        os.kill(server.poller_pid(), signal.SIGKILL)  # another one starts
        time.sleep(wait_s)
        server.process.terminate()
        assert server.process.wait(timeout=30) == 0
    took = server.logged_at("Shutting down: Master") - server.logged_at("Handling signal: term")
    assert took.total_seconds() < 4.5  # a worker that misses the signal is killed after 5 s
    assert "Traceback" not in server.log.read_text()
