"""Programs that tests call: where to find them, how to install them, and skips if one is missing."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

ALL_TOOLS = "MACHINES_TEST_ALL_TOOLS"
"""Set to 1, a test whose program is missing fails."""
_SYSTEM_FOLDERS = ":/usr/local/sbin:/usr/sbin:/sbin"
"""Which are not on everybody's PATH."""
_REASON = re.compile(r"needs the program ([^)]*\))")


def _table() -> dict[str, str]:
    rows = Path(__file__).with_suffix(".txt").read_text().splitlines()
    return dict(row.split(maxsplit=1) for row in rows if not row.startswith("#"))


PACKAGES = _table()
"""Debian's packages, by the program that tests call."""


def tool(program: str) -> str:
    """The path of a program of `tools.txt`; the test that calls this is left out where it is missing."""
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + _SYSTEM_FOLDERS) or left_out(
        program
    )


def build_library(source: Path, library: Path, *flags: str) -> None:
    """Compile one file of C to be preloaded or loaded."""
    compiler = os.environ.get("CC") or tool("cc")
    words = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Werror",
        *flags,
        "-o",
        str(library),
        str(source),
        "-ldl",
    ]
    subprocess.run(words, check=True)


def left_out(program: str) -> NoReturn:
    """Leave the test out for want of a program of `tools.txt`, or have it fail where all must be there."""
    reason = f"needs the program {program} (Debian: {PACKAGES[program]})"
    if os.environ.get(ALL_TOOLS) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def summary(reasons: list[str]) -> list[str]:
    """What to say at the end of a run of the reasons for which tests were skipped."""
    missing = [found[1] for reason in reasons if (found := _REASON.search(reason))]
    if not missing:
        return []
    programs = ", ".join(sorted(set(missing)))
    return [
        f"{len(missing)} tests were left out for want of {programs}",
        "`make test-tools` installs what they need",
    ]
