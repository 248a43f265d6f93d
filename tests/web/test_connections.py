"""Connections that are slow, stuck or many are ended, and the others are answered."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from machines_server.web.connections import HEADERS_TIMEOUT_S, PACE_SPAN_S, AddressCounts
from tests.fakes import wait_until
from tests.running import RunningServer
from tests.web.raw import connect, read

MACHINE = """name: {name}
role: r
hardware: {{}}
network: {{hostname: 127.0.0.1, port: 1, sidecar_port: 2}}
models: []
note: {note}
"""
ASKED = ("/health", "/api/infrastructure", "/api/route?model=m")
AT_MOST_S = 4 * (HEADERS_TIMEOUT_S + PACE_SPAN_S)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(tmp_path, MACHINES_MAX_CONNECTIONS_PER_ADDRESS="400") as running:
        yield running


@pytest.fixture
def large_fleet(server: RunningServer) -> RunningServer:
    """A server whose answers are too large for the buffers of a connection."""
    for number in range(60):
        server.write(f"m{number}.yaml", MACHINE.format(name=f"m{number}", note="x" * 40_000))
    for _ in range(40):  # both workers have read them then
        wait_until(lambda: server.get("/api/machines").json()["total"] == 60)
    return server


def is_open(connection: socket.socket) -> bool:
    """Whether the other side has not ended it; what it has sent is thrown away unread."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def test_connections_that_drip_or_never_read_silence_nobody_and_are_closed(
    large_fleet: RunningServer,
) -> None:
    server = large_fleet
    with ExitStack() as stack:
        dripping = [stack.enter_context(connect(server.url)) for _ in range(200)]
        posting = [stack.enter_context(connect(server.url)) for _ in range(20)]
        for one in posting:
            one.sendall(b"POST /api/leases HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
        deaf = [stack.enter_context(deaf_connection(server.url)) for _ in range(60)]
        for one in deaf:
            one.sendall(b"GET /api/machines HTTP/1.1\r\nHost: a\r\n\r\n")
        slowest = dict.fromkeys(ASKED, 0.0)
        count, until = 0, time.monotonic() + AT_MOST_S
        while server.open_connections():
            assert time.monotonic() < until
            for one in [*dripping, *posting]:
                drip(one)
            for path in ASKED:
                began = time.monotonic()
                assert requests.get(server.url + path, timeout=AT_MOST_S).status_code in (200, 503)
                slowest[path] = max(slowest[path], time.monotonic() - began)
            count += 1
            time.sleep(0.5)
        print(  # noqa: T201  it is what the test is about
            f"{count} rounds of questions beside 280 stuck connections; slowest {slowest}"
        )
        # Whoever waits for a stuck connection waits until the server ends it.
        assert max(slowest.values()) < HEADERS_TIMEOUT_S / 2, slowest
        assert count > 1
        left = {
            kind: sum(map(is_open_still, connections))
            for kind, connections in (("dripping", dripping), ("posting", posting), ("deaf", deaf))
        }
        assert left == {"dripping": 0, "posting": 0, "deaf": 0}


def deaf_connection(url: str) -> socket.socket:
    """One that takes little before it is full."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    return connection


def drip(connection: socket.socket) -> None:
    """One more byte of a header or a body."""
    try:
        connection.send(b"G", socket.MSG_DONTWAIT)
    except OSError:
        return


def is_open_still(connection: socket.socket) -> bool:
    """Whether the server still holds it: it ends, or refuses what is sent."""
    connection.settimeout(5)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def test_a_body_that_comes_fast_enough_is_taken(server: RunningServer) -> None:
    with connect(server.url) as connection:
        connection.sendall(b"POST /api/leases HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n")
        for _ in range(40):
            connection.sendall(b" ")
            time.sleep(0.01)
        assert read(connection).status == 400


def test_a_connection_is_used_again_and_questions_may_come_together(server: RunningServer) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with connect(server.url) as connection:
        for request in (one, one, one[:20], one[20:] + one):
            connection.sendall(request)
            if request.endswith(b"\r\n\r\n"):
                assert read(connection).status == 200


def test_who_closes_its_side_after_asking_is_answered(server: RunningServer) -> None:
    for request in (
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/machines HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        with connect(server.url) as connection:
            connection.sendall(request * 2)
            connection.shutdown(socket.SHUT_WR)
            assert read(connection).status == 200
            while connection.recv(65536):
                pass


@pytest.mark.parametrize("workers", ["1", "2"])
def test_of_one_address_the_connection_that_is_idle_for_longest_gives_way(
    tmp_path: Path, workers: str
) -> None:
    most = 20
    settings = {"MACHINES_WORKERS": workers, "MACHINES_MAX_CONNECTIONS_PER_ADDRESS": str(most)}
    with RunningServer(tmp_path, **settings) as server, ExitStack() as stack:
        opened = [stack.enter_context(connect(server.url)) for _ in range(3 * most)]
        request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
        wait_until(lambda: sum(map(is_open, opened)) <= most)
        if workers == "1":
            wait_until(lambda: sum(map(is_open, opened)) == most)
            assert all(map(is_open, opened[-most:]))
        with connect(server.url) as new:
            new.sendall(request)
            assert read(new).status in (200, 429)
        if workers == "1":
            assert not is_open(opened[-most])
        for one in opened:
            one.close()
        wait_until(lambda: requests.get(server.url + "/health", timeout=60).ok)


def test_connections_that_are_being_answered_do_not_give_way(tmp_path: Path) -> None:
    settings = {"MACHINES_WORKERS": "1", "MACHINES_MAX_CONNECTIONS_PER_ADDRESS": "3"}
    with RunningServer(tmp_path, **settings) as server, ExitStack() as stack:
        busy = [stack.enter_context(connect(server.url)) for _ in range(3)]
        for one in busy:
            one.sendall(b"POST /api/leases HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        wait_until(lambda: refusal(server) == 429)
        assert all(map(is_open, busy))
        for one in busy:
            one.settimeout(5)
            one.sendall(b"}" + b" " * 7)
            assert read(one).status == 400


def refusal(server: RunningServer) -> int:
    """What a new connection is told before it asks, 0 for nothing."""
    with connect(server.url, 0.3) as connection:
        try:
            return read(connection).status
        except TimeoutError:
            return 0


def test_a_trusted_proxy_may_have_any_number(tmp_path: Path) -> None:
    settings = {"MACHINES_TRUSTED_PROXIES": "127.0.0.0/8", "MACHINES_MAX_CONNECTIONS_PER_ADDRESS": "2"}
    with RunningServer(tmp_path, **settings) as server, ExitStack() as stack:
        opened = [stack.enter_context(connect(server.url)) for _ in range(30)]
        assert requests.get(server.url + "/health", timeout=60).ok
        assert all(map(is_open, opened))


def test_it_ends_at_once_beside_idle_connections(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, MACHINES_WORKERS="1")
    with server, connect(server.url) as idle, requests.Session() as session:
        session.get(server.url + "/health", timeout=5)
        wait_until(lambda: "this process polls" in server.log.read_text())
        server.process.terminate()
        server.process.wait(timeout=60)
        assert not is_open(idle)
    took = server.logged_at("Shutting down: Master") - server.logged_at("Handling signal: term")
    assert took.total_seconds() < 4.5  # it waits 5 s for those that are being answered


def test_counts_of_a_worker_that_was_killed_are_forgotten_by_its_successor() -> None:
    counts = AddressCounts(2)
    counts.add(0, "10.0.0.1", 3)
    counts.add(1, "10.0.0.1", 2)
    assert counts.of("10.0.0.1") == 5
    counts.clear(0)
    assert counts.of("10.0.0.1") == 2
    assert counts.of("10.0.0.2") == 0
