"""Whatever bytes a sidecar is sent, each answer is well-formed, and the next client is answered."""

import contextlib
import json
import socket
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.conftest import Fuzz
from tests.fuzz.raw_requests import RAW_REQUESTS, written_out
from tests.sidecar.running import Sidecar
from tests.sidecar.serving import connect, read_all

STATUSES = {200, 400, 404, 405, 408, 413, 421, 431, 501}


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    sidecar = Sidecar(tmp_path, {})
    sidecar.sample()
    yield sidecar
    assert sidecar.end() == 0


def check_answers(received: bytes) -> None:
    """Nothing was received but whole answers, each of JSON or of Prometheus' text."""
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        status_line, _, headers = head.partition(b"\r\n")
        version, status, _ = status_line.split(b" ", 2)
        assert (version, end) == (b"HTTP/1.1", b"\r\n\r\n")
        assert int(status) in STATUSES
        said = message_from_bytes(headers)
        length = int(said["Content-Length"])
        if not received or received.startswith(b"HTTP/1.1 "):  # an answer to HEAD
            continue
        body, received = received[:length], received[length:]
        assert len(body) == length
        if said["Content-Type"] == "application/json":
            assert json.loads(body).get("message", "").isprintable()
        else:
            assert body.startswith(b"# HELP ")
            assert body.endswith(b"\n")


def test_whatever_bytes_come_every_answer_is_whole(fuzz: Fuzz, sidecar: Sidecar) -> None:
    @given(RAW_REQUESTS, st.integers(0, 300))
    def sending(request: bytes, cut: int) -> None:
        with connect(sidecar.port) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):  # the sidecar may have had enough
                for part in (request[:cut], request[cut:]):
                    client.sendall(written_out(part))
                client.shutdown(socket.SHUT_WR)
            check_answers(read_all(client))
        assert sidecar.get().status == 200

    fuzz(sending)
    process = psutil.Process(sidecar.process.pid)
    assert "Traceback" not in sidecar.log
    assert len(process.net_connections("tcp")) < 20
    assert process.memory_info().rss < 64 * 2**20
