"""Which requests are repeated, when, and for how long."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from machines_client import (
    Client,
    ClientError,
    LeaseLost,
    NoMachine,
    ServerUnavailable,
    ServerUnreachable,
    TooMany,
)
from tests.client.scripted_server import LEASE, ROUTE, Asked, Say, ScriptedServer, no_machine
from tests.fakes import FakeFleet
from tests.ports import free_port

AWAY = Say({"error": "store_unavailable", "message": "locked"}, 503)
DROPPED = Say(status=None)
MACHINES = {"machines": [], "total": 0, "errors": [], "config_dir": "machines"}


@pytest.mark.parametrize("failure", [AWAY, DROPPED, Say(b"<html>", 502), Say({"error": "too_many"}, 429)])
def test_a_question_that_only_reads_is_asked_again(scripted: ScriptedServer, failure: Say) -> None:
    scripted.replies = [failure, failure, Say(MACHINES)]
    assert Client(scripted.url).machines().machines == ()
    assert len(scripted.asked) == 3


def test_it_is_asked_no_more_often_than_allowed(scripted: ScriptedServer) -> None:
    scripted.replies = [AWAY]
    with pytest.raises(ServerUnavailable, match="locked"):
        Client(scripted.url, retries=1).machines()
    assert len(scripted.asked) == 2


def test_an_error_that_would_come_again_is_not_asked_for_again(scripted: ScriptedServer) -> None:
    for status in (400, 404, 500):
        scripted.asked, scripted.replies = [], [Say({"error": "x", "message": "no"}, status)]
        with pytest.raises(ClientError, match="no"):
            Client(scripted.url).machines()
        assert len(scripted.asked) == 1


def test_a_request_for_a_lease_is_repeated_with_its_key(scripted: ScriptedServer) -> None:
    scripted.replies = [DROPPED, AWAY, Say(LEASE, 201)]
    assert Client(scripted.url).reserve("m").lease == "abc"
    keys = {asked.headers["idempotency-key"] for asked in scripted.asked}
    assert (len(scripted.asked), len(keys)) == (3, 1)
    Client(scripted.url).reserve("m")
    assert scripted.asked[-1].headers["idempotency-key"] not in keys


@pytest.mark.parametrize("act", [lambda client: client.renew("abc"), lambda client: client.release("abc")])
def test_what_changes_a_lease_is_sent_once(scripted: ScriptedServer, act: Callable[[Client], Any]) -> None:
    scripted.replies = [DROPPED, Say(LEASE)]
    with pytest.raises(ServerUnreachable):
        act(Client(scripted.url))
    assert len(scripted.asked) == 1


def test_retry_after_is_the_least_pause(scripted: ScriptedServer) -> None:
    scripted.replies = [
        Say({"error": "too_many_x", "message": "x"}, 429, {"Retry-After": "1"}),
        Say(MACHINES),
    ]
    Client(scripted.url).machines()
    first, second = scripted.asked
    assert second.at - first.at >= 1


@pytest.mark.parametrize("date", ["60", "Fri, 31 Dec 2199 23:59:59 GMT"])
def test_what_would_take_longer_than_the_time_is_given_up_at_once(
    scripted: ScriptedServer, date: str
) -> None:
    scripted.replies = [Say({"error": "too_many_x", "message": "x"}, 429, {"Retry-After": date})]
    with pytest.raises(TooMany) as caught:
        Client(scripted.url, timeout_s=2).machines()
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s >= 60
    assert len(scripted.asked) == 1


def test_all_attempts_together_have_the_time_of_one(scripted: ScriptedServer) -> None:
    scripted.replies = [Say(MACHINES, after_s=30)]
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        Client(scripted.url, timeout_s=0.5, retries=100).machines()
    assert len(scripted.asked) < 20


@pytest.mark.parametrize("length", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_an_answer_that_drips_is_given_up_in_time(fakes: FakeFleet, length: str) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        for _ in range(1000):
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    client = Client(fakes.scripted(drip).url(""), timeout_s=0.3, retries=0)
    with pytest.raises(ServerUnreachable, match=r"no complete answer within 0\.3 s"):
        client.machines()


def waits(asked: list[Asked]) -> list[float]:
    """How long each request let the server wait."""
    return [float(one.query.get("wait_s", ["0"])[0]) for one in asked]


def test_no_machine_is_final_unless_a_wait_is_asked_for(scripted: ScriptedServer) -> None:
    scripted.replies = [no_machine(0.1), Say(ROUTE)]
    with pytest.raises(NoMachine):
        Client(scripted.url).route("m")
    assert waits(scripted.asked) == [0]


def test_a_wait_goes_on_while_waiting_may_help(scripted: ScriptedServer) -> None:
    scripted.replies = [no_machine(0.1), no_machine(0.1), Say(ROUTE)]
    assert Client(scripted.url).route("m", wait_s=20).name == "box"
    first, second, third = waits(scripted.asked)
    assert 20 >= first > second > third > 0


def test_a_wait_ends_when_waiting_is_no_use(scripted: ScriptedServer) -> None:
    scripted.replies = [no_machine(0.1), no_machine(None), Say(ROUTE)]
    with pytest.raises(NoMachine):
        Client(scripted.url).pick("m", wait_s=20)
    assert len(scripted.asked) == 2


def test_a_wait_ends_when_its_time_is_up(scripted: ScriptedServer) -> None:
    scripted.replies = [no_machine(0.2)]
    with pytest.raises(NoMachine):
        Client(scripted.url).lease("m", wait_s=0.5)
    assert 2 <= len(scripted.asked) <= 5


def test_the_server_may_wait_longer_than_an_answer_may_take(scripted: ScriptedServer) -> None:
    scripted.replies = [Say(ROUTE, after_s=1.0)]
    client = Client(scripted.url, timeout_s=0.5, retries=0)
    assert client.route("m", wait_s=5).name == "box"
    with pytest.raises(ServerUnreachable):
        client.route("m")


def test_a_long_wait_is_many_that_the_server_allows(scripted: ScriptedServer) -> None:
    scripted.replies = [no_machine(0.1), Say(ROUTE)]
    Client(scripted.url).route("m", wait_s=600)
    assert waits(scripted.asked) == [60, 60]


def test_a_wait_for_a_lease_stands_in_its_body(scripted: ScriptedServer) -> None:
    scripted.replies = [no_machine(0.1), Say(LEASE, 201)]
    Client(scripted.url).reserve("m", wait_s=20, exclusive=True)
    first, second = (asked.body for asked in scripted.asked)
    assert 20 >= first.pop("wait_s") > second.pop("wait_s") > 0
    assert first == second
    assert (first["exclusive"], first["model"]) == (True, "m")


def test_machines_that_cannot_be_connected_to_do_not_begin_the_wait_anew(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({**LEASE, "port": free_port()}, 201), Say(LEASE), no_machine(None)]
    with pytest.raises(NoMachine):
        Client(scripted.url).lease("m", wait_s=20)
    first, _, second = scripted.asked
    assert 20 >= first.body["wait_s"] > second.body["wait_s"] > 0
    assert second.body["exclude"] == ["box"]


def test_a_lease_that_is_lost_is_no_reason_to_ask_again(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({"error": "unknown_lease", "message": "it expired"}, 404)]
    with pytest.raises(LeaseLost, match="it expired"):
        Client(scripted.url).held_lease("abc")
    assert len(scripted.asked) == 1


def test_the_last_known_answer_stands_in_for_a_server_that_is_away(scripted: ScriptedServer) -> None:
    scripted.replies = [
        Say(
            {
                **MACHINES,
                "machines": [{"name": "a", "role": "r", "models": [], "hardware": {}, "network": {}}],
            }
        ),
        Say(ROUTE),
    ]
    client, strict = Client(scripted.url, stale_s=60, retries=0), Client(scripted.url, retries=0)
    fresh, route = client.machines(), client.route("m", tag="gpu")
    assert (fresh.age_s, route.age_s) == (0, 0)
    scripted.stop()
    old = client.machines()
    assert old == fresh
    assert old.age_s > 0
    assert old.machines[0].age_s == old.age_s
    assert client.route("m", tag=["gpu"], wait_s=1).age_s > 0
    for unknown in (lambda: client.route("other"), client.health, client.leases, strict.machines):
        with pytest.raises(ServerUnreachable):
            unknown()
    with pytest.raises(ServerUnreachable):
        client.reserve("m")


def test_an_answer_that_is_too_old_is_not_used(scripted: ScriptedServer) -> None:
    scripted.replies = [Say(MACHINES)]
    client = Client(scripted.url, stale_s=0, retries=0)
    client.machines()
    scripted.stop()
    with pytest.raises(ServerUnreachable):
        client.machines()
