"""An engine that answers as a test says."""

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

from tests.ports import free_port


class Asked(NamedTuple):
    """One request."""

    body: bytes
    headers: Mapping[str, str]
    path: str


class Said(NamedTuple):
    """An answer."""

    status: int = 204
    body: bytes = b""
    headers: Mapping[str, str] = {}


def accept(_: Asked) -> Said:
    """Take everything."""
    return Said()


class _Handler(BaseHTTPRequestHandler):
    """Answers over one connection."""

    protocol_version, timeout = "HTTP/1.1", 60
    server: "_Server"

    def setup(self) -> None:
        """Called when the connection is accepted."""
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        """Called when it is over."""
        self.server.open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = self.server.engine.said_to(Asked(body, dict(self.headers), self.path))
        try:
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.status != 204:
                self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            if said.status != 204:
                self.wfile.write(said.body)
        except OSError:
            self.close_connection = True  # the client has given up

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class _Server(ThreadingHTTPServer):
    """Serves an engine; it does not wait for its threads."""

    daemon_threads, block_on_close = True, False

    def __init__(self, engine: "FakeEngine") -> None:
        self.engine, self.open = engine, set[socket.socket]()
        super().__init__(("127.0.0.1", engine.port), _Handler)


class FakeEngine:
    """Runs in threads as a context manager; `answer` may wait, and may change at any time."""

    def __init__(self, answer: Callable[[Asked], Said] = accept, tls: ssl.SSLContext | None = None) -> None:
        self.answer, self._tls = answer, tls
        self.asked: list[Asked] = []
        self.accepted: list[bytes] = []
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def said_to(self, asked: Asked) -> Said:
        """Record a request, and what was accepted."""
        self.asked.append(asked)
        said = self.answer(asked)
        if said.status < 300:
            self.accepted.append(asked.body)
        return said

    def __enter__(self) -> Self:
        self._server = _Server(self)
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.shutdown()
        for connection in tuple(self._server.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()
