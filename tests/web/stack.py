"""The layers of the ASGI application around Flask, asked without a socket."""

import asyncio
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from machines_server.process.compose import make_app, make_services
from machines_server.settings import Settings
from machines_server.web.asgi import make_stack
from machines_server.web.waiting_room import WaitingRoom

PROXY = "127.0.0.7"
"""The address of a proxy that is trusted."""


class Stack:
    """The layers around the real application, which counts what reaches it."""

    def __init__(self, settings: Settings, loop: asyncio.Runner) -> None:
        self._loop = loop
        services = make_services(settings)
        self._flask, self.reached = make_app(settings, services).wsgi_app, list[str]()
        self._application = make_stack(
            self._count,
            1,
            services.fleet.ready_nowait,
            services.fleet.ready,
            services.routing.route_nowait,
            WaitingRoom(lambda: None),
            proxies=(ip_network(PROXY),),
        )

    def _count(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        self.reached.append(environ["PATH_INFO"])
        return self._flask(environ, start)

    def ask(
        self, method: str, path: str, *headers: tuple[bytes, bytes], client: str = "127.0.0.1"
    ) -> tuple[int, bytes]:
        """The status and the body of the answer to one request."""
        status, _, body = self.answer(method, path, *headers, client=client)
        return status, body

    def answer(
        self,
        method: str,
        path: str,
        *headers: tuple[bytes, bytes],
        client: str = "127.0.0.1",
        body: bytes = b"",
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """The status, headers and body of the answer to one request."""
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "headers": list(headers),
            "client": (client, 1),
            "server": ("127.0.0.1", 3038),
        }
        sent = self._loop.run(self._sent(scope, body))
        return sent[0]["status"], sent[0]["headers"], b"".join(message["body"] for message in sent[1:])

    async def _sent(self, scope: dict[str, Any], body: bytes = b"") -> list[Any]:
        sent, is_received = list[Any](), asyncio.Event()

        async def receive() -> dict[str, Any]:
            if is_received.is_set():
                await asyncio.Event().wait()  # the client sends no more, and stays
            is_received.set()
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._application(scope, receive, send)
        return sent

    def websocket(self, path: str) -> list[Any]:
        """What a request to open a WebSocket gets."""
        return self._loop.run(self._sent({"type": "websocket", "path": path, "headers": []}))
