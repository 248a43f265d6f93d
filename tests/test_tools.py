"""Tests whose program is missing are skipped and reported, and one command installs what they need."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import clean_environment
from tests.tools import ALL_TOOLS, PACKAGES, tool

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tools" / "test_tools.sh"


def run_tests(path: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Exit status and output of tests that need openssl, with that PATH."""
    words = [sys.executable, "-m", "pytest", "tests/poll/test_fetch_certificates.py", *options]
    settings = clean_environment(PATH=str(path), **environment)
    done = subprocess.run(words, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("processes", ["0", "2"])
def test_where_a_program_is_missing_its_tests_are_left_out_and_the_last_lines_say_so(
    tmp_path: Path, processes: str
) -> None:
    status, output = run_tests(tmp_path, "-n", processes)
    assert status == 0
    *_, said, how = output.splitlines()
    assert re.fullmatch(r"\d+ tests were left out for want of openssl \(Debian: openssl\)", said)
    assert how == "`make test-tools` installs what they need"


def test_where_nothing_may_be_missing_such_a_test_fails(tmp_path: Path) -> None:
    status, output = run_tests(tmp_path, **{ALL_TOOLS: "1"})
    assert status == 1
    assert "needs the program openssl (Debian: openssl)" in output


def test_every_program_that_a_test_names_has_its_packages() -> None:
    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'\b(?:tool|left_out)\("([^"]+)"\)', text)}
    assert named | {"npm"} == set(PACKAGES)  # which `make javascript` calls


class BareSystem:
    """A PATH with hardly anything on it, and an apt-get that notes what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.log.touch()
        for program in ("sh", "dirname", "id", "env"):
            (folder / program).symlink_to(shutil.which(program) or program)
        for program in ("apt-get", "google-chrome", "python3", "sudo"):
            self.add(program, "exit 0")
        self.add("apt-get", f'echo "$*" >>"{self.log}"')
        self.add("sudo", 'exec "$@"')

    def add(self, program: str, line: str) -> None:
        (self.folder / program).write_text(f"#!/bin/sh\n{line}\n")
        (self.folder / program).chmod(0o755)

    def run(self, *words: str, **environment: str) -> list[str]:
        """Run a program to its end; what apt-get was told."""
        settings = clean_environment(PATH=str(self.folder), **environment)
        subprocess.run(words, cwd=ROOT, env=settings, check=True, stdout=subprocess.DEVNULL)
        return self.log.read_text().splitlines()


def test_what_is_missing_is_installed_from_fresh_lists_and_nothing_else(tmp_path: Path) -> None:
    system = BareSystem(tmp_path)
    system.add("openssl", "exit 0")
    system.add("python3", "exit 1")  # it has no ensurepip
    update, install = system.run("sh", str(SCRIPT))
    assert update.startswith("update")
    wanted = set(install.split())
    assert {"gcc", "libc6-dev", "prometheus", "python3-venv"} <= wanted
    assert "openssl" not in wanted


def test_where_nothing_is_missing_nothing_is_installed(tmp_path: Path) -> None:
    system = BareSystem(tmp_path)
    for program in PACKAGES:
        system.add(program, "exit 0")
    assert system.run("sh", str(SCRIPT)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="what it does as root, only root can see")
def test_make_test_installs_by_itself_only_in_ci(tmp_path: Path) -> None:
    system, make = BareSystem(tmp_path), tool("make")
    assert system.run(make, "tools-in-ci", CI="") == []
    assert system.run(make, "tools-in-ci", CI="true") != []
