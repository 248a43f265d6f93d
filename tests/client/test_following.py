"""Events page by page, and as they happen, even if the server is restarted or has a new database."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from machines_client import AsyncClient, Client, Event
from tests.client.scripted_server import Say, ScriptedServer
from tests.fakes import wait_until
from tests.ports import free_port
from tests.running import RunningServer

MACHINE = "name: {0}\nrole: test\nhardware: {{}}\nnetwork: {{hostname: 127.0.0.1}}\nmodels: []\n"


def event(number: int) -> dict[str, Any]:
    return {"id": number, "at": "2026-11-28T00:00:00Z", "machine": "box", "type": "online"}


NONE = Say({"events": [], "next": None, "truncated": False})
"""From a server that does not say which event is its newest."""


def none(newest: int | None) -> Say:
    """No events after one, from a server whose newest has that id."""
    return Say({"events": [], "next": None, "truncated": False, "newest": newest})


def test_the_pages_of_events_are_turned(scripted: ScriptedServer) -> None:
    scripted.replies = [
        Say({"events": [event(5), event(4)], "next": 4, "truncated": True}),
        Say({"events": [event(3)], "next": 3, "truncated": False}),
    ]
    found = Client(scripted.url).every_event(limit=2, type="online")
    assert [one.id for one in found] == [5, 4, 3]
    assert [asked.query.get("before") for asked in scripted.asked] == [None, ["4"]]
    assert {asked.query["limit"][0] for asked in scripted.asked} == {"2"}
    scripted.asked, scripted.replies = (
        [],
        [
            Say({"events": [event(2), event(1)], "next": 2, "truncated": True}),
            Say({"events": [event(3)], "next": 3, "truncated": False}),
        ],
    )
    assert [one.id for one in Client(scripted.url).every_event(after=0)] == [1, 2, 3]
    assert [asked.query.get("after") for asked in scripted.asked] == [["0"], ["2"]]


def test_following_lets_the_server_wait_and_goes_on_after_the_last_event(scripted: ScriptedServer) -> None:
    scripted.replies = [
        Say({"events": [event(5)], "newest": 7}),
        none(7),
        Say({"events": [event(9), event(8)], "newest": 9}),
    ]
    following = Client(scripted.url).follow(machine="box")
    assert [next(following).id, next(following).id] == [8, 9]
    first, *later = scripted.asked
    assert first.query == {"machine": ["box"], "limit": ["1"]}
    assert {(asked.query["after"][0], asked.query["wait_s"][0]) for asked in later} == {("7", "30.0")}


@pytest.mark.parametrize("name", ["to", "before"])
def test_what_has_no_end_is_given_none(name: str) -> None:
    with pytest.raises(TypeError, match=f"follow takes no {name}, since it has no end"):
        next(Client("127.0.0.1:1").follow(**{name: 5}))  # type: ignore[arg-type]  # one of several options


def test_a_time_in_the_past_is_where_it_begins(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({"events": [event(7)]})]
    assert next(Client(scripted.url).follow(from_="-1h")).id == 7
    (asked,) = scripted.asked
    assert (asked.query["from"], asked.query["after"]) == (["-1h"], ["0"])


@pytest.mark.parametrize("nothing", [NONE, none(7), none(9)])
def test_an_event_that_the_server_still_has_is_gone_on_after(scripted: ScriptedServer, nothing: Say) -> None:
    scripted.replies = [nothing, Say({"events": [event(8)]})]
    assert next(Client(scripted.url).follow(after=7, machine="box")).id == 8
    first, later = scripted.asked
    for asked in first, later:
        assert 25 < float(asked.query["wait_s"][0]) <= 30
        assert {**asked.query, "wait_s": []} == {"machine": ["box"], "after": ["7"], "wait_s": []}


@pytest.mark.parametrize("nothing", [none(6), none(None)])
def test_a_new_database_is_followed_from_its_first_event(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture, nothing: Say
) -> None:
    scripted.replies = [nothing, none(None), Say({"events": [event(1)]})]
    with caplog.at_level(logging.WARNING, "machines_client"):
        assert next(Client(scripted.url).follow(after="7")).id == 1
    assert [asked.query["after"] for asked in scripted.asked] == [["7"], ["0"], ["0"]]
    assert caplog.text.count("a new database, without event 7") == 1


def test_an_asynchronous_program_follows_in_the_same_way(scripted: ScriptedServer) -> None:
    scripted.replies = [none(6), Say({"events": [event(1)]})]

    async def main() -> Event:
        async with AsyncClient(scripted.url) as client:
            return await anext(client.follow(after=7))

    assert asyncio.run(main()).id == 1
    assert [asked.query["after"] for asked in scripted.asked] == [["7"], ["0"]]


def test_a_server_that_is_restarted_with_a_new_database_is_followed_further(tmp_path: Path) -> None:
    port = str(free_port())
    client = Client(f"127.0.0.1:{port}", timeout_s=120, retries=20)
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    with RunningServer(tmp_path / "old", MACHINES_PORT=port) as server:
        for name in "abcdef":
            server.write(f"{name}.yaml", MACHINE.format(name))
        wait_until(lambda: len(client.events(type="machine_added").events) == 6)
        last = client.events(limit=1).events[0].id
    with RunningServer(tmp_path / "new", MACHINES_PORT=port) as server:
        server.write("new.yaml", MACHINE.format("new"))
        following = client.follow(after=last, wait_s=1, type="machine_added")
        assert next(following).machine == "new"
