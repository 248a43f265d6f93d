"""The kernel tells when a folder is quiet; where it would not tell of a change, the files are looked at."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from machines_server.folder_watch import FolderWatch
from machines_server.registry_files import RACY_NS, RegistryFiles
from tests.machine_files.texts import good, write


def _old(folder: Path) -> None:
    """Let the folder look as if nothing had changed lately."""
    long_ago_ns = time.time_ns() - 10 * RACY_NS
    for path in (*folder.iterdir(), folder):
        os.utime(path, ns=(long_ago_ns, long_ago_ns))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryFiles:
    """A folder that is known and quiet."""
    monkeypatch.setattr("machines_server.registry_files.RACY_NS", 0)
    folder = tmp_path / "machines"
    folder.mkdir()
    for name in ("alpha", "beta"):
        write(folder, name)
    _old(folder)
    return RegistryFiles(folder)


def _looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for every time that the folder is listed."""
    looks: list[None] = []
    scandir = os.scandir

    def count(path: Path) -> object:
        looks.append(None)
        return scandir(path)

    monkeypatch.setattr("machines_server.registry_files.os.scandir", count)
    return looks


def test_a_quiet_folder_is_not_looked_at_for_a_second(
    files: RegistryFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.current(1.0)
    looks = _looks(monkeypatch)
    registry = files.current(2.0)
    assert files.current(3.0) is registry
    assert looks == []
    monkeypatch.setattr("machines_server.registry_files._LOOK_S", 0.0)
    assert files.current(4.0) is registry
    assert len(looks) == 1


def _in_place(folder: Path) -> None:
    (folder / "alpha.yaml").write_text(good("alpha", more="x: 1\n"))


def _by_rename(folder: Path) -> None:
    new = folder / ".new"
    new.write_text(good("alpha", more="x: 1\n"))
    new.replace(folder / "alpha.yaml")


def _in_another_folder(folder: Path) -> None:
    other = folder.with_name("other")
    other.mkdir()
    write(other, "alpha", more="x: 1\n")
    folder.rename(folder.with_name("old"))
    other.rename(folder)


@pytest.mark.parametrize("change", [_in_place, _by_rename, _in_another_folder])
def test_the_next_call_sees_every_change(files: RegistryFiles, change: Callable[[Path], None]) -> None:
    files.current(1.0)
    files.current(2.0)
    change(files.folder)
    alpha = files.current(3.0).get("alpha")
    assert alpha is not None
    assert alpha.declared["x"] == 1


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_that_has_a_name_elsewhere_may_change_there(
    files: RegistryFiles, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    there = write(tmp_path, "gamma")
    link(there, files.folder / "gamma.yaml")
    files.current(1.0)
    files.current(2.0)
    there.write_text(good("gamma", more="x: 1\n"))
    gamma = files.current(3.0).get("gamma")
    assert gamma is not None
    assert gamma.declared["x"] == 1


def test_where_the_kernel_sees_not_every_change_nothing_is_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = FolderWatch(tmp_path)
    assert not watch.is_quiet()
    watch.begin()
    assert watch.is_quiet()
    (tmp_path / "new").touch()
    assert not watch.is_quiet()
    monkeypatch.setattr("machines_server.folder_watch._TELLING", frozenset({"nfs"}))
    watch.stop()
    watch.begin()
    assert not watch.is_quiet()
    missing = FolderWatch(tmp_path / "missing")
    missing.begin()
    assert not missing.is_quiet()
