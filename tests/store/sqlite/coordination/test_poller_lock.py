"""The lock that says who polls: one process at a time, and it is free when that process is dead."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from machines_server.store.sqlite.coordination.poller_lock import MAX_FAULT_CHARACTERS, PollerLock
from machines_server.store.values import Leader
from tests.fakes import wait_until

HOLD = """
import sys, time
from pathlib import Path
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
lock = PollerLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "poller.lock"


@contextmanager
def held(path: Path) -> Iterator[PollerLock]:
    lock = PollerLock(path)
    assert lock.acquire()
    yield lock
    lock.release()


@contextmanager
def another_process(path: Path) -> Iterator[tuple[subprocess.Popen[str], bool]]:
    """One that tries to take the lock, and whether it got it; it ends with the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline() == "True\n"
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_without_a_file_nobody_polls_and_asking_makes_none(path: Path) -> None:
    assert PollerLock(path).leader() is None
    assert not path.parent.exists()


def test_only_the_owner_can_read_the_folder_and_the_file(path: Path) -> None:
    with held(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_child_process_does_not_inherit_it(path: Path) -> None:
    lock = PollerLock(path)
    assert lock.acquire()
    with subprocess.Popen(["sleep", "30"], close_fds=False) as child:
        lock.release()
        assert PollerLock(path).leader() is None
        child.kill()


def test_the_longest_faults_of_all_parts_are_read_as_they_were_reported(path: Path) -> None:
    faults = dict.fromkeys(
        ("poll", "store", "clock", "files", "history"), "\U0001f5a5" * MAX_FAULT_CHARACTERS
    )
    with held(path) as lock:
        lock.report_faults(faults)
        leader = PollerLock(path).leader()
        assert leader is not None
        assert leader.faults == faults


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"{", b"[]", b"7", b"null", b'{"pid": 1}', b'"text"', b"\xff\xfe"]
)
def test_a_holder_that_has_not_yet_written_is_still_a_holder(path: Path, content: bytes) -> None:
    with held(path):
        path.write_bytes(content)
        found = PollerLock(path).leader()
        assert found is not None
        assert (found.pid, found.faults) == (0, {})
        assert abs(found.since - time.time()) < 60


def test_a_holder_of_a_later_version_may_say_more(path: Path) -> None:
    with held(path):
        path.write_text(json.dumps({"pid": 7, "since": 5.0, "faults": {"poll": "x"}, "new": [1]}))
        assert PollerLock(path).leader() == Leader(7, 5.0, {"poll": "x"})


def test_a_lock_whose_file_was_deleted_is_held_no_more(path: Path) -> None:
    with held(path) as lock:
        assert lock.is_leader()
        path.unlink()
        assert not lock.is_leader()
        with held(path) as other:
            assert other.is_leader()
            assert not lock.is_leader()
    assert not lock.is_leader()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("in the way")
    with pytest.raises(OSError, match=r"exists|directory"):
        PollerLock(tmp_path / "var" / "poller.lock").acquire()


def test_the_lock_works_on_a_full_disk_where_nothing_can_be_written(path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    process = subprocess.Popen(
        [sys.executable, "-c", limited + HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "True\n"
        assert not PollerLock(path).acquire()
        assert isinstance(PollerLock(path).leader(), Leader)
    finally:
        _, told = process.communicate("")
    assert "cannot be written" in told
    assert PollerLock(path).leader() is None


def test_many_who_ask_do_not_keep_the_lock_from_being_taken(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            PollerLock(path).leader()

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    lock = PollerLock(path)
    try:
        for _ in range(20):
            wait_until(lock.acquire)
            assert PollerLock(path).leader() is not None
            lock.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


LOCK = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.{kind})
print(1, flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_a_stranger(path: Path, kind: str) -> Iterator[int]:
    words = [sys.executable, "-c", LOCK.format(kind=kind), str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.parametrize("kind", ["LOCK_EX", "LOCK_SH"])
@pytest.mark.parametrize("content", ["of a dead poller", "none"])
def test_a_process_that_has_the_lock_and_does_not_poll_is_named(path: Path, kind: str, content: str) -> None:
    with another_process(path):
        pass
    if content == "none":
        path.write_bytes(b"")
        os.utime(path, (0, 0))
    lock = PollerLock(path)
    with locked_by_a_stranger(path, kind) as pid:
        assert not lock.acquire()
        assert (
            lock.obstacle()
            == f"poller.lock is locked by process {pid}, which does not poll; end that process"
        )
        if kind == "LOCK_EX":
            found = PollerLock(path).leader()
            assert found is not None
            assert (found.pid, found.since) == (pid, 0)
    assert lock.acquire()
    assert PollerLock(path).obstacle() is None
    lock.release()
    assert PollerLock(path).obstacle() is None


def test_neither_a_poller_nor_who_asks_is_a_stranger(path: Path) -> None:
    with another_process(path) as (process, _):
        assert PollerLock(path).obstacle() is None
        found = PollerLock(path).leader()
        assert found is not None
        assert (found.pid, found.faults) == (process.pid, {})


def test_a_lock_that_cannot_be_opened_is_told(path: Path) -> None:
    path.mkdir(parents=True)
    assert PollerLock(path).obstacle() == "poller.lock cannot be opened: Is a directory"
