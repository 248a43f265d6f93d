"""A damaged `coordination.db` is moved aside, once, and a new one takes its place."""

from collections.abc import Callable
from pathlib import Path

import pytest

from machines_server.errors import DamagedStoreError, StoreError
from machines_server.store.sqlite.coordination.database import CoordinationDatabase
from machines_server.store.sqlite.coordination.leases import LeaseStore
from tests.store.booking import reserve


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "coordination.db"


@pytest.mark.parametrize("when", ["before it is opened", "while it is open"])
def test_a_damaged_file_is_moved_aside(path: Path, when: str, caplog: pytest.LogCaptureFixture) -> None:
    book = LeaseStore(path)
    if when == "while it is open":
        reserve(book)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"this is no database, but it is long enough to look like one" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        book.read()
    assert not book.read().leases
    reserve(book)
    assert (path.parent / "coordination.db.damaged").exists()
    assert "moved to coordination.db.damaged" in caplog.text


def test_a_damaged_file_that_cannot_be_moved_aside_is_told_once_and_until_it_can(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book, aside = LeaseStore(path), path.with_name("coordination.db.damaged")
    reserve(book)
    aside.mkdir()
    path.write_bytes(b"this is no database, but it is long enough to look like one" * 1000)
    for _ in range(3):
        with pytest.raises(StoreError, match="not a database"):
            book.read()
    assert caplog.text.count("cannot be moved to coordination.db.damaged: Is a directory") == 1
    assert "cannot be moved" in str(book.fault())
    path.rename(path.with_name("moved by hand"))
    assert book.fault() is None
    path.with_name("moved by hand").rename(path)
    assert "cannot be moved" in str(book.fault())
    aside.rmdir()
    with pytest.raises(StoreError, match="not a database"):
        book.read()
    assert not book.read().leases
    assert book.fault() is None


def test_a_new_file_is_not_taken_for_the_damaged_one_before_it(path: Path) -> None:
    one, other = CoordinationDatabase(path), CoordinationDatabase(path)
    for database in (one, other):
        with database.reading():
            pass

    def read(database: CoordinationDatabase, first: Callable[[], object] = bool) -> None:
        with database.reading() as connection:
            first()
            connection.execute("SELECT * FROM lease").fetchall()

    def damage_and_renew() -> None:
        path.write_bytes(b"this is no database, but it is long enough to look like one" * 1000)
        with pytest.raises(DamagedStoreError):
            read(one)
        with one.writing() as connection:
            connection.execute("CREATE TABLE granted (id)")

    with pytest.raises(DamagedStoreError):
        read(other, damage_and_renew)
    with other.reading() as connection:
        assert connection.execute("SELECT count(*) FROM granted").fetchone() == (0,)
