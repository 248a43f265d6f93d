"""New databases, on which the tests of this folder work."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from tests.store.sqlite.telemetry.database import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new database."""
    path = tmp_path / "telemetry.db"
    migrate(path)
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that may write to it."""
    with closing(open_writer(path)) as connection:
        yield connection


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new database with a reader and a writer."""
    database = Database(tmp_path / "telemetry.db")
    yield database
    database.reader.close()
    database.connection.close()
