"""Rows of many polls, written together, have the effect of each written by itself."""

import random
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from machines_server.core.sample import State
from machines_server.store.postgres.database import Connection, Database
from machines_server.store.postgres.latest_rows import LatestRow, LatestRows
from tests.postgres import Postgres
from tests.store.postgres.latest import write_together

MACHINES, URLS = 3, ("http://a:1", "http://b:1")
STATES = (State.OK, State.OK, State.OK, State.BUSY, State.UNREACHABLE, State.ERROR)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    with closing(Database(postgres.new_database())) as found:
        yield found


def written(database: Database, batches: Sequence[Sequence[LatestRow]]) -> list[tuple[object, ...]]:
    """All rows after each batch was written in a transaction of its own."""
    with closing(database.connect()) as connection:
        latest = LatestRows(connection)
        connection.execute("TRUNCATE latest")
        for batch in batches:
            write_together(connection, latest, batch)
        return rows_of(connection)


def rows_of(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM latest ORDER BY machine_id, endpoint").fetchall()


def some_polls(chance: random.Random, count: int) -> Iterator[LatestRow]:
    for number in range(count):
        state = chance.choice(STATES)
        is_answered = state is State.OK or (state is State.ERROR and chance.random() < 0.3)
        yield LatestRow(
            shard_id=1,
            machine_id=chance.randrange(MACHINES),
            endpoint=chance.choice(["sidecar", "ollama"]),
            url=chance.choice(URLS) if chance.random() < 0.1 else URLS[0],
            state=state,
            reason=None if state is State.OK else f"reason {number}",
            hint=None,
            polled_at_ms=1000 + number,
            answered_at_ms=1000 + number if is_answered else None,
            clock_ahead_s=number / 8 if is_answered else None,
            up_since_ms=None,
            revision=number,
            models=f"[{number}]" if is_answered and chance.random() < 0.8 else None,
            host=f'{{"n": {number}}}' if is_answered and chance.random() < 0.8 else None,
        )


def test_polls_in_one_batch_have_the_effect_of_each_by_itself(database: Database) -> None:
    for seed in range(8):
        polls = list(some_polls(random.Random(seed), 60))
        one_by_one = written(database, [[poll] for poll in polls])
        middle = seed % 5 * 10
        assert written(database, [polls]) == one_by_one, seed
        assert written(database, [polls[:middle], polls[middle:]]) == one_by_one, seed


@pytest.mark.parametrize("states", [[State.OK], [State.OK, State.UNREACHABLE]], ids=["steady", "flapping"])
def test_a_backlog_of_an_endpoint_takes_few_rows(database: Database, states: Sequence[State]) -> None:
    (first,) = some_polls(random.Random(1), 1)
    polls = [first._replace(state=states[number % len(states)], polled_at_ms=number) for number in range(500)]
    with closing(database.connect()) as connection:
        latest = LatestRows(connection)
        connection.execute("BEGIN")
        latest.begin()
        for poll in polls:
            latest.add(poll)
        latest.write()
        ((changes,),) = connection.execute(
            "SELECT n_tup_ins + n_tup_upd FROM pg_stat_xact_user_tables WHERE relname = 'latest'"
        ).fetchall()
        assert 2 <= changes <= 3
        connection.execute("COMMIT")
