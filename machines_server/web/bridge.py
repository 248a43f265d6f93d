"""From the event loop to Flask and back: a thread is busy while Flask works, never while a client does."""

import asyncio
import io
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication

from machines_server.web.bodies import RETRY_AFTER_1_S, Bodies
from machines_server.web.messages import Headers, Receive, Scope, Send, answer, answer_error

IS_READER = "machines.is_reader"
"""The key of environ that says whether the request is signed, or may read the fleet without a signature."""
IS_FOREIGN = "machines.is_foreign"
"""The key of environ that says whether a page of another site sent it."""
MAX_WAITING = 1000
"""Requests that may wait for a thread."""


class Bridge:
    """Runs a WSGI application in `threads` threads, with complete bodies and answers.

    A slow client therefore occupies a connection but no thread.
    """

    def __init__(self, application: WSGIApplication, threads: int) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(threads, "answer")
        self._bodies, self._waiting = Bodies(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the request, answer it in a thread, and send the answer."""
        if self._waiting >= MAX_WAITING:
            await answer_error(
                scope,
                send,
                503,
                "busy",
                "Too many requests are waiting for an answer; try again.",
                [RETRY_AFTER_1_S],
            )
            return
        body = await self._bodies.receive(scope, receive, send)
        if body is None:
            return
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            status, headers, content = await loop.run_in_executor(
                self._threads, self._call, _environ(scope, body)
            )
        finally:
            self._waiting -= 1
            self._bodies.release(body)
        await answer(scope, send, status, headers, content)

    def _call(self, environ: dict[str, Any]) -> tuple[int, Headers, bytes]:
        status, headers = "", []

        def start(line: str, pairs: list[tuple[str, str]], exc_info: Any = None) -> Any:  # noqa: ARG001  WSGI passes it
            nonlocal status, headers
            status, headers = line, pairs
            return written.append

        written: list[bytes] = []
        answering: Iterable[bytes] = self._application(environ, start)
        try:
            content = b"".join([*written, *answering])
        finally:
            if close := getattr(answering, "close", None):
                close()
        pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return int(status[:3]), pairs, content


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """The request as WSGI's environ (PEP 3333), whose texts are bytes decoded as Latin-1."""
    server, client = scope["server"] or ("", 0), scope["client"] or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope["root_path"],
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if (agent := scope.get("agent")) is not None:
        environ["REMOTE_USER"] = agent
    environ[IS_FOREIGN] = scope.get("is_foreign", False)
    environ[IS_READER] = agent is not None or scope.get("is_reader", False)
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1")
        if name in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
            continue
        key = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ
