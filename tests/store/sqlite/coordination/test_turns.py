"""Whose turn it is: in order, one at a time, and nobody waits forever."""

import fcntl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from machines_server.errors import LockedError, StoreError
from machines_server.store.sqlite.coordination.leases import LeaseStore
from machines_server.store.sqlite.coordination.turns import FileTurns
from tests.fakes import wait_until
from tests.store.booking import reserve

HOLD = (
    "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, {kind}); print(1, flush=True); sys.stdin.read()"
)


@contextmanager
def locked(path: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """While another process has the lock."""
    words = [sys.executable, "-c", HOLD.format(kind=kind), str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield
        process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "coordination.lock"
    path.touch(0o600)
    return path


@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_who_finds_it_locked_waits_for_so_long_and_no_longer(path: Path, kind: int) -> None:
    turns = FileTurns(path)
    with locked(path, kind):
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(LockedError, match=r"^coordination\.lock: another"), turns.turn(0.1):
                pytest.fail("it is locked")
            assert 0.1 <= time.monotonic() - began < 5
    with turns.turn(5):
        pass


def test_waiting_in_vain_costs_no_more_files_nor_threads_however_often(path: Path) -> None:
    turns, process = FileTurns(path), psutil.Process()
    with locked(path):
        before = process.num_fds(), threading.active_count()
        for _ in range(50):
            with pytest.raises(LockedError), turns.turn(0.001):
                pytest.fail("it is locked")
        assert process.num_fds() <= before[0] + 1
        assert threading.active_count() <= before[1] + 1
    wait_until(lambda: process.num_fds() <= before[0])
    with FileTurns(path).turn(5):
        pass


def test_a_lock_whose_file_is_replaced_holds_up_nobody(path: Path) -> None:
    turns = FileTurns(path)
    with locked(path):
        with pytest.raises(LockedError), turns.turn(0.01):
            pytest.fail("it is locked")
        path.unlink()
        with turns.turn(0):
            pass
        with FileTurns(path).turn(0), pytest.raises(LockedError), turns.turn(0.01):
            pytest.fail("it is locked")
        with turns.turn(5):
            pass
    assert path.stat().st_mode & 0o077 == 0


def test_many_processes_have_it_one_at_a_time(path: Path) -> None:
    found: list[int] = []
    inside = threading.Lock()

    def take() -> None:
        turns = FileTurns(path)
        for _ in range(50):
            with turns.turn(10):
                assert inside.acquire(blocking=False)
                found.append(1)
                inside.release()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200


def test_leases_are_refused_and_not_held_up_while_another_has_the_lock(tmp_path: Path) -> None:
    book = LeaseStore(tmp_path / "coordination.db")
    lease = reserve(book)
    with locked(tmp_path / "coordination.lock"):
        for patience_s in (12, 5):
            began = time.monotonic()
            with pytest.raises(StoreError, match="another program has it locked"):
                reserve(book)
            assert time.monotonic() - began < patience_s
        assert [one.id for one in book.read().leases] == [lease.id]
    assert reserve(book).id != lease.id
    assert (tmp_path / "coordination.lock").stat().st_mode & 0o077 == 0
