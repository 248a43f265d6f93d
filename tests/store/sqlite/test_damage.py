"""A database that is damaged while in use: it is found, reported, and renamed if configured."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from machines_server.core.sample import Cycle, RuntimeState
from machines_server.errors import DamagedStoreError, StoreError
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.damage import Checker, find_damage
from machines_server.store.sqlite.failures import is_temporary
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.past import PastReader
from machines_server.store.sqlite.telemetry.writer_thread import WriterThread
from tests.core.machines import SIDECAR
from tests.fakes import wait_until
from tests.store.polls import HOST, LLAMA, REGISTRY, RETENTION, listed, of_one, polled

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a little of everything, all of it in the file and nothing in the log."""
    path = tmp_path / "telemetry.db"
    migrate(path)
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=lambda _: None)
    fill(thread, time.time())
    assert thread.close()
    with closing(open_writer(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def fill(thread: WriterThread, at: float) -> None:
    thread.put(REGISTRY)
    for item in of_one(polled(SIDECAR, at, HOST), listed(at, LLAMA)):
        thread.put(item)
    thread.put(Cycle(at - 1, at, 5, 2))


def to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def to_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def to_its_first_page(path: Path) -> None:
    os.truncate(path, PAGE)


def its_head(path: Path) -> None:
    """Which may be in the log as well: with a log that is in the file it is lost."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)


def its_tables(path: Path) -> None:
    """All pages but the first, of which a reader that is open knows."""
    with path.open("r+b") as file:
        for at in range(PAGE, path.stat().st_size, PAGE):
            file.seek(at)
            file.write(b"\xa5" * 64)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"no database at all" * 1000)
    other.rename(path)


KINDS = [to_nothing, to_half, to_its_first_page, its_head, its_tables, replaced]
Damage = Callable[[Path], None]


@contextmanager
def writing(path: Path, *, renews: bool) -> Iterator[tuple[WriterThread, list[str | None]]]:
    """A writer that has written, with what it says of faults."""
    faults: list[str | None] = []
    with closing(LatestReader(path)) as reader:
        before = reader.cycle()
        thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=faults.append, renews=renews)
        fill(thread, time.time())
        wait_until(lambda: reader.cycle() != before)
    try:
        yield thread, faults
    finally:
        thread.close()


@pytest.mark.parametrize("damage", KINDS)
def test_damage_is_said_within_an_interval_with_the_way_out_and_nothing_more_is_written(
    path: Path, damage: Damage
) -> None:
    with writing(path, renews=False) as (thread, faults):
        damage(path)
        fill(thread, time.time())
        wait_until(lambda: faults and faults[-1])
        assert "MACHINES_ON_DAMAGE=new" in (faults[-1] or "")
        assert (faults[-1] or "").isprintable()
        left = path.read_bytes()
        for _ in range(3):
            fill(thread, time.time())
        wait_until(lambda: not thread.queued)
        assert path.read_bytes() == left
        for file in sorted(
            path.parent.glob("telemetry.db*"), reverse=True
        ):  # the log first: a new one follows
            file.unlink()
        wait_until(lambda: faults[-1] is None)  # and is written on when it is mended
    with closing(LatestReader(path)) as reader:
        assert reader.cycle()


@pytest.mark.parametrize("damage", KINDS)
def test_a_damaged_database_is_put_aside_and_a_new_one_begun_when_that_is_wanted(
    path: Path, damage: Damage
) -> None:
    with writing(path, renews=True) as (thread, faults), closing(LatestReader(path)) as reader:
        assert reader.snapshot().latest
        damage(path)
        at = time.time()

        def is_begun_anew() -> bool:
            fill(thread, at)  # as each cycle does: what is written before the damage is seen is lost
            with suppress(StoreError):
                snapshot = reader.snapshot()
                is_of_now = snapshot.cycle is not None and abs(snapshot.cycle.ended_at - at) < 0.01
                return is_of_now and any(path.parent.glob("telemetry.db.damaged-*"))
            return False

        wait_until(is_begun_anew)
        assert reader.snapshot().latest["one"]["sidecar"].answer == RuntimeState(host=HOST)
        wait_until(lambda: not faults or faults[-1] is None)
    (aside,) = (one for one in path.parent.glob("telemetry.db.damaged-*") if one.name.endswith("Z"))
    assert aside.exists()
    assert find_damage(path) is None


def test_what_another_program_writes_well_is_no_damage(path: Path) -> None:
    with writing(path, renews=True) as (thread, faults):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            other.execute("VACUUM")
        fill(thread, time.time())
        wait_until(lambda: not thread.queued)
    assert faults == []
    assert list(path.parent.glob("*damaged*")) == []


@pytest.mark.parametrize("file", ["-wal", "-shm"])
@pytest.mark.parametrize("renews", [True, False])
def test_a_log_that_is_cut_or_deleted_is_noticed(path: Path, file: str, renews: bool) -> None:
    with writing(path, renews=renews) as (thread, faults), closing(LatestReader(path)) as reader:
        reader.snapshot()
        Path(f"{path}{file}").unlink()
        at = time.time()
        fill(thread, at)
        wait_until(lambda: not thread.queued)

        def is_seen_or_said() -> bool:
            with suppress(StoreError), closing(LatestReader(path)) as fresh:
                cycle = fresh.cycle()
                return cycle is not None and abs(cycle.ended_at - at) < 0.01
            return bool(faults and faults[-1])

        wait_until(is_seen_or_said)


ROWS = {
    "latest": "host = x'ff', clock_ahead_s = x'00'",
    "machine": "name = CAST(x'ff41' AS TEXT)",
    "poll_span": "ended_at_ms = 9000000000000000000",
    "library": "models = '[{'",
    "model_size": "size_bytes = x'00'",
    "model_span": "first_seen_at_ms = -9000000000000000000, last_seen_at_ms = NULL",
}


@pytest.mark.parametrize("table", ROWS)
def test_what_damaged_rows_hold_is_a_store_error_in_printable_words(path: Path, table: str) -> None:
    with closing(open_writer(path)) as connection:
        (machine,) = connection.execute("SELECT id FROM machine").fetchone()
        connection.execute("INSERT OR REPLACE INTO library VALUES (?, 'u', 1, 0, 1, '[]')", (machine,))
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '') WHERE name = ?", (table,)
        )
        connection.execute("PRAGMA writable_schema = OFF")
    with closing(open_writer(path)) as connection:
        connection.execute(f"UPDATE {table} SET {ROWS[table]}")
    with closing(LatestReader(path)) as reader, pytest.raises(StoreError) as caught:
        reader.snapshot()
    assert str(caught.value).isprintable()
    assert not is_temporary(caught.value)


@pytest.mark.parametrize("old", [b"CREATE TABLE machine", b"tablemachinemachine", b"CREATE TABLE library"])
@pytest.mark.parametrize("letter", [b"\xff", b"\x1b", b"\xc3"])
def test_a_damaged_schema_is_damage_in_printable_words(path: Path, old: bytes, letter: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    place = content.index(old) + 5
    path.write_bytes(content[:place] + letter + content[place + 1 :])
    reader = PastReader(path)
    with pytest.raises(DamagedStoreError) as caught:
        reader.machine("one")
    assert str(caught.value).isprintable()
    assert reader.fault() == str(caught.value)
    assert not is_temporary(caught.value)
    assert find_damage(path)


def test_damage_that_no_write_shows_is_found_by_looking(path: Path) -> None:
    before = path.stat()
    its_tables(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    heard: list[DamagedStoreError] = []
    checker = Checker(path, heard.append, first_s=0.1, every_s=0.1)
    try:
        wait_until(lambda: heard)
    finally:
        checker.close()
    assert "damaged" in str(heard[0]) or "malformed" in str(heard[0])


def test_a_question_of_the_past_that_failed_is_told_until_one_succeeds(path: Path) -> None:
    reader = PastReader(path)
    assert reader.fault() is None
    path.rename(path.with_name("away"))
    with pytest.raises(StoreError) as caught:
        reader.machine("one")
    assert reader.fault() == str(caught.value)
    path.with_name("away").rename(path)
    assert reader.machine("one")
    assert reader.fault() is None
    reader.close()
