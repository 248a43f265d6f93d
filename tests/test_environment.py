"""Environments that `make` makes: complete, with the requested Python, and of this checkout."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import wait_until

SCRIPT = Path(__file__).parent.parent / "tools" / "environment.sh"
UNABLE = 'case "$*" in *ensurepip*) exit 1;; esac'


class Environment:
    """What `make` does for one folder."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder, self.python = folder, python

    def make(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(SCRIPT), "make", self.folder.name],
            cwd=self.folder.parent,
            env=os.environ | {"PYTHON": self.python},
            capture_output=True,
            text=True,
            check=False,
        )

    def is_fit(self) -> bool:
        """Whether it would stay: it is shown to the same Python as one that cannot make any."""
        python = stub(self.folder.with_name("unable"), UNABLE, python=self.python)
        return Environment(self.folder, python).make().returncode == 0

    def has_pip(self) -> bool:
        """Whether its pip runs, in it."""
        words = [str(self.folder / "bin" / "pip"), "--version"]
        return str(self.folder) in subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def mark(self) -> Path:
        """A file that is gone once the environment is made anew."""
        mark = self.folder / "mark"
        mark.touch()
        return mark


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """One that is made; tests leave it fit."""
    environment = Environment(tmp_path_factory.mktemp("checkout with a space") / ".venv")
    assert environment.make().returncode == 0
    return environment


def stub(path: Path, *lines: str, python: str = sys.executable) -> str:
    """A program that does these lines before it becomes Python."""
    path.write_text("\n".join(["#!/bin/sh", *lines, f'exec "{python}" "$@"\n']))
    path.chmod(0o755)
    return str(path)


def write_end(pipe: Path) -> int | None:
    """A descriptor that writes to a named pipe, or None while nobody has opened it to read."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def interrupted(process: subprocess.Popen[bytes]) -> bool:
    """Interrupt a process and its children; returns whether it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    return process.poll() is not None


def another_python(folder: Path) -> str:
    """The same Python at another place, as after an upgrade."""
    folder.mkdir()
    copy = folder / "python3"
    shutil.copy(os.path.realpath(sys.executable), copy)
    return str(copy)


def test_one_that_fits_stays_also_for_the_python_that_is_in_it(made: Environment) -> None:
    mark = made.mark()
    for python in (made.python, str(made.folder / "bin" / "python")):
        done = Environment(made.folder, python).make()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mark.exists()


def test_half_of_one_is_made_anew(tmp_path: Path) -> None:
    environment = Environment(tmp_path / ".venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.folder], check=True)
    mark = environment.mark()
    done = environment.make()
    assert done.returncode == 0, done.stderr
    assert "creating it again" in done.stderr
    assert not mark.exists()
    assert environment.has_pip()


def test_one_whose_making_failed_is_not_fit(tmp_path: Path) -> None:
    environment = Environment(tmp_path / ".venv")
    environment.python = stub(
        tmp_path / "python3",
        f'[ "$1 $2" = "-m venv" ] && "{sys.executable}" -m venv --without-pip "$3" && exit 1',
    )
    assert "cannot be created" in environment.make().stderr
    environment.python = sys.executable
    assert (environment.folder / "bin" / "python").exists()
    assert not environment.is_fit()


def test_without_ensurepip_nothing_is_made_and_the_package_is_named(tmp_path: Path) -> None:
    python = stub(tmp_path / "python3", UNABLE)
    done = Environment(tmp_path / ".venv", python).make()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in line
    assert not (tmp_path / ".venv").exists()


def test_one_that_was_copied_or_moved_with_its_checkout_is_not_fit_where_it_is_now(made: Environment) -> None:
    checkout = made.folder.parent
    copied, moved = checkout.with_name("copied"), checkout.with_name("moved")
    shutil.copytree(checkout, copied, symlinks=True)
    assert not Environment(copied / ".venv").is_fit()
    checkout.rename(moved)
    try:
        assert not Environment(moved / ".venv").is_fit()
    finally:
        moved.rename(checkout)
    assert made.is_fit()


def test_one_that_another_python_made_or_whose_python_is_gone_is_made_anew(tmp_path: Path) -> None:
    other = another_python(tmp_path / "other")
    environment = Environment(tmp_path / ".venv", other)
    assert environment.make().returncode == 0
    assert environment.is_fit()
    environment.python = sys.executable
    assert not environment.is_fit()
    Path(other).unlink()
    mark = environment.mark()
    assert environment.make().returncode == 0
    assert not mark.exists()
    assert environment.has_pip()


def test_one_in_which_a_python_of_another_version_runs_now_is_not_fit(made: Environment) -> None:
    python = made.folder / "bin" / "python"
    inside = python.readlink()
    python.unlink()
    try:
        stub(python, "echo /usr/bin/python3.99 cpython-399-x86_64-linux-gnu; exit")
        assert not made.is_fit()
    finally:
        python.unlink()
        python.symlink_to(inside)
    assert made.is_fit()


@pytest.mark.parametrize("version", [(3, 10, 99), (2, 7, 18)])
def test_an_old_python_gets_one_line_before_anything_is_made(
    tmp_path: Path, version: tuple[int, int, int]
) -> None:
    program = f"import sys; sys.version_info = {version}; exec(sys.argv.pop(1))"
    python = stub(
        tmp_path / "python3", f'[ "$1" = -c ] && shift && exec "{sys.executable}" -c "{program}" "$@"'
    )
    done = Environment(tmp_path / ".venv", python).make()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Python 3.11 or later is needed" in line
    assert ".".join(map(str, version)) in line
    assert not (tmp_path / ".venv").exists()


def test_no_python_at_all_gets_one_line(tmp_path: Path) -> None:
    done = Environment(tmp_path / ".venv", "python3.none").make()
    (line,) = done.stderr.splitlines()
    assert "python3.none cannot be run" in line
    assert not (tmp_path / ".venv").exists()


def test_an_installation_that_was_cut_off_makes_it_unfit_and_one_that_failed_does_not(
    made: Environment, tmp_path: Path
) -> None:
    words = ["sh", str(SCRIPT), "install", str(made.folder), "--no-index"]
    assert subprocess.run([*words, "nowhere"], capture_output=True, check=False).returncode == 1
    assert made.is_fit()
    pipe = tmp_path / "requirements.txt"
    os.mkfifo(pipe)  # pip waits for somebody to write
    with subprocess.Popen([*words, "--requirement", str(pipe)], start_new_session=True) as process:
        # Until pip runs, the shell keeps a signal until pip has ended.
        written = wait_until(lambda: write_end(pipe))
        # A signal that comes just before pip begins to read would be seen only after it has read something.
        wait_until(lambda: interrupted(process))
    assert written is not None
    os.close(written)
    assert not made.is_fit()
    (made.folder / ".installing").unlink()
