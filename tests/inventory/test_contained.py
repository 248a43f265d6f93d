"""A fault of one file, or of its link's target, affects only that file."""

import logging
import os
import time
from pathlib import Path

import pytest

from machines_server.inventory.folder import SETTLE_S
from machines_server.inventory.machine_file import Parsed, parse_declared, parse_machine
from tests.audit import audited
from tests.fakes import wait_until
from tests.inventory.texts import OpenFiles, good, names, write
from tests.running import RunningServer, command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two good machine files."""
    folder = tmp_path / "machines"
    folder.mkdir()
    for name in ("alpha", "omega"):
        write(folder, name)
    return folder


@pytest.mark.parametrize(
    "target", ["/proc/kmsg", "/proc/self/environ", "/proc/self/mem", "/etc/passwd", "../outside.yaml"]
)
def test_a_link_that_leaves_the_folder_is_refused(folder: Path, target: str, open_files: OpenFiles) -> None:
    write(folder.parent, "outside")
    (folder / "link.yaml").symlink_to(target)
    files = open_files(folder)
    registry = files.current(1.0)
    assert names(registry) == ["alpha", "omega"]
    (problem,) = registry.problems
    assert (problem.file, problem.severity) == ("link.yaml", "error")
    assert "it is a link that leaves the folder" in problem.message
    assert files.current(2.0) is registry


def test_a_file_that_becomes_a_link_out_of_the_folder_keeps_its_last_good_version(
    folder: Path, open_files: OpenFiles
) -> None:
    files = open_files(folder)
    before = files.current(1.0)
    (folder / "alpha.yaml").rename(folder.parent / "alpha.yaml")
    (folder / "alpha.yaml").symlink_to("../alpha.yaml")
    after = files.current(2.0)
    assert after.machines == before.machines
    assert [problem.file for problem in after.problems] == ["alpha.yaml"]
    (folder / "alpha.yaml").unlink()
    (folder.parent / "alpha.yaml").rename(folder / "alpha.yaml")
    assert files.current(3.0).problems == ()


def test_a_link_through_a_link_out_of_the_folder_is_refused(folder: Path, open_files: OpenFiles) -> None:
    (folder.parent / "far").mkdir()
    write(folder.parent / "far", "gamma")
    (folder / "near").symlink_to("../far")
    (folder / "gamma.yaml").symlink_to("near/gamma.yaml")
    (problem,) = open_files(folder).current(1.0).problems
    assert "leaves the folder" in problem.message


def test_a_folder_beside_that_begins_with_the_same_name_is_outside(
    folder: Path, open_files: OpenFiles
) -> None:
    beside = folder.with_name("machines-old")
    beside.mkdir()
    write(beside, "gamma")
    (folder / "gamma.yaml").symlink_to(beside / "gamma.yaml")
    (problem,) = open_files(folder).current(1.0).problems
    assert "leaves the folder" in problem.message


def test_the_links_of_a_config_map_are_followed_and_changed_all_at_once(
    tmp_path: Path, open_files: OpenFiles
) -> None:
    for version, more in (("..1", "site: old\n"), ("..2", "site: new\n")):
        (tmp_path / version).mkdir()
        for name in ("alpha", "omega"):
            write(tmp_path / version, name, more=more)
    (tmp_path / "..data").symlink_to("..1")
    for name in ("alpha", "omega"):
        (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    files = open_files(tmp_path)
    assert [machine.declared["site"] for machine in files.current(1.0)] == ["old", "old"]
    (tmp_path / "..data.new").symlink_to("..2")
    (tmp_path / "..data.new").rename(tmp_path / "..data")
    registry = files.current(2.0)
    assert [machine.declared["site"] for machine in registry] == ["new", "new"]
    assert registry.problems == ()


def test_the_folder_itself_may_be_a_link(folder: Path, open_files: OpenFiles) -> None:
    (folder.parent / "link").symlink_to(folder)
    (folder / "gamma.txt").write_text(good("gamma"))
    (folder / "gamma.yaml").symlink_to(folder / "gamma.txt")
    assert names(open_files(folder.parent / "link").current(1.0)) == ["alpha", "gamma", "omega"]


def test_links_that_are_refused_are_not_looked_up_again_while_nothing_changes(
    folder: Path, open_files: OpenFiles
) -> None:
    write(folder.parent, "outside")
    (folder / "link.yaml").symlink_to("../outside.yaml")
    files = open_files(folder)
    wait_until(lambda: time.time_ns() - folder.stat().st_mtime_ns > SETTLE_S * 1e9)
    registry = files.current(1.0)
    with audited("open") as opened:
        assert files.current(2.0) is registry
    assert str(folder / "link.yaml") not in opened


@pytest.mark.parametrize(
    "error", [TypeError("None"), ValueError("x" * 9000), MemoryError(), RecursionError()]
)
def test_whatever_a_reader_raises_is_a_problem_of_that_file_and_told_once(
    folder: Path, error: Exception, caplog: pytest.LogCaptureFixture, open_files: OpenFiles
) -> None:
    def parse(content: bytes, file: str) -> Parsed:
        if b"nasty" in content:
            raise error
        return parse_machine(content, file)

    files = open_files(folder, parse=parse)
    before = files.current(1.0)
    write(folder, "alpha", more="nasty: 1\n")
    write(folder, "gamma")
    registry = files.current(2.0)
    assert names(registry) == ["alpha", "gamma", "omega"]
    assert registry.get("alpha") is before.get("alpha")
    (problem,) = registry.problems
    assert (problem.file, problem.severity) == ("alpha.yaml", "error")
    assert type(error).__name__ in problem.message
    assert len(problem.message) < 500
    assert files.current(3.0) is registry
    assert [one.exc_info is not None for one in caplog.records if one.levelno == logging.ERROR] == [True]
    write(folder, "alpha")
    assert files.current(4.0).problems == ()


def test_content_that_no_reader_foresaw_is_a_problem_of_that_file() -> None:
    content: bytes = None  # type: ignore[assignment]  # what reading /proc/kmsg without waiting once gave
    parsed = parse_machine(content, "box.yaml")
    assert parsed.machine is None
    assert "TypeError" in parsed.problems[0].message


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name": 1e999}', "\x00", '{"a": ' * 5000])
def test_what_a_store_kept_may_be_anything(text: str) -> None:
    assert parse_declared(text, "box.yaml").machine is None


def test_a_store_that_fails_in_an_unforeseen_way_costs_no_file(
    folder: Path, caplog: pytest.LogCaptureFixture, open_files: OpenFiles
) -> None:
    def recall(_: str | None) -> dict[str, str]:
        return {"text": b"\xff".decode()}

    (folder / "broken.yaml").write_text("name: [")
    files = open_files(folder, recall=recall)
    for now in (1.0, 2.0):
        assert names(files.current(now)) == ["alpha", "omega"]
    assert len(caplog.records) == 1
    assert names(open_files(folder / "none", recall=recall).current(1.0)) == []


def test_a_server_beside_a_link_to_the_kernels_log_answers_and_says_so(server: RunningServer) -> None:
    server.write("alpha.yaml", good("alpha").replace("alpha.lan", "127.0.0.1"))
    (server.machines / "kmsg.yaml").symlink_to("/proc/kmsg")
    body = server.get("/api/machines").json()
    assert [machine["name"] for machine in body["machines"]] == ["alpha"]
    assert [problem["file"] for problem in body["errors"]] == ["kmsg.yaml"]
    for path in ("/api/infrastructure", "/api/machines/alpha", "/api/machines/alpha/file", "/health"):
        assert server.get(path).ok
    wait_until(lambda: "machine file kmsg.yaml" in server.log.read_text())
    for words in (["validate", str(server.machines)], ["doctor"]):
        done = command(*words, **server.settings)
        assert done.returncode == 1
        assert "kmsg.yaml: the file cannot be read (it is a link that leaves the folder" in done.stdout
        assert "Traceback" not in done.stderr


def test_many_broken_files_cost_the_store_one_question_and_are_not_read_again(
    folder: Path, open_files: OpenFiles
) -> None:
    asked: list[str | None] = []

    def recall(file: str | None) -> dict[str, str]:
        asked.append(file)
        return {}

    for number in range(100):
        (folder / f"m{number:03}.yaml").write_text(f"name: m{number}\nrole: [\n")
        os.utime(folder / f"m{number:03}.yaml", (1, 1))
    files = open_files(folder, recall=recall, recall_first=True)
    first = files.current(1.0)
    assert len(first.problems) == 100
    for _ in range(3):
        asked.clear()
        assert files.current(2.0) is first
        assert asked == [None]
