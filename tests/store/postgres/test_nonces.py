"""The nonces of signed requests in PostgreSQL: once among all servers, and none from before a crash."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg
import pytest

from machines_server.errors import StoreError
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.nonces import PostgresNonces
from tests.fakes import wait_until
from tests.postgres import Postgres, folder_of_postgres


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def nonces(url: str, opened: ExitStack, period_ms: int = 400_000) -> PostgresNonces:
    """The numbers as another server has them."""
    return PostgresNonces(opened.enter_context(closing(Database(url))), period_ms)


def test_a_number_is_new_once(url: str, opened: ExitStack) -> None:
    one, other = nonces(url, opened), nonces(url, opened)
    first, second = os.urandom(16), os.urandom(16)
    assert one.use(first)
    assert not other.use(first)
    assert other.use(second)
    assert not one.use(second)
    assert one.since() == other.since()


def test_of_many_who_use_a_number_at_once_one_succeeds(url: str, opened: ExitStack) -> None:
    servers = [nonces(url, opened) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            number = os.urandom(16)
            used = threads.map(PostgresNonces.use, servers * 2, [number] * 8)
            assert sorted(used) == [False] * 7 + [True]


def test_nobody_waits_for_ever_while_periods_end(url: str, opened: ExitStack) -> None:
    servers = [nonces(url, opened, 20) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(40):
            assert any(threads.map(PostgresNonces.use, servers * 2, [os.urandom(16)] * 8))


def test_numbers_are_kept_for_one_to_two_periods(url: str, opened: ExitStack) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        store, number = nonces(url, opened), os.urandom(16)
        assert store.use(number)
        database.execute("UPDATE nonce_state SET period = period - 1")
        tables = [f"nonce_{half}" for half in (0, 1)]
        (here,) = [table for table in tables if database.execute(f"SELECT FROM {table}").rowcount]
        (other,) = set(tables) - {here}
        database.execute(f"INSERT INTO {other} SELECT nonce FROM {here}")
        database.execute(f"DELETE FROM {here}")  # as if it had been used in the period before
        assert not store.use(number)
        database.execute("UPDATE nonce_state SET period = period - 2")
        assert store.use(number)


def test_after_a_crash_older_signatures_are_refused() -> None:
    with folder_of_postgres() as folder, ExitStack() as opened:
        with Postgres(folder / "data") as running:
            url, port = running.new_database(), running.port
            store, idle = nonces(url, opened), nonces(url, opened)
            number = os.urandom(16)
            assert store.use(number)
            before = idle.since()
            with psycopg.connect(url, autocommit=True) as database:
                database.execute("UPDATE nonce_state SET since_ms = since_ms - 10000")
                database.execute("CHECKPOINT")
            running.kill()
        with Postgres(folder / "data", port):
            again = nonces(url, opened)
            wait_until(lambda: can_be_asked(again))
            assert again.since() >= before
            assert again.use(number), "it is forgotten, so that its time has to be checked"
            # Who knew of an earlier beginning has checked the signature by that, and accepts nothing.
            wait_until(lambda: refuses(idle))
            assert idle.since() == again.since()
            assert idle.use(os.urandom(16))


def can_be_asked(store: PostgresNonces) -> bool:
    try:
        store.since()
    except StoreError:
        return False
    return True


def refuses(store: PostgresNonces) -> bool:
    try:
        store.use(os.urandom(16))
    except StoreError as error:
        return "list of used signatures" in str(error)
    return False


def test_a_database_that_is_away_is_an_error(opened: ExitStack) -> None:
    away = nonces("postgresql://nobody@127.0.0.1:1/none", opened)
    with pytest.raises(StoreError):
        away.use(os.urandom(16))
    with pytest.raises(StoreError):
        away.since()
