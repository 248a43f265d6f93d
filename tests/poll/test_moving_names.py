"""Names that move to another address, or have several: who is polled, and how soon."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from machines_server.core.sample import PollResult, State
from machines_server.poll.cycle import AnswerReader, poll_all
from machines_server.poll.fetch import Fetcher
from machines_server.poll.resolve import ADDRESS_LIFETIME_S, LOOKUP_INTERVAL_S, Resolver
from tests.bodies import http, ollama_body
from tests.core.machines import a_machine
from tests.fakes import FakeEndpoint, FakeFleet, wait_until
from tests.poll.fetching import ask

NAME = "gpu1.lan"
TIMEOUT_S = 1.0


class NameService:
    """Knows the addresses of one name, or does not answer; its clock moves when told."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked = 0
        self.is_dead = False
        self.now = 0.0

    def look_up(self, _host: str, *_: object, **__: object) -> list[Any]:
        self.asked += 1
        if self.is_dead:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(0, 0, 0, "", (address, 0)) for address in self.addresses]

    def clock(self) -> float:
        return self.now


@pytest.fixture
def names() -> NameService:
    return NameService()


@pytest.fixture
def fetcher(names: NameService) -> Iterator[Fetcher]:
    fetcher = Fetcher(TIMEOUT_S, Resolver(names.look_up, names.clock))
    yield fetcher
    fetcher.close()


@pytest.fixture
def hosts(fakes: FakeFleet) -> tuple[FakeEndpoint, FakeEndpoint]:
    """Two hosts that answer at the same port of different addresses."""
    old = fakes.listen(http(b"old"), "127.0.0.1")
    return old, fakes.listen(http(b"new"), "127.0.0.2", old.port)


def body(fetcher: Fetcher, url: str) -> bytes | str:
    """What a URL answers, or why it does not."""
    (one,) = ask(fetcher, url, timeout_s=TIMEOUT_S)
    return one.reason.text if one.reason else one.body


def test_a_name_that_moved_is_asked_at_its_new_address_in_the_next_round(
    fetcher: Fetcher, names: NameService, hosts: tuple[FakeEndpoint, FakeEndpoint]
) -> None:
    old, new = hosts
    url = old.url(host=NAME)
    names.addresses = [old.address]
    assert body(fetcher, url) == b"old"
    names.addresses = [new.address]
    old.stop()
    assert body(fetcher, url) == "connection refused"
    assert [body(fetcher, url) for _ in range(3)] == [b"new"] * 3


@pytest.mark.parametrize(
    "answer", [None, http(b"", "404 Not Found"), b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], ids=["silent", "404", "ssh"]
)
def test_whoever_answers_wrongly_may_have_the_address_of_a_name_that_moved(
    fetcher: Fetcher, names: NameService, hosts: tuple[FakeEndpoint, FakeEndpoint], answer: bytes | None
) -> None:
    old, new = hosts
    names.addresses = [old.address]
    assert body(fetcher, old.url(host=NAME)) == b"old"
    names.addresses, old.answer = [new.address], answer
    assert isinstance(body(fetcher, old.url(host=NAME)), str)
    assert body(fetcher, old.url(host=NAME)) == b"new"


def test_the_old_address_is_not_asked_for_longer_than_the_name_is_kept(
    fetcher: Fetcher, names: NameService, hosts: tuple[FakeEndpoint, FakeEndpoint]
) -> None:
    old, new = hosts
    names.addresses = [old.address]
    assert body(fetcher, old.url(host=NAME)) == b"old"
    names.addresses, names.now = [new.address], ADDRESS_LIFETIME_S
    # The connection to the old one is kept alive and works all the time.
    assert [body(fetcher, old.url(host=NAME)) for _ in range(5)] == [b"new"] * 5
    assert old.open_connections == 1


def test_a_name_is_looked_up_again_beside_its_use(
    fetcher: Fetcher, names: NameService, hosts: tuple[FakeEndpoint, FakeEndpoint]
) -> None:
    old, new = hosts
    names.addresses = [old.address]
    assert [body(fetcher, old.url(host=NAME)) for _ in range(3)] == [b"old"] * 3
    assert names.asked == 1
    names.addresses, names.now = [new.address], LOOKUP_INTERVAL_S
    wait_until(lambda: body(fetcher, old.url(host=NAME)) == b"new")
    assert names.asked == 2
    assert LOOKUP_INTERVAL_S < ADDRESS_LIFETIME_S < 60


def test_a_name_service_that_is_dead_takes_no_address_away(
    fetcher: Fetcher, names: NameService, hosts: tuple[FakeEndpoint, FakeEndpoint]
) -> None:
    old, _ = hosts
    names.addresses = [old.address]
    assert body(fetcher, old.url(host=NAME)) == b"old"
    names.is_dead, names.now = True, 10 * ADDRESS_LIFETIME_S
    assert body(fetcher, old.url(host=NAME)) == b"old"
    old.stop()
    assert body(fetcher, old.url(host=NAME)) == "connection refused"
    old.start()
    assert body(fetcher, old.url(host=NAME)) == b"old"


def test_a_look_up_that_hangs_holds_up_a_known_address_for_a_part_of_the_deadline(
    names: NameService, hosts: tuple[FakeEndpoint, FakeEndpoint]
) -> None:
    old, _ = hosts
    names.addresses = [old.address]

    def look_up(host: str, *_: object, **__: object) -> list[Any]:
        if names.asked:
            wait_until(lambda: names.is_dead)
        return names.look_up(host)

    fetcher = Fetcher(TIMEOUT_S, Resolver(look_up, names.clock))
    assert body(fetcher, old.url(host=NAME)) == b"old"
    names.now = ADDRESS_LIFETIME_S
    assert body(fetcher, old.url(host=NAME)) == b"old"
    names.is_dead = True
    fetcher.close()


def test_addresses_in_another_order_are_the_same(
    fetcher: Fetcher, names: NameService, hosts: tuple[FakeEndpoint, FakeEndpoint]
) -> None:
    old, new = hosts
    names.addresses = [old.address, new.address]
    assert body(fetcher, old.url(host=NAME)) == b"old"
    for _ in range(4):
        names.addresses.reverse()
        names.now += ADDRESS_LIFETIME_S
        assert body(fetcher, old.url(host=NAME)) == b"old"
    assert (old.connected, new.connected) == (1, 0)


def result_of(fetcher: Fetcher, port: int) -> PollResult:
    machine = a_machine(hostname=NAME, port=port, has_sidecar=False)
    (result,) = [one for one in poll_all([machine], fetcher, AnswerReader()) if isinstance(one, PollResult)]
    return result


def test_of_several_addresses_it_is_said_which_one_answers(
    fetcher: Fetcher, names: NameService, fakes: FakeFleet
) -> None:
    one = fakes.listen(http(ollama_body("m")), "127.0.0.3")
    names.addresses = ["127.0.0.2", "127.0.0.3"]
    result = result_of(fetcher, one.port)
    assert result.state is State.OK
    remark = "answered by 127.0.0.3, one of 2 addresses of gpu1.lan"
    assert result.reason == remark
    one.answer = http(ollama_body("m", size=-1))
    said = f"{remark}; invalid, so shown as unknown: m: size: -1 is out of range"
    assert result_of(fetcher, one.port).reason == said


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.1"], ["::1", "127.0.0.1"]])
def test_a_name_that_can_only_be_one_host_is_no_reason_to_say_more(
    fetcher: Fetcher, names: NameService, fakes: FakeFleet, addresses: list[str]
) -> None:
    names.addresses = addresses
    assert result_of(fetcher, fakes.ollama("m").port).reason is None
