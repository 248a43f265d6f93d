"""The thread that writes: whatever the database does, nothing is lost without a word."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from machines_server.core.registry import Endpoint, Registry
from machines_server.core.sample import Cycle
from machines_server.store.latest import LatestReader
from machines_server.store.migrate import migrate
from machines_server.store.writer import WriterThread
from tests.fakes import wait_until
from tests.store.test_samples import HOST, LLAMA, REGISTRY, RETENTION, listed, machine, polled


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new database."""
    path = tmp_path / "telemetry.db"
    migrate(path)
    return path


def test_while_another_program_locks_the_database_nothing_is_lost_and_the_fault_is_said(path: Path) -> None:
    faults: list[str | None] = []
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=faults.append)
    thread.put(REGISTRY)
    thread.put(listed(10.0, LLAMA))
    wait_until(lambda: faults)
    assert faults == ["telemetry.db: database is locked"]
    other.execute("ROLLBACK")
    other.close()
    thread.put(Cycle(9.0, 11.0, 5, 2))
    wait_until(lambda: faults[-1] is None)
    thread.close()
    reader = LatestReader(path)
    snapshot = reader.snapshot()
    reader.close()
    assert snapshot.cycle == Cycle(9.0, 11.0, 5, 2)
    assert snapshot.latest["one"][Endpoint.OLLAMA].answer == (LLAMA,)


def test_files_that_change_while_the_database_is_locked_are_written_in_their_order(path: Path) -> None:
    faults: list[str | None] = []
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=faults.append)
    thread.put(REGISTRY)
    with closing(LatestReader(path)) as reader:
        wait_until(lambda: reader.last_good("one.yaml"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    thread.put(Registry((machine(), machine("two")), loaded_at=2.0))
    thread.put(Registry((machine(), machine("two"), machine("three")), loaded_at=3.0))
    wait_until(lambda: faults)
    other.execute("ROLLBACK")
    wait_until(lambda: faults[-1] is None)
    assert thread.close()
    told = other.execute("SELECT at_ms, name, type FROM event JOIN machine ON machine.id = machine_id")
    assert told.fetchall() == [
        (1000, "one", "machine_added"),
        (2000, "two", "machine_added"),
        (3000, "three", "machine_added"),
    ]
    other.close()


def test_of_more_than_can_be_kept_the_oldest_are_lost_but_no_machine_and_it_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("machines_server.store.writer.MAX_PENDING", 5)
    faults: list[str | None] = []
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=faults.append)
    for item in (REGISTRY, polled(Endpoint.SIDECAR, 10.0, HOST)):
        thread.put(item)
    wait_until(lambda: faults)
    for number in range(4):
        thread.put(Cycle(number, number + 1, 5, 2))
    wait_until(lambda: not thread._incoming)
    for number in range(4, 8):
        thread.put(Cycle(number, number + 1, 5, 2))
    wait_until(lambda: not thread._incoming and len(thread._pending) == 6)
    other.execute("ROLLBACK")
    other.close()
    wait_until(lambda: faults[-1] is None)
    assert thread.close()
    with closing(LatestReader(path)) as reader:
        snapshot = reader.snapshot()
        assert list(reader.last_good("one.yaml"))
    assert snapshot.cycle == Cycle(7.0, 8.0, 5, 2)
    assert snapshot.latest == {}
    assert "4 items that were polled are lost: there were too many to keep" in caplog.messages


def test_an_item_that_cannot_be_written_takes_no_other_with_it(path: Path) -> None:
    faults: list[str | None] = []
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=faults.append)
    thread.put(REGISTRY)
    thread.put(listed(10.0, replace(LLAMA, size_bytes=2**70)))
    thread.put(polled(Endpoint.SIDECAR, 10.0, HOST))
    thread.put(Cycle(6.0, 7.0, 5, 2))
    thread.close()
    with closing(LatestReader(path)) as reader:
        snapshot = reader.snapshot()
    assert snapshot.cycle == Cycle(6.0, 7.0, 5, 2)
    assert list(snapshot.latest["one"]) == [Endpoint.SIDECAR]
    assert faults == []


def test_what_comes_while_it_writes_is_written_before_it_closes(path: Path) -> None:
    for number in range(20):
        thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=lambda _: None)
        thread.put(REGISTRY)
        thread.put(Cycle(1.0, 2.0, 5, 2))
        thread.put(Cycle(number, number + 1, 5, 2))
        thread.close()
        with closing(LatestReader(path)) as reader:
            assert reader.cycle() == Cycle(number, number + 1, 5, 2)


def test_a_database_that_is_moved_away_is_made_anew_with_what_is_known(path: Path) -> None:
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=lambda _: None)
    thread.put(REGISTRY)
    thread.put(Cycle(1.0, 2.0, 5, 2))
    with closing(LatestReader(path)) as reader:
        wait_until(reader.cycle)
        before = reader.version()
        for file in path.parent.glob("telemetry.db*"):
            file.unlink()
        thread.put(polled(Endpoint.SIDECAR, 10.0, HOST))
        thread.put(Cycle(6.0, 7.0, 5, 2))
        thread.close()
        assert reader.version() != before
        assert reader.snapshot().latest["one"][Endpoint.SIDECAR].answer == HOST
