"""The kernel tells when a folder is quiet; where it would not report a change, the files are checked."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.watch import FolderWatch
from tests.audit import audited
from tests.inventory.texts import OpenFiles, good, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two machines."""
    folder = tmp_path / "machines"
    folder.mkdir()
    for name in ("alpha", "beta"):
        write(folder, name)
    return folder


@pytest.fixture
def files(folder: Path, open_files: OpenFiles) -> RegistryFiles:
    """They are known, and no file counts as changed just now."""
    files = open_files(folder, settle_s=0.0)
    files.current(1.0)
    return files


@pytest.fixture
def _inotify() -> None:
    """The kernel gives this user another inotify instance."""
    fd = ctypes.CDLL(None).inotify_init1(0)
    if fd < 0:
        pytest.skip("this user has as many inotify instances as allowed")
    os.close(fd)


@contextmanager
def watching(folder: Path, reliable: frozenset[str] | None = None) -> Iterator[FolderWatch]:
    """A watch that has begun."""
    watch = FolderWatch(folder) if reliable is None else FolderWatch(folder, reliable)
    watch.begin()
    try:
        yield watch
    finally:
        watch.stop()


@pytest.mark.usefixtures("_inotify")
def test_a_quiet_folder_is_not_listed_again(folder: Path, open_files: OpenFiles) -> None:
    files = open_files(folder, settle_s=0.0, list_every_s=1e9)
    registry = files.current(1.0)
    with audited("os.scandir") as listed:
        assert files.current(2.0) is registry
        assert files.current_nowait() is registry
    assert str(folder) not in listed


def test_a_quiet_folder_is_listed_again_when_it_is_time(folder: Path, open_files: OpenFiles) -> None:
    files = open_files(folder, settle_s=0.0, list_every_s=0.0)
    registry = files.current(1.0)
    with audited("os.scandir") as listed:
        assert files.current(2.0) is registry
    assert listed.count(str(folder)) == 1
    assert files.current_nowait() is None


@pytest.mark.usefixtures("_inotify")
def test_a_change_is_reported_and_nothing_is_listed_to_find_out(folder: Path, open_files: OpenFiles) -> None:
    files = open_files(folder, settle_s=0.0, list_every_s=0.0)
    registry = files.current(1.0)
    with audited("os.scandir") as listed:
        assert files.unless_reported() is registry
        write(folder, "gamma")
        assert files.unless_reported() is None
        assert files.unless_reported() is None
    assert str(folder) not in listed
    registry = files.current(2.0)
    assert files.unless_reported() is registry


@pytest.mark.usefixtures("_inotify")
def test_after_a_change_nothing_is_known_at_once_until_somebody_has_looked(files: RegistryFiles) -> None:
    write(files.folder, "gamma")
    assert files.current_nowait() is None
    assert files.current_nowait() is None
    registry = files.current(2.0)
    assert [machine.name for machine in registry] == ["alpha", "beta", "gamma"]
    assert files.current_nowait() is registry


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
    files.current(2.0)
    change(files.folder)
    alpha = files.current(3.0).get("alpha")
    assert alpha is not None
    assert alpha.declared["x"] == 1


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_that_has_a_name_elsewhere_may_change_there(
    files: RegistryFiles, link: Callable[[Path, Path], None]
) -> None:
    (files.folder / "below").mkdir()
    there = write(files.folder / "below", "gamma")
    link(there, files.folder / "gamma.yaml")
    files.current(2.0)
    files.current(3.0)
    there.write_text(good("gamma", more="x: 1\n"))
    gamma = files.current(4.0).get("gamma")
    assert gamma is not None
    assert gamma.declared["x"] == 1


@pytest.mark.usefixtures("_inotify")
def test_a_watch_tells_of_a_change(tmp_path: Path) -> None:
    with watching(tmp_path) as watch:
        assert watch.is_quiet()
        (tmp_path / "new").touch()
        assert not watch.is_quiet()


@pytest.mark.usefixtures("_inotify")
def test_any_thread_may_look_whether_a_change_has_been_reported(tmp_path: Path) -> None:
    with watching(tmp_path) as watch:
        assert watch.seems_quiet()
        (tmp_path / "new").touch()
        assert not watch.seems_quiet()
        assert not watch.seems_quiet()
        assert not watch.begin()
        assert watch.seems_quiet()
        assert watch.begin()
        tmp_path.rename(tmp_path.with_name("old"))
        assert not watch.seems_quiet()


@pytest.mark.usefixtures("_inotify")
def test_while_files_are_listed_again_nobody_waits_and_a_removed_one_is_gone(
    folder: Path, open_files: OpenFiles
) -> None:
    files, stop = open_files(folder, settle_s=0, list_every_s=0), threading.Event()

    def list_again() -> None:
        while not stop.is_set():
            files.current(1.0)

    listing = threading.Thread(target=list_again)
    listing.start()
    known = 0
    for number in range(200):
        path = write(folder, f"m{number}")
        registry = files.current(2.0)
        known += sum(files.unless_reported() is registry for _ in range(20))
        path.unlink()
        after = files.unless_reported()
        assert after is None or after.get(f"m{number}") is None
    stop.set()
    listing.join(60)
    assert known > 200


def test_where_the_kernel_does_not_see_every_change_nothing_is_certain(tmp_path: Path) -> None:
    assert not FolderWatch(tmp_path).is_quiet()
    with watching(tmp_path, frozenset({"nfs"})) as watch:
        assert not watch.is_quiet()
    with watching(tmp_path / "missing") as watch:
        assert not watch.is_quiet()
