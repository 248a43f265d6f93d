"""The nonces of signed requests: once among all processes, whatever happens to the file."""

import multiprocessing
import os
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from machines_server.errors import DamagedStoreError, StoreError
from machines_server.store.sqlite.nonces import PERIOD_S, NonceStore


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 10 * PERIOD_S + 1

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stores(tmp_path: Path, clock: Clock) -> Iterator[tuple[NonceStore, NonceStore]]:
    """Two stores of the same file, as two workers have them."""
    both = NonceStore(tmp_path / "nonces.db", clock), NonceStore(tmp_path / "nonces.db", clock)
    yield both
    for one in both:
        one.close()


def test_a_number_is_new_once(stores: tuple[NonceStore, NonceStore]) -> None:
    one, other = stores
    first, second = os.urandom(16), os.urandom(16)
    assert [one.use(first), other.use(first), other.use(second), one.use(second)] == [
        True,
        False,
        True,
        False,
    ]


def test_numbers_are_kept_for_one_to_two_periods(stores: tuple[NonceStore, NonceStore], clock: Clock) -> None:
    one, other = stores
    nonce = os.urandom(16)
    assert one.use(nonce)
    clock.now += PERIOD_S
    assert not other.use(nonce)
    assert one.use(os.urandom(16))
    assert not one.use(nonce)
    clock.now += PERIOD_S
    assert one.use(nonce)
    assert not other.use(nonce)


def test_nothing_is_left_of_a_long_pause(
    stores: tuple[NonceStore, NonceStore], clock: Clock, tmp_path: Path
) -> None:
    one, _ = stores
    for _ in range(2):
        one.use(os.urandom(16))
        clock.now += PERIOD_S
    clock.now += 7 * PERIOD_S
    assert one.use(os.urandom(16))
    connection = sqlite3.connect(tmp_path / "nonces.db")
    counts = [connection.execute(f"SELECT count(*) FROM nonce_{table}").fetchone()[0] for table in (0, 1)]
    connection.close()
    assert sorted(counts) == [0, 1]


def test_after_a_start_of_the_system_recording_begins_anew(tmp_path: Path, clock: Clock) -> None:
    nonce, path = os.urandom(16), tmp_path / "nonces.db"
    before = NonceStore(path, clock)
    assert before.use(nonce)
    since = before.since()
    before.close()
    again = NonceStore(path, clock)
    assert (again.use(nonce), again.since()) == (False, since)
    again.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE state SET boot = 'an earlier one', since = 1")
    connection.commit()
    connection.close()
    crashed = NonceStore(path, clock)
    assert crashed.since() >= since
    assert crashed.use(nonce)
    crashed.close()


def test_a_damaged_file_is_replaced(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "nonces.db"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    store = NonceStore(path, clock)
    with pytest.raises(DamagedStoreError):
        store.use(os.urandom(16))
    assert store.use(os.urandom(16))
    store.close()


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StoreError, match=r"nonces\.db"):
        NonceStore(tmp_path / "folder" / "nonces.db", clock).use(os.urandom(16))


def _use_all(path: Path, nonces: list[bytes]) -> int:
    store = NonceStore(path)
    try:
        return sum(map(store.use, nonces))
    finally:
        store.close()


def test_four_processes_at_once_accept_each_number_once(tmp_path: Path) -> None:
    nonces = [os.urandom(16) for _ in range(2000)]
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as processes:
        accepted = [processes.submit(_use_all, tmp_path / "nonces.db", nonces) for _ in range(4)]
        assert sum(one.result() for one in accepted) == len(nonces)


def test_a_file_that_is_deleted_or_replaced_is_begun_anew_by_all(
    stores: tuple[NonceStore, NonceStore], clock: Clock, tmp_path: Path
) -> None:
    one, other = stores
    nonce, began_at = os.urandom(16), one.since()
    for _ in range(2):
        assert one.use(nonce)
        assert not other.use(nonce)
        for file in tmp_path.glob("nonces.db*"):
            file.unlink()
        clock.now += 1
    assert one.since() >= began_at
    assert (tmp_path / "nonces.db").exists()


def test_who_holds_the_file_locked_is_waited_for_once(
    stores: tuple[NonceStore, NonceStore], tmp_path: Path
) -> None:
    one, _ = stores
    assert one.use(os.urandom(16))
    with closing(sqlite3.connect(tmp_path / "nonces.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for _ in range(200):  # fifty seconds, if each waited
            with pytest.raises(StoreError, match="locked"):
                one.use(os.urandom(16))
        assert time.monotonic() - began < 25
        holder.execute("COMMIT")
        assert one.use(os.urandom(16))
