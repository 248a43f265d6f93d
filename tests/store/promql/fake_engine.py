"""An engine that answers as a test says."""

import ssl
import threading
from collections.abc import Callable, Mapping
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
    """An answer; with `size` it announces so many bytes."""

    status: int = 204
    body: bytes = b""
    headers: Mapping[str, str] = {}
    size: int | None = None


def accept(_: Asked) -> Said:
    """Take everything."""
    return Said()


class FakeEngine:
    """Runs in threads as a context manager; `answer` may wait, and may change at any time."""

    def __init__(self, answer: Callable[[Asked], Said] = accept, tls: ssl.SSLContext | None = None) -> None:
        self.answer, self._tls = answer, tls
        self.asked: list[Asked] = []
        self.accepted: list[bytes] = []
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(self) -> None:
                asked = Asked(
                    self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers), self.path
                )
                engine.asked.append(asked)
                said = engine.answer(asked)
                if said.status < 300:
                    engine.accepted.append(asked.body)
                try:
                    self.send_response(said.status)
                    for name, value in said.headers.items():
                        self.send_header(name, value)
                    if said.status != 204:
                        self.send_header("Content-Length", str(said.size or len(said.body)))
                    self.end_headers()
                    if said.status != 204:
                        self.wfile.write(said.body)
                except OSError:
                    self.close_connection = True  # the client has given up

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
