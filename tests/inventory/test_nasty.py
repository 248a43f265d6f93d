"""Nasty files next to good ones: nothing fails, no neighbour is lost, nobody waits long."""

from pathlib import Path

import pytest

from machines_server.inventory.limits import MAX_MACHINE_FILE_BYTES
from machines_server.inventory.machine_file import parse_machine
from machines_server.inventory.parse_cache import ParseCache
from tests.inventory.corpus import ACCEPTED, REFUSED, SLOW
from tests.inventory.texts import OpenFiles, good, write
from tests.inventory.timing import MAX_CPU_S, parse_cpu_s


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


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


def test_all_of_them_in_one_folder_leave_the_good_ones_alone(tmp_path: Path, open_files: OpenFiles) -> None:
    nasty = {**ACCEPTED, **{name: text for name, (text, _) in REFUSED.items()}}
    for number, text in enumerate(nasty.values()):
        (tmp_path / f"nasty{number:03}.yaml").write_bytes(_bytes(text))
    for name in ("alpha", "omega"):
        write(tmp_path, name)
    registry = open_files(tmp_path).current(1.0)
    assert {"alpha", "omega", "box"} == {machine.name for machine in registry}
    broken = {
        one.file for one in registry.problems if one.severity == "error" and "has the name" not in one.message
    }
    assert len(broken) == len(REFUSED)


@pytest.mark.parametrize("name", SLOW)
def test_no_file_takes_long_to_read(name: str) -> None:
    assert len(SLOW[name]) <= MAX_MACHINE_FILE_BYTES
    assert parse_cpu_s(SLOW[name].encode()) < MAX_CPU_S


def test_a_file_is_parsed_once_for_all_who_share_a_cache(tmp_path: Path, open_files: OpenFiles) -> None:
    cache = ParseCache()
    write(tmp_path, "alpha")
    (tmp_path / "broken.yaml").write_text("name: [")
    first, second = (open_files(tmp_path, parse=cache.parse) for _ in range(2))
    one, other = first.current(1.0), second.current(2.0)
    assert one.machines == other.machines
    assert all(mine is yours for mine, yours in zip(one.problems, other.problems, strict=True))
    (tmp_path / "alpha.yaml").write_text(good("alpha") + "x: 1\n")
    assert first.current(3.0).machines[0].declared["x"] == 1
    assert second.current(3.0).machines == first.current(3.0).machines
