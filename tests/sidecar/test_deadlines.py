"""Clients that drip, do not read, come in crowds or do not send HTTP, and how that affects others."""

import contextlib
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from host_facts.host import Host
from sidecar.app import App, Request, Response
from sidecar.connection import MAX_HEAD_BYTES, MAX_REQUEST_BODY_BYTES, Limits
from sidecar.connection_limit import ConnectionLimit, Slot
from sidecar.hosts import HostRule
from sidecar.sampler import Sampler
from sidecar.server import MAX_CONNECTIONS_PER_ADDRESS, Server, listen
from tests import certificates
from tests.sidecar.running import Sidecar, wait_until
from tests.sidecar.serving import (
    HALF,
    LONG,
    WHOLE,
    NoGpus,
    answers,
    ask_raw,
    connect,
    health_s,
    read_all,
    say,
    serving,
)
from tls_files import TlsFiles

POST = b"POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough for a crowd in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def drip(client: socket.socket, data: bytes, each_s: float) -> bytes:
    """Send byte by byte until the server says something or closes; what it said."""
    client.settimeout(each_s)
    for byte in data:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(bytes([byte]))
        with contextlib.suppress(TimeoutError):
            return client.recv(1, socket.MSG_PEEK) and read_all(client)
    pytest.fail("it listened to the end")


@pytest.mark.parametrize(
    "dripped",
    [b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + 999 * b"a", b"G" + 999 * b"E", b"\r\n" * 500],
)
def test_a_head_that_drips_is_ended(dripped: bytes, port: int) -> None:
    with connect(port) as client:
        (said,) = answers(drip(client, dripped, 0.05))
    assert (said.status, said.json["error"]) in {(408, "too_slow"), (400, "bad_request")}
    assert said.headers["Connection"] == "close"


@pytest.mark.slow  # 10 s, as the sidecar has it in life
def test_a_sidecar_gives_a_head_ten_seconds_and_a_body_five_more_than_it_needs(sidecar: Sidecar) -> None:
    began = time.monotonic()
    with connect(sidecar.port) as head, connect(sidecar.port) as body:
        head.sendall(HALF)
        body.sendall(POST + b"Content-Length: 9\r\n\r\n")
        assert [said.status for said in answers(read_all(body))] == [408]
        assert 4.5 < time.monotonic() - began < 9
        assert [said.status for said in answers(read_all(head))] == [408]
        assert 9.5 < time.monotonic() - began < LONG


def test_the_second_head_on_a_connection_has_the_same_deadline(port: int) -> None:
    with connect(port) as client:
        client.sendall(WHOLE)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        (said,) = answers(drip(client, HALF + 999 * b"a", 0.05))
    assert said.status == 408


def test_a_connection_without_a_byte_is_closed_without_a_word(port: int) -> None:
    with connect(port) as client:
        assert read_all(client) == b""


def test_a_connection_is_kept_between_two_requests_but_not_for_ever(port: int) -> None:
    with connect(port) as client:
        client.sendall(WHOLE)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        client.settimeout(0.7)
        with pytest.raises(TimeoutError):  # longer than a head may take
            client.recv(1)
        client.sendall(WHOLE)
        (said,) = answers(read_all(client))
    assert said.status == 200


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 60000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1;"]
)
def test_a_body_that_drips_is_ended(framing: bytes, port: int) -> None:
    with connect(port) as client:
        client.sendall(POST + framing)
        (said,) = answers(drip(client, 999 * b"a", 0.05))
    assert (said.status, said.json["error"]) == (408, "too_slow")


def test_a_body_that_keeps_the_least_rate_is_heard_to_its_end(port: int) -> None:
    with connect(port) as client:
        client.sendall(POST + b"Content-Length: 3000\r\n\r\n")
        paused = threading.Event()
        for _ in range(10):
            client.sendall(300 * b"a")
            paused.wait(0.1)
        assert client.recv(65536).startswith(b"HTTP/1.1 405 ")


def test_a_client_that_asks_on_and_never_reads_is_ended(port: int) -> None:
    with connect(port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(LONG)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.sendall(500_000 * WHOLE)


def test_a_client_that_asks_a_thousand_times_at_once_gets_a_thousand_answers(port: int) -> None:
    def ask(client: socket.socket) -> None:
        client.sendall(999 * WHOLE)
        client.sendall(WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    with connect(port) as client, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, client)
        said = answers(read_all(client))
        asking.result()
    assert [one.status for one in said] == 1000 * [200]


def test_a_client_that_has_said_all_it_will_is_answered(port: int) -> None:
    assert [one.status for one in ask_raw(port, 3 * WHOLE)] == [200, 200, 200]
    assert [one.status for one in ask_raw(port, WHOLE + HALF)] == [200, 400]
    assert ask_raw(port, b"") == []


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a hello of TLS\r\n\r\n", 400, "bad_request"),
        (b"what is this?\r\n\r\n", 400, "bad_request"),
        (b"\r\n\r\n", 400, "bad_request"),
        (b"GET /metrics\r\n\r\n", 400, "bad_request"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400, "bad_request"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nb\xff: \x00\r\n\r\n", 400, "bad_request"),
        (POST + b"Content-Length: x\r\n\r\n", 400, "bad_request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (POST + b"Transfer-Encoding: a\xffb\r\n\r\n", 501, "unknown_coding"),
        (POST + b"Content-Length: %d\r\n\r\n" % (MAX_REQUEST_BODY_BYTES + 1), 413, "body_too_large"),
        (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 413, "body_too_large"),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + 2 * (b"8001\r\n" + 0x8001 * b"a" + b"\r\n"),
            413,
            "body_too_large",
        ),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + MAX_HEAD_BYTES * b"a", 431, "head_too_large"),
        (b"GET /" + MAX_HEAD_BYTES * b"a" + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + 3000 * b"a:b\r\n" + b"\r\n", 431, "head_too_large"),
        (
            POST + b"Content-Length: %d\r\n\r\n" % MAX_REQUEST_BODY_BYTES + MAX_REQUEST_BODY_BYTES * b"a",
            405,
            "method_not_allowed",
        ),
        (POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n", 405, "method_not_allowed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n", 404, "not_found"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404, "not_found"),
    ],
)
def test_every_error_is_json(request_bytes: bytes, status: int, code: str, port: int) -> None:
    said = ask_raw(port, request_bytes)[0]
    assert (said.status, said.json["error"]) == (status, code)
    assert said.headers["Content-Type"] == "application/json"
    assert said.headers["Vary"] == "Accept"
    assert "Server" not in said.headers
    assert said.json["message"].isprintable()


def test_the_older_version_of_http_needs_no_host(port: int) -> None:
    (said,) = ask_raw(port, b"GET /health HTTP/1.0\r\n\r\n")
    assert (said.status, said.headers["Connection"]) == (200, "close")


def test_who_sends_far_too_much_still_reads_why_that_is_refused(port: int) -> None:
    def send(client: socket.socket) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(b"GET /" + 2**20 * b"a")

    with connect(port) as client, ThreadPoolExecutor(1) as pool:
        pool.submit(send, client)
        (said,) = answers(read_all(client))
    assert said.status == 431


def test_a_fault_in_an_answer_costs_that_answer_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(App):
        def answer(self, request: Request) -> Response:
            if request.target == "/fault":
                raise LookupError(request.target)
            return super().answer(request)

    with serving(app=Faulty) as port:
        statuses = [one.status for one in ask_raw(port, WHOLE.replace(b"/health", b"/fault") + WHOLE)]
    assert statuses == [500, 200]
    assert "/fault could not be answered" in caplog.text


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("addresses", [1, 25])
@pytest.mark.parametrize("sent", [HALF, WHOLE, b""])
def test_a_crowd_of_1100_connections_silences_nobody(addresses: int, sent: bytes, sidecar: Sidecar) -> None:
    sidecar.sample()
    with contextlib.ExitStack() as stack:
        for number in range(1100):
            client = stack.enter_context(connect(sidecar.port, f"127.0.0.{1 + number % addresses}"))
            with contextlib.suppress(ConnectionError):
                client.sendall(sent)
        took_s = [health_s(sidecar.port, path=path) for path in 4 * ["/health", "/metrics"]]
        process = psutil.Process(sidecar.process.pid)
        kept, threads = len(process.net_connections("tcp")) - 1, process.num_threads()
    say(
        f"8 of 8 new clients answered, {sum(took < 1 for took in took_s)} within 1 s, "
        f"slowest {max(took_s):.3f} s; {kept} connections kept"
    )
    assert threads < 10


@pytest.mark.usefixtures("descriptors")
def test_a_want_of_descriptors_neither_silences_nor_floods_the_log(sidecar: Sidecar) -> None:
    sidecar.sample()
    process = psutil.Process(sidecar.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(sidecar.port)).sendall(HALF)
        wait_until(lambda: process.num_fds() > 60, "they are taken")
        process.rlimit(psutil.RLIMIT_NOFILE, (40, 4096))
        for _ in range(60):
            stack.enter_context(connect(sidecar.port)).sendall(HALF)
        took_s = [health_s(sidecar.port) for _ in range(8)]
        before = sum(process.cpu_times()[:2])
        threading.Event().wait(1)
        used_s = sum(process.cpu_times()[:2]) - before
    say(f"8 answered without a free descriptor, slowest {max(took_s):.3f} s; {used_s:.2f} s CPU in 1 s")
    assert sidecar.log.count("no more connections can be accepted") == 1
    assert len(sidecar.log) < 2000


def test_the_connection_without_an_answer_for_longest_makes_room() -> None:
    patient = Limits(head_s=60, idle_s=60, grace_s=60, min_bytes_per_s=1000, linger_s=0.5)
    with serving(patient) as port, contextlib.ExitStack() as stack:
        first, second, *_ = (stack.enter_context(connect(port)) for _ in range(MAX_CONNECTIONS_PER_ADDRESS))
        first.sendall(WHOLE)
        assert first.recv(65536).startswith(b"HTTP/1.1 200 OK")
        newcomer = stack.enter_context(connect(port))
        newcomer.sendall(WHOLE)
        assert newcomer.recv(65536).startswith(b"HTTP/1.1 200 OK")
        second.settimeout(LONG)
        assert second.recv(1) == b""
        first.sendall(WHOLE)
        assert first.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_server_may_be_told_to_stop_before_it_runs_and_while_it_closes() -> None:
    sampler = Sampler(Host(), NoGpus(), 60)
    server = Server(listen("127.0.0.1", 0), App(sampler, HostRule(())))
    server.stop()
    server.run()
    server.stop()
    server.close()
    server.stop()


def test_an_address_that_takes_all_its_seats_takes_none_of_another() -> None:
    ended: list[str] = []
    limit = ConnectionLimit(slots=4, slots_per_address=2)

    def enter(name: str, address: str) -> Slot:
        slot = Slot(address, lambda: ended.append(name))
        limit.add(slot)
        return slot

    a1 = enter("a1", "a")
    enter("b1", "b")
    a2 = enter("a2", "a")
    limit.mark_answered(a1)
    enter("a3", "a")
    assert ended == ["a2"]
    limit.remove(a2)  # as its connection does when it is closed
    enter("c1", "c")
    enter("d1", "d")
    assert ended == ["a2", "b1"]
    while limit.close_oldest():
        pass
    assert ended == ["a2", "b1", "a1", "a3", "c1", "d1"]


def test_with_a_certificate_it_speaks_tls_and_handshakes_have_a_deadline(tmp_path: Path) -> None:
    authority = certificates.authority(tmp_path)
    certificate = certificates.certificate_for(tmp_path, authority, "IP:127.0.0.1")
    tls = TlsFiles(certificate, certificate.with_suffix(".key"), pytest.fail)
    trusting = ssl.create_default_context(cafile=str(authority))
    with serving(tls=tls) as port, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(MAX_CONNECTIONS_PER_ADDRESS + 20)]
        for _ in range(3):
            with trusting.wrap_socket(connect(port), server_hostname="127.0.0.1") as client:
                client.sendall(WHOLE)
                assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert all(read_all(client) == b"" for client in silent)
        with connect(port) as plain:
            plain.sendall(WHOLE)
            assert b"200 OK" not in read_all(plain)
