"""Announcements of other processes: heard at once, and again after a connection was lost."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from machines_server.store.postgres.database import Database
from machines_server.store.postgres.listener import Listener
from tests.fakes import wait_until
from tests.ports import free_port
from tests.postgres import Postgres


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    with closing(Database(postgres.new_database())) as opened:
        yield opened


@pytest.fixture
def listener(database: Database) -> Iterator[Listener]:
    with closing(Listener(database)) as opened:
        yield opened


def announce(database: Database, channel: str, payload: str) -> None:
    with database.transaction() as connection:
        connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))


def terminate_all(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid != pg_backend_pid()"
        )


def test_nobody_listens_before_somebody_subscribes(listener: Listener) -> None:
    assert not listener.is_listening()
    assert "database listener" not in [thread.name for thread in threading.enumerate()]


def test_subscribers_hear_what_is_announced_on_their_channel(database: Database, listener: Listener) -> None:
    one: list[str] = []
    other: list[str] = []
    began: list[str] = []
    listener.subscribe("one", one.append, lambda: began.append("one"))
    wait_until(lambda: began == ["one"])
    assert listener.is_listening()
    listener.subscribe("other", other.append, lambda: began.append("other"))
    wait_until(lambda: began == ["one", "other"])
    for channel, payload in (("one", "1"), ("other", "2"), ("third", "3"), ("one", "4")):
        announce(database, channel, payload)
    wait_until(lambda: one == ["1", "4"] and other == ["2"])


def test_after_a_lost_connection_it_listens_again_and_says_so(database: Database, listener: Listener) -> None:
    heard: list[str] = []
    began: list[int] = []
    listener.subscribe("one", heard.append, lambda: began.append(1))
    wait_until(lambda: began == [1])
    terminate_all(database)
    wait_until(lambda: began == [1, 1])
    announce(database, "one", "again")
    wait_until(lambda: heard == ["again"])


def test_a_subscriber_that_fails_disturbs_no_other(
    database: Database, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def fail(_: str) -> None:
        raise ValueError

    listener.subscribe("one", fail, lambda: None)
    listener.subscribe("one", heard.append, lambda: announce(database, "one", "1"))
    wait_until(lambda: heard == ["1"])
    assert "handling an announcement" in caplog.text


def test_a_closed_listener_is_silent_until_somebody_subscribes(
    database: Database, listener: Listener
) -> None:
    heard: list[str] = []
    listener.subscribe("one", heard.append, lambda: None)
    wait_until(listener.is_listening)
    listener.close()
    listener.close()
    assert not listener.is_listening()
    began: list[int] = []
    listener.subscribe("one", heard.append, lambda: began.append(1))
    wait_until(lambda: began == [1])
    announce(database, "one", "1")
    wait_until(lambda: heard == ["1"])


def test_who_cannot_connect_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    away = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    with closing(Listener(away)) as listener:
        listener.subscribe("one", lambda _: None, lambda: None)
        wait_until(lambda: "cannot receive announcements" in caplog.text)
        assert not listener.is_listening()
