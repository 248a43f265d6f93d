"""Advice that was given before is given from the event loop, and does not differ from Flask's."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machines_server.services.recent_state import LARGE_FLEET
from machines_server.settings import Settings
from tests.fakes import wait_until
from tests.web.conftest import polled
from tests.web.one_machine import TEXT
from tests.web.stack import Stack

HOST = b"host", b"localhost"
WARM = "/api/route?model=llama3.1:70b&holder=me"


@pytest.fixture
def stack(settings: Settings) -> Iterator[Stack]:
    with asyncio.Runner() as loop:
        yield Stack(settings, loop)


def reached(stack: Stack, method: str, path: str) -> bool:
    """Whether a request reached Flask."""
    stack.reached.clear()
    stack.ask(method, path, HOST)
    return bool(stack.reached)


def settle(stack: Stack, path: str = WARM) -> None:
    """Ask until a question is answered without Flask: files that were written just now may change unseen."""
    wait_until(lambda: not reached(stack, "GET", path))


def lease(stack: Stack) -> Any:
    status, _, body = stack.answer("POST", "/api/leases", HOST, body=b'{"model": "llama3.1:70b"}')
    assert status == 201
    return json.loads(body)["lease"]


@pytest.mark.parametrize("path", [WARM, "/api/route", "/api/route?model=llama3.1:70b&cold=true&explain=true"])
def test_a_repeated_question_is_answered_without_flask_as_flask_would(stack: Stack, path: str) -> None:
    status, headers, body = stack.answer("GET", path, HOST)
    assert stack.reached == ["/api/route"]
    settle(stack, path)
    assert (status, body) == stack.ask("GET", path, HOST)
    assert sorted(headers) == sorted(stack.answer("GET", path, HOST)[1])
    assert stack.reached == []


def test_a_page_of_another_site_is_not_answered_so(stack: Stack) -> None:
    settle(stack)
    for pair in ((b"sec-fetch-site", b"cross-site"), (b"origin", b"https://elsewhere.example.com")):
        stack.reached.clear()
        status, _, _ = stack.answer("GET", WARM, HOST, pair)
        assert (status, stack.reached) == (200, ["/api/route"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", WARM),
        ("GET", "/api/route?model=llama3.1:70b&min_free_vram_gb=11"),  # of few machines, none may be missed
        ("GET", "/api/route?model=llama3.1:70b&wait_s=1"),
        ("GET", "/api/route?model=llama3.1:70b&colour=red"),
        ("GET", "/api/route?model=llama3.1:70b&model=x"),
        ("GET", "/api/route?model="),
    ],
)
def test_what_is_no_plain_advice_reaches_flask_each_time(stack: Stack, method: str, path: str) -> None:
    settle(stack)
    assert reached(stack, method, path)
    assert reached(stack, method, path)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Stack]:
    """A server of so many machines that advice may lag behind their polls."""
    names = [f"m{number}" for number in range(LARGE_FLEET)]
    files = {name: TEXT.replace("name: one", f"name: {name}") for name in names}
    with polled(tmp_path, files) as settings, asyncio.Runner() as loop:
        yield Stack(settings, loop)


@pytest.mark.parametrize(
    "query",
    ["model=llama3.1:70b&explain=true", "model=llama3.1:70b&min_free_vram_gb=11", "model=llama3.1:70b&tag=c"],
)
def test_about_many_machines_as_well_even_if_none_is_fit(large: Stack, query: str) -> None:
    path = f"/api/route?{query}"
    status, headers, body = large.answer("GET", path, HOST)
    settle(large, path)
    again = large.answer("GET", path, HOST)
    assert large.reached == []
    assert (again[0], sorted(again[1]), again[2]) == (status, sorted(headers), body)


def test_a_lease_changes_the_answer_at_once(stack: Stack) -> None:
    def leases() -> int:
        count: int = json.loads(stack.ask("GET", WARM, HOST)[1])["candidates"][0]["leases"]
        return count

    for number in range(3):
        settle(stack)
        assert leases() == number
        lease(stack)
        assert leases() == number + 1


def test_a_change_of_the_files_changes_the_answer(stack: Stack, settings: Settings) -> None:
    def rejected() -> list[str]:
        return [one["name"] for one in json.loads(stack.ask("GET", WARM, HOST)[1])["rejected"]]

    settle(stack)
    assert rejected() == []
    (settings.dir / "two.yaml").write_text(
        "{name: two, role: r, hardware: {}, network: {hostname: 127.0.0.2}, models: []}"
    )
    wait_until(lambda: rejected() == ["two"])
    settle(stack)
    assert rejected() == ["two"]
