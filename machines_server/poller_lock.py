"""Who polls: the process that holds the lock on `poller.lock`, which the kernel frees when it dies.

The file's content says what that process could not do, since a database that cannot be written cannot say so.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

_MAX_FAULT = 500
_SIZE = 16384
"""Room for two faults even if JSON needs twelve bytes for every character, and for that of the clock."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that polls, since when (epoch seconds), and what is wrong: `poll`, `store`, `clock`.

    `folder` is that of its machine files, None when it has not said.
    """

    pid: int
    since: float
    faults: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None


class PollerLock:
    """Held by one process at a time."""

    def __init__(self, path: Path, folder: Path | None = None) -> None:
        """`folder` is the folder of machine files that the holder polls."""
        self._path, self._folder = path, folder and os.path.realpath(folder)
        self._fd: int | None = None
        self._since = 0.0

    def acquire(self) -> bool:
        """Take the lock if nobody has it; raises OSError when the file cannot be made."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd, self._since = fd, time.time()
        if not self.is_held():  # the file was deleted between the two, and others lock another one
            self.release()
            return False
        self.note({})
        return True

    def other_folder(self) -> str | None:
        """The folder whose machines the process polls that has the lock, if it is not ours."""
        found = holder(self._path)
        return found.folder if found and self._folder and found.folder != self._folder else None

    def is_held(self) -> bool:
        """Whether ours is still the file that others lock; a deleted one says nothing to them."""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def note(self, faults: Mapping[str, str]) -> None:
        """Say what is wrong, by the part that is concerned; empty when all is well."""
        if self._fd is None:
            return
        faults = {part: fault[:_MAX_FAULT] for part, fault in faults.items()}
        said = {"pid": os.getpid(), "since": self._since, "folder": self._folder, "faults": faults}
        text = json.dumps(said).encode()
        try:  # written over in place: on most full disks a file keeps the blocks that it has
            os.pwrite(self._fd, text.ljust(_SIZE), 0)
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error)

    def release(self) -> None:
        """Let another process poll."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def holder(path: Path) -> Holder | None:
    """The process that polls, or None when none does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(fd)
    finally:
        os.close(fd)
    return None


def _read(fd: int) -> Holder:
    try:
        said = json.loads(os.pread(fd, _SIZE, 0))
        return Holder(said["pid"], said["since"], said["faults"], said.get("folder"))
    except (ValueError, TypeError, KeyError):  # it has the lock and has not yet written
        return Holder(pid=0, since=time.time())
