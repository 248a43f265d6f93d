"""A poller keeps its shards although the database is busy for a while."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing

import pytest

from machines_server.core.machine import Registry
from machines_server.process.cluster import ReadFiles
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.shards import Member, ShardKeeper
from tests.fakes import wait_until
from tests.postgres import Postgres


def test_shards_that_could_not_be_renewed_are_renewed_at_the_next_look(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        database = stack.enter_context(closing(Database(postgres.new_database())))
        keeper = ShardKeeper(database, Member("s", "here", 0.4, 0.1, lambda: ""))
        assert keeper.acquire()
        stack.callback(keeper.release)
        with database.transaction() as connection:
            connection.execute("SELECT FROM shard ORDER BY id FOR UPDATE")
            before = first_end(database)
            keeper.begin_cycle()
            wait_until(lambda: "shards cannot be renewed" in caplog.text)
        wait_until(lambda: first_end(database) > before)


def first_end(database: Database) -> int:
    """When the first of all shards runs out."""
    ((end_ms,),) = database.run("SELECT min(expires_at_ms) FROM shard", {})
    return int(end_ms)


def test_shards_are_kept_while_files_are_being_read(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    is_reading, may_end = threading.Event(), threading.Event()

    def read_slowly(_now: float, _pause: Callable[[], object]) -> Registry:
        is_reading.set()
        assert may_end.wait(60)
        return Registry((), loaded_at=1.0)

    with ExitStack() as stack:
        database = stack.enter_context(closing(Database(postgres.new_database())))
        files = ReadFiles(read_slowly)
        keeper = ShardKeeper(database, Member("s", "here", 0.4, 0.1, files.hash))
        assert keeper.acquire()
        stack.callback(keeper.release)
        reader = threading.Thread(target=files.current, args=[0.0, bool])
        reader.start()
        stack.callback(reader.join)
        stack.callback(may_end.set)
        assert is_reading.wait(60)
        before, (first, *_) = first_end(database), database.run("SELECT files FROM poller", {})
        assert first == ("",)
        keeper.begin_cycle()
        wait_until(lambda: first_end(database) > before)
        assert "cannot be renewed" not in caplog.text
        may_end.set()
        wait_until(lambda: database.run("SELECT files FROM poller", {}) != [("",)])
