"""The secret of sessions in PostgreSQL: the same on all servers, and another one ends all sessions."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from machines_server.auth.sessions import Sessions
from machines_server.errors import StoreError
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.nonces import PostgresNonces
from machines_server.store.postgres.session_secret import SharedSecret
from tests.fakes import wait_until
from tests.postgres import Postgres


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def secret_at(url: str, opened: ExitStack, site: str = "here") -> tuple[SharedSecret, Database]:
    """The secret as another server has it."""
    database = opened.enter_context(closing(Database(url)))
    listener = opened.enter_context(closing(Listener(database)))
    background = opened.enter_context(closing(Background(database)))
    return SharedSecret(database, site, listener, background), database


def test_a_session_of_one_server_is_valid_on_others_until_all_are_ended(
    postgres: Postgres, opened: ExitStack
) -> None:
    url = postgres.new_database()
    made = [secret_at(url, opened) for _ in range(2)]
    one, other = (
        Sessions(secret, lambda database=database: PostgresNonces(database), bool)  # type: ignore[misc]  # mypy sees no default
        for secret, database in made
    )
    PostgresNonces(made[0][1]).since()  # begins to record: links from before would not be valid
    link = one.link("agent-1").text
    session = other.begin(link)
    assert session is not None
    assert one.begin(link) is None
    wait_until(lambda: one.agent(session.text) == other.agent(session.text) == "agent-1")
    other.end_all()
    assert other.agent(session.text) is None
    wait_until(lambda: one.agent(session.text) is None)


def test_each_site_has_its_own(postgres: Postgres, opened: ExitStack) -> None:
    url = postgres.new_database()
    here, there = secret_at(url, opened)[0], secret_at(url, opened, "there")[0]
    assert len(here.current()) == 32
    assert here.current() == secret_at(url, opened)[0].current() != there.current()


def test_nobody_waits_for_it_where_nobody_may_wait(opened: ExitStack) -> None:
    away = secret_at("postgresql://nobody@127.0.0.1:1/none", opened)[0]
    assert away.get_nowait() is None
    with pytest.raises(StoreError):
        away.current()
