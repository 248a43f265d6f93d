"""Locks on whole files, by flock(), and whether a file system has locks at all."""

import errno
import fcntl
import os
from pathlib import Path
from tempfile import TemporaryFile

from machines_server.errors import UnsupportedError

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
LOCAL_DISK_ADVICE = "set MACHINES_DATA_DIR to a folder on a local disk"


def try_lock(fd: int, path: Path, *, shared: bool = False) -> bool:
    """Lock a file unless another process has; raises UnsupportedError where files cannot be locked."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _unsupported(path, error) from error
    return True


def wait_for_lock(fd: int, path: Path) -> None:
    """Lock a file, however long that takes; raises UnsupportedError where files cannot be locked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        raise _unsupported(path, error) from error


def locking_fault(path: Path) -> str | None:
    """Why an existing file cannot be locked, in a sentence; None if it can be, or does not exist."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path.name} cannot be opened: {error.strerror}"
    try:
        try_lock(fd, path, shared=True)
    except UnsupportedError as error:
        return str(error)
    finally:
        os.close(fd)
    return None


def has_record_locks(folder: Path) -> bool:
    """Return whether fcntl() can lock files in a folder, as SQLite does; True if unknown.

    Tried on a new file: closing one of SQLite's would release the locks that SQLite has on it.
    """
    try:
        with TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True


def _unsupported(path: Path, error: OSError) -> UnsupportedError:
    return UnsupportedError(
        f"{path.name}: its file system cannot lock files ({error.strerror}); {LOCAL_DISK_ADVICE}"
    )
