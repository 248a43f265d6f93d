"""A server that answers requests as it is told, and remembers them."""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any
    at: float


@dataclass
class Say:
    """What to answer; no status closes the connection instead."""

    body: Any = field(default_factory=dict)
    status: int | None = 200
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0


class ScriptedServer:
    """Gives the `replies` one after the other, the last again and again; a context manager."""

    def __init__(self) -> None:
        self.replies: list[Say] = [Say()]
        self.asked: list[Asked] = []
        script, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.loads(content) if content else None
                asked = Asked(
                    self.command, parts.path, parse_qs(parts.query), headers, body, time.monotonic()
                )
                with lock:
                    script.asked.append(asked)
                    say = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
                script.release.wait(say.after_s)
                self.close_connection = True
                if say.status is None:
                    return
                self.send_response(say.status)
                for name, value in say.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(say.body if isinstance(say.body, bytes) else json.dumps(say.body).encode())

            do_GET = do_POST = do_DELETE = answer  # noqa: N815  named by the standard library

            def log_message(self, *_: object) -> None:
                pass

        self.release = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = False
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self.release.set()
            self._http.shutdown()
            self._http.server_close()
            self._thread.join()


BEST = {
    "machine": "box",
    "hostname": "127.0.0.1",
    "port": 9,
    "url": "http://127.0.0.1:9",
    "model": "m",
    "warm": True,
}
CANDIDATE = {
    "name": "box",
    **BEST,
    "warmth": "warm",
    "free_vram_gb": 1.0,
    "sampled_at": None,
    "leases": 0,
    "reason": "it is",
}
ROUTE = {**BEST, "candidates": [CANDIDATE], "rejected": []}
LEASE = {
    **ROUTE,
    "lease": "abc",
    "holder": "me",
    "ttl_s": 60,
    "expires_at": "2026-11-28T00:00:00Z",
    "gpus": [],
}
NO_MACHINE = {"error": "no_machine", "message": "none is fit", "rejected": [], "did_you_mean": []}


def no_machine(retry_after_s: float | None) -> Say:
    """The answer when no machine is fit."""
    return Say({**NO_MACHINE, "retry_after_s": retry_after_s}, 503)
