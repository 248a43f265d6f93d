"""Folder entries that are not plain files, or have odd names."""

import os
from pathlib import Path

from machines_server.inventory.folder import RegistryFiles
from tests.inventory.texts import OpenFiles, good, names, write


def test_only_yaml_files_of_the_folder_itself_are_read(files: RegistryFiles) -> None:
    for name in (".hidden.yaml", "_draft.yaml", "notes.txt", "gamma.yaml~", "gamma.yaml.bak", ".#beta.yaml"):
        (files.folder / name).write_text(good("gamma"))
    (files.folder / "sub.yaml").mkdir()
    write(files.folder / "sub.yaml", "gamma")
    (files.folder / "delta.yml").write_text(good("delta"))
    registry = files.current(1.0)
    assert names(registry) == ["alpha", "beta", "delta"]
    assert registry.problems == ()


def test_of_two_files_with_one_name_the_first_is_taken_and_the_second_told(files: RegistryFiles) -> None:
    (files.folder / "zeta.yaml").write_text("# copied\n" + good("Alpha", more="site: attic\n"))
    registry = files.current(1.0)
    assert names(registry) == ["alpha", "beta"]
    (problem,) = registry.problems
    assert (problem.file, problem.line, problem.column, problem.key) == ("zeta.yaml", 2, 1, "name")
    assert "alpha.yaml" in problem.message
    assert "zeta.yaml" in problem.message
    assert files.current(2.0) is registry
    (files.folder / "alpha.yaml").unlink()
    after = files.current(3.0)
    assert names(after) == ["Alpha", "beta"]
    assert after.machines[0].declared["site"] == "attic"
    assert after.problems == ()


def test_a_folder_that_never_was_gives_no_machines_and_says_why(
    tmp_path: Path, open_files: OpenFiles
) -> None:
    files = open_files(tmp_path / "none")
    assert len(files.current(1.0)) == 0
    assert "No such file" in files.current(1.0).problems[0].message
    (tmp_path / "none").mkdir()
    write(tmp_path / "none", "alpha")
    assert names(files.current(2.0)) == ["alpha"]


def test_a_fifo_or_a_device_is_told_and_never_waited_for(files: RegistryFiles) -> None:
    os.mkfifo(files.folder / "fifo.yaml")
    (files.folder / "zero.yaml").symlink_to("/dev/zero")
    registry = files.current(1.0)
    assert names(registry) == ["alpha", "beta"]
    assert [problem.file for problem in registry.problems] == ["fifo.yaml", "zero.yaml"]
    assert all("not a regular file" in problem.message for problem in registry.problems)
    assert files.current(2.0) is registry


def test_a_link_to_another_place_in_the_folder_is_followed_and_a_broken_one_keeps_the_last_good_version(
    files: RegistryFiles,
) -> None:
    (files.folder / "below").mkdir()
    target = write(files.folder / "below", "gamma")
    (files.folder / "gamma.yaml").symlink_to(target)
    (files.folder / "loop.yaml").symlink_to("loop.yaml")
    before = files.current(1.0)
    assert names(before) == ["alpha", "beta", "gamma"]
    assert [problem.file for problem in before.problems] == ["loop.yaml"]
    target.unlink()
    after = files.current(2.0)
    assert after.machines == before.machines
    assert [problem.file for problem in after.problems] == ["gamma.yaml", "loop.yaml"]
    assert files.current(3.0) is after
    target.write_text(good("gamma"))
    assert [problem.file for problem in files.current(4.0).problems] == ["loop.yaml"]


def test_a_file_name_that_would_disturb_a_terminal_or_the_log_is_shown_with_escapes(
    files: RegistryFiles,
) -> None:
    (files.folder / "a\n2026 ERROR forged\x1b[31m.yaml").write_text("x")
    (problem,) = files.current(0.0).problems
    assert problem.file == "a\\x0a2026 ERROR forged\\x1b[31m.yaml"
    assert str(problem).isprintable()


def test_a_file_name_that_is_not_utf_8_is_shown_with_escapes(files: RegistryFiles) -> None:
    path = os.fsencode(files.folder) + b"/caf\xe9.yaml"
    with open(path, "w") as file:  # noqa: PTH123  a Path must be text
        file.write(good("cafe"))
    assert files.current(1.0).machines[2].file == "caf\\xe9.yaml"
