"""A sidecar's server in a thread, with deadlines short enough for a test, and raw bytes sent to it."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

from host_facts.host import Host
from sidecar.app import App
from sidecar.connection import Limits
from sidecar.hosts import HostRule
from sidecar.payload import Gpus
from sidecar.sampler import Sampler
from sidecar.server import Server, listen
from tests.sidecar.running import wait_until
from tls_files import TlsFiles

SHORT = Limits(head_s=0.5, idle_s=1.5, grace_s=0.5, min_bytes_per_s=1000, linger_s=0.5)
LONG = 20.0
HALF = b"GET /metrics HTTP/1.1\r\nHo"
WHOLE = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class NoGpus:
    def current(self) -> Gpus:
        return Gpus([], [])


@contextlib.contextmanager
def serving(limits: Limits = SHORT, app: type[App] = App, tls: TlsFiles | None = None) -> Iterator[int]:
    """The port of a server that answers about this host."""
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    sampler = Sampler(Host(), NoGpus(), 0.1)
    server = Server(listening, app(sampler, HostRule(())), limits, tls)
    thread = threading.Thread(target=server.run)
    sampler.start()
    wait_until(lambda: sampler.latest, "the first sample")
    thread.start()
    try:
        yield port
    finally:
        server.stop()
        thread.join(LONG)
        sampler.stop()
        server.close()


@dataclass(frozen=True)
class Said:
    """One answer as it came."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Received(BytesIO):
    """Bytes that have come, as `http.client` wants to read them: it closes its file after each answer."""

    def makefile(self, *_: Any, **__: Any) -> "_Received":
        return self

    def close(self) -> None:
        """Stay open for the next answer."""


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), LONG, (source, 0))


def read_all(client: socket.socket) -> bytes:
    """What comes until the server closes; it must close within LONG."""
    client.settimeout(LONG)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


def answers(received: bytes, method: str = "GET") -> list[Said]:
    """All answers in what was received; each must be whole and well-formed."""
    data, found = _Received(received), []
    while data.tell() < len(received):
        response = http.client.HTTPResponse(cast(socket.socket, data), method=method)
        response.begin()
        body = response.read()
        assert method == "HEAD" or len(body) == int(response.headers["Content-Length"])
        found.append(Said(response.status, response.headers, body))
    return found


def ask_raw(port: int, request: bytes, method: str = "GET") -> list[Said]:
    """What the server says to these bytes and the end of them."""
    with connect(port) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return answers(read_all(client), method)


def health_s(port: int, source: str = "127.0.0.1", path: str = "/health", limit_s: float = 10) -> float:
    """How long a new client waits for its answer."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, limit_s, (source, 0))
    with contextlib.closing(connection):
        connection.request("GET", path)
        assert connection.getresponse().status == 200
    return time.monotonic() - began


def say(line: str) -> None:
    """Show what was seen; `pytest -rP` prints it."""
    print(line)  # noqa: T201 - figures of a test that passed
