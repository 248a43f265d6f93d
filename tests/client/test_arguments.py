"""Arguments that are not parameters of HTTP are checked as well, before anything is sent."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from machines_client import AsyncClient, BadRequest, Client
from tests.client.scripted_server import LEASE, Say, ScriptedServer
from tests.client.two import LLAMA, Two


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (
            {"url": 4731},
            TypeError,
            "url must be a string such as .* or host:port, not 4731",
        ),
        ({"url": b"box:1"}, TypeError, "url must be a string"),
        ({"timeout_s": "5"}, TypeError, "timeout_s must be a number of seconds, not '5'"),
        ({"timeout_s": None}, TypeError, "timeout_s must be a number of seconds, not None"),
        ({"timeout_s": True}, TypeError, "timeout_s must be a number"),
        ({"timeout_s": 0}, ValueError, "timeout_s must be above 0 and at most 86400 seconds, not 0"),
        ({"timeout_s": -1}, ValueError, "timeout_s must be above 0"),
        ({"timeout_s": math.nan}, ValueError, "timeout_s must be above 0"),
        ({"timeout_s": math.inf}, ValueError, "at most 86400"),
        ({"retries": -1}, ValueError, "retries must be 0 or more, not -1"),
        ({"retries": "a"}, TypeError, "retries must be an integer, not 'a'"),
        ({"retries": 1.5}, TypeError, "retries must be an integer"),
        ({"retries": True}, TypeError, "retries must be an integer"),
        ({"stale_s": -1}, ValueError, "stale_s must be 0 or more seconds, not -1"),
        ({"stale_s": math.nan}, ValueError, "stale_s must be 0 or more seconds"),
        ({"stale_s": "60"}, TypeError, "stale_s must be a number of seconds"),
    ],
)
def test_a_client_refuses_arguments_that_it_cannot_use(
    kind: type[Client | AsyncClient], arguments: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        kind(**arguments)


def test_a_wrong_url_of_the_environment_is_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACHINES_URL", "box")
    with pytest.raises(ValueError, match="MACHINES_URL: box is not the URL of a server"):
        Client()


@pytest.mark.parametrize("path", ["api/machines", "http://127.0.0.1:1/api/machines", "", "?a=b"])
def test_a_path_begins_with_a_slash(path: str) -> None:
    client = Client("127.0.0.1:1")
    for ask in (client.ask, client.text):
        with pytest.raises(ValueError, match="path must begin with /"):
            ask(path)


def test_a_path_or_a_query_of_another_type_is_a_type_error() -> None:
    client = Client("127.0.0.1:1")
    with pytest.raises(TypeError, match="path must be a string such as /api/machines, not None"):
        client.ask(None)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="query must be a mapping of names to values, not 'limit=1'"):
        client.text("/api/events", "limit=1")  # type: ignore[arg-type]  # that is the point


def test_a_path_may_have_a_query_of_its_own(scripted: ScriptedServer) -> None:
    Client(scripted.url).ask("/api/events?limit=1", {"type": "online"})
    assert scripted.asked[0].query == {"limit": ["1"], "type": ["online"]}


Ask = Callable[[Client, Any], Any]


@pytest.mark.parametrize(
    "ask", [Client.machine, Client.file, Client.history, Client.history_csv, Client.availability]
)
def test_a_machine_has_a_name(ask: Ask) -> None:
    client = Client("127.0.0.1:1")
    for wrong in (None, 5, ["box"]):
        with pytest.raises(TypeError, match="name must be the name of a machine"):
            ask(client, wrong)
    with pytest.raises(ValueError, match="must not be empty"):
        ask(client, "")


@pytest.mark.parametrize("ask", [Client.held_lease, Client.renew, Client.release])
def test_a_lease_has_an_id(ask: Ask) -> None:
    client = Client("127.0.0.1:1")
    for wrong in (None, 5, client):
        with pytest.raises(TypeError, match="lease takes a lease or its id"):
            ask(client, wrong)
    with pytest.raises(BadRequest, match="The id of the lease is empty"):
        ask(client, "")


@pytest.mark.parametrize("ask", [Client.pick, Client.lease])
def test_the_time_for_a_connection_is_checked_before_anything_is_asked(
    ask: Callable[..., Any], scripted: ScriptedServer
) -> None:
    for wrong, error in (("1", TypeError), (0, ValueError), (-1, ValueError), (math.nan, ValueError)):
        with pytest.raises(error, match="connect_timeout_s must be"):
            ask(Client(scripted.url), "m", connect_timeout_s=wrong)
    assert not scripted.asked


def test_a_callback_is_checked_before_a_lease_is_taken(scripted: ScriptedServer) -> None:
    scripted.replies = [Say(LEASE, 201)]
    with pytest.raises(TypeError, match="on_lost must be a function, not 'x'"):
        Client(scripted.url).lease("m", connect_timeout_s=None, on_lost="x")  # type: ignore[arg-type]  # that is the point
    assert not scripted.asked


def test_a_model_is_a_text_everywhere(two: Two) -> None:
    for ask in (two.client.pick, two.client.lease, two.client.reserve):
        with pytest.raises(TypeError, match="model must be a string, not 5"):
            ask(5)  # type: ignore[arg-type]  # that is the point
    assert two.client.pick(LLAMA, explain=True).model == LLAMA
