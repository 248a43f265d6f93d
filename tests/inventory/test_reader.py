"""Who answers waits for changed files, but not for long."""

import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest

from machines_server.core.machine import Problem, Registry
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.machine_file import Parsed, parse_machine
from machines_server.inventory.reader import RegistryReader
from tests.fakes import wait_until
from tests.inventory.texts import OpenFiles, names, write
from tests.latch import Latch

Parse = Callable[[bytes, str], Parsed]
PATIENT = {"wait_s": 60.0, "wait_for_a_file_s": 60.0}


@pytest.fixture
def slow() -> Latch:
    """At which whoever parses a file waits while it is closed."""
    return Latch()


@pytest.fixture
def parse(slow: Latch) -> Parse:
    def parse(content: bytes, file: str) -> Parsed:
        slow.pass_through()
        return parse_machine(content, file)

    return parse


@pytest.fixture
def slow_files(parse: Parse, tmp_path: Path, open_files: OpenFiles) -> RegistryFiles:
    write(tmp_path, "alpha")
    return open_files(tmp_path, parse=parse, settle_s=0)


def _asking(reader: RegistryReader) -> tuple[threading.Thread, "SimpleQueue[Registry]"]:
    """Asks in a thread; what it gets is put into the queue."""
    found = SimpleQueue[Registry]()
    thread = threading.Thread(target=lambda: found.put(reader.current(2.0)))
    thread.start()
    return thread, found


def test_the_next_call_sees_a_change(slow_files: RegistryFiles) -> None:
    reader = RegistryReader(slow_files, **PATIENT)
    before = reader.current(1.0)
    assert names(before) == ["alpha"]
    assert reader.current_nowait() is reader.unless_reported() is reader.current(2.0) is before
    write(slow_files.folder, "beta")
    assert reader.current_nowait() is reader.unless_reported() is None
    after = reader.current(3.0)
    assert names(after) == ["alpha", "beta"]
    assert reader.current(4.0) is after


def test_while_reading_takes_long_all_stays_as_it_was_and_a_problem_says_so(
    slow: Latch, slow_files: RegistryFiles, caplog: pytest.LogCaptureFixture
) -> None:
    reader = RegistryReader(slow_files, wait_for_a_file_s=0.5)
    reader.current(1.0)
    with slow.closed():
        write(slow_files.folder, "beta")
        late = reader.current(2.0)
        assert reader.current(3.0) is reader.current_nowait() is reader.unless_reported() is late
        assert names(late) == ["alpha"]
        (problem,) = late.problems
        assert problem.severity == "warning"
        assert problem.message == (
            "reading the machine files is taking long; all machines stay as they were until it ends"
        )
        assert caplog.text.count(problem.message) == 1
        wait_until(lambda: slow.waiting == 1)
    wait_until(lambda: names(reader.current(4.0)) == ["alpha", "beta"])
    wait_until(lambda: reader.current(5.0).problems == ())


def test_many_files_are_waited_for_while_reading_gets_on(tmp_path: Path, open_files: OpenFiles) -> None:
    def parse(content: bytes, file: str) -> Parsed:
        threading.Event().wait(0.1)
        return parse_machine(content, file)

    reader = RegistryReader(open_files(tmp_path, parse=parse, settle_s=0), 60, wait_for_a_file_s=0.8)
    assert names(reader.current(1.0)) == []
    for number in range(15):
        write(tmp_path, f"m{number}")
    assert len(reader.current(2.0)) == 15


def test_files_are_not_waited_for_for_ever(slow: Latch, slow_files: RegistryFiles) -> None:
    reader = RegistryReader(slow_files, wait_s=0.5, wait_for_a_file_s=60)
    before = reader.current(1.0)
    with slow.closed():
        write(slow_files.folder, "beta")
        assert reader.current(2.0).machines == before.machines
    wait_until(lambda: len(reader.current(3.0)) == 2)


def test_a_folder_that_was_empty_stays_so_meanwhile(
    slow: Latch, parse: Parse, tmp_path: Path, open_files: OpenFiles
) -> None:
    reader = RegistryReader(open_files(tmp_path, parse=parse, settle_s=0), wait_for_a_file_s=0.5)
    assert len(reader.current(1.0)) == 0
    with slow.closed():
        write(tmp_path, "alpha")
        late = reader.current(2.0)
        assert len(late.problems) == 1
        assert reader.current_nowait() is reader.unless_reported() is reader.current(3.0) is late
    wait_until(lambda: len(reader.current(4.0)) == 1)


def test_a_change_during_a_reading_is_seen_by_who_asks_after_it(
    slow: Latch, slow_files: RegistryFiles
) -> None:
    reader = RegistryReader(slow_files, **PATIENT)
    reader.current(1.0)
    with slow.closed():
        write(slow_files.folder, "beta")
        first, found = _asking(reader)
        wait_until(lambda: slow.waiting)
        write(slow_files.folder, "gamma")
        second, found_later = _asking(reader)
        second.join(0.2)
        assert found.empty()
        assert found_later.empty()
    first.join(60)
    second.join(60)
    assert "beta" in names(found.get())
    assert names(found_later.get()) == ["alpha", "beta", "gamma"]


def test_the_first_reading_is_waited_for(slow: Latch, slow_files: RegistryFiles) -> None:
    reader = RegistryReader(slow_files, 0.01, 0.01)
    with slow.closed():
        asking, found = _asking(reader)
        wait_until(lambda: slow.waiting)
        assert reader.current_nowait() is reader.unless_reported() is None
        asking.join(0.2)
        assert found.empty()
    asking.join(60)
    assert names(found.get()) == ["alpha"]


def test_what_goes_wrong_is_raised_where_it_was_asked(tmp_path: Path, open_files: OpenFiles) -> None:
    told = []

    def refuse_some(problem: Problem) -> None:
        told.append(problem)
        if problem.file != "other.yaml":
            raise ValueError(problem.file)

    (tmp_path / "broken.yaml").write_text("name: [")
    reader = RegistryReader(open_files(tmp_path, on_problem=refuse_some), **PATIENT)
    with pytest.raises(RuntimeError, match="cannot be read") as raised:
        reader.current(1.0)
    assert str(raised.value.__cause__) == "broken.yaml"
    (tmp_path / "other.yaml").write_text("name: [")
    assert len(reader.current(2.0).problems) == 2
    (tmp_path / "third.yaml").write_text("name: [")
    with pytest.raises(RuntimeError, match="cannot be read"):
        reader.current(3.0)
    assert len(reader.current(4.0).problems) == 3


def test_many_threads_see_their_own_changes(files: RegistryFiles) -> None:
    reader, missed = RegistryReader(files, **PATIENT), list[str]()

    def change(name: str) -> None:
        for _ in range(10):
            path = write(files.folder, name)
            if reader.current(1.0).get(name) is None:
                missed.append(f"{name} is not there")
            path.unlink()
            if reader.current(1.0).get(name) is not None:
                missed.append(f"{name} is there")

    threads = [threading.Thread(target=change, args=[f"m{number}"]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert missed == []


@pytest.mark.parametrize("ask", [RegistryReader.current_nowait, RegistryReader.unless_reported])
def test_before_the_first_reading_nothing_is_known(
    files: RegistryFiles, ask: Callable[[RegistryReader], Registry | None]
) -> None:
    assert ask(RegistryReader(files)) is None
