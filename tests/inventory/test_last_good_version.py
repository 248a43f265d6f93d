"""A broken file leaves its last good version in force."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from machines_server.errors import StoreError
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.limits import MAX_MACHINE_FILE_BYTES
from tests.inventory.texts import GOOD, OpenFiles, good, machine, names, write


def test_fifty_broken_files_beside_two_good_ones(files: RegistryFiles) -> None:
    broken = [
        "",
        "a: [",
        "- a\n",
        "\t",
        "name: x\n",
        "a: &a [*a]\n",
        "\x00",
        GOOD[:40],
        "!x a",
        '"',
        "#" * 2**17,
    ]
    for number in range(50):
        (files.folder / f"broken-{number:02}.yaml").write_text(broken[number % len(broken)])
    registry = files.current(1.0)
    assert names(registry) == ["alpha", "beta"]
    assert len({problem.file for problem in registry.problems}) == 50
    assert files.current(2.0) is registry


def test_a_broken_file_keeps_its_last_good_version_in_force(files: RegistryFiles) -> None:
    before = files.current(1.0)
    alpha = files.folder / "alpha.yaml"
    alpha.write_text(good("alpha").replace("role: gpu-host\n", ""))
    after = files.current(2.0)
    assert after is not before
    assert after.machines == before.machines
    (problem,) = after.problems
    assert (problem.file, problem.line, problem.key, problem.severity) == ("alpha.yaml", 1, "role", "error")
    write(files.folder, "alpha")
    healed = files.current(3.0)
    assert healed.problems == ()
    assert names(healed) == ["alpha", "beta"]


def test_a_file_removed_while_broken_takes_machine_and_problem_along(files: RegistryFiles) -> None:
    files.current(1.0)
    (files.folder / "alpha.yaml").write_text("")
    assert names(files.current(2.0)) == ["alpha", "beta"]
    (files.folder / "alpha.yaml").unlink()
    after = files.current(3.0)
    assert names(after) == ["beta"]
    assert after.problems == ()


def test_a_file_that_grows_too_large_keeps_its_last_good_version(files: RegistryFiles) -> None:
    files.current(1.0)
    alpha = files.folder / "alpha.yaml"
    for size in (MAX_MACHINE_FILE_BYTES + 1, 2 * MAX_MACHINE_FILE_BYTES):
        alpha.write_text(good("alpha").ljust(size, "#"))
        registry = files.current(2.0)
        assert names(registry) == ["alpha", "beta"]
        (problem,) = registry.problems
        assert problem.message == f"the file has {size:,} bytes; expected at most 65,536"
        assert (problem.file, problem.line, problem.severity) == ("alpha.yaml", None, "error")
        assert files.current(3.0) is registry
    alpha.write_text(good("alpha") + "#" * (MAX_MACHINE_FILE_BYTES - len(good("alpha"))))
    assert files.current(4.0).problems == ()


def test_a_missing_folder_is_a_problem_and_the_machines_stay(files: RegistryFiles) -> None:
    before = files.current(1.0)
    away = files.folder.with_name("away")
    files.folder.rename(away)
    without = files.current(2.0)
    assert without.machines == before.machines
    assert [problem.file for problem in without.problems] == [str(files.folder)]
    assert files.current(3.0) is without
    files.folder.write_text("not a folder")
    assert files.current(4.0).machines == before.machines
    assert "Not a directory" in files.current(5.0).problems[0].message
    files.folder.unlink()
    away.rename(files.folder)
    back = files.current(6.0)
    assert back.machines == before.machines
    assert back.problems == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_keeps_its_last_good_version(files: RegistryFiles) -> None:
    before = files.current(1.0)
    (files.folder / "alpha.yaml").chmod(0)
    after = files.current(2.0)
    assert after.machines == before.machines
    assert "Permission denied" in after.problems[0].message


def kept(**machines: str) -> Callable[[str | None], dict[str, str]]:
    """What a store remembers: by stem of the file, the text of its last good version."""
    known = {f"{stem}.yaml": json.dumps(machine(text).declared) for stem, text in machines.items()}
    return lambda file: known if file is None else {file: known[file]} if file in known else {}


def test_the_last_good_version_of_another_process_stands_for_a_broken_file(
    tmp_path: Path, open_files: OpenFiles
) -> None:
    (tmp_path / "alpha.yaml").write_text("name: alpha\n")
    (tmp_path / "beta.yaml").write_text("")
    files = open_files(tmp_path, recall=kept(alpha=good("alpha", more="site: attic\n")))
    registry = files.current(1.0)
    assert [found.declared["site"] for found in registry] == ["attic"]
    assert {problem.file for problem in registry.problems} == {"alpha.yaml", "beta.yaml"}
    assert files.current(2.0) is registry


def test_processes_that_saw_different_versions_agree_on_the_one_that_was_kept(
    tmp_path: Path, open_files: OpenFiles
) -> None:
    recall = kept(alpha=good("alpha", more="site: cellar\n"))
    fast = open_files(tmp_path, recall=recall, recall_first=True)
    slow = open_files(tmp_path, recall=recall, recall_first=True)
    write(tmp_path, "alpha", more="site: attic\n")
    assert [found.declared["site"] for found in fast.current(1.0)] == ["attic"]
    (tmp_path / "alpha.yaml").write_text("name: [")
    for files in (fast, slow):
        assert [found.declared["site"] for found in files.current(2.0)] == ["cellar"]


def test_a_folder_that_cannot_be_read_at_the_start_leaves_all_as_it_was_kept(
    tmp_path: Path, open_files: OpenFiles
) -> None:
    folder = tmp_path / "machines"
    files = open_files(folder, recall=kept(alpha=good("alpha"), beta=good("beta")))
    registry = files.current(1.0)
    assert names(registry) == ["alpha", "beta"]
    assert not registry.is_whole
    assert files.current(2.0) is registry
    folder.mkdir()
    write(folder, "beta")
    registry = files.current(3.0)
    assert names(registry) == ["beta"]
    assert registry.is_whole


def test_a_last_good_version_that_breaks_the_rules_is_not_taken(
    tmp_path: Path, open_files: OpenFiles
) -> None:
    (tmp_path / "alpha.yaml").write_text("")
    files = open_files(tmp_path, recall=lambda _: {"alpha.yaml": '{"name": "alpha"}'})
    assert len(files.current(1.0)) == 0


def test_a_store_that_cannot_answer_is_asked_again(tmp_path: Path, open_files: OpenFiles) -> None:
    (tmp_path / "alpha.yaml").write_text("")
    asked: list[str | None] = []

    def recall(file: str | None) -> dict[str, str]:
        asked.append(file)
        if len(asked) <= 3:
            raise StoreError("the database is locked")
        return kept(alpha=good("alpha"))(file)

    files = open_files(tmp_path, recall=recall)
    before = files.current(1.0)
    assert len(before) == 0
    assert files.current(2.0) is before
    assert files.current(3.0) is before
    assert names(files.current(4.0)) == ["alpha"]
