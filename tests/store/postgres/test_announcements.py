"""What servers tell each other: requests to pollers and advice to load models."""

import time
from collections.abc import Container, Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple

import pytest

from machines_server.core.routing.advised import Advice
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.poller_requests import SharedRequests
from machines_server.store.postgres.shared_advice import AnnouncedAdvice
from machines_server.store.values import Requested
from tests.fakes import wait_until
from tests.postgres import Postgres


class Server(NamedTuple):
    database: Database
    listener: Listener
    background: Background


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def servers(postgres: Postgres, opened: ExitStack) -> list[Server]:
    url = postgres.new_database()
    return [a_server(url, opened) for _ in range(2)]


def a_server(url: str, opened: ExitStack) -> Server:
    database = opened.enter_context(closing(Database(url)))
    listener = opened.enter_context(closing(Listener(database)))
    return Server(database, listener, opened.enter_context(closing(Background(database))))


def requests_at(server: Server, site: str = "here", mine: Container[str] | None = None) -> SharedRequests:
    database, listener, background = server
    return SharedRequests(
        database, site, listener, background, lambda machine: mine is None or machine in mine
    )


def test_each_poller_takes_its_machines_and_all_of_them_the_models(servers: list[Server]) -> None:
    one, other = (
        requests_at(server, mine=[machine]) for server, machine in zip(servers, ("one", "two"), strict=True)
    )
    elsewhere = requests_at(servers[0], "there")
    one.look_for("phi3")
    one.poll_soon(["one", "two"])
    for poller, machine in ((one, "one"), (other, "two")):
        wait_until(lambda poller=poller: not poller.is_empty())  # type: ignore[misc]  # mypy sees no default
        models, machines = poller.take()
        assert len(models) == 1
        assert machines == (machine,)
        assert poller.is_empty()
        assert poller.take() == Requested()
    assert elsewhere.is_empty()


def test_nobody_asks_the_database_whether_something_is_asked_while_nothing_is(servers: list[Server]) -> None:
    poller = requests_at(servers[0])
    assert poller.is_empty()
    wait_until(servers[0].listener.is_listening)
    poller.take()
    servers[0].database.close()
    began = time.monotonic()
    for _ in range(10_000):
        assert poller.is_empty()
    assert time.monotonic() - began < 60, "or each would have waited for a connection"


def test_a_request_that_cannot_be_written_is_dropped(opened: ExitStack) -> None:
    away = a_server("postgresql://nobody@127.0.0.1:1/none", opened)
    requests = requests_at(away)
    requests.look_for("phi3")
    requests.poll_soon(["one"])
    assert requests.is_empty()
    assert requests.take() == Requested()


def test_advice_reaches_the_other_servers_of_the_site(servers: list[Server]) -> None:
    one, other = (AnnouncedAdvice("here", server.listener, server.background) for server in servers)
    elsewhere = AnnouncedAdvice("there", servers[1].listener, servers[1].background)
    assert [*one.news(), *other.news(), *elsewhere.news()] == []
    wait_until(lambda: all(server.listener.is_listening() for server in servers))
    one.add(Advice("a", "phi3", 0.0, 12.5))
    one.add(Advice("a", "phi3:latest", 0.0, 13.5))
    one.add(Advice("b" * 8000, "phi3", 0.0, 1.0))
    told = list[Advice]()

    def have_both_arrived() -> bool:
        told.extend(other.news())
        return len(told) == 2

    wait_until(have_both_arrived)
    assert [advice[:2] for advice in told] == [("a", "phi3"), ("a", "phi3:latest")]
    assert [advice.loads_s for advice in told] == [12.5, 13.5]
    assert abs(told[0].at - time.time()) < 60
    assert [*one.news(), *other.news(), *elsewhere.news()] == []
