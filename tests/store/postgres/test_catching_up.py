"""Who must not answer by old knowledge looks at once, also where announcements do not arrive."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import LiteralString

import pytest

from machines_server.errors import StoreError
from machines_server.store.postgres.database import DEADLINE_S, Connection, Database
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.present import PostgresPresent
from tests.postgres import Postgres

AWAY = "postgresql://nobody@127.0.0.1:1/none"
POLLER: LiteralString = """
INSERT INTO poller (id, site, server, pid, since_ms, expires_at_ms, files, interval_s, timeout_s)
VALUES (%(id)s, 'lab', 'there', 1, 0, 0, '', 5, 2) RETURNING 1"""
CALLERS, CALLS = 20, 5


class Counted(Database):
    """A database that counts transactions."""

    transactions = 0

    @contextmanager
    def transaction(self, deadline_s: float = DEADLINE_S, *, pipelined: bool = False) -> Iterator[Connection]:
        self.transactions += 1
        with super().transaction(deadline_s, pipelined=pipelined) as connection:
            yield connection


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def database(postgres: Postgres, opened: ExitStack) -> Counted:
    made = opened.enter_context(closing(Counted(postgres.new_database())))
    made.run("INSERT INTO shard (site, number) VALUES ('lab', 0) RETURNING 1", {})
    return made


def deaf_present(database: Database, opened: ExitStack) -> PostgresPresent:
    """It hears no announcements, so that it looks twice a second."""
    elsewhere = opened.enter_context(closing(Database(AWAY)))
    return PostgresPresent(database, opened.enter_context(closing(Listener(elsewhere))), "lab", "here", 60.0)


def test_after_catching_up_what_was_written_before_is_known(database: Counted, opened: ExitStack) -> None:
    present, known = deaf_present(database, opened), set[object]()
    for number in range(10):
        database.run(POLLER, {"id": str(number)})
        present.catch_up()
        assert len(present.pollers()) == number + 1
        known.add(present.version_nowait())
    assert len(known) == 10


def test_many_who_catch_up_at_once_look_together(database: Counted, opened: ExitStack) -> None:
    present = deaf_present(database, opened)
    present.version()
    before = database.transactions

    def call(_: int) -> None:
        for _ in range(CALLS):
            present.catch_up()

    with ThreadPoolExecutor(CALLERS) as threads:
        list(threads.map(call, range(CALLERS)))
    assert 0 < database.transactions - before < CALLERS * CALLS / 2


def test_who_cannot_catch_up_waits_once(opened: ExitStack) -> None:
    away = opened.enter_context(closing(Counted(AWAY)))
    present = deaf_present(away, opened)
    with pytest.raises(StoreError, match="cannot be reached"):
        present.catch_up()
    for _ in range(100):
        present.catch_up()
    assert away.transactions < 10
