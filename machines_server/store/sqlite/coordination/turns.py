"""Turns among processes, by a lock on a file: first come, first served, with a time-out."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from machines_server.errors import LockedError, StoreError, UnsupportedError
from machines_server.store.sqlite.file_lock import try_lock, wait_for_lock
from machines_server.store.sqlite.own_files import make_file


class FileTurns:
    """One process's turns; for use by one thread at a time.

    The kernel keeps the order but has no time-out, so a separate thread waits for the lock. A wait that its
    caller has given up continues, and the next caller takes it over, and with it the place in the queue.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waits: SimpleQueue[_Wait] | None = None
        self._given_up: _Wait | None = None

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock; raises LockedError after waiting `timeout_s`, or another StoreError."""
        try:
            make_file(self._path)
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{self._path} cannot be opened for writing: {error}") from error
        try:
            is_ours = try_lock(fd, self._path)
        except UnsupportedError:
            os.close(fd)
            raise
        if not is_ours:
            fd = self._wait(fd, timeout_s)
        try:
            yield
        finally:
            os.close(fd)

    def _wait(self, fd: int, timeout_s: float) -> int:
        """The descriptor that holds the lock: `fd`, or that of an earlier wait."""
        wait, self._given_up = self._given_up, None
        if wait is not None and not wait.is_of_same_file(fd):
            self._waits, wait = None, None  # the file was replaced, so its thread waits in vain
        if wait is not None and wait.want_again():
            os.close(fd)
        else:
            wait = _Wait(fd, self._path)
            if self._waits is None:
                self._waits = SimpleQueue()
                threading.Thread(target=_get_locks, args=[self._waits], name="turns", daemon=True).start()
            self._waits.put(wait)
        if not wait.ends_within(timeout_s):
            self._given_up = wait
            raise LockedError(f"{self._path.name}: another program has it locked")
        if wait.fault:
            os.close(wait.fd)
            raise wait.fault
        return wait.fd


class _Wait:
    """A wait for the lock in the kernel, whether or not a caller still wants it."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd, self._path = fd, path
        self.fault: UnsupportedError | None = None
        self._file = os.fstat(fd)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._is_wanted, self._is_closed = True, False

    def is_of_same_file(self, fd: int) -> bool:
        return os.path.samestat(self._file, os.fstat(fd))

    def want_again(self) -> bool:
        """Resume a given-up wait; False if it has ended and closed the file."""
        with self._lock:
            self._is_wanted = not self._is_closed
            return self._is_wanted

    def ends_within(self, timeout_s: float) -> bool:
        """Return whether the wait ends within that time; if not, the caller gives it up."""
        self._ended.wait(timeout_s)
        with self._lock:
            self._is_wanted = self._ended.is_set()
            return self._is_wanted

    def get_lock(self) -> None:
        """Wait for the lock, however long that takes."""
        try:
            wait_for_lock(self.fd, self._path)
        except UnsupportedError as error:
            self.fault = error
        with self._lock:
            if self._is_wanted:
                self._ended.set()
            else:
                self._is_closed = True
                os.close(self.fd)


def _get_locks(waits: SimpleQueue[_Wait]) -> None:
    while True:
        waits.get().get_lock()
