"""Advice to load a model, which the answering processes share through a file.

Nothing depends on it: a line that is lost only makes two callers more likely to go to one machine.
"""

import logging
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import orjson

from machines_server.core.routing.advised import Advice
from machines_server.store.sqlite.own_files import make_file

MAX_FILE_BYTES = 2**16
"""A file that has grown larger is emptied."""

log = logging.getLogger(__name__)


class SharedAdvice:
    """A file with advice on each line: process, machine, model, time, seconds; implements AdviceBoard.

    It stays open: each system call may cost a thread that answers its turn.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._file: _OpenFile | None = None
        self._seen: tuple[int, int] = 0, 0
        """The inode and size of the file when it was last read."""
        self._read_bytes = 0

    def add(self, advice: Advice) -> None:
        """Tell the other processes; never raises."""
        line = orjson.dumps([os.getpid(), advice.machine, advice.model, advice.at, advice.loads_s]) + b"\n"
        try:
            with self._lock:
                status = self._status()
                if status is None:
                    make_file(self._path)
                    status = self._path.stat()
                fd = self._opened(status)
                if status.st_size > MAX_FILE_BYTES:
                    os.ftruncate(fd, 0)
                os.write(fd, line)
        except OSError as error:  # the advice is given anyway
            log.debug("%s: %s", self._path.name, error)

    def news(self) -> Sequence[Advice]:
        """What other processes have told since the last call; never raises."""
        status = self._status()
        if status is None:
            return ()
        with self._lock:
            return self._read_more(status) if (status.st_ino, status.st_size) != self._seen else ()

    def _status(self) -> os.stat_result | None:
        try:
            return os.stat(self._path)  # noqa: PTH116  called for every question, and twice as fast
        except OSError:
            return None

    def _opened(self, status: os.stat_result) -> int:
        """The descriptor of the file with that status; raises OSError."""
        if self._file is None or self._file.inode != status.st_ino:
            self._file = _OpenFile(self._path)
        return self._file.fd

    def _read_more(self, status: os.stat_result) -> Sequence[Advice]:
        inode, size_bytes = status.st_ino, status.st_size
        if inode != self._seen[0] or self._read_bytes > size_bytes:
            self._read_bytes = 0
        try:
            content = os.pread(self._opened(status), 2 * MAX_FILE_BYTES, self._read_bytes)
        except OSError as error:
            log.debug("%s: %s", self._path.name, error)
            return ()
        # A line that is still being written is read once it is complete.
        content = content[: content.rfind(b"\n") + 1]
        self._seen, self._read_bytes = (inode, size_bytes), self._read_bytes + len(content)
        return list(filter(None, map(_advice, content.splitlines())))


class _OpenFile:
    """An existing file, to be read and appended to; closed when nothing refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.fd)
        self.inode = os.fstat(self.fd).st_ino


def _advice(line: bytes) -> Advice | None:
    """The advice on a line; None if this process gave it, or if the line is damaged."""
    try:
        pid, machine, model, at, loads_s = orjson.loads(line)
        return None if pid == os.getpid() else Advice(str(machine), str(model), float(at), float(loads_s))
    except (ValueError, TypeError):
        return None
