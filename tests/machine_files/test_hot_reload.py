"""The folder is read again when asked, and a broken file never disturbs anybody."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from machines_server.core.registry import Problem, Registry
from machines_server.errors import StoreError
from machines_server.registry_files import RACY_NS, RegistryFiles
from machines_server.yaml_document import MAX_BYTES
from tests.fakes import wait_until
from tests.machine_files.texts import GOOD, good, machine, write


def _names(registry: Registry) -> list[str]:
    return [found.name for found in registry]


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@pytest.fixture
def files(tmp_path: Path) -> RegistryFiles:
    """A folder with the machines alpha and beta."""
    write(tmp_path, "beta")
    write(tmp_path, "alpha")
    return RegistryFiles(tmp_path)


def test_machines_come_sorted_by_name_and_are_found_without_case(files: RegistryFiles) -> None:
    registry = files.current(17.0)
    assert _names(registry) == ["alpha", "beta"]
    assert registry.problems == ()
    assert registry.loaded_at == 17.0
    assert registry.get("ALPHA") is registry.machines[0]


def test_nothing_new_gives_the_very_same_registry(files: RegistryFiles) -> None:
    assert files.current(1.0) is files.current(2.0)


def test_a_new_file_is_seen_by_the_next_call(files: RegistryFiles) -> None:
    before = files.current(1.0)
    write(files.folder, "gamma")
    after = files.current(2.0)
    assert _names(after) == ["alpha", "beta", "gamma"]
    assert after.loaded_at == 2.0
    assert after.machines[:2] == before.machines


def test_only_the_changed_file_is_parsed_again(files: RegistryFiles) -> None:
    before = files.current(1.0)
    write(files.folder, "alpha", more="site: attic\n")
    after = files.current(2.0)
    assert after.machines[0].declared["site"] == "attic"
    assert after.machines[1] is before.machines[1]


def test_a_file_touched_but_not_changed_gives_the_very_same_registry(files: RegistryFiles) -> None:
    before = files.current(1.0)
    (files.folder / "alpha.yaml").touch()
    _replace(files.folder / "beta.yaml", good("beta"))
    assert files.current(2.0) is before


def test_a_removed_file_takes_its_machine_along(files: RegistryFiles) -> None:
    files.current(1.0)
    (files.folder / "alpha.yaml").unlink()
    assert _names(files.current(2.0)) == ["beta"]


def test_only_yaml_files_of_the_folder_itself_are_read(files: RegistryFiles) -> None:
    for name in (".hidden.yaml", "_draft.yaml", "notes.txt", "gamma.yaml~", "gamma.yaml.bak", ".#beta.yaml"):
        (files.folder / name).write_text(good("gamma"))
    (files.folder / "sub.yaml").mkdir()
    write(files.folder / "sub.yaml", "gamma")
    (files.folder / "delta.yml").write_text(good("delta"))
    registry = files.current(1.0)
    assert _names(registry) == ["alpha", "beta", "delta"]
    assert registry.problems == ()


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
        "#" * 2**21,
    ]
    for number in range(50):
        (files.folder / f"broken-{number:02}.yaml").write_text(broken[number % len(broken)])
    registry = files.current(1.0)
    assert _names(registry) == ["alpha", "beta"]
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
    assert _names(healed) == ["alpha", "beta"]


def test_a_file_removed_while_broken_takes_machine_and_problem_along(files: RegistryFiles) -> None:
    files.current(1.0)
    (files.folder / "alpha.yaml").write_text("")
    assert _names(files.current(2.0)) == ["alpha", "beta"]
    (files.folder / "alpha.yaml").unlink()
    after = files.current(3.0)
    assert _names(after) == ["beta"]
    assert after.problems == ()


def test_a_file_over_one_mebibyte_keeps_its_last_good_version(files: RegistryFiles) -> None:
    files.current(1.0)
    with (files.folder / "alpha.yaml").open("a") as file:
        file.write("#" * MAX_BYTES)
    registry = files.current(2.0)
    assert _names(registry) == ["alpha", "beta"]
    assert "1,048,576 bytes" in registry.problems[0].message


def test_a_warning_stands_beside_the_machine(files: RegistryFiles) -> None:
    write(files.folder, "alpha", more="status: mine\n")
    registry = files.current(1.0)
    assert _names(registry) == ["alpha", "beta"]
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
    opened: list[str] = []

    def note(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and str(args[0]).startswith(str(files.folder)):
            opened.append(str(args[0]))

    sys.addaudithook(note)
    registry = files.current(1.0)
    assert len(opened) == 2
    changed_ns = max(path.stat().st_ctime_ns for path in files.folder.iterdir())
    while time.time_ns() - changed_ns <= RACY_NS:
        Event().wait(0.05)
    files.current(2.0)
    opened.clear()
    assert files.current(3.0) is registry
    assert opened == []


def test_of_two_files_with_one_name_the_first_is_taken_and_the_second_told(files: RegistryFiles) -> None:
    (files.folder / "zeta.yaml").write_text("# copied\n" + good("Alpha", more="site: attic\n"))
    registry = files.current(1.0)
    assert _names(registry) == ["alpha", "beta"]
    (problem,) = registry.problems
    assert (problem.file, problem.line, problem.column, problem.key) == ("zeta.yaml", 2, 1, "name")
    assert "alpha.yaml" in problem.message
    assert "zeta.yaml" in problem.message
    assert files.current(2.0) is registry
    (files.folder / "alpha.yaml").unlink()
    after = files.current(3.0)
    assert _names(after) == ["Alpha", "beta"]
    assert after.machines[0].declared["site"] == "attic"
    assert after.problems == ()


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


def test_a_folder_that_never_was_gives_no_machines_and_says_why(tmp_path: Path) -> None:
    files = RegistryFiles(tmp_path / "none")
    assert len(files.current(1.0)) == 0
    assert "No such file" in files.current(1.0).problems[0].message
    (tmp_path / "none").mkdir()
    write(tmp_path / "none", "alpha")
    assert _names(files.current(2.0)) == ["alpha"]


def test_a_fifo_or_a_device_is_told_and_never_waited_for(files: RegistryFiles) -> None:
    os.mkfifo(files.folder / "fifo.yaml")
    (files.folder / "zero.yaml").symlink_to("/dev/zero")
    registry = files.current(1.0)
    assert _names(registry) == ["alpha", "beta"]
    assert [problem.file for problem in registry.problems] == ["fifo.yaml", "zero.yaml"]
    assert all("not a regular file" in problem.message for problem in registry.problems)
    assert files.current(2.0) is registry


def test_a_link_to_a_file_is_followed_and_a_broken_one_keeps_the_last_good_version(
    files: RegistryFiles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = write(tmp_path_factory.mktemp("elsewhere"), "gamma")
    (files.folder / "gamma.yaml").symlink_to(target)
    (files.folder / "loop.yaml").symlink_to("loop.yaml")
    before = files.current(1.0)
    assert _names(before) == ["alpha", "beta", "gamma"]
    assert [problem.file for problem in before.problems] == ["loop.yaml"]
    target.unlink()
    after = files.current(2.0)
    assert after.machines == before.machines
    assert [problem.file for problem in after.problems] == ["gamma.yaml", "loop.yaml"]
    assert files.current(3.0) is after
    target.write_text(good("gamma"))
    assert [problem.file for problem in files.current(4.0).problems] == ["loop.yaml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_keeps_its_last_good_version(files: RegistryFiles) -> None:
    before = files.current(1.0)
    (files.folder / "alpha.yaml").chmod(0)
    after = files.current(2.0)
    assert after.machines == before.machines
    assert "Permission denied" in after.problems[0].message


def test_a_file_name_that_would_disturb_a_terminal_or_the_log_is_shown_with_escapes(
    files: RegistryFiles,
) -> None:
    (files.folder / "a\n2026 ERROR forged\x1b[31m.yaml").write_text("x")
    (problem,) = files.current(0.0).problems
    assert problem.file == "a\\n2026 ERROR forged\\x1b[31m.yaml"
    assert str(problem).isprintable()


def test_a_file_name_that_is_not_utf_8_is_shown_with_escapes(files: RegistryFiles) -> None:
    path = os.fsencode(files.folder) + b"/caf\xe9.yaml"
    with open(path, "w") as file:  # noqa: PTH123  a Path must be text
        file.write(good("cafe"))
    assert files.current(1.0).machines[2].file == "caf\\xe9.yaml"


def test_a_problem_is_told_once_for_each_change(tmp_path: Path) -> None:
    told: list[Problem] = []
    files = RegistryFiles(tmp_path, on_problem=told.append)
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


def kept(**machines: str) -> Callable[[str | None], dict[str, str]]:
    """What a store remembers: by stem of the file, the text of its last good version."""
    known = {f"{stem}.yaml": json.dumps(machine(text).declared) for stem, text in machines.items()}
    return lambda file: known if file is None else {file: known[file]} if file in known else {}


def test_the_last_good_version_of_another_process_stands_for_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "alpha.yaml").write_text("name: alpha\n")
    (tmp_path / "beta.yaml").write_text("")
    files = RegistryFiles(tmp_path, recall=kept(alpha=good("alpha", more="site: attic\n")))
    registry = files.current(1.0)
    assert [found.declared["site"] for found in registry] == ["attic"]
    assert {problem.file for problem in registry.problems} == {"alpha.yaml", "beta.yaml"}
    assert files.current(2.0) is registry


def test_processes_that_saw_different_versions_agree_on_the_one_that_was_kept(tmp_path: Path) -> None:
    recall = kept(alpha=good("alpha", more="site: cellar\n"))
    fast = RegistryFiles(tmp_path, recall=recall, recall_first=True)
    slow = RegistryFiles(tmp_path, recall=recall, recall_first=True)
    write(tmp_path, "alpha", more="site: attic\n")
    assert [found.declared["site"] for found in fast.current(1.0)] == ["attic"]
    (tmp_path / "alpha.yaml").write_text("name: [")
    for files in (fast, slow):
        assert [found.declared["site"] for found in files.current(2.0)] == ["cellar"]


def test_a_folder_that_cannot_be_read_at_the_start_leaves_all_as_it_was_kept(tmp_path: Path) -> None:
    folder = tmp_path / "machines"
    files = RegistryFiles(folder, recall=kept(alpha=good("alpha"), beta=good("beta")))
    registry = files.current(1.0)
    assert _names(registry) == ["alpha", "beta"]
    assert not registry.is_whole
    assert files.current(2.0) is registry
    folder.mkdir()
    write(folder, "beta")
    registry = files.current(3.0)
    assert _names(registry) == ["beta"]
    assert registry.is_whole


def test_a_last_good_version_that_breaks_the_rules_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "alpha.yaml").write_text("")
    files = RegistryFiles(tmp_path, recall=lambda _: {"alpha.yaml": '{"name": "alpha"}'})
    assert len(files.current(1.0)) == 0


def test_a_store_that_cannot_answer_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "alpha.yaml").write_text("")
    asked: list[str | None] = []

    def recall(file: str | None) -> dict[str, str]:
        asked.append(file)
        if len(asked) <= 3:
            raise StoreError("the database is locked")
        return kept(alpha=good("alpha"))(file)

    files = RegistryFiles(tmp_path, recall=recall)
    before = files.current(1.0)
    assert len(before) == 0
    assert files.current(2.0) is before
    assert files.current(3.0) is before
    assert _names(files.current(4.0)) == ["alpha"]


def test_half_written_files_are_never_seen_by_sixteen_readers(files: RegistryFiles) -> None:
    path = files.folder / "alpha.yaml"
    whole = good("alpha", more="tags: [a, b, c]\n")
    half = whole[: len(whole) // 2]
    path.write_text(whole)
    files.current(0.0)
    stop, wrong = Event(), list[str]()

    def read() -> None:
        while not stop.is_set():
            seen = files.current(1.0)
            alpha = seen.get("alpha")
            if (
                _names(seen) != ["alpha", "beta"]
                or alpha is None
                or alpha.declared.get("tags") != ["a", "b", "c"]
            ):
                wrong.append(str(_names(seen)))

    threads = [Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    told = 0
    for _ in range(40):
        path.write_text(half)
        told += len(files.current(2.0).problems) > 0
        path.write_text(whole)
        assert files.current(3.0).problems == ()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert told == 40


def test_files_that_come_and_go_while_others_read_never_raise(files: RegistryFiles) -> None:
    stop, raised = Event(), list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                assert {"alpha", "beta"} <= set(_names(files.current(1.0)))
        except (AssertionError, OSError, KeyError, RuntimeError) as error:
            raised.append(error)

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        write(files.folder, "gamma").unlink()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert raised == []
    assert _names(files.current(2.0)) == ["alpha", "beta"]


# Advice looks at files less often.

REST = 1e9
"""Once all files were looked at, `recent` does not look again by itself."""


@pytest.fixture
def resting(files: RegistryFiles) -> RegistryFiles:
    """All files were looked at, long enough after they were written."""
    resting = RegistryFiles(files.folder, look_share=REST)
    wait_until(lambda: time.time_ns() - files.folder.stat().st_mtime_ns > RACY_NS)
    resting.current(1.0)
    assert resting.recent(2.0) is resting.current(2.0)
    return resting


@pytest.mark.parametrize("what", ["came", "went", "replaced"])
def test_a_recent_registry_has_what_came_went_or_was_replaced(resting: RegistryFiles, what: str) -> None:
    if what == "came":
        write(resting.folder, "gamma")
    elif what == "went":
        (resting.folder / "alpha.yaml").unlink()
    else:
        _replace(resting.folder / "alpha.yaml", good("delta"))
    expected = {"came": ["alpha", "beta", "gamma"], "went": ["beta"], "replaced": ["beta", "delta"]}
    assert _names(resting.recent(2.0)) == expected[what]


def test_what_is_written_in_place_may_be_seen_late_by_recent_and_never_by_current(
    resting: RegistryFiles,
) -> None:
    _write_in_place(resting.folder / "alpha.yaml")
    assert "note" not in resting.recent(2.0).machines[0].declared
    assert "note" in resting.current(3.0).machines[0].declared
    assert "note" in resting.recent(4.0).machines[0].declared


def test_recent_looks_at_every_file_when_it_has_rested(files: RegistryFiles) -> None:
    busy = RegistryFiles(files.folder, look_share=0)
    busy.current(1.0)
    _write_in_place(files.folder / "alpha.yaml")
    assert "note" in busy.recent(2.0).machines[0].declared


def test_while_a_file_may_still_change_recent_is_current(files: RegistryFiles) -> None:
    just_written = RegistryFiles(files.folder, look_share=REST)
    just_written.current(1.0)
    _write_in_place(files.folder / "alpha.yaml")
    assert "note" in just_written.recent(2.0).machines[0].declared


def _write_in_place(path: Path) -> None:
    with path.open("a") as file:
        file.write("note: new\n")
