"""The thread that writes: whatever the database does, nothing is lost silently."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from machines_server.core.machine import Registry
from machines_server.core.sample import Cycle, PollResult, RuntimeState, Sample, State
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.writer_thread import WriterThread
from tests.core.machines import SIDECAR
from tests.fakes import wait_until
from tests.store.polls import HOST, LLAMA, REGISTRY, RETENTION, listed, machine, polled


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
    assert snapshot.latest["one"]["ollama"].answer == RuntimeState(models=(LLAMA,))


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
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[str | None] = []
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=faults.append, max_pending=5)
    for item in (REGISTRY, polled(SIDECAR, 10.0, HOST)):
        thread.put(item)
    wait_until(lambda: faults)
    for number in range(4):
        thread.put(Cycle(number, number + 1, 5, 2))
    wait_until(lambda: not thread.queued)
    for number in range(4, 8):
        thread.put(Cycle(number, number + 1, 5, 2))
    wait_until(lambda: not thread.queued and thread.unwritten == 6)
    other.execute("ROLLBACK")
    other.close()
    wait_until(lambda: faults[-1] is None)
    assert thread.close()
    with closing(LatestReader(path)) as reader:
        snapshot = reader.snapshot()
        assert list(reader.last_good("one.yaml"))
    assert snapshot.cycle == Cycle(7.0, 8.0, 5, 2)
    assert snapshot.latest == {}
    assert "4 polled items are lost: there were too many to keep" in caplog.messages


@pytest.mark.parametrize(
    "unwritable",
    [
        listed(10.0, replace(LLAMA, size_bytes=2**70)),
        listed(10.0, replace(LLAMA, model="\ud800")),
        listed(10.0, replace(LLAMA, model=cast("str", object()))),
    ],
    ids=["too large", "no text", "of another type"],
)
def test_an_answer_that_cannot_be_written_is_its_machines_own_state_and_takes_no_other_with_it(
    path: Path, caplog: pytest.LogCaptureFixture, unwritable: PollResult
) -> None:
    faults: list[str | None] = []
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=faults.append)
    thread.put(REGISTRY)
    for at in (10.0, 15.0):
        ollama = replace(unwritable, at=at)
        thread.put(ollama)
        thread.put(polled(SIDECAR, at, HOST))
        thread.put(Sample("one", {"ollama": ollama}))
        thread.put(Cycle(at - 4, at + 1, 5, 2))
        wait_until(lambda: not thread.queued)
    thread.close()
    with closing(LatestReader(path)) as reader:
        snapshot = reader.snapshot()
    assert snapshot.cycle == Cycle(11.0, 16.0, 5, 2)
    latest = snapshot.latest["one"]
    assert latest["sidecar"].answer == RuntimeState(host=HOST)
    assert latest["ollama"].state is State.ERROR
    assert "its log says why" in (latest["ollama"].reason or "")
    assert faults == []
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert (
        1 <= len(tracebacks) <= 2
    )  # of the poll and of the sample, each in its place, and not for each cycle


def test_of_many_answers_only_those_that_cannot_be_written_are_lost(path: Path) -> None:
    faults: list[str | None] = []
    registry = Registry(tuple(machine(f"m{number}") for number in range(300)), loaded_at=1.0)
    bad = {0, 7, 8, 151, 299}
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=faults.append)
    thread.put(registry)
    for number in range(300):
        model = replace(LLAMA, size_bytes=2**70) if number in bad else LLAMA
        thread.put(replace(listed(10.0, model), machine=f"m{number}"))
    thread.close()
    with closing(LatestReader(path)) as reader:
        latest = reader.snapshot().latest
    states = {number: latest[f"m{number}"]["ollama"].state for number in range(300)}
    assert {number for number, state in states.items() if state is not State.OK} == bad
    assert faults == []


def test_a_database_that_is_moved_away_is_made_anew_with_what_is_known(path: Path) -> None:
    thread = WriterThread(path, max_gap_s=12, retention=RETENTION, on_fault=lambda _: None)
    thread.put(REGISTRY)
    thread.put(Cycle(1.0, 2.0, 5, 2))
    with closing(LatestReader(path)) as reader:
        wait_until(reader.cycle)
        before = reader.version()
        for file in path.parent.glob("telemetry.db*"):
            file.unlink()
        thread.put(polled(SIDECAR, 10.0, HOST))
        thread.put(Cycle(6.0, 7.0, 5, 2))
        wait_until(thread.close, 60)
        assert reader.version() != before
        assert reader.snapshot().latest["one"]["sidecar"].answer == RuntimeState(host=HOST)
