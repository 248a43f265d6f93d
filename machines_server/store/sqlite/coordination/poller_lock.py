"""The process that polls holds the lock on `poller.lock`, which the kernel releases when it dies.

The process writes its faults into the file, since a database that cannot be written cannot record them.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from machines_server.errors import UnsupportedError
from machines_server.store.sqlite.coordination.lock_owners import (
    EXCLUSIVE,
    SHARED,
    lock_owners,
    pids_of,
)
from machines_server.store.sqlite.file_lock import locking_fault, try_lock
from machines_server.store.sqlite.own_files import make_folder
from machines_server.store.values import Leader

log = logging.getLogger(__name__)

MAX_FAULT_CHARACTERS = 500
CONTENT_BYTES = 32768
"""Enough for five faults at twelve bytes per character, the most that JSON needs."""
STARTING_S = 5.0
"""How long a process may take between locking the file and writing to it."""
OWNER_CHECKS, OWNER_CHECK_S = 5, 0.02


class PollerLock:
    """Held by one process at a time; implements LeaderElection."""

    def __init__(self, path: Path, folder: Path | None = None) -> None:
        """`folder` is the folder of machine files that this process would poll."""
        self._path, self._folder = path, folder and os.path.realpath(folder)
        self._fd: int | None = None
        self._since = 0.0
        self._not_polling: set[int] = set()
        """Processes that hold the lock but never reported that they poll."""

    def acquire(self) -> bool:
        """Take the lock if it is free; raises OSError or UnsupportedError."""
        make_folder(self._path.parent)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        is_ours = False
        try:
            is_ours = try_lock(fd, self._path)
        finally:
            if not is_ours:
                os.close(fd)
        if not is_ours:
            return False
        self._fd, self._since = fd, time.time()
        if not self.is_leader():  # the file was deleted before it was locked, so others lock a new one
            self.release()
            return False
        self.report_faults({})
        return True

    def is_leader(self) -> bool:
        """Return whether this object holds the lock, and on the current file rather than on a deleted one."""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def report_faults(self, faults: Mapping[str, str]) -> None:
        """Write the faults, by part, into the file; a failed write is logged."""
        if self._fd is None:
            return
        faults = {part: fault[:MAX_FAULT_CHARACTERS] for part, fault in faults.items()}
        content = {"pid": os.getpid(), "since": self._since, "folder": self._folder, "faults": faults}
        text = json.dumps(content).encode()
        try:  # overwritten in place, which most file systems allow on a full disk
            os.pwrite(self._fd, text.ljust(CONTENT_BYTES), 0)
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error)

    def release(self) -> None:
        """Release the lock, so that another process may poll."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def leader(self) -> Leader | None:
        """The process that holds the lock."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return None if try_lock(fd, self._path, shared=True) else self._read_leader(fd)
        except UnsupportedError:  # files cannot be locked, so none is
            return None
        finally:
            os.close(fd)

    def obstacle(self) -> str | None:
        """What keeps every process from taking the lock, in a sentence."""
        if lack := locking_fault(self._path):
            return lack
        if leader := self.leader():
            return leader.faults.get("lock")
        # Pollers never share the lock, but any process that looks for the leader does, briefly.
        sharing = lock_owners(self._path, SHARED) - {os.getpid()}
        for _ in range(OWNER_CHECKS):
            if not sharing:
                return None
            time.sleep(OWNER_CHECK_S)
            sharing &= lock_owners(self._path, SHARED)
        return self._does_not_poll(min(sharing)) if sharing else None

    def other_folder(self) -> str | None:
        """The leader's folder of machine files, if it is not ours."""
        leader = self.leader()
        return leader.folder if leader and self._folder and leader.folder != self._folder else None

    def write_fault(self) -> str | None:
        """A sentence if the data folder cannot be written, else None."""
        folder = self._path.parent
        return None if os.access(folder, os.W_OK) else f"the data folder {folder} cannot be written"

    def _read_leader(self, fd: int) -> Leader:
        for check in range(OWNER_CHECKS + 1):
            leader = _read_content(fd)
            others = lock_owners(self._path, EXCLUSIVE) - {os.getpid()}
            owner = min(others, default=0)
            if not others or leader.pid in pids_of(owner) or _may_be_starting(leader):
                return leader
            if check < OWNER_CHECKS and owner not in self._not_polling:
                time.sleep(OWNER_CHECK_S)
        self._not_polling.add(owner)
        return Leader(owner, since=0.0, faults={"lock": self._does_not_poll(owner)})

    def _does_not_poll(self, pid: int) -> str:
        return f"{self._path.name} is locked by process {pid}, which does not poll; end that process"


def _read_content(fd: int) -> Leader:
    try:
        content = json.loads(os.pread(fd, CONTENT_BYTES, 0))
        return Leader(content["pid"], content["since"], content["faults"], content.get("folder"))
    except (ValueError, TypeError, KeyError):  # the leader has not written yet
        return Leader(pid=0, since=os.fstat(fd).st_mtime)


def _may_be_starting(leader: Leader) -> bool:
    return leader.pid == 0 and abs(time.time() - leader.since) < STARTING_S
