"""The HTTP side: GET /metrics and GET /health; hands out bytes and never touches the hardware."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.server import create_server

from sidecar import __version__
from sidecar.payload import to_json
from sidecar.sampler import Sampler, Taken

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

JSON = "application/json"
THREADS = 2

Answer = tuple[str, bytes, str]


class App:
    """The WSGI application over one sampler."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._health = to_json({"status": "ok", "service": "machines-sidecar", "version": __version__})

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        method = environ["REQUEST_METHOD"]
        status, body, content_type = self._answer(method, environ)
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept"),
        ]
        if status.startswith("405"):
            headers.append(("Allow", "GET"))
        start_response(status, headers)
        return [] if method == "HEAD" else [body]

    def _answer(self, method: str, environ: WSGIEnvironment) -> Answer:
        path = environ.get("PATH_INFO", "")
        if path not in ("/metrics", "/health"):
            return _error("404 Not Found", "not_found", "There is only GET /metrics and GET /health here.")
        if method != "GET":
            return _error("405 Method Not Allowed", "method_not_allowed", f"Ask {path} with GET.")
        if path == "/health":
            return "200 OK", self._health, JSON
        return self._metrics(environ.get("HTTP_ACCEPT", ""), environ.get("QUERY_STRING", ""))

    def _metrics(self, accept: str, query: str) -> Answer:
        if self._sampler.is_stalled:
            message = "The thread that reads this host hangs; restart the sidecar if this lasts."
            return _error("503 Service Unavailable", "sampler_stalled", message)
        taken = self._sampler.latest
        if taken is None:
            message = "The first sample is being taken; ask again in a second."
            return _error("503 Service Unavailable", "starting", message)
        if "format=json" in query.split("&") or JSON in accept.lower():
            return "200 OK", taken.body, JSON
        return _text(taken, accept)


def _text(taken: Taken, accept: str) -> Answer:
    from sidecar.exposition import render

    body, content_type = render(taken.sample, accept)
    return "200 OK", body, content_type


def _error(status: str, code: str, message: str) -> Answer:
    return status, to_json({"error": code, "message": message}), JSON


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`, a name or an address; OSError when that cannot be had."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    dual = family is socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, dualstack_ipv6=dual)


class Server:
    """Waitress over one listening socket; SystemExit and KeyboardInterrupt end `run`."""

    def __init__(self, listening: socket.socket, app: App) -> None:
        # It warns of every request that waits for a thread, which is no news when two clients meet.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._open: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._open,
            sockets=[listening],
            threads=THREADS,
            ident=None,
            connection_limit=1000,
            channel_timeout=15,
            cleanup_interval=5,
            max_request_header_size=16384,
            max_request_body_size=65536,
        )

    def run(self) -> None:
        self._server.run()

    def close(self) -> None:
        """Close the listening socket and all connections."""
        wasyncore.close_all(self._open)
