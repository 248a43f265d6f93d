"""What was copied is noted once, even if two processes copy the same part at the same time."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from machines_server.copying.progress import Progress, Reached
from machines_server.errors import StoreError
from machines_server.store.postgres.database import Database
from tests.postgres import Postgres


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    with closing(Database(postgres.new_database())) as opened:
        yield opened


def test_of_two_who_extend_the_same_open_stay_one_is_refused(database: Database) -> None:
    one, other = (Progress(database, "lab", "a server") for _ in range(2))
    before = one.begun("stays")
    after = Reached(before.until, {"1": [2, 3]})
    assert other.begun("stays") == before
    with database.transaction() as connection:
        one.advance(connection, "stays", before, after)
    with pytest.raises(StoreError, match="another process"), database.transaction() as connection:
        other.advance(connection, "stays", before, after)
    assert other.begun("stays") == after
