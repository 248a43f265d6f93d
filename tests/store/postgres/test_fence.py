"""Polls are written as far as their shards are still held, in the epoch in which they were taken."""

from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import replace
from typing import Any, LiteralString

import pytest

from machines_server.core.machine import Registry
from machines_server.core.sample import Cycle
from machines_server.core.shards import SHARDS, shard_of
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.poll_writer import PollerId
from machines_server.store.postgres.sink import MAX_BATCH, PostgresSink
from tests.fakes import wait_until
from tests.postgres import Postgres
from tests.store.polls import answered, machine

KEPT, TAKEN, TAKEN_BACK = "kept", "taken", "taken back"
MACHINES = KEPT, TAKEN, TAKEN_BACK
EPOCH = 1


def test_a_shard_that_others_took_or_that_was_taken_back_since_is_not_written(postgres: Postgres) -> None:
    faults: list[str | None] = []
    with closing(Database(postgres.new_database())) as database:
        sink = holding_all(database, MACHINES, faults.append)
        poll(sink, 10.0)
        with database.transaction() as connection:
            for name, owner in ((TAKEN, "another"), (TAKEN_BACK, "me")):
                connection.execute(
                    "UPDATE shard SET owner = %s, epoch = epoch + 1 WHERE number = %s",
                    (owner, shard_of(name)),
                )
        before = revisions(database)
        poll(sink, 20.0)
        assert polled_at(database) == {KEPT: 20_000, TAKEN: 10_000, TAKEN_BACK: 10_000}
        raised = {number for number, revision in revisions(database).items() if revision != before[number]}
        assert raised == {shard_of(KEPT)}
        assert sink.close(60)
    assert not any(faults)


def test_of_a_shard_that_others_took_no_machine_is_written(postgres: Postgres) -> None:
    with closing(Database(postgres.new_database())) as database:
        sink = holding_all(database, MACHINES)
        poll(sink, 10.0)
        with database.transaction() as connection:
            connection.execute(
                "UPDATE shard SET owner = 'another', epoch = epoch + 1 WHERE number = %s", (shard_of(TAKEN),)
            )
            connection.execute(
                "UPDATE machine SET declared = %s WHERE name = %s", ('{"by": "another"}', TAKEN)
            )
        before = rows(database, "SELECT * FROM machine WHERE name = 'taken'")
        for names in (MACHINES, (*MACHINES, "new"), (KEPT, TAKEN_BACK), MACHINES):
            machines = tuple(map(machine, names))
            sink.put(Registry(machines, loaded_at=20.0, shards=dict.fromkeys(range(SHARDS), EPOCH)))
            poll(sink, 20.0)
        assert sink.close(60)
        assert rows(database, "SELECT * FROM machine WHERE name = 'taken'") == before
        events = "SELECT type, name FROM event JOIN machine ON machine.id = machine_id"
        told = sorted(row for row in rows(database, events) if row[0].startswith("machine_"))
        assert told == [
            *sorted(("machine_added", name) for name in (*MACHINES, "new")),
            ("machine_removed", "new"),
        ]


def test_polls_of_a_backlog_are_written_in_the_order_of_their_machine(postgres: Postgres) -> None:
    names, rounds = [f"m{number}" for number in range(50)], 100
    assert len(names) * rounds > MAX_BATCH
    with closing(Database(postgres.new_database())) as database:
        sink = holding_all(database, names)
        for number in range(rounds):
            for name in names:
                sink.put(replace(answered(10.0 + number), machine=name))
        sink.put(Cycle(10.0, 110.0, 5, 2))
        wait_until(lambda: sink.backlog().waiting == 0)
        assert polled_at(database) == dict.fromkeys(names, 109_000)
        assert sink.close(60)


@pytest.mark.slow
def test_a_database_too_slow_for_a_whole_batch_gets_smaller_ones(postgres: Postgres) -> None:
    names = [f"m{number}" for number in range(MAX_BATCH)]
    with closing(Database(postgres.new_database())) as database:
        sink = holding_all(database, names)
        wait_until(lambda: sink.backlog().waiting == 0)
        with database.transaction() as connection:
            connection.execute(
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
                " AS $$ BEGIN PERFORM pg_sleep(0.004); RETURN new; END $$;"
                " CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON latest FOR EACH ROW EXECUTE FUNCTION slow()"
            )
        for name in names:
            sink.put(replace(answered(10.0), machine=name))
        wait_until(lambda: sink.backlog().waiting == 0, 120)
        assert polled_at(database) == dict.fromkeys(names, 10_000)
        assert sink.close(60)


def holding_all(
    database: Database, names: Collection[str], on_fault: Callable[[str | None], None] = lambda _: None
) -> PostgresSink:
    """The sink of a poller that holds all shards."""
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO shard (site, number, owner, epoch) SELECT 's', generate_series(0, %s), 'me', %s",
            (SHARDS - 1, EPOCH),
        )
    sink = PostgresSink(database, PollerId("me", "s", "here"), max_gap_s=12, on_fault=on_fault)
    sink.put(Registry(tuple(map(machine, names)), loaded_at=1.0, shards=dict.fromkeys(range(SHARDS), EPOCH)))
    return sink


def poll(sink: PostgresSink, at: float) -> None:
    """One cycle, until it is written."""
    for name in MACHINES:
        sink.put(replace(answered(at), machine=name))
    sink.put(Cycle(at, at + 1, 5, 2))
    wait_until(lambda: sink.backlog().waiting == 0)


def rows(database: Database, statement: LiteralString) -> list[tuple[Any, ...]]:
    return database.run(statement, {})


def polled_at(database: Database) -> dict[str, int]:
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT name, polled_at_ms FROM latest JOIN machine ON machine_id = machine.id"
        )
        return dict(rows.fetchall())


def revisions(database: Database) -> dict[int, int]:
    with database.transaction() as connection:
        return dict(connection.execute("SELECT number, revision FROM shard").fetchall())
