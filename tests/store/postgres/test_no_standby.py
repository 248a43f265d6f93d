"""The only synchronous standby is away: what needs none goes on, and nothing is left waiting for it."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg
import pytest

from machines_server.errors import StoreError, UnreachableStoreError
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.nonces import PostgresNonces
from machines_server.store.postgres.opinions import PostgresOpinions
from tests.cluster.pooler import Pooler
from tests.fakes import wait_until
from tests.postgres import Postgres, execute, folder_of_postgres, succeeds
from tests.store.booking import reserve
from tests.store.postgres.agents import leases_at

STANDBYS = "synchronous_standby_names"
WAITING = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["directly", "through a pooler"])
def lonely(request: pytest.FixtureRequest, opened: ExitStack) -> tuple[Postgres, str]:
    """A primary whose standby is away, and the URL of a database on it."""
    folder = opened.enter_context(folder_of_postgres())
    postgres = opened.enter_context(Postgres(folder / "primary"))
    url = postgres.new_database()
    execute(postgres, f"ALTER SYSTEM SET {STANDBYS} = 'away'")
    execute(postgres, "SELECT pg_reload_conf()")
    if request.param == "through a pooler":
        url = opened.enter_context(Pooler(folder, postgres, url)).url
    return postgres, url


def test_signatures_are_checked_whenever_a_period_ends(
    lonely: tuple[Postgres, str], opened: ExitStack
) -> None:
    _, url = lonely
    nonces = PostgresNonces(opened.enter_context(closing(Database(url))), period_ms=200)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert nonces.use(os.urandom(16))


def test_pollers_ask_each_other(lonely: tuple[Postgres, str], opened: ExitStack) -> None:
    _, url = lonely
    database = opened.enter_context(closing(Database(url)))
    with database.transaction() as connection:
        join = (
            "INSERT INTO poller"
            " (id, site, server, pid, since_ms, expires_at_ms, files, interval_s, timeout_s)"
            " VALUES ('two', 'lab', 'b', 1, 0, now_ms() + 60000, '', 5, 2)"
        )
        connection.execute(join)
    one, two = (
        PostgresOpinions(database, "lab", lambda: "one"),
        PostgresOpinions(database, "lab", lambda: "two"),
    )
    question = one.ask(["m"])
    assert question is not None
    assert list(two.take_questions()) == [(question, ["m"])]
    two.answer(question, ["m"])
    assert one.answer_to(question) == {"m"}


def test_leases_fail_soon_and_leave_no_connection_of_the_server_waiting(
    lonely: tuple[Postgres, str], opened: ExitStack
) -> None:
    postgres, url = lonely
    leases = leases_at(url, opened)
    with pytest.raises(UnreachableStoreError):
        reserve(leases)
    until = time.monotonic() + 8

    def ask_on(number: int) -> int:
        """Ask again and again, each time with a new key; returns how often that took long."""
        waits = 0
        while time.monotonic() < until:
            began = time.monotonic()
            with pytest.raises(StoreError):
                reserve(leases, key=f"{number} {began}")
            waits += time.monotonic() - began > 3
            time.sleep(0.05)
        return waits

    with ThreadPoolExecutor(8) as threads:
        waits = sum(threads.map(ask_on, range(8)))
    assert waits <= 4  # one attempt at a time, of 5 s each
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        wait_until(lambda: not connection.execute(WAITING).fetchall(), 10)
    execute(postgres, f"ALTER SYSTEM RESET {STANDBYS}")
    execute(postgres, "SELECT pg_reload_conf()")
    wait_until(lambda: succeeds(lambda: reserve(leases)))
    assert leases.fault() is None
