"""A separate disk for tests."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.tools import tool

BLOCK = 4096
"""Of the disk."""


class Disk:
    """A small file system of our own, which can be filled and made read-only."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, path / "var"

    def fill(self, room: int = 0) -> None:
        """Leave no block free, or `room` bytes."""
        with (self.path / "ballast").open("ab", buffering=0) as ballast:
            with suppress(OSError):
                while True:
                    ballast.write(b"x" * BLOCK)
            ballast.truncate(ballast.tell() - room)

    def free(self) -> None:
        """Take away what filled it."""
        (self.path / "ballast").unlink()

    def set_read_only(self, *, is_so: bool) -> None:
        """Refuse all writing, or allow it again."""
        os.sync()
        subprocess.run(["mount", "-o", f"remount,{'ro' if is_so else 'rw'}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        [tool("mount"), "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
