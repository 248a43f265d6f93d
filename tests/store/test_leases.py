"""Leases in a real file: what ends them, what keeps them, and what is learned from them."""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from machines_server.core.advice import Candidate
from machines_server.core.fleet import Fleet
from machines_server.core.leases import Lease, Warmth
from machines_server.core.loading import LATEST_LOADS, LoadTime
from machines_server.core.model_names import model_key
from machines_server.errors import ConflictError, StoreError, UnknownLeaseError
from machines_server.store.leases import PATIENT_MS, Book, LeaseBook, Request
from tests.core.fleets import LLAMA, a_fleet, a_live, a_model, ask
from tests.fakes import wait_until

WARM = a_fleet(a_live("one", [10], [a_model()]))
COLD = a_fleet(a_live("one", [24], declares=[LLAMA]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "coordination.db"


def first(fleet: Fleet, **question: Any) -> Callable[[Book], Candidate]:
    """Chooses the best machine of a fleet in view of all leases."""
    return lambda book: ask(fleet, *book.leases, load_times=book.load_times, **question).candidates[0]


def reserve(
    book: LeaseBook,
    fleet: Fleet = WARM,
    *,
    ttl_s: float = 60,
    key: str | None = None,
    text: str = "t",
    **question: Any,
) -> Lease:
    return book.reserve(fleet, Request("me", ttl_s, text, key), first(fleet, **question))


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


def test_a_lease_is_read_by_every_process_as_it_was_made(path: Path) -> None:
    lease = reserve(LeaseBook(path), min_free_vram_gb=4)
    (read,) = LeaseBook(path).read().leases
    assert (read.id, read.machine, read.model, read.holder, read.shares) == (
        lease.id, "one", LLAMA, "me", lease.shares,
    )  # fmt: skip
    assert 59 < read.ends_in_s <= 60
    assert read.ends_at == lease.ends_at
    assert abs(read.ends_at - time.time() - 60) < 1


def test_reading_makes_no_file(path: Path) -> None:
    assert LeaseBook(path).read() == Book()
    assert not path.parent.exists()


def test_a_lease_ends_without_anybody_ending_it(path: Path) -> None:
    book = LeaseBook(path)
    lease = reserve(book, ttl_s=0.2)
    wait_until(lambda: not book.read().leases)
    with pytest.raises(UnknownLeaseError, match="expired"):
        book.renew(WARM, lease.id, None, lambda _: None)
    with pytest.raises(UnknownLeaseError):
        book.release(WARM, lease.id)


def test_leases_that_ran_out_are_counted_for_ten_minutes_and_released_ones_are_not(path: Path) -> None:
    book = LeaseBook(path)
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


def test_a_lease_begins_anew_when_it_is_renewed_and_keeps_its_time_unless_it_is_given_another(
    path: Path,
) -> None:
    book = LeaseBook(path)
    lease = reserve(book, ttl_s=5)
    assert book.renew(WARM, lease.id, 60, lambda _: None).ends_in_s > 59
    assert book.renew(WARM, lease.id, None, lambda _: None).ttl_s == 60


def test_a_lease_that_is_not_to_be_renewed_stays_as_it_was(path: Path) -> None:
    book = LeaseBook(path)
    lease = reserve(book, ttl_s=5)

    def refuse(_: Lease) -> None:
        raise ConflictError("lease_broken", "no")

    with pytest.raises(ConflictError):
        book.renew(WARM, lease.id, 60, refuse)
    assert book.read().leases[0].ttl_s == 5


def test_when_nobody_fits_nothing_is_written(path: Path) -> None:
    book = LeaseBook(path)

    def nobody(_: Book) -> Candidate:
        raise LookupError

    with pytest.raises(LookupError):
        book.reserve(WARM, Request("me", 60, "t"), nobody)
    assert book.read().leases == []
    reserve(book)


def test_a_repeated_key_is_the_same_lease_while_it_holds(path: Path) -> None:
    book = LeaseBook(path)
    lease = reserve(book, key="k")
    assert reserve(LeaseBook(path), key="k").id == lease.id
    with pytest.raises(ConflictError, match="Idempotency-Key"):
        reserve(book, key="k", text="another request")
    book.release(WARM, lease.id)
    assert reserve(book, key="k").id != lease.id


def test_setting_the_clock_neither_ends_nor_prolongs_a_lease(path: Path) -> None:
    book = LeaseBook(path)
    lease = reserve(book)
    # As if the wall clock had been set on, or back, by an hour since the lease was made.
    for shift in (-3_600_000, 7_200_000):
        change(path, f"UPDATE lease SET ends_at_ms = ends_at_ms + {shift}")
        (read,) = book.read().leases
        assert abs(read.ends_in_s - lease.ends_in_s) < 5
        assert abs(read.ends_at - time.time() - 60) < 5  # told by the clock as it is now


def test_after_a_boot_the_wall_clock_counts(path: Path) -> None:
    book = LeaseBook(path)
    reserve(book)
    change(path, "UPDATE lease SET boot = 'another', ends_boot_ms = 0")
    assert 50 < book.read().leases[0].ends_in_s <= 60
    change(path, "UPDATE lease SET ends_at_ms = 0")
    assert book.read().leases == []


def test_the_file_may_be_deleted_at_any_time(path: Path) -> None:
    book = LeaseBook(path)
    reserve(book)
    path.unlink()
    assert book.read() == Book()
    lease = reserve(book)
    assert [one.id for one in LeaseBook(path).read().leases] == [lease.id]


def test_while_another_program_locks_the_file_all_who_ask_wait_together_and_not_in_turn(path: Path) -> None:
    book = LeaseBook(path)
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
            for within_s in (PATIENT_MS / 1000 + 2, 2):  # who comes later waits hardly at all
                began = time.monotonic()
                assert list(threads.map(ask, range(20))) == [locked] * 20
                assert time.monotonic() - began < within_s
        assert locked not in threads.map(ask, range(20))
    assert len(book.read().leases) == 11


@pytest.mark.parametrize("when", ["before it is opened", "while it is open"])
def test_a_damaged_file_is_moved_aside(path: Path, when: str, caplog: pytest.LogCaptureFixture) -> None:
    book = LeaseBook(path)
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


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="var"):
        reserve(LeaseBook(tmp_path / "var" / "coordination.db"))


def appeared(after_s: float) -> Fleet:
    """The machine some seconds after a lease was made: it holds the model, and has been sampled since."""
    live = a_live("one", [2], [a_model()], declares=[LLAMA])
    return a_fleet(live, held_since={"one": {LLAMA: time.time() + after_s}})


@pytest.mark.parametrize("how", ["release", "renew", "another lease"])
def test_how_long_a_load_lasted_is_learned_from_a_cold_lease(path: Path, how: str) -> None:
    book = LeaseBook(path)
    lease = reserve(book, COLD, cold=True)
    assert lease.warmth is Warmth.COLD
    there = appeared(12.5)
    if how == "release":
        book.release(there, lease.id)
    elif how == "renew":
        book.renew(there, lease.id, None, lambda _: None)
    else:
        reserve(book, there)
    ((machine, key, _, load_s),) = book.read().load_times
    assert (machine, key) == ("one", model_key(LLAMA))
    assert 12 < load_s < 13
    reserve(book, there)
    assert len(book.read().load_times) == 1  # one load, one time


def test_a_load_is_learned_even_if_its_lease_has_expired(path: Path) -> None:
    book = LeaseBook(path)
    reserve(book, COLD, cold=True, ttl_s=0.1)
    wait_until(lambda: not book.read().leases)
    reserve(book, appeared(0.05))
    assert len(book.read().load_times) == 1


def test_only_the_latest_loads_are_kept(path: Path) -> None:
    book = LeaseBook(path)
    for number in range(LATEST_LOADS + 3):
        lease = reserve(book, COLD, cold=True)
        book.release(appeared(100 + number), lease.id)
    times = [round(one.load_s) - 100 for one in book.read().load_times]
    assert times == list(range(3, LATEST_LOADS + 3))
    assert isinstance(book.read().load_times[0], LoadTime)


def test_a_warm_lease_teaches_nothing_of_loading(path: Path) -> None:
    book = LeaseBook(path)
    lease = reserve(book)
    book.release(appeared(5), lease.id)
    assert book.read().load_times == []
