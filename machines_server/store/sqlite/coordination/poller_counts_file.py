"""What the poller has counted, in a file that it writes after each cycle and every process reads.

The file is overwritten in place, which most file systems allow on a full disk, and never synced: after a
crash of the system the counts may begin again.
"""

import logging
import os
from pathlib import Path

import msgspec

from machines_server.core.poller_counts import CYCLE_BOUNDS_S, PollerCounts
from machines_server.store.sqlite.own_files import make_file

COUNTS_BYTES = 16384
"""The size of the file, larger than all codes of all kinds take."""

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(PollerCounts).decode


class PollerCountsFile:
    """The file; implements PollerCountsBoard."""

    def __init__(self, path: Path) -> None:
        self._path, self._has_failed = path, False

    def write(self, counts: PollerCounts) -> None:
        """Replace the counts; a failure is logged once."""
        try:
            make_file(self._path)
            fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, msgspec.json.encode(counts).ljust(COUNTS_BYTES), 0)
            finally:
                os.close(fd)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                log.error("%s cannot be written: %s", self._path, error.strerror)
            self._has_failed = True

    def read(self) -> PollerCounts | None:
        """The latest counts; None if there are none, or if they are damaged."""
        try:
            with self._path.open("rb") as file:
                counts = _decode(file.read(COUNTS_BYTES))
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return counts if len(counts.cycles) == len(CYCLE_BOUNDS_S) + 1 else None
