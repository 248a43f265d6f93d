"""Each layer of the ASGI application applies to every route: the rules of the guards, and ready answers."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import Flask

from machines_server.process.compose import make_app, make_services
from machines_server.services.fleet import READY_PATHS
from machines_server.settings import load_settings
from machines_server.web.asgi import make_stack
from machines_server.web.guards import SAFE_METHODS
from machines_server.web.waiting_room import WaitingRoom

MACHINE = "{name: one, role: r, hardware: {}, network: {hostname: 127.0.0.1}, models: []}"
FOREIGN, OWN, PROXY = b"rebound.example.com", b"localhost", "127.0.0.7"


def page_files(folder: Traversable, prefix: str = "/static") -> Iterator[str]:
    for entry in folder.iterdir():
        path = f"{prefix}/{entry.name}"
        if entry.is_dir():
            yield from page_files(entry, path)
        else:
            yield path


def routes() -> list[tuple[str, str]]:
    """Every method and path of the application, every file of the page, and what no route takes."""
    app: Flask = make_app(load_settings({})[0])
    found = {("GET", path) for path in (*READY_PATHS, *page_files(files("machines_server.web") / "static"))}
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<path:name>", "app.js").replace("<name>", "one").replace("<lease>", "x")
        found |= {(method, path) for method in rule.methods or ()}
    return sorted(found | {("GET", "/nothing"), ("BREW", "/"), ("POST", "/api/machines"), ("OPTIONS", "*")})


class Stack:
    """The layers around the real application, which counts what reaches it."""

    def __init__(self, folder: Path, loop: asyncio.Runner) -> None:
        self._loop = loop
        (folder / "machines").mkdir()
        (folder / "machines" / "one.yaml").write_text(MACHINE)
        settings, _ = load_settings(
            {"MACHINES_DIR": str(folder / "machines"), "MACHINES_DATA_DIR": str(folder / "var")}
        )
        services = make_services(settings)
        self._flask, self.reached = make_app(settings, services).wsgi_app, list[str]()
        self._application = make_stack(
            self._count,
            1,
            services.fleet.ready_at_once,
            services.fleet.ready,
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
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "headers": list(headers),
            "client": (client, 1),
            "server": ("127.0.0.1", 3038),
        }
        sent = self._loop.run(self._sent(scope))
        return sent[0]["status"], b"".join(message["body"] for message in sent[1:])

    async def _sent(self, scope: dict[str, Any]) -> list[Any]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._application(scope, receive, send)
        return sent

    def websocket(self, path: str) -> list[Any]:
        """What a request to open a WebSocket gets."""
        return self._loop.run(self._sent({"type": "websocket", "path": path, "headers": []}))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with asyncio.Runner() as loop:
        yield Stack(tmp_path_factory.mktemp("stack"), loop)


def host(name: bytes) -> tuple[bytes, bytes]:
    return b"host", name


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_lies_inside_every_layer(stack: Stack, method: str, path: str) -> None:
    stack.reached.clear()
    assert stack.websocket(path) == [{"type": "websocket.close", "code": 1008}]
    assert stack.ask(method, path)[0] == 400  # which host it means is missing
    status, body = stack.ask(method, path, host(FOREIGN))
    assert status == 421
    if method != "HEAD":
        assert json.loads(body)["error"] == "misdirected_request"
    renamed = (b"x-forwarded-host", OWN)
    assert stack.ask(method, path, host(FOREIGN), renamed)[0] == 421  # it comes from nobody whom we trust
    assert stack.ask(method, path, host(OWN), (b"x-forwarded-host", FOREIGN), client=PROXY)[0] == 421
    if method not in SAFE_METHODS:
        assert stack.ask(method, path, host(OWN), (b"origin", b"http://elsewhere.example"))[0] == 400
    assert stack.reached == []


@pytest.mark.parametrize(("method", "path"), routes())
def test_only_ready_answers_are_given_without_flask(stack: Stack, method: str, path: str) -> None:
    stack.reached.clear()
    assert stack.ask(method, path, host(FOREIGN), (b"sec-machines-client", b"x/1"))[0] != 421
    assert stack.ask(method, path, host(FOREIGN), (b"x-forwarded-host", OWN), client=PROXY)[0] != 421
    assert len(stack.reached) == (0 if method == "GET" and path in READY_PATHS else 2)
