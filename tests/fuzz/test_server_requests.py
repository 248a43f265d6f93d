"""Whatever bytes a server is sent, each answer is well-formed JSON, and the next client is answered."""

import contextlib
import json
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.conftest import Fuzz
from tests.fuzz.raw_requests import RAW_REQUESTS, written_out
from tests.running import RunningServer
from tests.web.raw import connect

PATHS = [
    *(
        b"/api/machines",
        b"/api/infrastructure",
        b"/api/route",
        b"/api/leases",
        b"/api/leases/x/renew",
        b"/api/models",
    ),
    *(
        b"/api/machines/one",
        b"/api/machines/one/history",
        b"/api/events",
        b"/health/ready",
        b"/static/app.js",
        b"/",
    ),
]
QUERIES = [
    b"",
    b"?",
    b"?model=m",
    b"?where=a.b",
    b"?from=-1d&to=\xff",
    b"?metric=%00&gpu=9",
    b"?limit=-1",
    b"?" + b"a=" * 99,
]
BODIES = [
    b"{}",
    b'{"model": "m", "where": {"a": 1}}',
    b"[" * 2000,
    b'{"model": "\\ud800"}',
    b'{"ttl_s": 1e999}',
    b"\xff",
]
STATUSES = {200, 304, 400, 403, 404, 405, 408, 409, 413, 414, 421, 426, 429, 431, 501, 503}


def _request(method: bytes, path: bytes, query: bytes, body: bytes) -> bytes:
    return b"%s %s%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (
        method,
        path,
        query,
        len(body),
        body,
    )


REQUESTS = RAW_REQUESTS | st.builds(
    _request,
    st.sampled_from([b"GET", b"POST", b"DELETE", b"PUT", b"HEAD", b"OPTIONS"]),
    st.sampled_from(PATHS) | st.binary(max_size=12).map(lambda odd: b"/" + odd),
    st.sampled_from(QUERIES),
    st.sampled_from(BODIES) | st.binary(max_size=40),
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(tmp_path, MACHINES_WORKERS="1") as running:
        running.write(
            "one.yaml", "name: one\nrole: r\nhardware: {}\nnetwork: {hostname: 127.0.0.1}\nmodels: [m]\n"
        )
        yield running
    assert "Traceback" not in running.log.read_text()


def check_answers(received: bytes) -> None:
    """Nothing was received but whole answers in HTTP; errors are JSON in printable words."""
    while received:
        if received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            received = received[25:]
            continue
        head, end, received = received.partition(b"\r\n\r\n")
        status_line, _, headers = head.partition(b"\r\n")
        version, status, _ = status_line.split(b" ", 2)
        assert version in (b"HTTP/1.1", b"HTTP/1.0")
        assert end
        assert int(status) in STATUSES, status_line
        said = message_from_bytes(headers)
        if not received or received.startswith(b"HTTP/1."):  # an answer to HEAD, or 304
            continue
        length = int(said["Content-Length"])
        body, received = received[:length], received[length:]
        assert len(body) == length
        if int(status) >= 400:
            assert json.loads(body)["message"].isprintable()


def test_whatever_bytes_come_every_answer_is_whole(fuzz: Fuzz, server: RunningServer) -> None:
    @given(REQUESTS, st.integers(0, 300))
    def sending(request: bytes, cut: int) -> None:
        with connect(server.url, 15) as client:
            received = b""
            with contextlib.suppress(OSError):  # the server may have had enough
                for part in (request[:cut], request[cut:]):
                    client.sendall(written_out(part))
                client.shutdown(1)
                while chunk := client.recv(65536):
                    received += chunk
            check_answers(received)
        assert server.get("/health").status_code == 200

    fuzz(sending)
