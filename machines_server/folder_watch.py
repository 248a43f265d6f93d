"""Whether a folder has certainly not changed, asked of the kernel: one call instead of one for each file.

Those calls cost more than their time: each gives way to the other threads, and waits for them to come back.
"""

import ctypes
import os
from pathlib import Path

_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_EVENTS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
"""inotify(7): MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF."""
_TELLING = frozenset({"ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs", "overlay"})
"""File systems that only this machine writes to, so that the kernel sees every change."""


class FolderWatch:
    """Watches one folder; used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        self._there: tuple[int, int] | None = None

    def begin(self) -> None:
        """Watch from now on; before the folder is looked at, so that no change falls in between."""
        there = _identity(self._folder)
        if there is None or there != self._there or self._fd < 0:
            self.stop()
            if there is not None and _tells(there[0]):
                self._open(there)
        while self._fd >= 0 and self._read():
            pass  # what happened before now will be seen by the look

    def stop(self) -> None:
        """Be sure of nothing any more."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._there = -1, None

    def is_quiet(self) -> bool:
        """Whether it is certain that nothing in the folder has changed since `begin`."""
        return self._fd >= 0 and not self._read() and _identity(self._folder) == self._there

    def _open(self, there: tuple[int, int]) -> None:
        libc = ctypes.CDLL(None)
        fd = libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        if fd < 0:  # there may be too many, or no such system call
            return
        if libc.inotify_add_watch(fd, os.fsencode(self._folder), _EVENTS) < 0:
            os.close(fd)
            return
        self._fd, self._there = fd, there

    def _read(self) -> bool:
        """Whether something happened since the last time."""
        try:
            return bool(os.read(self._fd, 65536))
        except BlockingIOError:
            return False
        except OSError:
            return True


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _tells(device: int) -> bool:
    """Whether the kernel sees every change on this device."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    kinds = {line.partition(" - ")[2].split(" ")[0] for line in mounts if line.split(" ")[2] == number}
    return bool(kinds) and kinds <= _TELLING
