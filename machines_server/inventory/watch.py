"""Asks the kernel whether a folder has changed: two system calls instead of one per file.

A system call costs more than its own time, since it lets other threads of the process run first.
"""

import ctypes
import os
import select
from collections.abc import Set
from pathlib import Path

_CHANGES = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
"""inotify(7): MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF."""
LOCAL_FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs", "overlay"})
"""File systems that only this machine writes to, so that the kernel sees every change."""


class FolderWatch:
    """Watches one folder with inotify; for one thread at a time.

    Where inotify cannot be relied on, `is_quiet` is always false.
    """

    def __init__(self, folder: Path, reliable: Set[str] = LOCAL_FILE_SYSTEMS) -> None:
        self._folder, self._reliable = folder, reliable
        self._fd = -1
        self._watched: tuple[int, int] | None = None

    def __del__(self) -> None:
        """Release the inotify instance if `stop` was not called; a user often has only 128."""
        self.stop()

    def begin(self) -> bool:
        """Watch from now on. Call this before listing the folder, so that no change is missed in between.

        Returns whether it is certain that nothing has changed since it was last called.
        """
        folder, is_quiet = _identity(self._folder), True
        if folder is None or folder != self._watched or self._fd < 0:
            is_quiet = False
            self.stop()
            if folder is not None and _file_systems(folder[0]) <= self._reliable:
                self._open(folder)
        while self._fd >= 0 and self._has_event():
            is_quiet = False  # changes until now will be seen by the listing
        return is_quiet

    def seems_quiet(self) -> bool:
        """Return whether the kernel has reported nothing that nobody has read; for any thread."""
        fd = self._fd
        if fd < 0:
            return False
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not poll.poll(0) and _identity(self._folder) == self._watched

    def stop(self) -> None:
        """Stop watching; `is_quiet` is false until `begin`."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._watched = -1, None

    def is_quiet(self) -> bool:
        """Return whether it is certain that nothing in the folder has changed since `begin`."""
        return self._fd >= 0 and not self._has_event() and _identity(self._folder) == self._watched

    def _open(self, folder: tuple[int, int]) -> None:
        libc = ctypes.CDLL(None)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:  # no instance left, or no such system call
            return
        if libc.inotify_add_watch(fd, os.fsencode(self._folder), _CHANGES) < 0:
            os.close(fd)
            return
        self._fd, self._watched = fd, folder

    def _has_event(self) -> bool:
        """Return whether there were events; discards them."""
        try:
            return bool(os.read(self._fd, 65536))
        except BlockingIOError:
            return False
        except OSError:
            return True


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        s = folder.stat()
    except OSError:
        return None
    return s.st_dev, s.st_ino


def _file_systems(device: int) -> Set[str]:
    """The types of the file systems on a device; `unknown` if there are none."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        mounts = []
    types = {line.partition(" - ")[2].split(" ")[0] for line in mounts if line.split(" ")[2] == number}
    return types or {"unknown"}
