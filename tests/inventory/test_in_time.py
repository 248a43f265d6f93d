"""Who answers waits for changed files, but not for long."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from machines_server.core.machine import Problem, Registry
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.in_time import RegistryInTime
from machines_server.inventory.machine_file import Parsed, parse_machine
from tests.fakes import wait_until
from tests.inventory.texts import OpenFiles, names, write


class SlowFiles:
    """Parses files, unless told to hang."""

    def __init__(self) -> None:
        self.waiting = 0
        self._may_parse = threading.Event()
        self._may_parse.set()

    def parse(self, content: bytes, file: str) -> Parsed:
        if not self._may_parse.is_set():
            self.waiting += 1
            assert self._may_parse.wait(60)
            self.waiting -= 1
        return parse_machine(content, file)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self._may_parse.clear()
        try:
            yield
        finally:
            self._may_parse.set()


@pytest.fixture
def slow() -> SlowFiles:
    return SlowFiles()


@pytest.fixture
def slow_files(slow: SlowFiles, tmp_path: Path, open_files: OpenFiles) -> RegistryFiles:
    write(tmp_path, "alpha")
    return open_files(tmp_path, parse=slow.parse)


def _asking(files: RegistryInTime, found: list[Registry]) -> threading.Thread:
    thread = threading.Thread(target=lambda: found.append(files.current(2.0)))
    thread.start()
    return thread


def test_the_next_call_sees_a_change(files: RegistryFiles, open_files: OpenFiles) -> None:
    in_time = RegistryInTime(open_files(files.folder, settle_s=0))
    before = in_time.current(1.0)
    assert names(before) == ["alpha", "beta"]
    assert in_time.at_once() is in_time.unless_reported() is in_time.current(2.0) is before
    write(files.folder, "gamma")
    assert in_time.at_once() is in_time.unless_reported() is None
    after = in_time.current(3.0)
    assert names(after) == ["alpha", "beta", "gamma"]
    assert in_time.current(4.0) is after


def test_while_reading_takes_too_long_all_stays_as_it_was_and_a_problem_says_so(
    slow: SlowFiles, slow_files: RegistryFiles
) -> None:
    in_time = RegistryInTime(slow_files, 0.2)
    in_time.current(1.0)
    with slow.hanging():
        write(slow_files.folder, "beta")
        late = in_time.current(2.0)
        assert slow.waiting == 1
        assert in_time.current(3.0) is in_time.at_once() is in_time.unless_reported() is late
        assert names(late) == ["alpha"]
        (problem,) = late.problems
        assert problem.severity == "warning"
        assert (
            "takes longer than 0.2 s; until it has ended, all machines stay as they were" in problem.message
        )
        assert slow.waiting == 1
    wait_until(lambda: names(in_time.current(4.0)) == ["alpha", "beta"])
    assert in_time.current(5.0).problems == ()


def test_nobody_waits_for_files_that_turn_out_to_be_the_same(
    slow: SlowFiles, slow_files: RegistryFiles
) -> None:
    in_time = RegistryInTime(slow_files, 0.2)
    before = in_time.current(1.0)
    with slow.hanging():
        write(slow_files.folder, "beta")
        assert in_time.current(2.0).problems
        (slow_files.folder / "beta.yaml").unlink()
    wait_until(lambda: in_time.current(3.0).problems == ())
    assert names(in_time.current(4.0)) == names(before)


def test_a_change_during_a_reading_is_seen_by_who_asks_after_it(
    slow: SlowFiles, slow_files: RegistryFiles
) -> None:
    in_time, found = RegistryInTime(slow_files, 60), list[Registry]()
    in_time.current(1.0)
    with slow.hanging():
        write(slow_files.folder, "beta")
        threads = [_asking(in_time, found)]
        wait_until(lambda: slow.waiting)
        write(slow_files.folder, "gamma")
        threads.append(_asking(in_time, found))
        assert found == []
    for thread in threads:
        thread.join(60)
    assert sorted(map(len, found)) in ([2, 3], [3, 3])


def test_the_first_reading_is_waited_for(slow: SlowFiles, slow_files: RegistryFiles) -> None:
    in_time, found = RegistryInTime(slow_files, 0.01), list[Registry]()
    with slow.hanging():
        asking = _asking(in_time, found)
        wait_until(lambda: slow.waiting)
        assert in_time.at_once() is in_time.unless_reported() is None
        asking.join(0.2)
        assert found == []
    asking.join(60)
    assert [names(registry) for registry in found] == [["alpha"]]


def test_what_goes_wrong_is_raised_where_it_was_asked(tmp_path: Path, open_files: OpenFiles) -> None:
    told = []

    def refuse_once(problem: Problem) -> None:
        told.append(problem)
        if len(told) == 1:
            raise ValueError(problem.file)

    (tmp_path / "broken.yaml").write_text("name: [")
    in_time = RegistryInTime(open_files(tmp_path, on_problem=refuse_once))
    with pytest.raises(RuntimeError, match="cannot be read") as raised:
        in_time.current(1.0)
    assert str(raised.value.__cause__) == "broken.yaml"
    write(tmp_path, "alpha")
    assert names(in_time.current(2.0)) == ["alpha"]


@pytest.mark.parametrize("ask", [RegistryInTime.at_once, RegistryInTime.unless_reported])
def test_before_the_first_reading_nothing_is_known(
    files: RegistryFiles, ask: Callable[[RegistryInTime], Registry | None]
) -> None:
    assert ask(RegistryInTime(files)) is None
