"""Leases in a real file: what ends them, what keeps them, and what is learned from them."""

import gc
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from machines_server.core.routing.fleet import Fleet
from machines_server.errors import StoreError, TooManyError, UnknownLeaseError
from machines_server.store.lease_limits import MAX_LEASES, MAX_LEASES_PER_HOLDER
from machines_server.store.sqlite.connection import open_coordination
from machines_server.store.sqlite.coordination.database import LOCK_WAIT_MS
from machines_server.store.sqlite.coordination.leases import SETTLED_NS, LeaseStore
from machines_server.store.sqlite.migrate import known_migrations, migrate
from machines_server.store.values import LeaseSnapshot
from tests.core.routing.fleets import LLAMA, a_fleet, a_live, a_model
from tests.fakes import wait_until
from tests.store.booking import COLD, WARM, reserve


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "coordination.db"


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


def test_reading_makes_no_file(path: Path) -> None:
    assert LeaseStore(path).read() == LeaseSnapshot()
    assert not path.parent.exists()


def test_nothing_that_changed_a_moment_ago_is_read_at_once(path: Path) -> None:
    book, other = LeaseStore(path), LeaseStore(path)
    assert book.read_nowait() == LeaseSnapshot(), "there is no file"
    looked = 0
    while looked < 10:  # each time, two changes get one time, as from a clock that ticks seldom
        reserve(other)
        written_ns = time.time_ns() - 1_000_001
        os.utime(path, ns=(written_ns, written_ns))
        book.read()
        if time.time_ns() - written_ns < SETTLED_NS:  # else this test has been too slow
            looked += 1
            held = {reserve(other).id, *(one.id for one in other.read().leases)}
            os.utime(path, ns=(written_ns, written_ns))
            at_once = book.read_nowait()
            assert at_once is None or {one.id for one in at_once.leases} == held
    wait_until(lambda: book.read() == book.read_nowait())
    path.unlink()
    assert book.read_nowait() == LeaseSnapshot()


def test_on_a_file_system_with_coarse_times_what_was_written_lately_is_not_read_at_once(path: Path) -> None:
    book = LeaseStore(path)
    reserve(book)
    second = int(time.time())
    os.utime(path, (second - 1, second - 1))
    book.read()
    assert book.read_nowait() is None
    os.utime(path, (second - 3, second - 3))
    book.read()
    assert book.read_nowait() == book.read()


def test_a_refused_change_leaves_nothing_for_the_collector(path: Path) -> None:
    book = LeaseStore(path)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            with pytest.raises(UnknownLeaseError):
                book.release(WARM, "x")
        assert gc.collect() < 100
    finally:
        gc.enable()


def test_leases_that_ran_out_are_counted_for_ten_minutes_and_released_ones_are_not(path: Path) -> None:
    book = LeaseStore(path)
    assert book.expired() == 0
    for _ in range(3):
        reserve(book, ttl_s=0.2)
    book.release(WARM, reserve(book).id)
    wait_until(lambda: not book.read().leases)
    assert book.expired() == 3
    reserve(book)  # which takes them out
    assert book.expired() == 3
    change(path, "UPDATE expired SET ended_at_ms = ended_at_ms - 600000 WHERE rowid = 1")
    assert book.expired() == 2


def multiply(path: Path, to: int) -> None:
    """Have the first lease there so often, each with an id and a key of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(lease)")]
        own = {"id": "'copy' || number", "idempotency_key": "NULL"}
        values = ", ".join(own.get(column, column) for column in columns)
        connection.execute(
            "WITH RECURSIVE count (number) AS"
            " (VALUES (2) UNION ALL SELECT number + 1 FROM count WHERE number < ?)"
            f" INSERT INTO lease ({', '.join(columns)})"
            f" SELECT {values} FROM count, (SELECT * FROM lease ORDER BY created_at_ms LIMIT 1)",
            (to,),
        )


def test_a_holder_has_so_many_leases_and_no_more_and_another_has_its_own(path: Path) -> None:
    book = LeaseStore(path)
    reserve(book, ttl_s=30, key="k")
    multiply(path, MAX_LEASES_PER_HOLDER)
    with pytest.raises(TooManyError, match=f"'me' has {MAX_LEASES_PER_HOLDER} leases") as refused:
        reserve(book, address="192.0.2.2")
    assert refused.value.code == "too_many_leases"
    assert 20 < refused.value.retry_after_s <= 30  # when the first of them ends
    assert reserve(book, key="k").id  # a repetition is no new one
    book.release(WARM, reserve(book, holder="another").id)
    book.release(WARM, reserve(book, holder="").id)
    book.release(WARM, "copy2")
    reserve(book)
    with pytest.raises(TooManyError):
        reserve(book)


def test_without_a_holder_the_address_counts(path: Path) -> None:
    book = LeaseStore(path)
    reserve(book, holder="")
    multiply(path, MAX_LEASES_PER_HOLDER)
    with pytest.raises(TooManyError, match=r"^192.0.2.1, which names no holder, has 1000"):
        reserve(book, holder="")
    reserve(book, holder="", address="2001:db8::1")
    reserve(book, holder="somebody")


def test_all_together_have_so_many_leases_whatever_they_call_themselves(path: Path) -> None:
    book = LeaseStore(path)
    reserve(book, ttl_s=50)
    multiply(path, MAX_LEASES)
    change(path, "UPDATE lease SET holder = id")
    with pytest.raises(TooManyError, match="All agents have 10000 leases") as refused:
        reserve(book, holder="new")
    assert 40 < refused.value.retry_after_s <= 50
    change(path, "UPDATE lease SET ends_boot_ms = 0, ends_at_ms = 0")
    reserve(book, holder="new")
    assert len(book.read().leases) == 1


def test_of_a_request_a_digest_is_kept_and_only_beside_a_key(path: Path) -> None:
    book = LeaseStore(path)
    reserve(book, text="x" * 100_000)
    reserve(book, text="y" * 32, key="k")
    with closing(sqlite3.connect(path)) as connection:
        kept = connection.execute("SELECT idempotency_key, request_digest FROM lease ORDER BY 1").fetchall()
    assert kept == [(None, None), ("k", b"y" * 32)]


def test_leases_of_an_earlier_version_hold_and_their_requests_are_forgotten(path: Path) -> None:
    def opened(path: Path) -> sqlite3.Connection:
        return open_coordination(path, LOCK_WAIT_MS)

    book = LeaseStore(path)
    lease = reserve(book, key="k", ttl_s=600)
    old = path.with_name("old.db")
    folder = files("machines_server.migrations") / "coordination"
    migrate(old, known_migrations(folder)[:2], opened, opened)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("ATTACH ? AS newer", (str(path),))
        names = ", ".join(row[1] for row in connection.execute("PRAGMA table_info(lease)"))
        selected = names.replace("request", "'the whole request' AS request")
        connection.execute(f"INSERT INTO lease ({names}) SELECT {selected} FROM newer.lease")
        connection.commit()
    of_old = LeaseStore(old)
    assert [one.id for one in of_old.read().leases] == [lease.id]
    assert reserve(of_old, key="k").id == lease.id
    assert b"the whole request" not in b"".join(
        bytes(str(row), "utf-8") for row in sqlite3.connect(old).execute("SELECT * FROM lease")
    )


def test_setting_the_clock_neither_ends_nor_prolongs_a_lease(path: Path) -> None:
    book = LeaseStore(path)
    lease = reserve(book)
    # As if the wall clock had been set on, or back, by an hour since the lease was made.
    for shift in (-3_600_000, 7_200_000):
        change(path, f"UPDATE lease SET ends_at_ms = ends_at_ms + {shift}")
        (read,) = book.read().leases
        assert abs(read.ends_in_s - lease.ends_in_s) < 5
        assert abs(read.ends_at - time.time() - 60) < 5  # told by the clock as it is now


@pytest.mark.parametrize("shift_ms", [-3_600_000, 3_600_000])
def test_a_load_during_which_the_clock_was_set_teaches_nothing(path: Path, shift_ms: int) -> None:
    book, now = LeaseStore(path), time.time()
    loaded = a_fleet(
        a_live("one", [2], [a_model()]),
        held_since={"one": {LLAMA: now + 3605}},
        absent_at={"one": {LLAMA: now + 3600}},
    )
    lease = reserve(book, COLD, cold=True)
    change(path, f"UPDATE lease SET ends_at_ms = ends_at_ms + {shift_ms}")
    book.renew(COLD, lease.id, 60, lambda _: None)
    book.release(loaded, lease.id)
    assert list(book.read().load_times) == []


@pytest.mark.parametrize("call", ["reserve", "renew", "release"])
@pytest.mark.parametrize("fleet", [WARM, COLD])
def test_a_damaged_row_is_an_error_of_the_store(path: Path, call: str, fleet: Fleet) -> None:
    book = LeaseStore(path)
    lease = reserve(book, fleet, cold=True, key="k")
    change(path, "UPDATE lease SET warmth = 'tepid'")
    calls = {
        "reserve": lambda: reserve(book, fleet, cold=True, key="k"),
        "renew": lambda: book.renew(fleet, lease.id, 60, lambda _: None),
        "release": lambda: book.release(fleet, lease.id),
    }
    with pytest.raises(StoreError, match="its contents cannot be read"):
        calls[call]()
    assert not book.read().leases


def test_after_a_boot_the_wall_clock_counts(path: Path) -> None:
    book = LeaseStore(path)
    reserve(book)
    change(path, "UPDATE lease SET boot = 'another', ends_boot_ms = 0")
    assert 50 < book.read().leases[0].ends_in_s <= 60
    change(path, "UPDATE lease SET ends_at_ms = 0")
    assert book.read().leases == []


def test_the_file_may_be_deleted_at_any_time(path: Path) -> None:
    book = LeaseStore(path)
    reserve(book)
    path.unlink()
    assert book.read() == LeaseSnapshot()
    lease = reserve(book)
    assert [one.id for one in LeaseStore(path).read().leases] == [lease.id]


def test_while_another_program_locks_the_file_all_who_ask_wait_together_and_not_in_turn(path: Path) -> None:
    book = LeaseStore(path)
    reserve(book)

    def ask(number: int) -> str:
        try:
            return book.read().leases[0].id if number % 2 else reserve(book).id
        except StoreError as error:
            return str(error)

    locked = "coordination.db: database is locked"
    with ThreadPoolExecutor(20) as threads:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for within_s in (LOCK_WAIT_MS / 1000 + 10, 2.9):  # who comes later waits hardly at all
                began = time.monotonic()
                assert list(threads.map(ask, range(20))) == [locked] * 20
                assert time.monotonic() - began < within_s
        assert locked not in threads.map(ask, range(20))
    assert len(book.read().leases) == 11


def test_of_what_is_written_together_nothing_holds_if_the_file_cannot_be_written(path: Path) -> None:
    book = LeaseStore(path)
    book.release(WARM, reserve(book).id)
    change(
        path,
        "CREATE TRIGGER full BEFORE INSERT ON lease WHEN NEW.holder = 'last'"
        " BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END",
    )

    def take(number: int) -> str | None:
        try:
            return reserve(book, holder="last" if number % 5 == 4 else "first").id
        except StoreError:
            return None

    with ThreadPoolExecutor(8) as threads:
        granted = list(threads.map(take, range(80)))
    assert {one.id for one in book.read().leases} == set(filter(None, granted))
    assert granted[4::5] == [None] * 16


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="var"):
        reserve(LeaseStore(tmp_path / "var" / "coordination.db"))
