"""Each request rereads the folder, and only changed files are parsed."""

import os
import time
from pathlib import Path

from machines_server.core.machine import Problem
from machines_server.inventory.folder import SETTLE_S, RegistryFiles
from tests.audit import audited
from tests.fakes import wait_until
from tests.inventory.texts import OpenFiles, good, names, write


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def test_machines_come_sorted_by_name_and_are_found_without_case(files: RegistryFiles) -> None:
    registry = files.current(17.0)
    assert names(registry) == ["alpha", "beta"]
    assert registry.problems == ()
    assert registry.loaded_at == 17.0
    assert registry.get("ALPHA") is registry.machines[0]


def test_nothing_new_gives_the_very_same_registry(files: RegistryFiles) -> None:
    assert files.current(1.0) is files.current(2.0)


def test_a_new_file_is_seen_by_the_next_call(files: RegistryFiles) -> None:
    before = files.current(1.0)
    write(files.folder, "gamma")
    after = files.current(2.0)
    assert names(after) == ["alpha", "beta", "gamma"]
    assert after.loaded_at == 2.0
    assert after.machines[:2] == before.machines


def test_only_the_changed_file_is_parsed_again(files: RegistryFiles) -> None:
    before = files.current(1.0)
    write(files.folder, "alpha", more="site: attic\n")
    after = files.current(2.0)
    assert after.machines[0].declared["site"] == "attic"
    assert after.machines[1] is before.machines[1]


def test_there_is_a_pause_after_each_file_that_changed(files: RegistryFiles) -> None:
    pauses = []
    files.current(1.0, lambda: pauses.append("first"))
    write(files.folder, "alpha", more="site: attic\n")
    files.current(2.0, lambda: pauses.append("changed"))
    files.current(3.0, lambda: pauses.append("same"))
    assert pauses == ["first", "first", "changed"]


def test_a_file_touched_but_not_changed_gives_the_very_same_registry(files: RegistryFiles) -> None:
    before = files.current(1.0)
    (files.folder / "alpha.yaml").touch()
    _replace(files.folder / "beta.yaml", good("beta"))
    assert files.current(2.0) is before


def test_a_removed_file_takes_its_machine_along(files: RegistryFiles) -> None:
    files.current(1.0)
    (files.folder / "alpha.yaml").unlink()
    assert names(files.current(2.0)) == ["beta"]


def test_a_warning_stands_beside_the_machine(files: RegistryFiles) -> None:
    write(files.folder, "alpha", more="status: mine\n")
    registry = files.current(1.0)
    assert names(registry) == ["alpha", "beta"]
    assert [(found.file, found.key, found.severity) for found in registry.problems] == [
        ("alpha.yaml", "status", "warning")
    ]


def test_rewrites_of_one_size_within_one_tick_of_the_clock_are_all_seen(files: RegistryFiles) -> None:
    path = files.folder / "alpha.yaml"
    times = path.stat()
    for number in range(300):
        path.write_text(good("alpha", more=f"n: {number:03}\n"))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert files.current(1.0).machines[0].declared["n"] == number


def test_files_that_rest_are_not_even_opened(files: RegistryFiles) -> None:
    paths = {str(path) for path in files.folder.iterdir()}
    with audited("open") as opened:
        registry = files.current(1.0)
    assert paths <= set(opened)
    changed_ns = max(path.stat().st_ctime_ns for path in files.folder.iterdir())
    wait_until(lambda: time.time_ns() - changed_ns > SETTLE_S * 1e9)
    files.current(2.0)
    with audited("open") as opened:
        assert files.current(3.0) is registry
    assert not paths & set(opened)


def test_a_problem_is_told_once_for_each_change(tmp_path: Path, open_files: OpenFiles) -> None:
    told: list[Problem] = []
    files = open_files(tmp_path, on_problem=told.append)
    path = write(tmp_path, "alpha", more="status: 1\n")
    for _ in range(3):
        files.current(1.0)
    assert [problem.severity for problem in told] == ["warning"]
    path.write_text("name: 1\n")
    for _ in range(3):
        files.current(2.0)
    assert len(told) == 1 + 5
    path.write_text("name: 1\n\n")
    for _ in range(3):
        files.current(3.0)
    assert len(told) == 1 + 5 + 5
    write(tmp_path, "beta")
    write(tmp_path, "gamma").write_text(good("beta"))
    files.current(4.0)
    assert [problem.file for problem in told[11:]] == ["gamma.yaml"]
    (tmp_path / "beta.yaml").touch()
    write(tmp_path, "delta")
    files.current(5.0)
    assert len(told) == 12
