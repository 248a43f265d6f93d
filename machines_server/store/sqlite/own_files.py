"""Keeps the data folder and its files private to the user who runs the server."""

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from machines_server.errors import StoreError

_OUR_FILES = (
    *("telemetry.db*", "coordination.db*", "nonces.db*", "session.key*"),
    *("coordination.lock", "poller.lock", "wanted*", "advised", "counts"),
)
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FILE_SYSTEM_FOLDER = "lost+found"

log = logging.getLogger(__name__)


def claim(folder: Path) -> None:
    """Create only private files from now on, and make those in the data folder private.

    Raises StoreError if the folder or a file cannot or must not be made private.
    """
    os.umask(_GROUP_AND_OTHERS)
    exposed = list(open_to_others(folder))
    if folder in exposed:
        _refuse_shared_folder(folder)
    for path in exposed:
        _make_private(path)
    if exposed:
        log.warning("other users could read %s; now only this user can", ", ".join(map(str, exposed)))


def open_to_others(folder: Path) -> Iterator[Path]:
    """The data folder and those of the server's files in it that other users may open."""
    paths = [folder, *(path for pattern in _OUR_FILES for path in sorted(folder.glob(pattern)))]
    for path in paths:
        with suppress(OSError):  # it does not exist
            if path.stat().st_mode & _GROUP_AND_OTHERS:
                yield path


def make_folder(folder: Path) -> None:
    """Create the data folder if it does not exist; raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_file(path: Path) -> None:
    """Create an empty file, and its folder, unless it exists; raises OSError."""
    make_folder(path.parent)
    # An existing file is not even opened: closing it would release SQLite's locks on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _refuse_shared_folder(folder: Path) -> None:
    """Raise StoreError for a folder that others need, such as /tmp or a home."""
    if folder.stat().st_mode & stat.S_ISVTX or any(_holds_folders(folder)):
        raise StoreError(
            f"other users can read the data folder {folder}, and it holds more than this server's files;"
            f" set MACHINES_DATA_DIR to a folder of its own, or `chmod 700 {folder}`"
        )


def _holds_folders(folder: Path) -> Iterator[bool]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.is_dir(follow_symlinks=False) and entry.name != _FILE_SYSTEM_FOLDER


def _make_private(path: Path) -> None:
    try:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_GROUP_AND_OTHERS)
        if not path.stat().st_mode & _GROUP_AND_OTHERS:
            return
        reason = "its file system does not allow it"
    except OSError as error:
        reason = error.strerror or str(error)
    raise StoreError(
        f"other users can read {path}, and that cannot be changed ({reason}); set MACHINES_DATA_DIR to a"
        " folder that this user creates"
    )
