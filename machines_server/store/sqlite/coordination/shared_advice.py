"""Advice to load a model, which the answering processes share through a file.

Nothing depends on it: a line that is lost only makes two callers more likely to go to one machine.
"""

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import orjson

from machines_server.core.routing.advised import Advice
from machines_server.store.sqlite.own_files import make_file

MAX_FILE_BYTES = 2**16
"""A file that has grown larger is emptied."""

log = logging.getLogger(__name__)


class SharedAdvice:
    """A file with advice on each line: process, machine, model, time, seconds; implements AdviceBoard."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._seen: tuple[int, int] = 0, 0
        """The inode and size of the file when it was last read."""
        self._read_bytes = 0

    def add(self, advice: Advice) -> None:
        """Tell the other processes; never raises."""
        line = orjson.dumps([os.getpid(), advice.machine, advice.model, advice.at, advice.loads_s]) + b"\n"
        try:
            make_file(self._path)
            with self._path.open("ab", buffering=0) as file:
                if file.tell() > MAX_FILE_BYTES:
                    file.truncate(0)
                file.write(line)
        except OSError as error:  # the advice is given anyway
            log.debug("%s: %s", self._path.name, error)

    def news(self) -> Sequence[Advice]:
        """What other processes have told since the last call; never raises."""
        try:
            status = os.stat(self._path)  # noqa: PTH116  called for every question, and twice as fast
        except OSError:
            return ()
        with self._lock:
            return self._read_more(status) if (status.st_ino, status.st_size) != self._seen else ()

    def _read_more(self, status: os.stat_result) -> Sequence[Advice]:
        inode, size_bytes = status.st_ino, status.st_size
        if inode != self._seen[0] or self._read_bytes > size_bytes:
            self._read_bytes = 0
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                content = file.read(2 * MAX_FILE_BYTES)
        except OSError as error:
            log.debug("%s: %s", self._path.name, error)
            return ()
        # A line that is still being written is read once it is complete.
        content = content[: content.rfind(b"\n") + 1]
        self._seen, self._read_bytes = (inode, size_bytes), self._read_bytes + len(content)
        return list(filter(None, map(_advice, content.splitlines())))


def _advice(line: bytes) -> Advice | None:
    """The advice on a line; None if this process gave it, or if the line is damaged."""
    try:
        pid, machine, model, at, loads_s = orjson.loads(line)
        return None if pid == os.getpid() else Advice(str(machine), str(model), float(at), float(loads_s))
    except (ValueError, TypeError):
        return None
