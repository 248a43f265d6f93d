"""Nasty files beside good ones: nothing fails, no neighbour is lost, nobody waits."""

import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machines_server.core.registry import Registry
from machines_server.machine_file import parse_machine
from machines_server.parse_aside import AT_ONCE_S, Aside, cost_s, read_in_a_process
from machines_server.registry_files import RegistryFiles
from tests.fakes import wait_until
from tests.machine_files.corpus import ACCEPTED, REFUSED
from tests.machine_files.texts import GOOD, good, write

DENSE = (good("box") + "x: [" + "1, " * 3000 + "1]\n").encode()
"""Legal, and too long to be read while somebody waits."""


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _settled(files: RegistryFiles) -> Registry:
    """The registry when no file is being read any more."""

    wait_until(lambda: not any("being read" in one.message for one in files.current(1.0).problems), 30)
    return files.current(1.0)


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_and_legal_files_are_machines(name: str) -> None:
    parsed = parse_machine(_bytes(ACCEPTED[name]), "box.yaml")
    assert parsed.machine is not None, parsed.problems
    assert parsed.machine.name == "box"


@pytest.mark.parametrize("name", REFUSED)
def test_broken_files_are_refused_with_a_reason(name: str) -> None:
    text, says = REFUSED[name]
    parsed = parse_machine(_bytes(text), "box.yaml")
    assert parsed.machine is None
    assert any(one.severity == "error" and says in one.message for one in parsed.problems), parsed.problems


def test_all_of_them_in_one_folder_leave_the_good_ones_alone(tmp_path: Path) -> None:
    nasty = {**ACCEPTED, **{name: text for name, (text, _) in REFUSED.items()}}
    for number, text in enumerate(nasty.values()):
        (tmp_path / f"nasty{number:03}.yaml").write_bytes(_bytes(text))
    for name in ("alpha", "omega"):
        write(tmp_path, name)
    files = RegistryFiles(tmp_path, parse=Aside().parse)
    first = files.current(1.0)
    registry = _settled(files)
    for seen in (first, registry):
        assert {"alpha", "omega"} <= {one.name for one in seen}
    broken = {
        one.file for one in registry.problems if one.severity == "error" and "has the name" not in one.message
    }
    assert len(broken) == len(REFUSED)
    assert registry.get("box") is not None


def test_a_long_file_is_read_aside_and_seen_when_it_is_read(tmp_path: Path) -> None:
    assert cost_s(DENSE) > AT_ONCE_S
    files = RegistryFiles(tmp_path, parse=Aside().parse)
    write(tmp_path, "alpha")
    (tmp_path / "box.yaml").write_bytes(DENSE)
    registry = files.current(1.0)
    assert [one.name for one in registry] == ["alpha"]
    (problem,) = registry.problems
    assert (problem.file, problem.severity) == ("box.yaml", "warning")
    assert "is being read" in problem.message
    assert files.current(2.0) is registry
    after = _settled(files)
    assert after.problems == ()
    box = after.get("box")
    assert box is not None
    assert len(box.declared["x"]) == 3001
    assert files.current(3.0) is after


def test_while_a_long_file_is_read_its_last_good_version_stands(tmp_path: Path) -> None:
    files = RegistryFiles(tmp_path, parse=Aside().parse)
    write(tmp_path, "box")
    before = files.current(1.0).get("box")
    (tmp_path / "box.yaml").write_bytes(DENSE)
    assert files.current(2.0).get("box") is before
    (tmp_path / "box.yaml").write_text(good("box") + "x: 1\n")
    found = files.current(3.0)
    assert found.problems == ()
    assert found.machines[0].declared["x"] == 1
    time.sleep(1.0)  # what was read aside meanwhile is not taken for the file
    assert files.current(4.0).machines[0].declared["x"] == 1


def test_a_long_file_that_is_broken_says_where(tmp_path: Path) -> None:
    files = RegistryFiles(tmp_path, parse=Aside().parse)
    (tmp_path / "box.yaml").write_bytes(DENSE + b"role: again\n")
    (problem,) = _settled(files).problems
    assert (problem.key, problem.severity) == ("role", "error")


def test_a_file_is_read_once_for_all_who_share_the_reading(tmp_path: Path) -> None:
    aside = Aside()
    write(tmp_path, "alpha")
    (tmp_path / "box.yaml").write_bytes(DENSE)
    with closing(RegistryFiles(tmp_path, parse=aside.parse_at_once)) as before_a_fork:
        assert [one.name for one in before_a_fork.current(1.0)] == ["alpha"]
    assert aside._asked.keys() == {"alpha.yaml"}  # no thread, which would not survive a fork, reads the other
    first, second = (RegistryFiles(tmp_path, parse=aside.parse) for _ in range(2))
    one, other = _settled(first), second.current(2.0)
    assert [machine.name for machine in other] == ["alpha", "box"]
    assert all(mine is yours for mine, yours in zip(one, other, strict=True))
    (tmp_path / "alpha.yaml").write_text(good("alpha") + "x: 1\n")
    assert first.current(3.0).machines[0].declared["x"] == 1
    assert second.current(3.0).machines[0] is first.current(3.0).machines[0]


def test_a_reading_that_takes_too_long_is_given_up() -> None:
    parsed = read_in_a_process(DENSE, "box.yaml", deadline_s=0.01)
    assert parsed.machine is None
    assert "takes more than 0.01 s to read" in parsed.problems[0].message


_PIECES = (
    "- |: |\n|  |[|]|{|}|, |&a |*a |!!set |!!int |!!omap |!!binary |!!float |!!timestamp |!x |"
    "<<: |? |>|'|\"|\\ud800|0x|.nan|-|=|~|true|2026-13-01|1e999|\t|\r|%YAML 1.1\n|%TAG ! x\n|---|...|"
    "#|@|`|\xe9|\ufeff|\u2028|_|!<x>|!%ff |a|k: v\n|{a: b}, |[[|]]|x: &a [|\n  - "
)


@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_no_file_of_the_corpus_keeps_anybody_waiting(name: str) -> None:
    text = ACCEPTED[name] if name in ACCEPTED else REFUSED[name][0]
    _keeps_nobody_waiting(_bytes(text), 30)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(
    st.integers(0, len(GOOD)),
    st.lists(st.tuples(st.sampled_from(_PIECES.split("|")), st.integers(1, 3000)), max_size=6),
    st.integers(1, 30),
)
def test_no_file_keeps_anybody_waiting(at: int, pieces: list[tuple[str, int]], again: int) -> None:
    text = GOOD[:at] + "".join(piece * times for piece, times in pieces) * again + GOOD[at:]
    _keeps_nobody_waiting(text.encode(), 1)


def _keeps_nobody_waiting(content: bytes, read_within_s: float) -> None:
    # Three times at most: CPU time, too, is longer while other work holds the cache.
    assert any(_took_s(content, read_within_s) < 0.1 for _ in range(3))


def _took_s(content: bytes, read_within_s: float) -> float:
    """The CPU time of the call that first sees such a file; its neighbours are there then, and afterwards.

    A process that has not read it within `read_within_s` is ended.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        for neighbour in ("alpha", "omega"):
            write(folder, neighbour)
        with closing(RegistryFiles(folder, parse=Aside().parse)) as files:
            files.current(1.0)
            (folder / "box.yaml").write_bytes(content)
            began_s = time.thread_time()
            first = files.current(2.0)
            took_s = time.thread_time() - began_s
            _end_reading(read_within_s)
            for registry in (first, _settled(files)):
                assert {"alpha", "omega"} <= {one.name for one in registry}
    return took_s


def _end_reading(within_s: float) -> None:
    """Wait for what is read aside; end the process that does it when it takes longer."""
    for thread in threading.enumerate():
        if thread.name == "read box.yaml":
            thread.join(within_s)
            while thread.is_alive():
                for child in psutil.Process().children():
                    with suppress(psutil.Error):
                        if "machines_server.parse_aside" in child.cmdline():
                            child.kill()
                thread.join(0.1)
