"""A wall clock that a test can set, for our own processes."""

import struct
from pathlib import Path

from tests.tools import build_library


class Clock:
    """The wall clock of a process that runs with `environment`."""

    def __init__(self, folder: Path) -> None:
        library, self._offset = folder / "clock.so", folder / "offset"
        source = Path(__file__).with_name("clock.c")
        build_library(source, library)
        self._offset.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def set(self, by_s: int) -> None:
        """Let it be ahead of ours by so much from now on."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("=q", by_s))
