"""Connections to PostgreSQL: their deadlines, their errors, and what replaces those that break."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from machines_server.errors import LockedError, MigrationError, StoreError, UnreachableStoreError
from machines_server.poll.schedule import allow_many_sockets
from machines_server.store.migration_files import Migration
from machines_server.store.postgres.database import CONNECT_WAIT_S, Database
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.migrate import known_migrations, migrate, pending
from tests.fakes import wait_until
from tests.ports import free_port
from tests.postgres import Postgres, folder_of_postgres, succeeds


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    with closing(Database(postgres.new_database())) as opened:
        yield opened


def test_a_transaction_is_whole_or_not_at_all(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("CREATE TABLE t (n integer)")
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(StoreError), database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (2)").fetchone()
    with database.transaction() as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_a_transaction_that_takes_too_long_ends(database: Database) -> None:
    began = time.monotonic()
    with (
        pytest.raises(UnreachableStoreError, match=r"within 0\.3 s"),
        database.transaction(0.3) as connection,
    ):
        connection.execute("SELECT pg_sleep(60)")
    assert time.monotonic() - began < 10
    with database.transaction() as connection:
        connection.execute("SELECT 1")


def test_statements_that_an_error_kept_from_being_prepared_work_later(postgres: Postgres) -> None:
    statement = "SELECT 7 + %s::int"

    def divide_by_zero() -> None:
        with one.transaction(pipelined=True) as connection:
            connection.execute("SELECT 1 / %s::int", (0,))
            connection.execute(statement, (1,))

    def fail() -> None:
        with pytest.raises(StoreError, match="22012"):
            divide_by_zero()

    with closing(Database(postgres.new_database(), most=1)) as one:
        fail()
        fail()
        for _ in range(5):  # as often as psycopg waits before it prepares a statement
            with one.transaction() as connection:
                connection.execute(statement, (1,))
        fail()
        with one.transaction() as connection:
            assert connection.execute(statement, (1,)).fetchall() == [(8,)]


def test_who_waits_for_a_lock_for_too_long_is_told_so(database: Database) -> None:
    with database.transaction() as holding:
        holding.execute("LOCK TABLE machine")
        with pytest.raises(LockedError), database.transaction() as waiting:
            waiting.execute("SET LOCAL lock_timeout = '50ms'; SELECT * FROM machine")


def test_connections_that_were_cut_while_nobody_used_them_are_replaced(
    postgres: Postgres, database: Database
) -> None:
    with database.transaction(), database.transaction(), database.transaction():
        pass
    with psycopg.connect(postgres.url(), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'machines-server'"
        )
    for _ in range(3):
        with database.transaction() as connection:
            connection.execute("SELECT 1")


def test_a_server_that_is_frozen_costs_one_wait_however_many_connections_are_open() -> None:
    with folder_of_postgres() as folder, Postgres(folder / "data") as server, ExitStack() as stack:
        database = stack.enter_context(closing(Database(server.new_database())))
        with ExitStack() as open_at_once:
            for _ in range(8):
                open_at_once.enter_context(database.transaction())
        server.signal_all(signal.SIGSTOP)
        stack.callback(server.signal_all, signal.SIGCONT)
        began = time.monotonic()
        with pytest.raises(UnreachableStoreError, match="does not answer"):
            select_1(database)
        assert time.monotonic() - began < 3 * CONNECT_WAIT_S
        server.signal_all(signal.SIGCONT)
        wait_until(lambda: succeeds(lambda: select_1(database)))


def select_1(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("SELECT 1")


def test_any_number_of_files_may_be_open(postgres: Postgres) -> None:
    allow_many_sockets()
    with ExitStack() as stack:
        for _ in range(1100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        database = stack.enter_context(closing(Database(postgres.new_database())))
        heard: list[str] = []
        listener = stack.enter_context(closing(Listener(database)))
        listener.subscribe("one", heard.append, lambda: heard.append("listening"))
        wait_until(lambda: heard == ["listening"])
        for _ in range(2):
            assert database.run("SELECT pg_notify('one', 'said')", {})
        wait_until(lambda: heard == ["listening", "said", "said"])


def test_a_server_that_is_away_is_an_error_and_so_is_a_bad_statement(database: Database) -> None:
    away = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    with closing(away), pytest.raises(UnreachableStoreError), away.transaction():
        pass
    with pytest.raises(StoreError, match="42P01"), database.transaction() as connection:
        connection.execute("SELECT * FROM there_is_none")


def test_a_full_disk_is_said_and_may_have_room_later(database: Database) -> None:
    full = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
    with (
        pytest.raises(UnreachableStoreError, match="the disk of its server is full"),
        database.transaction() as connection,
    ):
        connection.execute(full)
    with database.transaction() as connection:
        connection.execute("SELECT 1")


def said_by(url: str, password_file: Path | None = None) -> list[str]:
    """Why no transaction begins, twice."""
    said = []
    with closing(Database(url, password_file)) as database:
        for _ in range(2):
            with pytest.raises(UnreachableStoreError) as raised, database.transaction():
                pass
            said.append(str(raised.value))
    return said


def test_why_nobody_can_connect_is_said(tmp_path: Path) -> None:
    file, closed = tmp_path / "password", free_port()
    with folder_of_postgres() as folder, Postgres(folder / "data") as running:
        with psycopg.connect(running.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE agent LOGIN PASSWORD 'right'")
            rules = running.folder / "pg_hba.conf"
            rules.write_text(f"host all agent 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
            wait_until(
                lambda: (
                    connection.execute("SELECT FROM pg_hba_file_rules WHERE user_name = '{agent}'").rowcount
                )
            )
        url = running.url().replace("//postgres@", "//agent@")
        missing = "the file of the database's password cannot be read: No such file or directory"
        assert said_by(url, file) == [missing] * 2
        file.write_text("wrong")
        wrong = 'failed: FATAL:  password authentication failed for user "agent"'
        at_port = f":{running.port}/"
        for said in (
            *said_by(url, file),
            *said_by(url.replace(at_port, f"{at_port[:-1]},127.0.0.1:{closed}/"), file),
            *said_by(url.replace(at_port, f":{closed},127.0.0.1{at_port}"), file),
        ):
            assert said.startswith('PostgreSQL cannot be reached: connection to server at "127.0.0.1", port ')
            assert wrong in said
            assert "\n" not in said
        file.write_text("right")
        with closing(Database(url, file)) as database, database.transaction() as connection:
            connection.execute("SELECT 1")
        (said, _) = said_by(f"{url}s", file)
        assert said.endswith('FATAL:  database "postgress" does not exist')


def test_a_password_is_read_from_its_file_each_time(postgres: Postgres, tmp_path: Path) -> None:
    file = tmp_path / "password"
    database = Database(postgres.url(), file)
    with pytest.raises(StoreError, match="password cannot be read"):
        database.connection_info()
    for password in ("one", "t wo'"):
        file.write_text(f"{password}\n")
        assert psycopg.conninfo.conninfo_to_dict(database.connection_info())["password"] == password


def test_a_database_is_migrated_once(postgres: Postgres) -> None:
    with closing(Database(postgres.new_database())) as database:
        assert pending(database) == []
        more = [*known_migrations(), Migration(len(known_migrations()) + 1, "9999_more.sql", "SELECT 1")]
        assert pending(database, more) == ["9999_more.sql"]
        assert migrate(database, more) == ["9999_more.sql"]
        with pytest.raises(MigrationError, match="newer than this version"):
            migrate(database)


def test_a_database_of_something_else_is_left_alone(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("DROP TABLE schema_migrations")
    with pytest.raises(MigrationError, match="another program"):
        migrate(database)
