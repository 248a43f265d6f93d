"""Each layer of the ASGI application applies to every route: the rules of the guards, and ready answers."""

import asyncio
import json
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import pytest
from flask import Flask

from machines_server.process.compose import make_app
from machines_server.services.fleet import READY_PATHS
from machines_server.settings import load_settings
from machines_server.web.guards import SAFE_METHODS
from tests.web.stack import PROXY, Stack

MACHINE = "{name: one, role: r, hardware: {}, network: {hostname: 127.0.0.1}, models: []}"
FOREIGN, OWN = b"rebound.example.com", b"localhost"


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


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "machines").mkdir()
    (folder / "machines" / "one.yaml").write_text(MACHINE)
    settings, _ = load_settings(
        {"MACHINES_DIR": str(folder / "machines"), "MACHINES_DATA_DIR": str(folder / "var")}
    )
    with asyncio.Runner() as loop:
        yield Stack(settings, loop)


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
