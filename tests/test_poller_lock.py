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

from machines_server.poller_lock import Holder, PollerLock, holder
from tests.fakes import wait_until

HOLD = """
import sys, time
from pathlib import Path
from machines_server.poller_lock import PollerLock
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
    assert holder(path) is None
    assert not path.parent.exists()


def test_who_holds_it_is_known_and_since_when(path: Path) -> None:
    before = time.time()
    with held(path):
        found = holder(path)
        assert found is not None
        assert (found.pid, found.faults) == (os.getpid(), {})
        assert before <= found.since <= time.time()
    assert holder(path) is None
    assert path.exists()


def test_only_the_owner_can_read_the_folder_and_the_file(path: Path) -> None:
    with held(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_lock_has_to_wait_in_this_process_and_in_another(path: Path) -> None:
    second = PollerLock(path)
    with held(path):
        assert not second.acquire()
        with another_process(path) as (_, got_it):
            assert not got_it
        assert holder(path) is not None
    assert second.acquire()
    second.release()


def test_it_is_free_as_soon_as_its_process_is_killed(path: Path) -> None:
    with another_process(path) as (process, got_it):
        assert got_it
        found = holder(path)
        assert found is not None
        assert found.pid == process.pid
        assert not PollerLock(path).acquire()
        process.kill()
        process.wait()
        assert holder(path) is None
        with held(path):
            pass


def test_a_child_process_does_not_inherit_it(path: Path) -> None:
    lock = PollerLock(path)
    assert lock.acquire()
    with subprocess.Popen(["sleep", "30"], close_fds=False) as child:
        lock.release()
        assert holder(path) is None
        child.kill()


def test_faults_are_told_as_long_as_they_last(path: Path) -> None:
    with held(path) as lock:
        lock.note({"store": "the disk is full", "poll": "no more file descriptors"})
        found = holder(path)
        assert found is not None
        assert found.faults == {"store": "the disk is full", "poll": "no more file descriptors"}
        lock.note({"poll": "x"})
        found = holder(path)
        assert found is not None
        assert found.faults == {"poll": "x"}
        lock.note({})
        found = holder(path)
        assert found is not None
        assert found.faults == {}
        assert found.pid == os.getpid()


@pytest.mark.parametrize("letter", ["x", "é", "€", "\U0001f525", "\0", '"', "\ud800"])
def test_a_long_fault_is_cut_and_never_makes_the_holder_unknown(path: Path, letter: str) -> None:
    with held(path) as lock:
        lock.note({"poll": letter * 100_000, "store": letter * 100_000})
        found = holder(path)
        assert found is not None
        assert found.pid == os.getpid()
        assert {part: set(fault) for part, fault in found.faults.items()} == {
            "poll": {letter},
            "store": {letter},
        }
        assert all(100 <= len(fault) < 1000 for fault in found.faults.values())


def test_who_does_not_hold_it_tells_nothing(path: Path) -> None:
    with held(path):
        PollerLock(path).note({"poll": "not mine"})
        found = holder(path)
        assert found is not None
        assert found.faults == {}
    lock = PollerLock(path)
    lock.note({"poll": "not held"})
    lock.release()
    assert holder(path) is None


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"{", b"[]", b"7", b"null", b'{"pid": 1}', b'"text"', b"\xff\xfe"]
)
def test_a_holder_that_has_not_yet_written_is_still_a_holder(path: Path, content: bytes) -> None:
    with held(path):
        path.write_bytes(content)
        found = holder(path)
        assert found is not None
        assert (found.pid, found.faults) == (0, {})
        assert abs(found.since - time.time()) < 60


def test_a_holder_of_a_later_version_may_say_more(path: Path) -> None:
    with held(path):
        path.write_text(json.dumps({"pid": 7, "since": 5.0, "faults": {"poll": "x"}, "new": [1]}))
        assert holder(path) == Holder(7, 5.0, {"poll": "x"})


def test_what_a_dead_poller_wrote_does_not_count(path: Path) -> None:
    with held(path) as lock:
        lock.note({"store": "the disk is full"})
    assert "the disk is full" in path.read_text()
    assert holder(path) is None
    with held(path):
        found = holder(path)
        assert found is not None
        assert found.faults == {}


def test_a_lock_whose_file_was_deleted_is_held_no_more(path: Path) -> None:
    with held(path) as lock:
        assert lock.is_held()
        path.unlink()
        assert not lock.is_held()
        with held(path) as other:
            assert other.is_held()
            assert not lock.is_held()
    assert not lock.is_held()


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
        assert isinstance(holder(path), Holder)
    finally:
        _, told = process.communicate("")
    assert "cannot be written" in told
    assert holder(path) is None


def test_many_who_ask_do_not_keep_the_lock_from_being_taken(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            holder(path)

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    lock = PollerLock(path)
    try:
        for _ in range(20):
            wait_until(lock.acquire)
            assert holder(path) is not None
            lock.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
